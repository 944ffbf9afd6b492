//! lbStats as a manager sees it through the real snmpd, compared cell by cell with what HAProxy said.

use std::path::Path;

use lbstatd_tests::{
    Answer, Haproxy, Lbstatd, LbstatdConfig, Level, PassPersist, Snmpd, Varbind, lbstatd_binary, wait_for,
};

use crate::reading::{ROOTS, Reading, arcs, below};
use crate::tap::Tap;
use crate::zoo;

#[test]
fn alone_on_a_user_socket_every_cell_is_what_haproxy_said() {
    let zoo = zoo::start(Level::User);
    zoo.traffic();
    let tap = Tap::start(zoo.haproxy.socket());
    let snmpd = alone(&tap.socket());
    check_every_cell(&zoo.haproxy, &tap, &snmpd);
}

#[test]
fn alone_on_an_operator_socket_every_cell_is_what_haproxy_said() {
    let zoo = zoo::start(Level::Operator);
    zoo.traffic();
    let tap = Tap::start(zoo.haproxy.socket());
    let snmpd = alone(&tap.socket());
    check_every_cell(&zoo.haproxy, &tap, &snmpd);
}

#[test]
fn through_the_daemon_every_cell_is_what_haproxy_said() {
    let zoo = zoo::start(Level::Operator);
    zoo.traffic();
    let tap = Tap::start(zoo.haproxy.socket());
    let lbstatd = Lbstatd::start(&LbstatdConfig { interval: "1s", ..LbstatdConfig::new(tap.socket()) }).unwrap();
    let snmpd = through(&lbstatd);
    check_every_cell(&zoo.haproxy, &tap, &snmpd);
}

#[test]
fn proxies_and_servers_changed_at_run_time_are_shown() {
    let zoo = zoo::start(Level::Admin);
    let tap = Tap::start(zoo.haproxy.socket());
    let lbstatd = Lbstatd::start(&LbstatdConfig::new(tap.socket())).unwrap();
    let snmpd = through(&lbstatd);
    let status = |column: &str| -> String {
        let answer = snmpd.client().get(&[&format!("{}.{column}", ROOTS[0])]).unwrap();
        match &answer[0].answer {
            Answer::Value(lbstatd_tests::SnmpValue::OctetString(text)) => String::from_utf8(text.clone()).unwrap(),
            other => format!("{other:?}"),
        }
    };
    let becomes = |column: &str, wanted: &str| {
        wait_for(&format!("{column} to be {wanted}"), || match status(column) {
            status if status == wanted => Ok(()),
            status => anyhow::bail!("it is {status}"),
        })
        .unwrap();
    };
    becomes("2.1.13.1.10", "OPEN");
    zoo.haproxy.command("disable frontend www").unwrap();
    becomes("2.1.13.1.10", "PAUSED");
    zoo.haproxy.command("enable frontend www").unwrap();
    becomes("2.1.13.1.10", "OPEN");
    zoo.haproxy.command("shutdown frontend www").unwrap();
    becomes("2.1.13.1.10", "STOP");
    becomes("4.1.19.1.9.10", "no check");
    zoo.haproxy.command("set server both/one state maint").unwrap();
    becomes("4.1.19.1.9.10", "MAINT");
    zoo.haproxy.command("set server both/one state drain").unwrap();
    becomes("4.1.19.1.9.10", "DRAIN");
    check_every_cell(&zoo.haproxy, &tap, &snmpd);
}

#[test]
fn get_and_get_next_find_the_same_cells_as_a_walk() {
    let zoo = zoo::start(Level::User);
    let lbstatd =
        Lbstatd::start(&LbstatdConfig { interval: "1h", ..LbstatdConfig::new(zoo.haproxy.socket()) }).unwrap();
    let snmpd = through(&lbstatd);
    let client = snmpd.client();
    let root = ROOTS[0];
    let walk = wait_for_rows(&snmpd, root, Reading::of(&zoo.haproxy).rows());
    assert_eq!(client.walk(root).unwrap(), walk, "snmpwalk and snmpbulkwalk differ");

    let some: Vec<&Varbind> = walk.iter().step_by(7).collect();
    let names: Vec<String> = some.iter().map(|varbind| varbind.dotted()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let got: Vec<Varbind> = names.chunks(40).flat_map(|names| client.get(names).unwrap()).collect();
    assert!(got.iter().eq(some.iter().copied()), "get differs from the walk");

    for pair in walk.windows(2).step_by(11) {
        assert_eq!(client.get_next(&[&pair[0].dotted()]).unwrap(), [pair[1].clone()]);
    }
    // Between rows, columns and tables, in the midst of an index, and beyond it.
    for place in ["", "2.1.3.1.9", "2.1.3.1.9.5", "2.1.13.1.4294967295", "3.1.1", "4.1.27.1", "4.1.27.1.9.9.0", "4"] {
        let place = format!("{root}.{place}").trim_end_matches('.').to_owned();
        let follows = walk.iter().find(|varbind| varbind.oid > arcs(&place)).unwrap();
        assert_eq!(client.get_next(&[&place]).unwrap(), std::slice::from_ref(follows));
    }
    for nothing in ["1.1.52.1", "1.1.1.2", "2.1.3.1", "2.1.3.1.10.0", "5", "1", "2.2.3.1.10", "4.1.1.1.9.2147483648"] {
        let answer = &client.get(&[&format!("{root}.{nothing}")]).unwrap()[0].answer;
        assert!(matches!(answer, Answer::NoSuchInstance | Answer::NoSuchObject), "{nothing}: {answer:?}");
    }
}

#[test]
fn the_walk_that_dump_prints_is_the_one_that_snmpwalk_prints() {
    let zoo = zoo::start(Level::User);
    let lbstatd =
        Lbstatd::start(&LbstatdConfig { interval: "1h", ..LbstatdConfig::new(zoo.haproxy.socket()) }).unwrap();
    let snmpd = through(&lbstatd);
    for root in ROOTS {
        wait_for_rows(&snmpd, root, Reading::of(&zoo.haproxy).rows());
    }
    let walks = ROOTS.map(|root| snmpd.client().tool("snmpwalk", &["-On"], &[root]).unwrap().stdout).concat();
    let beyond = "No more variables left in this MIB View (It is past the end of the MIB tree)\n";
    let walks = walks.split_inclusive('\n').filter(|line| !line.ends_with(beyond)).collect::<String>();
    // LBSTATD-MIB comes before: its root is lower.
    let dump = dump_of(&lbstatd);
    let lbstats = |line: &&String| ROOTS.iter().any(|root| line.starts_with(root));
    let dumped: Vec<&str> = dump.iter().skip_while(|line| !lbstats(line)).map(String::as_str).collect();
    assert_eq!(dumped, walks.lines().collect::<Vec<_>>());
}

#[test]
fn nothing_can_be_set() {
    let zoo = zoo::start(Level::User);
    let lbstatd = Lbstatd::start(&LbstatdConfig::new(zoo.haproxy.socket())).unwrap();
    let snmpd = through(&lbstatd);
    for root in ROOTS {
        wait_for_rows(&snmpd, root, Reading::of(&zoo.haproxy).rows());
        let name = format!("{root}.2.1.3.1.10");
        let set = snmpd.client().tool("snmpset", &["-On"], &[&name, "s", "other"]).unwrap();
        assert!(!set.status.success(), "{set:?}");
        assert!(set.stderr.contains("notWritable"), "{set:?}");
        let after = snmpd.client().get(&[&name]).unwrap();
        assert_eq!(after[0].answer, Answer::Value(lbstatd_tests::SnmpValue::OctetString(b"www".to_vec())));
    }
}

/// The lines of `lbstatd dump --format snmp` of this daemon.
pub(crate) fn dump_of(lbstatd: &Lbstatd) -> Vec<String> {
    let control = lbstatd.control();
    let dump = lbstatd_tests::run(lbstatd_binary().unwrap(), |command| {
        command.args(["dump", "--format", "snmp", "--control"]).arg(control)
    })
    .unwrap();
    assert_eq!((dump.status.code(), dump.stderr.as_str()), (Some(0), ""));
    dump.stdout.lines().map(str::to_owned).collect()
}

/// snmpd with `lbstatd pass-persist` alone on a stats socket.
pub(crate) fn alone(socket: &Path) -> Snmpd {
    let binary = lbstatd_binary().unwrap();
    let command = format!("{} pass-persist --stats-socket {}", binary.display(), socket.display());
    Snmpd::start(&PassPersist::both_roots(&command)).unwrap()
}

/// snmpd with `lbstatd pass-persist` that asks the daemon.
pub(crate) fn through(lbstatd: &Lbstatd) -> Snmpd {
    let binary = lbstatd_binary().unwrap();
    let command = format!("{} pass-persist --control {}", binary.display(), lbstatd.control().display());
    Snmpd::start(&PassPersist::both_roots(&command)).unwrap()
}

/// A walk with so many rows, which a pass-persist that has just been started may not have at once.
pub(crate) fn wait_for_rows(snmpd: &Snmpd, root: &str, rows: usize) -> Vec<Varbind> {
    wait_for("a walk with all rows", || {
        let walk = snmpd.client().bulk_walk(root)?;
        anyhow::ensure!(walk.len() == rows, "{} rows and not {rows}", walk.len());
        Ok(walk)
    })
    .unwrap()
}

/// A walk at either root is one of the readings that lbstatd was given, whole and with all that moves by itself; and
/// what does not move by itself is what HAProxy says now.
fn check_every_cell(haproxy: &Haproxy, tap: &Tap, snmpd: &Snmpd) {
    for root in ROOTS {
        let (walk, given) = wait_for("a walk that equals one reading of the stats socket", || {
            let walk = snmpd.client().bulk_walk(root)?;
            let readings = tap.readings();
            let differences: Vec<Vec<String>> =
                readings.iter().map(|reading| reading.differences(root, &walk)).collect();
            match differences.iter().position(Vec::is_empty) {
                Some(place) => Ok((walk, readings[place].clone())),
                None => {
                    let least = differences.into_iter().min_by_key(Vec::len).unwrap_or_default();
                    anyhow::bail!("{} rows, against the most similar reading: {least:#?}", walk.len())
                }
            }
        })
        .unwrap();
        let now = Reading::of(haproxy);
        assert_eq!(walk.len(), now.rows());
        assert!(walk.is_sorted_by(|one, next| one.oid < next.oid), "identifiers do not ascend");
        assert!(given.cells.keys().eq(now.cells.keys()));
        for (oid, value) in below(root, &walk) {
            let cell = &now.cells[&oid];
            assert!(*value == cell.value || MOVES.contains(&cell.source), "{oid:?} is {value:?}, now {cell:?}");
        }
    }
}

/// Fields that move without traffic: clocks, and what health checks and our own questions count.
#[rustfmt::skip] // One to a line says nothing more.
const MOVES: [&str; 18] = [
    "Uptime", "Uptime_sec", "CurrConns", "CumConns", "CumReq", "ConnRate", "MaxConnRate", "SessRate", "MaxSessRate",
    "Tasks", "Run_queue", "Idle_pct", "lastchg", "downtime", "throttle", "weight", "chkfail", "chkdown",
];
