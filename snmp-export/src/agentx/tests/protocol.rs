//! Opening, registering, refusing and closing, and masters that do not keep to the protocol.

use std::time::Instant;

use lbstats::schema::LBSTATS_ROOTS;
use lbstats::{Oid, Value};
use proptest::collection::vec;
use proptest::prelude::*;

use super::peer::{self, Answer, Asked, Content, Fields};
use super::{Pair, SESSION, below, some_rows};
use crate::agentx::{CloseReason, ErrorStatus, Event, Notification, Session, SessionError};
use crate::walks::Walks;

fn opened() -> (Session, Vec<u8>) {
    let mut out = Vec::new();
    let session = Session::open(LBSTATS_ROOTS.map(Oid::from), Walks::default(), "lbstatd", &mut out);
    (session, out)
}

fn give(session: &mut Session, octets: &[u8]) -> Result<Option<(usize, Event)>, SessionError> {
    give_and_take(session, octets, &mut Vec::new())
}

fn give_and_take(
    session: &mut Session,
    octets: &[u8],
    out: &mut Vec<u8>,
) -> Result<Option<(usize, Event)>, SessionError> {
    session.receive(octets, Instant::now(), &mut some_rows, out)
}

#[test]
fn a_session_is_opened_and_both_roots_are_registered() {
    let (mut session, open) = opened();
    #[rustfmt::skip]
    assert_eq!(open, [
        1, 1, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20,
        0, 0, 0, 0, // the master's own timeout
        0, 0, 0, 0, // no identifier
        0, 0, 0, 7, b'l', b'b', b's', b't', b'a', b't', b'd', 0,
    ]);
    let mut out = Vec::new();
    let accepted = peer::response(true, SESSION, 0, 0);
    assert_eq!(give_and_take(&mut session, &accepted, &mut out), Ok(Some((accepted.len(), Event::Opened))));
    assert!(!session.is_complete());
    let mut rest = &out[..];
    for (packet, root) in [1, 2].into_iter().zip(LBSTATS_ROOTS) {
        let (header, behind) = peer::header(rest);
        assert_eq!((header.kind, header.flags, header.session, header.packet), (3, 0x10, SESSION, packet));
        let mut fields = Fields { octets: &rest[20..rest.len() - behind.len()], big: true };
        // Timeout 0, priority 127, no range.
        assert_eq!((fields.u32(), fields.oid()), (0x007f_0000, (root.to_vec(), false)));
        assert!(fields.octets.is_empty());
        rest = behind;
    }
    assert!(rest.is_empty());
    // The responses may come in any order.
    let event =
        |session: &mut Session, packet| give(session, &peer::response(true, SESSION, packet, 0)).unwrap().unwrap().1;
    assert_eq!([2, 1].map(|packet| event(&mut session, packet)), [Event::Ignored, Event::Registered]);
    assert!(session.is_complete());
}

#[test]
fn a_refused_registration_is_tried_again_alone() {
    let (mut session, _) = opened();
    give(&mut session, &peer::response(true, SESSION, 0, 0)).unwrap();
    give(&mut session, &peer::response(true, SESSION, 1, 0)).unwrap();
    let duplicate = peer::response(true, SESSION, 2, 263);
    assert_eq!(give(&mut session, &duplicate).unwrap().unwrap().1, Event::Registered);
    assert!(!session.is_complete());
    let refused: Vec<_> = session.refused().map(|(root, error)| (root.to_vec(), error)).collect();
    assert_eq!(refused, [(LBSTATS_ROOTS[1].to_vec(), ErrorStatus::DUPLICATE_REGISTRATION)]);
    let mut out = Vec::new();
    session.register(&mut out);
    let (header, rest) = peer::header(&out);
    assert_eq!((header.kind, header.packet, rest.len()), (3, 3, 0));
    session.register(&mut out);
    assert_eq!(peer::header(&out).1.len(), 0, "what is asked for is not asked for twice");
    assert_eq!(give(&mut session, &peer::response(true, SESSION, 3, 0)).unwrap().unwrap().1, Event::Registered);
    assert!(session.is_complete());
}

#[test]
fn a_master_may_refuse_and_end_the_session() {
    let (mut session, _) = opened();
    let refused = peer::response(true, 0, 0, 256);
    assert_eq!(give(&mut session, &refused), Err(SessionError::OpenRefused(ErrorStatus(256))));

    let mut pair = Pair::open(some_rows());
    let close = |session| peer::pdu(false, 2, 0, [session, 0, 5], &[5, 0, 0, 0]);
    assert_eq!(pair.receive(&close(SESSION)), Err(SessionError::Closed(CloseReason::SHUTDOWN)));

    let mut pair = Pair::open(some_rows());
    let (event, out) = pair.receive(&close(9)).unwrap();
    assert_eq!((event, Answer::decode(&out).error), (Event::Refused(ErrorStatus::NOT_OPEN), 257));
    let packet = pair.session.ping(&mut Vec::new()).unwrap();
    let gone = peer::response(true, SESSION, packet, 257);
    assert_eq!(pair.receive(&gone), Err(SessionError::Forgotten));
}

#[test]
fn pings_and_notifications_get_their_responses() {
    let mut pair = Pair::open(some_rows());
    let mut out = Vec::new();
    let ping = pair.session.ping(&mut out).unwrap();
    let notification = Notification::new(Some(4711), &[1, 3, 6, 1, 4, 1, 23263, 3, 1002])
        .with(&[1, 3, 6, 1, 4, 1, 23263, 3, 1002, 2, 1, 0], Value::Integer(201))
        .with(&[1, 3, 6, 1, 4, 1, 23263, 3, 1002, 2, 2, 0], Value::OctetString(b"\xffdown"));
    let notify = pair.session.notify(&notification, &mut out).unwrap();
    let (header, rest) = peer::header(&out);
    assert_eq!((header.kind, header.session, header.packet), (13, SESSION, ping));
    let (header, behind) = peer::header(rest);
    assert_eq!((header.kind, header.session, header.packet, behind.len()), (12, SESSION, notify, 0));
    let mut fields = Fields { octets: &rest[20..], big: true };
    let varbinds: Vec<_> = (0..4).map(|_| fields.varbind()).collect();
    assert!(fields.octets.is_empty());
    assert_eq!(varbinds[0], (vec![1, 3, 6, 1, 2, 1, 1, 3, 0], 67, Content::Number(4711)));
    let trap = Content::Arcs(vec![1, 3, 6, 1, 4, 1, 23263, 3, 1002]);
    assert_eq!(varbinds[1], (vec![1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0], 6, trap));
    assert_eq!((varbinds[2].1, &varbinds[2].2), (2, &Content::Number(201)));
    assert_eq!((varbinds[3].1, &varbinds[3].2), (4, &Content::Octets(b"\xffdown".to_vec())));

    for (packet, error) in [(notify, 268), (ping, 0)] {
        let (event, out) = pair.receive(&peer::response(true, SESSION, packet, error)).unwrap();
        assert_eq!(event, Event::Response { packet, error: ErrorStatus(error) });
        assert!(out.is_empty());
    }
    let again = peer::response(true, SESSION, ping, 0);
    assert_eq!(pair.receive(&again).unwrap(), (Event::Ignored, vec![]), "a response nobody waits for");

    // What is never answered does not pile up.
    let pings = std::iter::from_fn(|| pair.session.ping(&mut Vec::new())).take(1000).count();
    assert!(pings < 100);
    assert_eq!(pair.session.notify(&notification, &mut Vec::new()), None);

    let (mut session, _) = opened();
    assert_eq!(session.ping(&mut Vec::new()), None, "there is no session yet");
}

#[test]
fn nothing_can_be_set() {
    let mut pair = Pair::open(some_rows());
    let mut set = Asked::new(8, vec![]);
    set.varbinds = vec![(below(&[2, 1, 3, 1, 10]), 4, Content::Octets(b"x".to_vec())); 2];
    let answer = pair.ask(&set);
    assert_eq!((answer.error, answer.index, answer.varbinds.len()), (17, 1, 0));
    assert_eq!(pair.ask(&Asked::new(9, vec![])).error, 14);
    assert_eq!(pair.ask(&Asked::new(10, vec![])).error, 0);
    let (event, out) = pair.receive(&Asked::new(11, vec![]).encode()).unwrap();
    assert_eq!((event, out), (Event::Ignored, vec![]), "a CleanupSet has no response");
    assert_eq!(pair.ask(&Asked::new(13, vec![])).error, 0);
}

#[test]
fn what_is_no_request_is_refused_and_the_session_goes_on() {
    let mut pair = Pair::open(some_rows());
    let numbers = [SESSION, 8, 9];
    let mut refused = |pdu: Vec<u8>| {
        let (event, out) = pair.receive(&pdu).unwrap();
        let answer = Answer::decode(&out);
        assert_eq!((answer.header.session, answer.header.transaction, answer.header.packet), (SESSION, 8, 9));
        assert_eq!((event, answer.index, answer.varbinds.len()), (Event::Refused(ErrorStatus(answer.error)), 0, 0));
        answer.error
    };
    // An identifier of more arcs than there are; one too long; octets behind the end; no such type.
    assert_eq!(refused(peer::pdu(true, 5, 0, numbers, &[100, 0, 0, 0])), 266);
    assert_eq!(refused(peer::pdu(false, 6, 0, numbers, &[[255, 1, 0, 0], [0; 4]].concat())), 266);
    assert_eq!(refused(peer::pdu(true, 13, 0, numbers, &[0; 4])), 266);
    assert_eq!(refused(peer::pdu(true, 5, 0x08, numbers, &[0, 0, 1, 0])), 266);
    assert_eq!(refused(peer::pdu(true, 99, 0, numbers, &[])), 266);
    // The second range is cut: no answer to the first either.
    let whole = [0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(refused(peer::pdu(true, 6, 0, numbers, &[&whole[..], &[9, 0, 0, 0]].concat())), 266);
    // What only a subagent may say.
    assert_eq!(refused(peer::pdu(true, 3, 0, numbers, &[0, 127, 0, 0, 0, 0, 0, 0])), 268);
    let mut elsewhere = Asked::new(6, vec![(vec![], false, vec![])]);
    elsewhere.session = 1;
    assert_eq!(pair.ask(&elsewhere).error, 257);
    assert_eq!(pair.ask(&Asked::new(6, vec![(vec![], false, vec![])])).error, 0);
}

#[test]
fn before_the_session_is_open_nothing_is_answered() {
    let (mut session, _) = opened();
    for id in [0, SESSION] {
        let mut get = Asked::new(6, vec![(vec![], false, vec![])]);
        get.session = id;
        let mut out = Vec::new();
        let event = give_and_take(&mut session, &get.encode(), &mut out).unwrap().unwrap().1;
        assert_eq!((event, Answer::decode(&out).error), (Event::Refused(ErrorStatus::NOT_OPEN), 257));
    }
    let other = peer::response(true, SESSION, 17, 0);
    assert_eq!(give(&mut session, &other).unwrap().unwrap().1, Event::Ignored);
}

#[test]
fn what_is_no_agentx_ends_the_session() {
    let mut pair = Pair::open(some_rows());
    let mut pdu = peer::pdu(true, 13, 0, [SESSION, 1, 2], &[]);
    pdu[0] = 2;
    assert_eq!(pair.receive(&pdu), Err(SessionError::Version(2)));
    assert_eq!(give(&mut pair.session, b"HTTP/1.1 400 Bad Request\r\n"), Err(SessionError::Version(b'H')));
    let mut long = peer::pdu(true, 13, 0, [SESSION, 1, 2], &[]);
    long[16..].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(give(&mut pair.session, &long), Err(SessionError::TooLong(u32::MAX)));
}

#[test]
fn a_pdu_is_taken_when_it_is_whole() {
    let mut pair = Pair::open(some_rows());
    let one = Asked::new(6, vec![(below(&[2]), false, vec![])]).encode();
    let two = [&one[..], &one[..]].concat();
    for end in 0..=two.len() {
        let taken = give(&mut pair.session, &two[..end]).unwrap();
        assert_eq!(taken.map(|(length, _)| length), (end >= one.len()).then_some(one.len()), "{end}");
    }
}

proptest! {
    #[test]
    fn any_octets_are_answered_within_the_protocol(pieces in vec(prop_oneof![
        vec(any::<u8>(), 0..60),
        (0_u8..20, 0_u8..32, vec(any::<u8>(), 0..30)).prop_map(|(kind, flags, mut payload)| {
            payload.truncate(payload.len() / 4 * 4);
            peer::pdu(flags & 0x10 != 0, kind, flags & 0x0f, [SESSION, 1, 2], &payload)
        }),
    ], 0..8)) {
        let octets = pieces.concat();
        let mut pair = Pair::open(some_rows());
        let (mut input, mut out) = (&octets[..], Vec::new());
        while let Ok(Some((length, _))) = give_and_take(&mut pair.session, input, &mut out) {
            input = &input[length..];
        }
        let mut rest = &out[..];
        while !rest.is_empty() {
            let (header, behind) = peer::header(rest);
            // The flags of a foreign request come back with its response.
            prop_assert_eq!((header.kind, header.flags & 0x08), (18, 0));
            rest = behind;
        }
    }
}
