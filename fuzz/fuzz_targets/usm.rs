//! SNMPv3: datagrams of strangers, and authentic ones of a user with anything for a PDU. A stranger gets a Report,
//! authorizationError or nothing, and a user can read what comes back.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;

use lbstats::{Oid, Snapshot};
use libfuzzer_sys::fuzz_target;
use snmp_export::View;
use snmp_export::agent::{Agent, Answer, Columns, Subtrees, System, Worker};
use snmp_export::usm::{
    Account, AuthProtocol, Engine, EngineId, Heard, InformKeys, Informer, Key, Keys, PrivProtocol, SecurityLevel, User,
    Usm,
};

const MANAGER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Both {
    worker: Worker,
    columns: Arc<Columns>,
    user: Informer,
}

static BOTH: LazyLock<Mutex<Both>> = LazyLock::new(|| Mutex::new(Both::start()));

impl Both {
    fn start() -> Self {
        let id = EngineId::from_random([7; 12]);
        let key = |length| Key::from(vec![1; length]);
        let keys = Keys { auth: (AuthProtocol::Sha1, key(20)), privacy: Some((PrivProtocol::Aes128, key(16))) };
        let level = SecurityLevel::AuthPriv;
        let account = Account { name: "user".into(), keys: Some(keys.clone()), level, view: Vec::new() };
        let users = [User::new(&account).unwrap()];
        let usm = Usm::new(Engine::start(id.clone(), 3), users.into_iter().collect(), 0);
        let system = System {
            description: String::new(),
            object_id: Oid::from(&[1, 3][..]),
            contact: String::new(),
            name: String::new(),
            location: String::new(),
            modules: Vec::new(),
        };
        let mut agent = Agent::new(&system, Vec::new(), Subtrees::all(), 1472);
        agent.secure(Arc::new(usm));
        let columns = Arc::new(Columns::new(View::new(Arc::new(Snapshot::empty()))));
        let user = Informer::new("user", level, InformKeys::At(id, keys), 0).unwrap();
        let mut both = Self { worker: Worker::new(Arc::new(agent)), columns, user };
        assert_eq!(both.ask(&[0xa0, 0]), Some(Heard::Again), "it learns the time");
        both
    }

    /// What the user hears about this PDU.
    fn ask(&mut self, pdu: &[u8]) -> Option<Heard> {
        let mut message = Vec::new();
        self.user.message(Instant::now(), pdu, &mut message).ok()?;
        let mut answer = self.answer(&message)?;
        Some(self.user.hear(Instant::now(), &mut answer))
    }

    fn answer(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        match self.worker.answer(datagram, MANAGER, Instant::now(), || self.columns.clone()) {
            Answer::Send(octets, _) => Some(octets.to_vec()),
            Answer::Silence => None,
        }
    }
}

fuzz_target!(|input: (bool, &[u8])| {
    let (stranger, octets) = input;
    let mut both = BOTH.lock().unwrap();
    if stranger {
        if let Some(answer) = both.answer(octets) {
            let has = |part: &[u8]| answer.windows(part.len()).any(|octets| octets == part);
            assert!(has(&[0xa8]) || has(&[2, 1, 16, 2, 1, 0]), "a stranger is answered: {answer:x?}");
        }
    } else {
        let heard = both.ask(octets);
        assert!(!matches!(heard, Some(Heard::Nothing)), "an answer that the user cannot read");
    }
});
