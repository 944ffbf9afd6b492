//! Listeners with every column there can be, and with those of today.

use lbstats::schema::{Column, LISTENER, Syntax};
use lbstats::{Field, TableBuilder};

use super::*;

const THRESHOLDS: Thresholds =
    Thresholds { surge_on: 80, surge_off: 50, flood_backlog: 80, flood_drops: 100, flood_retransmits: 100 };

/// A table of listeners with every column there can be.
static FULL: TableSchema = TableSchema {
    name: "full",
    arc: None,
    row: "a listener",
    index: 0,
    labels: &[],
    columns: &[
        column("proxy", Syntax::Text),
        column("address", Syntax::Text),
        column("namespace", Syntax::Counter64),
        column("accepted", Syntax::Counter64),
        column("backlog", Syntax::Counter64),
        column("backlog_limit", Syntax::Counter64),
        column("backlog_peak", Syntax::Counter64),
        column("syn_backlog", Syntax::Counter64),
        column("syn_backlog_peak", Syntax::Counter64),
        column("drops", Syntax::Counter64),
        column("overflows", Syntax::Counter64),
        column("synack_retransmits", Syntax::Counter64),
    ],
};

const fn column(source: &'static str, syntax: Syntax) -> Column {
    Column { arc: None, name: "", syntax, source, metric: None, help: "of a test", if_absent: 0 }
}

type Fields<'a> = &'a [(&'static str, u64)];

fn table(schema: &'static TableSchema, rows: &[(&str, &str, Fields<'_>)]) -> Table {
    let mut builder = TableBuilder::new(schema);
    for (proxy, address, fields) in rows {
        let row = builder.push(|_, column| match column.source {
            "proxy" => Field::Text(proxy.as_bytes()),
            "address" => Field::Text(address.as_bytes()),
            source => match fields.iter().find(|(name, _)| *name == source) {
                Some((_, number)) => Field::Number(*number),
                None => Field::Absent,
            },
        });
        row.unwrap();
    }
    builder.finish().0
}

/// What is seen of frontend `www` at the end of these steps, one a second.
fn seen(schema: &'static TableSchema, steps: &[Fields<'_>]) -> (Seen, Seen) {
    let mut pressure = Pressure::default();
    let mut last = (Seen::Unknown, Seen::Unknown);
    for (second, fields) in steps.iter().enumerate() {
        let table = table(schema, &[("www", "127.0.0.1:80", fields)]);
        let frontends = pressure.step(&table, &THRESHOLDS, Duration::from_secs(second as u64));
        let www = &frontends[&b"www"[..]];
        last = (www.surge(&THRESHOLDS), www.flood(&THRESHOLDS));
    }
    last
}

#[test]
fn a_queue_that_fills_up_is_a_surge() {
    for (backlog, peak, expected) in [
        (0, 0, Seen::Good),
        (50, 50, Seen::Good),
        (51, 0, Seen::Neither),
        (0, 79, Seen::Neither),
        (0, 80, Seen::Bad),
        (101, 101, Seen::Bad),
    ] {
        let fields: Fields<'_> = &[("backlog", backlog), ("backlog_peak", peak), ("backlog_limit", 100)];
        assert_eq!(seen(&FULL, &[fields]).0, expected, "{backlog}, {peak}");
    }
    assert_eq!(seen(&FULL, &[&[]]), (Seen::Good, Seen::Good));
}

#[test]
fn overflows_are_a_surge_whatever_the_queue_shows() {
    let at = |overflows| [("backlog", 0), ("backlog_limit", 100), ("overflows", overflows), ("drops", overflows)];
    assert_eq!(seen(&FULL, &[&at(7), &at(7)]), (Seen::Good, Seen::Good), "what was so already");
    assert_eq!(seen(&FULL, &[&at(7), &at(8)]).0, Seen::Bad);
    assert_eq!(seen(&FULL, &[&at(7), &at(5_000)]).1, Seen::Good, "dropped connections are no dropped SYNs");
    assert_eq!(seen(&FULL, &[&at(7), &at(5)]).0, Seen::Good, "another listener");
}

#[test]
fn overflows_that_are_told_of_now_and_then_are_counted_once() {
    let told: Fields<'_> = &[("backlog_limit", 100), ("overflows", 900), ("drops", 900)];
    let untold: Fields<'_> = &[("backlog_limit", 100), ("drops", 900)];
    for steps in [&[untold, told][..], &[told, untold, told], &[told, untold, untold, told, untold]] {
        assert_eq!(seen(&FULL, steps), (Seen::Good, Seen::Good), "{steps:?}");
    }
    let more: Fields<'_> = &[("backlog_limit", 100), ("overflows", 901), ("drops", 901)];
    assert_eq!(seen(&FULL, &[told, untold, more]).0, Seen::Bad);
}

#[test]
fn drops_are_overflows_only_of_a_queue_that_is_rather_full() {
    let at = |backlog, drops| [("backlog", backlog), ("backlog_limit", 100), ("drops", drops)];
    assert_eq!(seen(&LISTENER, &[&at(60, 0), &at(60, 1)]).0, Seen::Bad);
    assert_eq!(seen(&LISTENER, &[&at(10, 0), &at(10, 1)]), (Seen::Good, Seen::Good));
    assert_eq!(seen(&LISTENER, &[&at(10, 0), &at(10, 100)]), (Seen::Good, Seen::Bad));
}

#[test]
fn dropped_syns_a_full_syn_queue_and_repeated_answers_are_a_flood() {
    let flood = |fields: Fields<'_>| seen(&FULL, &[&[], fields]).1;
    assert_eq!(flood(&[("drops", 100)]), Seen::Bad);
    assert_eq!(flood(&[("drops", 60)]), Seen::Neither);
    assert_eq!(flood(&[("drops", 50)]), Seen::Good);
    assert_eq!(flood(&[("syn_backlog_peak", 80), ("backlog_limit", 100)]), Seen::Bad);
    assert_eq!(flood(&[("synack_retransmits", 100)]), Seen::Bad);
    assert_eq!(flood(&[("synack_retransmits", 100), ("accepted", 1_000)]), Seen::Good);
    let surge: Fields<'_> = &[("synack_retransmits", 500), ("backlog", 100), ("backlog_limit", 100)];
    assert_eq!(flood(surge), Seen::Neither);
}

#[test]
fn rates_are_those_of_a_second_however_short_the_steps() {
    let mut pressure = Pressure::default();
    let mut bad = 0;
    for step in 0..300_u64 {
        // 50 drops at once, each second.
        let table = table(&FULL, &[("www", "a", &[("drops", step / 100 * 50)])]);
        let frontends = pressure.step(&table, &THRESHOLDS, Duration::from_millis(10 * step));
        bad += usize::from(frontends[&b"www"[..]].flood(&THRESHOLDS) == Seen::Bad);
    }
    assert_eq!(bad, 0);
}

#[test]
fn a_frontend_is_its_worst_address_and_an_unnamed_listener_its_own() {
    let full: Fields<'_> = &[("backlog", 90), ("backlog_limit", 100)];
    let idle: Fields<'_> = &[("backlog", 0), ("backlog_limit", 4_096)];
    let table = table(&FULL, &[("www", "a", idle), ("www", "b", full), ("www", "c", idle), ("", "d", idle)]);
    let mut pressure = Pressure::default();
    let frontends = pressure.step(&table, &THRESHOLDS, Duration::ZERO);
    assert_eq!(frontends.keys().copied().collect::<Vec<_>>(), [b"d", &b"www"[..]]);
    let www = &frontends[&b"www"[..]];
    assert_eq!(www.surge_message("www", true), "Surge on www: 90 of 100 connections wait in the accept queue of b");
}

#[test]
fn a_listener_that_gets_a_name_brings_no_old_drops_along() {
    let mut pressure = Pressure::default();
    let rows = |proxy| table(&FULL, &[(proxy, "a", &[("drops", 9_000), ("overflows", 9_000)])]);
    pressure.step(&rows(""), &THRESHOLDS, Duration::ZERO);
    let named = rows("www");
    let frontends = pressure.step(&named, &THRESHOLDS, Duration::from_secs(1));
    assert_eq!(frontends[&b"www"[..]].surge(&THRESHOLDS), Seen::Good);
}
