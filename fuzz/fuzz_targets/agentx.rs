//! What a master agent sends to the AgentX subagent: PDUs decode and encode to the same, and a session answers in whole
//! PDUs, each request once.
#![no_main]

use std::sync::LazyLock;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use snmp_export::agentx::{Event, HEADER, Header, Message, Session};
use snmp_export::{Tree, View, Walks};

mod frontends;

static VIEW: LazyLock<View> = LazyLock::new(|| frontends::view([2, 9, 10, 2_147_483_647], b"not\0UTF-8\xff"));

fuzz_target!(|octets: &[u8]| {
    codec(octets);
    session(octets);
});

/// The octets as one PDU.
fn codec(octets: &[u8]) {
    let Some((header, payload)) = octets.split_first_chunk::<HEADER>() else { return };
    let (header, _) = Header::decode(header);
    let Ok(message) = Message::decode(header, payload) else { return };
    let mut once = Vec::new();
    if message.encode(&mut once).is_err() {
        return;
    }
    let (header, length) = Header::decode(once.first_chunk().expect("it has a header"));
    assert_eq!(length as usize, once.len() - HEADER);
    let mut twice = Vec::new();
    let again = Message::decode(header, &once[HEADER..]).expect("what was encoded can be decoded");
    again.encode(&mut twice).expect("and encoded again");
    assert_eq!(once, twice);
}

/// The octets as all that comes through a connection, from the response to the Open on.
fn session(octets: &[u8]) {
    let (mut out, now) = (Vec::new(), Instant::now());
    let mut session = Session::open(Tree::default().roots().iter().cloned(), Walks::default(), "fuzz", &mut out);
    let mut rest = octets;
    out.clear();
    while let Ok(Some((length, event))) = session.receive(rest, now, &mut || VIEW.clone(), &mut out) {
        rest = &rest[length..];
        let answers = whole_pdus(&out).into_iter().filter(|kind| *kind == 18).count();
        assert_eq!(answers, usize::from(matches!(event, Event::Answered { .. } | Event::Refused(_))));
        out.clear();
        let _ = session.ping(&mut out);
        whole_pdus(&out);
        out.clear();
    }
}

/// Types of the PDUs in these octets.
fn whole_pdus(mut octets: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some((header, payload)) = octets.split_first_chunk::<HEADER>() {
        let (header, length) = Header::decode(header);
        Message::decode(header, &payload[..length as usize]).expect("what is sent can be decoded");
        kinds.push(header.kind);
        octets = &payload[length as usize..];
    }
    assert!(octets.is_empty(), "what is sent is whole PDUs");
    kinds
}
