//! Listeners under pressure, step by step.

use lbstats::schema::LISTENER;
use lbstats::{Field, TableBuilder};

use super::*;

const THRESHOLDS: Thresholds =
    Thresholds { surge_on: 80, surge_off: 50, flood_backlog: 80, flood_drops: 100, flood_retransmits: 100 };

/// A listener of frontend `www` with an empty queue.
const IDLE: Listener<'static> = Listener {
    proxy: b"www",
    address: b"127.0.0.1:80",
    namespace: 0,
    accepted: 0,
    backlog: 0,
    limit: 100,
    syn_backlog: 0,
    drops: 0,
    overflows: None,
    retransmits: 0,
};

/// What is seen of `www` at the end of these steps, one a second: of a surge, and of a flood.
fn seen(steps: &[Listener<'_>]) -> (Seen, Seen) {
    let mut pressure = Pressure::default();
    let mut last = (Seen::Unknown, Seen::Unknown);
    for (second, listener) in (0..).zip(steps) {
        let frontends = pressure.step([*listener].into_iter(), &THRESHOLDS, Duration::from_secs(second));
        let www = &frontends[&b"www"[..]];
        last = (www.surge(&THRESHOLDS), www.flood(&THRESHOLDS));
    }
    last
}

#[test]
fn a_queue_that_fills_up_is_a_surge() {
    for (backlog, expected) in
        [(0, Seen::Good), (50, Seen::Good), (51, Seen::Neither), (79, Seen::Neither), (80, Seen::Bad), (101, Seen::Bad)]
    {
        assert_eq!(seen(&[Listener { backlog, ..IDLE }]).0, expected, "{backlog}");
    }
    assert_eq!(seen(&[Listener { limit: 0, ..IDLE }]), (Seen::Good, Seen::Good));
}

#[test]
fn overflows_are_a_surge_whatever_the_queue_shows() {
    let at = |overflows| Listener { overflows: Some(overflows), drops: overflows, ..IDLE };
    assert_eq!(seen(&[at(7), at(7)]), (Seen::Good, Seen::Good), "what was so already");
    assert_eq!(seen(&[at(7), at(8)]).0, Seen::Bad);
    assert_eq!(seen(&[at(7), at(5_000)]).1, Seen::Good, "dropped connections are no dropped SYNs");
    assert_eq!(seen(&[at(7), at(5)]).0, Seen::Good, "another listener");
}

#[test]
fn overflows_that_are_told_of_now_and_then_are_counted_once() {
    let told = |overflows| Listener { overflows: Some(overflows), drops: overflows, ..IDLE };
    let untold = Listener { overflows: None, ..told(900) };
    let steps = [untold, told(900), untold, untold, told(900), untold];
    for end in 1..=steps.len() {
        assert_eq!(seen(&steps[..end]), (Seen::Good, Seen::Good), "{end}");
    }
    assert_eq!(seen(&[told(900), untold, told(901)]).0, Seen::Bad);
}

#[test]
fn drops_are_overflows_only_of_a_queue_that_is_rather_full() {
    let at = |backlog, drops| Listener { backlog, drops, ..IDLE };
    assert_eq!(seen(&[at(60, 0), at(60, 1)]).0, Seen::Bad);
    assert_eq!(seen(&[at(10, 0), at(10, 1)]), (Seen::Good, Seen::Good));
    assert_eq!(seen(&[at(10, 0), at(10, 100)]), (Seen::Good, Seen::Bad));
}

#[test]
fn dropped_syns_a_full_syn_queue_and_repeated_answers_are_a_flood() {
    let flood = |listener| seen(&[IDLE, listener]).1;
    assert_eq!(flood(Listener { drops: 100, ..IDLE }), Seen::Bad);
    assert_eq!(flood(Listener { drops: 60, ..IDLE }), Seen::Neither);
    assert_eq!(flood(Listener { drops: 50, ..IDLE }), Seen::Good);
    assert_eq!(flood(Listener { syn_backlog: 80, ..IDLE }), Seen::Bad);
    assert_eq!(flood(Listener { retransmits: 100, ..IDLE }), Seen::Bad);
    assert_eq!(flood(Listener { retransmits: 100, accepted: 1_000, ..IDLE }), Seen::Good);
    assert_eq!(flood(Listener { retransmits: 500, backlog: 100, ..IDLE }), Seen::Neither, "there is a surge");
}

#[test]
fn rates_are_those_of_a_second_however_short_the_steps() {
    let mut pressure = Pressure::default();
    let mut bad = 0;
    for step in 0..300_u64 {
        // 50 drops at once, each second.
        let listener = Listener { drops: step / 100 * 50, ..IDLE };
        let frontends = pressure.step([listener].into_iter(), &THRESHOLDS, Duration::from_millis(10 * step));
        bad += usize::from(frontends[&b"www"[..]].flood(&THRESHOLDS) == Seen::Bad);
    }
    assert_eq!(bad, 0);
}

#[test]
fn a_frontend_is_its_worst_address_and_an_unnamed_listener_its_own() {
    let at = |address, backlog| Listener { address, backlog, ..IDLE };
    let listeners = [at(b"a", 0), at(b"b", 90), at(b"c", 10), Listener { proxy: b"", ..at(b"d", 0) }];
    let mut pressure = Pressure::default();
    let frontends = pressure.step(listeners.into_iter(), &THRESHOLDS, Duration::ZERO);
    assert_eq!(frontends.keys().copied().collect::<Vec<_>>(), [b"d", &b"www"[..]]);
    let www = &frontends[&b"www"[..]];
    assert_eq!(www.surge_message("www", true), "Surge on www: 90 of 100 connections wait in the accept queue of b");
}

#[test]
fn a_listener_that_gets_a_name_brings_no_old_drops_along() {
    let named = Listener { drops: 9_000, overflows: Some(9_000), ..IDLE };
    let mut pressure = Pressure::default();
    pressure.step([Listener { proxy: b"", ..named }].into_iter(), &THRESHOLDS, Duration::ZERO);
    let frontends = pressure.step([named].into_iter(), &THRESHOLDS, Duration::from_secs(1));
    assert_eq!(frontends[&b"www"[..]].surge(&THRESHOLDS), Seen::Good);
}

#[test]
fn rows_are_read_and_what_has_no_column_is_not_known() {
    let mut builder = TableBuilder::new(&LISTENER);
    let row = builder.push(|_, column| match column.source {
        "proxy" => Field::Text(b"www"),
        "address" => Field::Text(b"127.0.0.1:80"),
        "accepted" => Field::Number(1),
        "backlog" => Field::Number(2),
        "backlog_limit" => Field::Number(3),
        "drops" => Field::Number(4),
        // Of the index, where there is one.
        "namespace" | "address_type" | "port" => Field::Number(1),
        "address_octets" => Field::Text(&[127, 0, 0, 1]),
        _ => Field::Absent,
    });
    row.unwrap();
    let table = builder.finish().0;
    let listener = listeners(&table).next().unwrap();
    assert_eq!((listener.proxy, listener.address), (&b"www"[..], &b"127.0.0.1:80"[..]));
    assert_eq!([listener.accepted, listener.backlog, listener.limit, listener.drops], [1, 2, 3, 4]);
    assert_eq!((listener.overflows, listener.syn_backlog, listener.retransmits), (None, 0, 0));
}
