//! Sequences of snapshots, and what they give.

use std::sync::Arc;

use lbstats::schema::{BACKEND, FRONTEND, LISTENER, SERVER};
use lbstats::{Field, Source, Table, TableBuilder};
use proptest::prelude::*;

use super::super::settings::NotifySettings;
use super::super::status::tests::{Fields, table};
use super::*;

/// The events of snapshots a second apart, as `kind name`, with the second.
fn told(settings: &NotifySettings, snapshots: impl IntoIterator<Item = Snapshot>) -> Vec<(u64, String)> {
    let mut detector = Detector::new(settings.rules());
    let mut told = Vec::new();
    for (second, snapshot) in (0..).zip(snapshots) {
        for event in detector.step(&snapshot, Duration::from_secs(second)) {
            assert_eq!(event.uptime, Duration::from_secs(second));
            told.push((second, format!("{} {}", event.kind.unwrap().name(), event.name)));
        }
    }
    told
}

fn defaults() -> NotifySettings {
    NotifySettings::default()
}

fn server(status: &str) -> Snapshot {
    servers(&[("app", "one", &[("status", status)])])
}

fn servers(rows: &[Fields<'_>]) -> Snapshot {
    Snapshot { servers: table(&SERVER, rows), sources: vec![source(SourceKind::Haproxy)], ..Snapshot::empty() }
}

fn source(kind: SourceKind) -> Source {
    Source { error: None, ..Source::new(kind, "s") }
}

fn times(snapshot: Snapshot, count: usize) -> Vec<Snapshot> {
    vec![snapshot; count]
}

#[test]
fn a_server_goes_down_and_comes_back() {
    let snapshots = [times(server("UP"), 3), times(server("DOWN"), 9), times(server("UP 1/3"), 9)].concat();
    let expected = [(6, "serverdown app/one".to_owned()), (15, "serverup app/one".to_owned())];
    assert_eq!(told(&defaults(), snapshots), expected);
}

#[test]
fn what_was_down_at_the_start_is_not_told_until_it_is_up() {
    assert_eq!(told(&defaults(), times(server("DOWN"), 50)), []);
    let snapshots = [times(Snapshot::empty(), 5), times(server("DOWN"), 5), times(server("UP"), 5)].concat();
    assert_eq!(told(&defaults(), snapshots), [(13, "serverup app/one".to_owned())]);
}

#[test]
fn maintenance_and_drain_are_not_down() {
    for state in ["MAINT", "MAINT (via a/b)", "DRAIN", "NOLB", "no check"] {
        let snapshots = [times(server("UP"), 3), times(server(state), 20), times(server("UP"), 20)].concat();
        assert_eq!(told(&defaults(), snapshots), [], "{state}");
    }
    let snapshots = [times(server("MAINT"), 3), times(server("DOWN"), 5)].concat();
    assert_eq!(told(&defaults(), snapshots), [(6, "serverdown app/one".to_owned())]);
    // What went to maintenance while it was down is up when it comes back.
    let snapshots =
        [times(server("UP"), 2), times(server("DOWN"), 5), times(server("MAINT"), 9), times(server("UP"), 5)];
    let expected = [(5, "serverdown app/one".to_owned()), (19, "serverup app/one".to_owned())];
    assert_eq!(told(&defaults(), snapshots.concat()), expected);
}

#[test]
fn a_reload_tells_nothing_of_what_did_not_change() {
    let before = servers(&[("app", "up", &[("status", "UP")]), ("app", "dead", &[("status", "DOWN")])]);
    // Other numbers and another order; the first checks are not over; one server is gone, one is new and one was moved.
    let starting: &[(&str, &str)] = &[("status", "UP"), ("check_status", "INI")];
    let during = servers(&[
        ("new", "up", starting),
        ("other", "first", starting),
        ("app", "dead", starting),
        ("app", "up", starting),
    ]);
    let after = servers(&[
        ("new", "up", &[("status", "UP")]),
        ("other", "first", &[("status", "UP")]),
        ("app", "dead", &[("status", "DOWN")]),
        ("app", "up", &[("status", "UP")]),
    ]);
    let snapshots = [times(before, 5), times(during, 10), times(after, 20)].concat();
    assert_eq!(told(&defaults(), snapshots), []);
}

#[test]
fn a_new_server_that_fails_its_first_check_is_down() {
    let starting: &[(&str, &str)] = &[("status", "UP"), ("check_status", "INI")];
    let snapshots = [times(servers(&[("app", "one", starting)]), 2), times(server("DOWN"), 9)].concat();
    assert_eq!(told(&defaults(), snapshots), [(5, "serverdown app/one".to_owned())]);
}

#[test]
fn a_lost_source_is_no_server_down() {
    let lost = |mut snapshot: Snapshot| {
        snapshot.sources[0].error = Some("gone".to_owned());
        snapshot
    };
    // It was lost in the moment in which the server was down.
    let snapshots = [times(server("UP"), 3), times(server("DOWN"), 1), times(lost(server("DOWN")), 99)].concat();
    assert_eq!(told(&defaults(), snapshots.clone()), []);
    let snapshots = [snapshots, times(Snapshot::empty(), 10), times(server("UP"), 10)].concat();
    assert_eq!(told(&defaults(), snapshots), []);
}

#[test]
fn a_process_on_its_way_out_says_nothing() {
    let stopping = |snapshot: Snapshot| {
        let mut builder = TableBuilder::new(&PROCESS);
        builder.push(|_, column| if column.source == "Stopping" { Field::Number(1) } else { Field::Absent }).unwrap();
        Snapshot { processes: Arc::new(builder.finish().0), ..snapshot }
    };
    let snapshots = [times(server("UP"), 3), times(stopping(server("DOWN")), 99)].concat();
    assert_eq!(told(&defaults(), snapshots), []);
}

#[test]
fn one_socket_of_several_that_is_lost_holds_up_its_own_process_only() {
    let mut snapshot = server("UP");
    let second = Source { error: Some("gone".to_owned()), ..source(SourceKind::Haproxy) };
    snapshot.sources.push(second);
    assert!(is_fresh(&snapshot, 1) && !is_fresh(&snapshot, 2));
}

#[test]
fn kinds_can_be_switched_off() {
    let settings = NotifySettings { off: vec![Kind::ServerUp], ..defaults() };
    let snapshots =
        [times(server("UP"), 3), times(server("DOWN"), 9), times(server("UP"), 9), times(server("DOWN"), 9)].concat();
    let kinds: Vec<String> = told(&settings, snapshots).into_iter().map(|(_, told)| told).collect();
    assert_eq!(kinds, ["serverdown app/one", "serverdown app/one"]);
}

#[test]
fn servers_are_told_of_before_their_backend() {
    let with =
        |status: &str| Snapshot { backends: table(&BACKEND, &[("app", "", &[("status", status)])]), ..server(status) };
    let snapshots = [times(with("UP"), 2), times(with("DOWN"), 5)].concat();
    let expected = [(5, "serverdown app/one".to_owned()), (5, "backenddown app".to_owned())];
    assert_eq!(told(&defaults(), snapshots), expected);
}

#[test]
fn a_frontend_fills_up_and_empties() {
    let www = |sessions: &str| Snapshot {
        frontends: table(&FRONTEND, &[("www", "", &[("status", "OPEN"), ("scur", sessions), ("slim", "10")])]),
        ..server("UP")
    };
    let snapshots = [times(www("0"), 2), times(www("10"), 5), times(www("10"), 50), times(www("9"), 9)].concat();
    assert_eq!(told(&defaults(), snapshots), [(5, "frontendfull www".to_owned()), (60, "frontendopen www".to_owned())]);
}

fn listener(backlog: u64, drops: u64) -> Arc<Table> {
    let mut builder = TableBuilder::new(&LISTENER);
    let row = builder.push(|_, column| match column.source {
        "proxy" => Field::Text(b"www"),
        "address" => Field::Text(b"127.0.0.1:80"),
        "backlog" => Field::Number(backlog),
        "backlog_limit" => Field::Number(128),
        // Of the index, where there is one.
        "namespace" | "address_type" | "port" => Field::Number(1),
        "address_octets" => Field::Text(&[127, 0, 0, 1]),
        "drops" => Field::Number(drops),
        _ => Field::Absent,
    });
    row.unwrap();
    Arc::new(builder.finish().0)
}

fn kernel(backlog: u64, drops: u64) -> Snapshot {
    Snapshot { listeners: listener(backlog, drops), sources: vec![source(SourceKind::Ebpf)], ..Snapshot::empty() }
}

#[test]
fn a_surge_is_told_at_once_and_its_end_after_a_quiet_time() {
    let snapshots = [times(kernel(0, 0), 3), times(kernel(128, 0), 1), times(kernel(0, 0), 20)].concat();
    assert_eq!(told(&defaults(), snapshots), [(3, "surgeon www".to_owned()), (14, "surgeoff www".to_owned())]);
    assert_eq!(told(&defaults(), times(kernel(128, 7), 20)), [], "it was so already");
}

#[test]
fn a_flood_is_told_by_its_rate() {
    let mut snapshots = times(kernel(0, 0), 3);
    snapshots.extend((1..=5).map(|second| kernel(0, 500 * second)));
    snapshots.extend(times(kernel(0, 2_500), 20));
    assert_eq!(told(&defaults(), snapshots), [(3, "synfloodon www".to_owned()), (18, "synfloodoff www".to_owned())]);
}

#[test]
fn without_the_kernel_nothing_is_said_about_queues() {
    let lost = |mut snapshot: Snapshot| {
        snapshot.sources[0].error = Some("gone".to_owned());
        snapshot
    };
    let snapshots = [times(kernel(0, 0), 3), times(lost(kernel(128, 0)), 20)].concat();
    assert_eq!(told(&defaults(), snapshots), []);
}

const STATES: [&str; 6] = ["UP", "UP 1/3", "DOWN", "DOWN 1/2", "MAINT", "no check"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Three servers in random states, sources that come and go: of each object down and up take turns, and the first
    /// is what it was not.
    #[test]
    fn notifications_of_an_object_alternate(
        steps in prop::collection::vec((prop::array::uniform3(0_usize..6), 1_usize..8, 0_u8..10), 1..60),
    ) {
        let mut snapshots = Vec::new();
        for (states, count, lost) in &steps {
            let fields = states.map(|state| [("status", STATES[state])]);
            let mut snapshot =
                servers(&[("app", "a", &fields[0]), ("app", "b", &fields[1]), ("other", "a", &fields[2])]);
            snapshot.sources[0].error = (*lost == 0).then(|| "gone".to_owned());
            snapshots.extend(times(snapshot, *count));
        }
        let first = steps.iter().find(|(_, _, lost)| *lost != 0).map(|(states, ..)| *states);
        let told = told(&defaults(), snapshots.clone());
        for (place, name) in ["app/a", "app/b", "other/a"].into_iter().enumerate() {
            let mut down = first.is_some_and(|states| STATES[states[place]].starts_with("DOWN"));
            for (second, event) in told.iter().filter(|(_, event)| event.ends_with(name)) {
                prop_assert!(*second >= 3);
                let now = event.starts_with("serverdown");
                prop_assert_ne!(now, down, "second {}: {}", second, event);
                down = now;
            }
        }
        prop_assert!(told.len() <= 3 * (6 + 2 * snapshots.len() / 120 + 2));
    }
}
