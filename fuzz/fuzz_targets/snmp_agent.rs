//! What anybody may send to the SNMP agent's UDP port: every answer is a response of SNMP, and no larger than allowed.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use lbstats::Oid;
use libfuzzer_sys::fuzz_target;
use snmp_export::agent::{Agent, Answer, Columns, Community, Subtrees, System, Worker};
use snmp_export::ber::{Reader, tag};

mod frontends;

const MAX_SIZE: usize = 1472;
const MANAGER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

static AGENT: LazyLock<Arc<Agent>> = LazyLock::new(|| {
    let system = System {
        description: "a fuzz target".to_owned(),
        object_id: Oid::default(),
        contact: String::new(),
        name: String::new(),
        location: String::new(),
        modules: Vec::new(),
    };
    Arc::new(Agent::new(&system, vec![Community::new("public")], Subtrees::all(), MAX_SIZE))
});

static COLUMNS: LazyLock<Arc<Columns>> =
    LazyLock::new(|| Arc::new(Columns::new(frontends::view((1..400).chain([2_147_483_647]), b"a name"))));

fuzz_target!(|octets: &[u8]| {
    let mut worker = Worker::new(AGENT.clone());
    // Twice: the second one goes on with a walk.
    for _ in 0..2 {
        let Answer::Send(answer, varbinds) = worker.answer(octets, MANAGER, Instant::now(), || COLUMNS.clone()) else {
            continue;
        };
        assert!(answer.len() <= MAX_SIZE);
        let mut whole = Reader::new(answer);
        let mut message = whole.element(tag::SEQUENCE).expect("a message is a sequence");
        whole.finish().expect("a message is the whole answer");
        assert!((0..=1).contains(&message.integer().expect("a version")));
        assert_eq!(message.string(), Ok(&b"public"[..]));
        let mut pdu = message.element(tag::RESPONSE).expect("a response");
        message.finish().expect("nothing follows the response");
        pdu.integer().expect("a request id");
        let status = pdu.integer().expect("an error status");
        pdu.integer().expect("an error index");
        let mut list = pdu.element(tag::SEQUENCE).expect("variable bindings");
        pdu.finish().expect("nothing follows the variable bindings");
        let (mut oid, mut count) = (Oid::default(), 0);
        while list.peek().is_some() {
            let mut varbind = list.element(tag::SEQUENCE).expect("a variable binding");
            varbind.oid(&mut oid).expect("a name");
            varbind.any().expect("a value");
            varbind.finish().expect("nothing follows the value");
            count += 1;
        }
        assert!(status != 0 || count == varbinds);
    }
});
