//! lbStats as managers see it: net-snmp's tools over SNMPv2c and v3, pysnmp, and Prometheus's snmp_exporter.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use lbstatd_tests::{
    Connection, Level, MONITOR, Output, PassPersist, Process, Program, SnmpValue, Snmpd, Varbind, address, http_get,
    kept, lbstatd_binary, run, unpacked, wait_for,
};
use tempfile::TempDir;

use crate::reading::{COLUMNS, ROOTS, Reading, arcs, below};
use crate::skip::skipped;
use crate::tap::Tap;
use crate::versions::with_one_reading;
use crate::walk::wait_for_rows;
use crate::zoo::{self, Zoo};

#[test]
fn the_tools_of_net_snmp_agree_over_v2c_and_v3() {
    let (_zoo, snmpd, walk) = settled();
    let client = snmpd.client();
    let expected = succeeded(client.tool("snmpwalk", &["-On"], &[ROOTS[0]]).unwrap());
    let names: Vec<String> = walk.iter().map(Varbind::dotted).collect();
    for version in [&[][..], &MONITOR] {
        let with = |options: &[&'static str]| [version, &["-On"], options].concat();
        let walked = succeeded(client.tool("snmpwalk", &with(&[]), &[ROOTS[0]]).unwrap());
        assert_eq!(walked, expected);
        for repetitions in ["-Cr1", "-Cr10", "-Cr100"] {
            let walked = succeeded(client.tool("snmpbulkwalk", &with(&[repetitions]), &[ROOTS[0]]).unwrap());
            assert_eq!(walked, expected, "{repetitions}");
        }
        let got = names.chunks(40).map(|names| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            succeeded(client.tool("snmpget", &with(&[]), &names).unwrap())
        });
        assert_eq!(got.collect::<String>(), expected);
    }
    // The account reads, encrypted, or not at all.
    let plain: Vec<&str> = MONITOR.iter().map(|word| if *word == "authPriv" { "authNoPriv" } else { word }).collect();
    let refused = client.tool("snmpget", &plain, &[&names[0]]).unwrap();
    assert!(!refused.status.success() && refused.stderr.contains("authorizationError"), "{refused:?}");
    let set = client.tool("snmpset", &MONITOR, &[&names[1], "s", "other"]).unwrap();
    assert!(!set.status.success() && set.stderr.contains("noAccess"), "{set:?}");
}

#[test]
fn snmptable_shows_every_number_in_its_row_and_column() {
    let (_zoo, snmpd, walk) = settled();
    let cells = below(ROOTS[0], &walk);
    let mibs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mibs").canonicalize().unwrap();
    let folders = format!("{0}:{0}/base", mibs.display());
    for version in [&[][..], &MONITOR] {
        // With indexes, and a mark between columns that stands in no value.
        let options = [version, &["-Ci", "-Cf", "|", "-Oe"]].concat();
        for (arc, name) in [(2, "lbFrontendTable"), (3, "lbBackendTable"), (4, "lbServerTable")] {
            let table = format!("EXCELIANCE-MIB::{name}");
            let mibs = Some((folders.as_str(), "EXCELIANCE-MIB"));
            let table = succeeded(snmpd.client().tool_with_mibs("snmptable", mibs, &options, &[&table]).unwrap());
            let mut lines = table.lines().filter(|line| line.contains('|')).map(|line| line.split('|'));
            let columns: Vec<&str> = lines.next().unwrap().collect();
            let mut shown = 0;
            for mut row in lines {
                let index = arcs(&format!(".{}", row.next().unwrap()));
                for (column, text) in columns[1..].iter().zip(row) {
                    let column = COLUMNS.iter().find(|known| known.name == *column).unwrap();
                    assert_eq!(column.table_arc, arc);
                    let oid: Vec<u32> = [arc, 1, column.column].into_iter().chain(index.iter().copied()).collect();
                    assert!(printed(cells[&oid]).is_none_or(|number| number == text), "{oid:?}: {text}");
                    shown += 1;
                }
            }
            assert_eq!(shown, cells.keys().filter(|oid| oid[0] == arc).count(), "{table}");
        }
    }
}

#[test]
fn pysnmp_walks_everything_without_a_time_out_or_a_step_back() {
    let (_zoo, snmpd, walk) = settled();
    walk_with_pysnmp(snmpd.address(), &[], &walk);
}

/// Walks lbStats with pysnmp, which is to find what is expected; with version 2c, or as this user with this passphrase.
pub(crate) fn walk_with_pysnmp(agent: SocketAddr, user: &[&str], expected: &[Varbind]) {
    let python = match pysnmp() {
        Ok(python) => python,
        Err(error) => return skipped("pysnmp", &format!("{error:#}")),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/walk.py");
    let (host, port) = (agent.ip().to_string(), agent.port().to_string());
    let arguments = [&[&host, &port, &ROOTS[0][1..]], user].concat();
    let output = succeeded(run(python, |command| command.arg(script).args(arguments)).unwrap());
    let expected: Vec<String> = expected.iter().map(as_pysnmp_prints).collect();
    let walks: Vec<Vec<&str>> = output.split("\n\n").map(|walk| walk.lines().collect()).collect();
    assert_eq!(walks.len(), 2, "{output}");
    assert_eq!(walks[0], expected, "with GetNext");
    assert_eq!(walks[1], expected, "with GetBulk");
}

#[test]
fn snmp_exporter_exposes_every_cell() {
    let root = match unpacked("prometheus-snmp-exporter", "bookworm") {
        Ok(root) => root,
        Err(error) => return skipped("snmp_exporter", &format!("{error:#}")),
    };
    let (_zoo, snmpd, walk) = settled();
    let dir = TempDir::with_prefix("lbstatd-exporter-").unwrap();
    let (_exporter, exporter) = snmp_exporter(&root, dir.path()).unwrap();
    let page = http_get(exporter, &format!("/snmp?module=lbstats&target={}", snmpd.address())).unwrap();
    let series: BTreeMap<&str, &str> = page.lines().filter_map(|line| line.rsplit_once(' ')).collect();
    for (oid, value) in below(ROOTS[0], &walk) {
        let column = COLUMNS.iter().find(|column| [column.table_arc, 1, column.column] == oid[..3]).unwrap();
        let name = column.name;
        if let SnmpValue::OctetString(octets) = value {
            // The MIB has no textual convention for them, so the exporter shows octets, as a label.
            let octets: String = octets.iter().map(|octet| format!("{octet:02X}")).collect();
            assert!(
                octets.is_empty() || page.contains(&format!("{name}=\"0x{octets}\"")),
                "{name} of {oid:?}: {octets}"
            );
            continue;
        }
        let shown = series.iter().find(|(series, _)| is_series(series, name, &oid));
        let (_, shown) = shown.unwrap_or_else(|| panic!("{name} of {oid:?} is not exposed"));
        let number = printed(value).unwrap();
        assert_eq!(shown.parse::<f64>().unwrap(), number.parse::<f64>().unwrap(), "{name} of {oid:?}");
    }
}

#[test]
fn all_cells_of_a_walk_are_of_one_moment_while_traffic_goes_on() {
    let zoo = zoo::start(Level::User);
    let tap = Tap::start(zoo.haproxy.socket());
    let binary = lbstatd_binary().unwrap();
    let command =
        format!("{} pass-persist --interval 20ms --stats-socket {}", binary.display(), tap.socket().display());
    let snmpd = Snmpd::start(&[PassPersist { root: ROOTS[0], command }]).unwrap();
    wait_for_rows(&snmpd, ROOTS[0], Reading::of(&zoo.haproxy).rows());
    let (over, mut walks) = (AtomicBool::new(false), Vec::new());
    let walked = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                Connection::open(zoo.www).unwrap().request("/").unwrap();
            }
        });
        let walked = wait_for("three walks, each while HAProxy was read several times", || {
            let before = tap.readings().len();
            // GetNext, a round for each cell: the slowest way there is.
            let walk = snmpd.client().walk(ROOTS[0])?;
            // On a busy machine it may be over before the next reading.
            if tap.readings().len() >= before + 3 {
                walks.push(walk);
            }
            ensure!(walks.len() == 3, "{} of them", walks.len());
            Ok(())
        });
        over.store(true, Ordering::Relaxed);
        walked
    });
    walked.unwrap();
    let readings = tap.readings();
    let mut moments = Vec::new();
    for walk in &walks {
        let moment = readings.iter().position(|reading| reading.differences(ROOTS[0], walk).is_empty());
        moments.push(moment.expect("a walk is one reading, whole"));
    }
    assert!(moments.is_sorted_by(|one, next| one < next), "a walk is not fresher than the last: {moments:?}");
    // lbFrontendSessionTotal of `www`.
    let sessions = walks.iter().map(|walk| printed(below(ROOTS[0], walk)[&vec![2, 1, 7, 1, 10]]).unwrap());
    let sessions: Vec<u64> = sessions.map(|number| number.parse().unwrap()).collect();
    assert!(sessions.is_sorted_by(|one, next| one < next), "no traffic between the walks: {sessions:?}");
}

/// HAProxy with some traffic behind it, an snmpd that shows it as it was then, and a walk.
fn settled() -> (Zoo, Snmpd, Vec<Varbind>) {
    let zoo = zoo::start(Level::User);
    zoo.traffic();
    let snmpd = with_one_reading(ROOTS[0], &[zoo.haproxy.socket()]);
    let walk = wait_for_rows(&snmpd, ROOTS[0], Reading::of(&zoo.haproxy).rows());
    (zoo, snmpd, walk)
}

fn succeeded(output: Output) -> String {
    assert_eq!((output.status.code(), output.stderr.as_str()), (Some(0), ""), "{}", output.stdout);
    // Behind the last value, a walk says that the view ends there.
    let end = "No more variables left in this MIB View (It is past the end of the MIB tree)\n";
    output.stdout.split_inclusive('\n').filter(|line| !line.ends_with(end)).collect()
}

/// A number in decimal; a text is none.
fn printed(value: &SnmpValue) -> Option<String> {
    match value {
        SnmpValue::Integer(number) => Some(number.to_string()),
        SnmpValue::Counter32(number) | SnmpValue::Counter64(number) => Some(number.to_string()),
        SnmpValue::OctetString(_) => None,
        SnmpValue::Other(other) => panic!("{other}"),
    }
}

fn as_pysnmp_prints(varbind: &Varbind) -> String {
    let lbstatd_tests::Answer::Value(value) = &varbind.answer else { panic!("{varbind:?}") };
    let kind = match value {
        SnmpValue::Integer(_) => "Integer",
        SnmpValue::Counter32(_) => "Counter32",
        SnmpValue::Counter64(_) => "Counter64",
        _ => "OctetString",
    };
    let text = match value {
        SnmpValue::OctetString(octets) => octets.iter().map(|octet| format!("{octet:02x}")).collect(),
        number => printed(number).unwrap(),
    };
    format!("{}\t{kind}\t{text}", &varbind.dotted()[1..])
}

/// The Python of an environment of its own that has pysnmp.
fn pysnmp() -> Result<std::path::PathBuf> {
    let environment = kept("pysnmp", |folder| {
        for (program, arguments) in [
            (Path::new("python3"), &["-m", "venv", "."][..]),
            (Path::new("bin/python"), &["-m", "pip", "-q", "install", "pysnmp==7.1.*"]),
        ] {
            let program = if program.starts_with("bin") { folder.join(program) } else { program.to_owned() };
            let output = run(program, |command| command.args(arguments).current_dir(folder))?;
            let failed =
                || output.stderr.lines().last().or(output.stdout.lines().last()).unwrap_or_default().to_owned();
            ensure!(output.status.success(), "{}: {} (Debian: python3-venv)", arguments.join(" "), failed());
        }
        Ok(())
    })?;
    Ok(environment.join("bin/python"))
}

/// Starts it with the module that its own generator makes from the MIB.
fn snmp_exporter(root: &Path, dir: &Path) -> Result<(Process, SocketAddr)> {
    let module = "modules: {lbstats: {walk: [lbStats], version: 2, auth: {community: public}}}\n";
    std::fs::write(dir.join("generator.yml"), module)?;
    let mibs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mibs").canonicalize()?;
    let folders = format!("{0}:{0}/base", mibs.display());
    let generated = Program::in_root(root, "usr/bin/prometheus-snmp-generator")?.run(|command| {
        command.arg("generate").current_dir(dir).env("MIBDIRS", folders).env("MIBS", "EXCELIANCE-MIB")
    })?;
    anyhow::ensure!(generated.status.success(), "the generator: {}", generated.stderr);
    let address = address();
    let mut exporter =
        Program::in_root(root, "usr/bin/prometheus-snmp-exporter")?.start(dir.join("log"), |command| {
            let config = format!("--config.file={}", dir.join("snmp.yml").display());
            command.arg(config).arg(format!("--web.listen-address={address}"))
        })?;
    exporter.wait_ready(|| http_get(address, "/").map(|_| ()))?;
    Ok((exporter, address))
}

/// Whether this is the name of a series with these indexes for labels.
fn is_series(series: &str, name: &str, oid: &[u32]) -> bool {
    let Some(labels) = series.strip_prefix(name).and_then(|rest| rest.strip_prefix('{')?.strip_suffix('}')) else {
        return false;
    };
    let mut values: Vec<&str> = labels.split(',').filter_map(|label| label.split('"').nth(1)).collect();
    let mut index: Vec<String> = oid[3..].iter().map(u32::to_string).collect();
    values.sort_unstable();
    index.sort_unstable();
    values == index
}
