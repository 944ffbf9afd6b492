//! The engine against friends and foes; what it answers is decoded by rasn, which shares no code with it.

mod hostile;
mod informs;
mod reports;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rasn_snmp::v3::{Message, Pdus, ScopedPdu, ScopedPduData, USMSecurityParameters, VarBindValue};

use super::message::{Envelope, Protection};
use super::privacy::Iv;
use super::*;
use crate::ber::{self, tag};

/// An engine that started an hour ago for the third time and knows a user for each level.
pub(super) struct Agent {
    pub(super) usm: Usm,
    pub(super) now: Instant,
    /// The user of all levels.
    any: Arc<User>,
}

impl Agent {
    fn new() -> Self {
        let id = EngineId::from_random([7; 12]);
        let keys = keys().localize(&id);
        let auth_only = Keys { privacy: None, ..keys.clone() };
        let user = |name: &str, keys: Option<&Keys>, level| {
            let account = Account { name: name.to_owned(), keys: keys.cloned(), level, view: Vec::new() };
            User::new(&account).unwrap()
        };
        let users = [
            user("nobody", None, SecurityLevel::NoAuthNoPriv),
            user("signs", Some(&auth_only), SecurityLevel::AuthNoPriv),
            user("encrypts", Some(&keys), SecurityLevel::AuthPriv),
            user("any", Some(&keys), SecurityLevel::NoAuthNoPriv),
        ];
        let usm = Usm::new(Engine::start(id, 3), users.into_iter().collect(), 0);
        let any = usm.user("any").unwrap();
        Self { usm, now: Instant::now() + Duration::from_secs(3600), any }
    }

    fn receive(&self, message: &[u8]) -> Answer {
        self.receive_at(self.now, message)
    }

    /// Takes in a datagram and answers requests with their own varbinds.
    fn receive_at(&self, now: Instant, message: &[u8]) -> Answer {
        let (mut datagram, mut out) = (message.to_vec(), vec![1, 2, 3]);
        let written = match self.usm.receive(now, &mut datagram, &mut out) {
            Received::Request(request) => {
                let mut pdu = request.pdu.to_vec();
                pdu[0] = tag::RESPONSE;
                request.answer(&self.usm, now, &mut out, |out, end| {
                    out.extend_from_slice(&pdu);
                    out.len() <= end
                })
            }
            Received::Answered => true,
            Received::Malformed => return Answer::Malformed,
            Received::Ignored => false,
        };
        if !written {
            return Answer::None;
        }
        let id = super::message::Message::read(message).expect("what is answered is a message").id;
        Answer::read(id, &out)
    }

    /// An ordinary request, which each test spoils in its own way.
    fn request<'a>(&'a self, user: &'a str, level: SecurityLevel, change: impl FnOnce(&mut Envelope<'a>)) -> Vec<u8> {
        self.message(user, level, &pdu(tag::GET), change)
    }

    fn message<'a>(
        &'a self,
        user: &'a str,
        level: SecurityLevel,
        pdu: &[u8],
        change: impl FnOnce(&mut Envelope<'a>),
    ) -> Vec<u8> {
        let engine_id = self.usm.engine().id().octets();
        let mut envelope = Envelope {
            id: 77,
            max_size: 65_507,
            reportable: true,
            engine_id,
            clock: self.usm.engine().clock(self.now),
            user: user.as_bytes(),
            // Strangers have keys, too.
            protection: self.any.protection(level, [9; 8]).unwrap(),
            context_engine_id: engine_id,
            context_name: b"",
        };
        change(&mut envelope);
        let mut out = Vec::new();
        envelope.wrap(pdu, &mut out).unwrap();
        out
    }

    fn count(&self, counter: Counter) -> u32 {
        self.usm.stats().read(counter)
    }
}

/// Ku of everybody, which take a while to derive.
fn keys() -> Keys {
    static KEYS: LazyLock<Keys> = LazyLock::new(|| {
        let ku = |passphrase| Key::from_passphrase(AuthProtocol::Sha256, passphrase).unwrap();
        let privacy = (PrivProtocol::Aes128, ku(b"a privacy phrase"));
        Keys { auth: (AuthProtocol::Sha256, ku(b"an authentication phrase")), privacy: Some(privacy) }
    });
    KEYS.clone()
}

/// A PDU of this kind with request-id 4711 that asks for sysUpTime.
fn pdu(kind: u8) -> Vec<u8> {
    let mut pdu = Vec::new();
    let name = [1, 3, 6, 1, 2, 1, 1, 3, 0];
    ber::push_pdu(&mut pdu, kind, [4711, 0, 0], |out| ber::push_varbind_empty(out, &name, tag::NULL));
    pdu
}

/// What came back.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    None,
    Malformed,
    /// Object and value of a Report, its request-id, and the bits of its flags.
    Report(Vec<u32>, u32, i32, u8),
    /// Error status of a Response, and the bits of its flags.
    Response(u32, u8),
}

impl Answer {
    /// A Report of this counter that protects nothing and answers request 4711.
    fn report(counter: Counter, count: u32) -> Self {
        Self::Report(counter.oid().to_vec(), count, 4711, 0)
    }

    fn read(id: u32, octets: &[u8]) -> Self {
        let message: Message = rasn::ber::decode(octets).expect("an answer is a message");
        let parameters: USMSecurityParameters =
            message.decode_security_parameters(rasn::Codec::Ber).map_err(|error| error.to_string()).unwrap();
        assert_eq!(message.global_data.message_id, id.into());
        let &[flags] = &message.global_data.flags[..] else { panic!("{message:?}") };
        let agent = Agent::new();
        let engine_id = agent.usm.engine().id().octets();
        assert_eq!(&parameters.authoritative_engine_id[..], engine_id);
        assert_eq!(parameters.authoritative_engine_boots, 3.into());
        let scoped = match &message.scoped_data {
            ScopedPduData::CleartextPdu(scoped) => scoped.clone(),
            ScopedPduData::EncryptedPdu(octets) => decrypt(&parameters, octets),
        };
        assert_eq!(&scoped.engine_id[..], engine_id);
        assert!(scoped.name.is_empty());
        let code_length = if flags & 1 == 0 { 0 } else { AuthProtocol::Sha256.code_length() };
        assert_eq!(parameters.authentication_parameters.len(), code_length);
        assert_eq!(parameters.privacy_parameters.len(), if flags & 2 == 0 { 0 } else { 8 });
        match scoped.data {
            Pdus::Report(report) => {
                let [varbind] = &report.0.variable_bindings[..] else { panic!("{report:?}") };
                let VarBindValue::Value(value) = &varbind.value else { panic!("{varbind:?}") };
                let value = rasn::ber::encode(value).unwrap();
                let value = ber::Reader::new(&value).unsigned(tag::COUNTER32).unwrap();
                Self::Report(varbind.name.to_vec(), value, report.0.request_id, flags)
            }
            Pdus::Response(response) => {
                assert_eq!(response.0.request_id, 4711);
                assert_eq!(response.0.variable_bindings.len(), 1);
                Self::Response(response.0.error_status, flags)
            }
            other => panic!("an answer that is none: {other:?}"),
        }
    }
}

fn decrypt(parameters: &USMSecurityParameters, octets: &[u8]) -> ScopedPdu {
    let agent = Agent::new();
    let number = |number: &rasn::types::Integer| number.to_string().parse().unwrap();
    let iv = Iv {
        boots: number(&parameters.authoritative_engine_boots),
        time: number(&parameters.authoritative_engine_time),
        salt: parameters.privacy_parameters[..].try_into().unwrap(),
    };
    let mut octets = octets.to_vec();
    agent.any.cipher().unwrap().decrypt(iv, &mut octets);
    rasn::ber::decode(&octets).expect("what is decrypted is a scoped PDU")
}

#[test]
fn each_level_is_answered_at_its_own() {
    let agent = Agent::new();
    for (user, level, flags) in [
        ("nobody", SecurityLevel::NoAuthNoPriv, 0),
        ("signs", SecurityLevel::AuthNoPriv, 1),
        ("encrypts", SecurityLevel::AuthPriv, 3),
        ("any", SecurityLevel::NoAuthNoPriv, 0),
        ("any", SecurityLevel::AuthNoPriv, 1),
        ("any", SecurityLevel::AuthPriv, 3),
    ] {
        for kind in [tag::GET, tag::GET_NEXT, tag::GET_BULK, tag::SET] {
            let message = agent.message(user, level, &pdu(kind), |_| {});
            assert_eq!(agent.receive(&message), Answer::Response(0, flags), "{user} {level} {kind:#x}");
        }
    }
}

#[test]
fn below_the_level_demanded_nothing_is_authorized() {
    let agent = Agent::new();
    for (user, level, flags) in [
        ("signs", SecurityLevel::NoAuthNoPriv, 0),
        ("encrypts", SecurityLevel::NoAuthNoPriv, 0),
        ("encrypts", SecurityLevel::AuthNoPriv, 1),
    ] {
        let message = agent.request(user, level, |_| {});
        assert_eq!(agent.receive(&message), Answer::Response(16, flags), "{user} {level}");
    }
    let cut = agent.message("signs", SecurityLevel::NoAuthNoPriv, &[tag::GET, 3, 2, 1, 1], |_| {});
    assert_eq!(agent.receive(&cut), Answer::Malformed);
}

#[test]
fn an_answer_is_as_long_as_both_sides_take() {
    let agent = Agent::new();
    for (asked, expected) in [(484, 484), (1472, 1472), (i32::MAX as u32, 65_507)] {
        let message = agent.request("encrypts", SecurityLevel::AuthPriv, |envelope| envelope.max_size = asked);
        let (mut datagram, mut out) = (message.clone(), Vec::new());
        let Received::Request(request) = agent.usm.receive(agent.now, &mut datagram, &mut out) else { panic!() };
        let fill = |octet| {
            move |out: &mut Vec<u8>, end: usize| {
                assert_eq!(end, expected);
                out.resize(end, octet);
                true
            }
        };
        assert!(request.answer(&agent.usm, agent.now, &mut out, fill(5)));
        assert_eq!(out.len(), expected);
        let first = out.clone();
        assert!(request.answer(&agent.usm, agent.now, &mut out, fill(5)));
        assert_ne!(first, out, "the same octets were encrypted with the same vector");
        assert!(!request.answer(&agent.usm, agent.now, &mut out, |_, _| false));
        assert!(out.is_empty());
    }
}

#[test]
fn users_are_replaced_while_it_runs() {
    let agent = Agent::new();
    let message = agent.request("nobody", SecurityLevel::NoAuthNoPriv, |_| {});
    assert_eq!(agent.receive(&message), Answer::Response(0, 0));
    agent.usm.replace_users(Users::default());
    assert_eq!(agent.receive(&message), Answer::report(Counter::UnknownUserNames, 1));
}
