//! lbStats through the real snmpd, cell by cell, for each release of HAProxy that Debian's releases ship.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lbstatd_tests::{
    Backend, Connection, Haproxy, HaproxyConfig, Level, PassPersist, Program, Reply, SnmpValue, Snmpd, address,
    haproxy_release, lbstatd_binary, stats_command, wait_until,
};

use crate::reading::{ROOTS, Reading, below};
use crate::skip::skipped;
use crate::tap::Tap;
use crate::walk::wait_for_rows;
use crate::zoo::DEFAULTS;

#[test]
fn haproxy_2_2_every_cell() {
    every_cell("2.2");
}

#[test]
fn haproxy_2_6_every_cell() {
    every_cell("2.6");
}

#[test]
fn haproxy_3_0_every_cell() {
    every_cell("3.0");
}

/// Proxies beside those that are there for what they are.
const BACKENDS: usize = 200;
/// Servers of the backend that is made from a template.
const SERVERS: usize = 100;

fn every_cell(release: &str) {
    let Some(version) = version(release) else { return };
    let haproxy = start(version);
    let socket = |name| haproxy.socket().with_file_name(name);
    let reading = check(&haproxy.socket(), ROOTS[0]);
    assert_eq!((reading.backends, reading.servers), (5 + BACKENDS, 8 + BACKENDS + SERVERS));
    for (table, proxies, server) in [(2, 2_147_483_646, None), (3, 2_147_483_647, None), (4, 9, Some(2_147_483_647))] {
        let index = [1, proxies].into_iter().chain(server);
        let row: Vec<u32> = [table, 1, 1].into_iter().chain(index).collect();
        assert!(reading.cells.contains_key(&row), "no row {row:?}");
    }

    let admin = |command: &str| stats_command(&socket("admin.sock"), command).unwrap().trim_end().to_owned();
    assert_eq!(admin("disable frontend odd.name:with-every_mark"), "");
    assert_eq!(admin("shutdown frontend www"), "");
    assert_eq!(admin("set server app/maint state ready"), "");
    assert_eq!(admin("set server many/s7 state drain"), "");
    let servers = reading.servers + add_servers(release, admin);
    let reading = check(&socket("operator.sock"), ROOTS[1]);
    assert_eq!(reading.servers, servers);
    let statuses: Vec<&[u8]> = texts(&reading, "status");
    // HAProxy 2.2 calls a paused frontend stopped.
    let paused = if release == "2.2" { &b"STOP"[..] } else { b"PAUSED" };
    for status in [b"OPEN", paused, b"STOP", b"UP", b"DOWN", b"no check", b"MAINT", b"DRAIN"] {
        assert!(statuses.contains(&status), "no proxy or server is {}", status.escape_ascii());
    }
}

/// A HAProxy of this release; where there is none, the tests go on with the others.
pub(crate) fn version(release: &str) -> Option<Program> {
    match haproxy_release(release) {
        Ok(version) => Some(version),
        Err(error) => {
            skipped(&format!("HAProxy {release}"), &format!("{error:#}"));
            None
        }
    }
}

/// How many servers there are more; HAProxy before 2.4 cannot, and is not asked.
fn add_servers(release: &str, admin: impl Fn(&str) -> String) -> usize {
    if release == "2.2" {
        return 0;
    }
    let nobody = address();
    for (name, id) in [("added", 2_147_483_646), ("deleted", 77), ("added.too", 78)] {
        assert_eq!(admin(&format!("add server app/{name} {nobody} id {id}")), "New server registered.");
    }
    // A new server is in maintenance until it is enabled.
    assert_eq!(admin("del server app/deleted"), "Server deleted.");
    assert_eq!(admin("enable server app/added"), "");
    2
}

/// Starts it, and waits until it has settled after some traffic.
fn start(version: Program) -> Haproxy {
    let server = Backend::start(Reply::Http { body: 100 }).unwrap().address();
    let (nobody, www, odd, listen) = (address(), address(), address(), address());
    let global = r#"
    node lb-node-1
    description 'Edge "load balancer", site Ä; "" \ 100 %'
    stats socket unix@operator.sock mode 600 level operator
    stats socket unix@admin.sock mode 600 level admin
"#;
    let mut sections = format!(
        "{DEFAULTS}
frontend www
    id 2147483646
    description 'first, \"quoted\", ü'
    bind {www} name plain
    default_backend app
frontend odd.name:with-every_mark
    bind {odd}
    rate-limit sessions 1000
    default_backend app
frontend switched_off
    disabled
    bind {odd}
backend app
    cookie SRV insert
    server plain {server} cookie 'a,\"b\"'
    server maint {server} disabled
    server spare {server} backup
    server down {nobody} check inter 200ms
    server slow {server} check inter 200ms rise 1 fall 1 slowstart 1h weight 100
    server tracked {server} track app/slow
backend down_and_out
    server a:b.c-d {nobody} check inter 200ms
backend empty
    id 2147483647
backend not_there
    disabled
    server one {server}
listen both
    id 9
    bind {listen}
    server one {server} weight 7 maxconn 10 maxqueue 5 id 2147483647
backend many
    server-template s 1-{SERVERS} {server} disabled
"
    );
    for number in 1..=BACKENDS {
        let _ = writeln!(sections, "backend b-{number}\n    server s {server}");
    }
    let config = HaproxyConfig { level: Level::User, global: global.to_owned(), sections };
    let haproxy = Haproxy::start_with(version, config).unwrap();
    for address in [www, listen, odd] {
        for path in ["/a", "/missing", "/b?c=d"] {
            Connection::open(address).unwrap().request(path).unwrap();
        }
    }
    // Two servers, and the backends that have no other.
    let down = || Ok(texts(&Reading::of(&haproxy), "status").iter().filter(|status| **status == b"DOWN").count());
    wait_until("health checks to settle", down, |down| *down == 4).unwrap();
    haproxy
}

fn texts<'a>(reading: &'a Reading, source: &str) -> Vec<&'a [u8]> {
    let cells = reading.cells.values().filter(|cell| cell.source == source);
    cells
        .filter_map(|cell| match &cell.value {
            SnmpValue::OctetString(text) => Some(text.as_slice()),
            _ => None,
        })
        .collect()
}

/// A walk is what the one reading of lbstatd's was, whole; and what HAProxy told us both before and after it, lbstatd
/// was told, too.
fn check(socket: &Path, root: &'static str) -> Reading {
    let reading = || {
        let tell = |command| stats_command(socket, command).unwrap();
        Reading::new(&tell("show info"), &tell("show stat"))
    };
    let before = reading();
    let tap = Tap::start(socket.to_owned());
    let snmpd = with_one_reading(root, &[tap.socket()]);
    let walk = wait_for_rows(&snmpd, root, before.rows());
    let after = reading();
    let given = tap.readings();
    assert_eq!(given.len(), 1);
    assert_eq!(given[0].differences(root, &walk), Vec::<String>::new());
    assert!(walk.is_sorted_by(|one, next| one.oid < next.oid), "identifiers do not ascend");
    let seen = below(root, &walk);
    for (oid, cell) in before.cells.iter().filter(|(oid, cell)| oid[0] > 1 && after.cells[*oid] == **cell) {
        assert_eq!(*seen[oid], cell.value, "{oid:?} ({})", cell.source);
    }
    after
}

/// snmpd with a pass-persist that reads these sockets once, at the first request, and shows that for an hour.
pub(crate) fn with_one_reading(root: &'static str, sockets: &[PathBuf]) -> Snmpd {
    let mut command = format!("{} pass-persist --interval 1h --max-age 1h", lbstatd_binary().unwrap().display());
    for socket in sockets {
        let _ = write!(command, " --stats-socket {}", socket.display());
    }
    Snmpd::start(&[PassPersist { root, command }]).unwrap()
}
