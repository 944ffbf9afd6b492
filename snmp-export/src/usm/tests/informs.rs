//! Traps and informs: what a sender makes, and what it believes.

use super::*;

/// A receiver that is the engine of `Agent`: it reports like any other, and acknowledges what it can read.
fn acknowledge(agent: &Agent, message: &[u8]) -> Vec<u8> {
    let (mut datagram, mut out) = (message.to_vec(), Vec::new());
    match agent.usm.receive(agent.now, &mut datagram, &mut out) {
        Received::Answered => {}
        other => panic!("{other:?}"),
    }
    let report = Counter::UnknownPduHandlers.oid();
    // Everything but that it takes no informs: so it acknowledges this one.
    let id = message_id(message);
    match reported(&out) {
        Some(oid) if oid == report => {
            agent.message("any", SecurityLevel::AuthPriv, &pdu(tag::RESPONSE), |envelope| envelope.id = id)
        }
        _ => out,
    }
}

fn message_id(message: &[u8]) -> u32 {
    message::Message::read(message).unwrap().id
}

fn reported(octets: &[u8]) -> Option<Vec<u32>> {
    let message: Message = rasn::ber::decode(octets).unwrap();
    let parameters: USMSecurityParameters =
        message.decode_security_parameters(rasn::Codec::Ber).map_err(|error| error.to_string()).unwrap();
    let scoped = match &message.scoped_data {
        ScopedPduData::CleartextPdu(scoped) => scoped.clone(),
        ScopedPduData::EncryptedPdu(octets) => decrypt(&parameters, octets),
    };
    let Pdus::Report(report) = scoped.data else { return None };
    Some(report.0.variable_bindings[0].name.to_vec())
}

fn informer(keys: InformKeys) -> Informer {
    Informer::new("any", SecurityLevel::AuthPriv, keys, u64::MAX).unwrap()
}

#[test]
fn an_inform_finds_the_engine_and_its_time_and_arrives() {
    let agent = Agent::new();
    let id = agent.usm.engine().id().clone();
    let at = InformKeys::At(id.clone(), keys().localize(&id));
    for (keys, questions) in [(InformKeys::Anywhere(keys()), 2), (at, 1)] {
        let mut informer = informer(keys);
        let mut out = Vec::new();
        for _ in 0..questions {
            informer.message(agent.now, &pdu(tag::INFORM), &mut out).unwrap();
            assert_eq!(informer.hear(agent.now, &mut acknowledge(&agent, &out)), Heard::Again);
        }
        for _ in 0..2 {
            informer.message(agent.now, &pdu(tag::INFORM), &mut out).unwrap();
            let response = acknowledge(&agent, &out);
            let taken = Heard::Response { request_id: 4711, error_status: 0 };
            assert_eq!(informer.hear(agent.now, &mut response.clone()), taken);
            assert_eq!(informer.hear(agent.now, &mut response.clone()), Heard::Nothing, "a replay");
        }
        assert_eq!(agent.count(Counter::WrongDigests), 0);
    }
}

#[test]
fn a_receiver_that_restarts_is_found_again() {
    let mut agent = Agent::new();
    let mut informer = informer(InformKeys::Anywhere(keys()));
    let mut out = Vec::new();
    let mut send = |agent: &Agent, informer: &mut Informer| {
        informer.message(agent.now, &pdu(tag::INFORM), &mut out).unwrap();
        informer.hear(agent.now, &mut acknowledge(agent, &out))
    };
    let taken = Heard::Response { request_id: 4711, error_status: 0 };
    let heard: Vec<Heard> = (0..3).map(|_| send(&agent, &mut informer)).collect();
    assert_eq!(heard, [Heard::Again, Heard::Again, taken.clone()]);

    agent.usm.engine = Engine::start(agent.usm.engine.id().clone(), 4);
    assert_eq!([send(&agent, &mut informer), send(&agent, &mut informer)], [Heard::Again, taken]);
}

#[test]
fn forgeries_are_not_believed() {
    let agent = Agent::new();
    let mut informer = informer(InformKeys::Anywhere(keys()));
    let mut out = Vec::new();
    informer.message(agent.now, &pdu(tag::INFORM), &mut out).unwrap();
    informer.hear(agent.now, &mut acknowledge(&agent, &out));
    informer.message(agent.now, &pdu(tag::INFORM), &mut out).unwrap();
    let id = message_id(&out);
    let other = auth::Authenticator::new(AuthProtocol::Sha256, &Key::from(vec![0; 32]));
    let message = |level, kind| agent.message("any", level, &pdu(kind), |envelope| envelope.id = id);
    let response = |change: fn(&mut Envelope<'_>)| {
        agent.message("any", SecurityLevel::AuthPriv, &pdu(tag::RESPONSE), |envelope| {
            envelope.id = id;
            change(envelope);
        })
    };
    for (forged, how) in [
        (message(SecurityLevel::NoAuthNoPriv, tag::RESPONSE), "not protected"),
        (message(SecurityLevel::AuthNoPriv, tag::RESPONSE), "not encrypted"),
        (message(SecurityLevel::AuthPriv, tag::GET), "a request"),
        (response(|envelope| envelope.engine_id = b"another engine"), "another engine"),
        (response(|envelope| envelope.user = b"signs"), "another user"),
        (response(|envelope| envelope.id += 1), "an answer to something else"),
        (
            agent.message("any", SecurityLevel::AuthNoPriv, &pdu(tag::RESPONSE), |envelope| {
                envelope.id = id;
                envelope.protection = Protection::Auth(&other);
            }),
            "another key",
        ),
    ] {
        assert_eq!(informer.hear(agent.now, &mut forged.clone()), Heard::Nothing, "{how}");
    }
    // Another engine's discovery cannot push aside keys that are for one only.
    let at = InformKeys::At(EngineId::from_random([9; 12]), keys());
    let mut bound = Informer::new("any", SecurityLevel::AuthNoPriv, at, 3);
    assert!(bound.is_err(), "Ku of 32 octets is no key for AES-128");
    let localized = keys().localize(&EngineId::from_random([9; 12]));
    bound =
        Informer::new("any", SecurityLevel::AuthNoPriv, InformKeys::At(EngineId::from_random([9; 12]), localized), 3);
    let mut bound = bound.unwrap();
    bound.message(agent.now, &pdu(tag::INFORM), &mut out).unwrap();
    let refused = bound.hear(agent.now, &mut acknowledge(&agent, &out));
    assert_eq!(refused, Heard::Refused(Refused(Counter::UnknownEngineIds)));
}

#[test]
fn an_old_acknowledgement_is_stale() {
    let agent = Agent::new();
    let mut informer = informer(InformKeys::Anywhere(keys()));
    let mut out = Vec::new();
    for _ in 0..2 {
        informer.message(agent.now, &pdu(tag::INFORM), &mut out).unwrap();
        informer.hear(agent.now, &mut acknowledge(&agent, &out));
    }
    let later = agent.now + Duration::from_secs(1000);
    informer.message(later, &pdu(tag::INFORM), &mut out).unwrap();
    let id = message_id(&out);
    let mut old = agent.message("any", SecurityLevel::AuthPriv, &pdu(tag::RESPONSE), |envelope| envelope.id = id);
    assert_eq!(informer.hear(later, &mut old), Heard::Nothing);
}

#[test]
fn a_trap_is_this_engines_own() {
    let agent = Agent::new();
    let mut out = Vec::new();
    let user = agent.usm.user("any").unwrap();
    for (level, flags) in
        [(SecurityLevel::NoAuthNoPriv, 0), (SecurityLevel::AuthNoPriv, 1), (SecurityLevel::AuthPriv, 3)]
    {
        agent.usm.trap(agent.now, &user, level, &pdu(tag::TRAP), &mut out).unwrap();
        let message: Message = rasn::ber::decode(&out).unwrap();
        assert_eq!(message.global_data.flags[..], [flags]);
        let parameters: USMSecurityParameters =
            message.decode_security_parameters(rasn::Codec::Ber).map_err(|error| error.to_string()).unwrap();
        assert_eq!(&parameters.authoritative_engine_id[..], agent.usm.engine().id().octets());
        let scoped = match &message.scoped_data {
            ScopedPduData::CleartextPdu(scoped) => scoped.clone(),
            ScopedPduData::EncryptedPdu(octets) => decrypt(&parameters, octets),
        };
        assert!(matches!(scoped.data, Pdus::Trap(_)));
    }
    let signs = agent.usm.user("signs").unwrap();
    let error = agent.usm.trap(agent.now, &signs, SecurityLevel::AuthPriv, &pdu(tag::TRAP), &mut out).unwrap_err();
    assert_eq!(error.to_string(), "SNMPv3 user signs has no keys for authPriv");
}
