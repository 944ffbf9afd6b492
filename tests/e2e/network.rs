//! What the network does to connections, and namespaces: seen at the right frontend and server, and only there.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lbstatd_tests::{
    Backend, Connection, Haproxy, HaproxyConfig, Lbstatd, LbstatdConfig, Netns, Program, Reply, address, wait_for,
};
use serde_json::Value;

use crate::kernel::dump_of;
use crate::skip::{self, skipped};
use crate::zoo::DEFAULTS;

const REQUEST: usize = 100;
const REPLY: usize = 300_000;

#[test]
fn what_gets_lost_on_the_way_to_clients_shows_at_their_frontend() {
    let Some(netns) = netns("what_gets_lost_on_the_way_to_clients") else { return };
    let (lossy, sound) = (SocketAddr::from((netns.outside(), 8001)), address());
    let server = Backend::start(Reply::Bytes { request: REQUEST, reply: REPLY }).unwrap().address();
    let haproxy = haproxy(&[("lossy", lossy), ("sound", sound)], &[server]);
    let config = LbstatdConfig::new(haproxy.socket());
    let Some(lbstatd) = skip::with_ebpf("what_gets_lost_on_the_way_to_clients", config) else { return };
    listener(&lbstatd, lossy, |row| is(row, "proxy", "lossy"));

    netns.lose("tcp sport 8001 tcp flags & (syn|ack) == (syn|ack) limit rate 1/day burst 1 packets").unwrap();
    let mut connection = netns.enter(|| Connection::open(lossy)).unwrap().unwrap();
    assert_eq!(netns.lost().unwrap(), 1);
    netns.lose_nothing().unwrap();
    let row = listener(&lbstatd, lossy, |row| is(row, "accepted", 1));
    assert!(number(&row, "synack_retransmits") >= 1, "{row}");
    assert_eq!(number(&row, "retransmits"), 0, "{row}");

    netns.lose("tcp sport 8001 numgen inc mod 10 == 9").unwrap();
    for _ in 0..3 {
        connection.send(&[b'q'; REQUEST]).unwrap();
        connection.receive(REPLY).unwrap();
    }
    let lost = netns.lost().unwrap();
    netns.lose_nothing().unwrap();
    connection.end().unwrap();
    let mut connection = Connection::open(sound).unwrap();
    connection.send(&[b'q'; REQUEST]).unwrap();
    connection.receive(REPLY).unwrap();
    connection.end().unwrap();

    let row = listener(&lbstatd, lossy, |row| is(row, "open", 0));
    let retransmits = number(&row, "retransmits");
    assert!(retransmits >= lost, "{lost} packets were lost: {row}");
    assert_eq!((number(&row, "bytes_received"), number(&row, "bytes_acked")), (3 * REQUEST as u64, 3 * REPLY as u64));
    let row = listener(&lbstatd, sound, |row| is(row, "accepted", 1) && is(row, "open", 0));
    // On a busy machine an acknowledgement can be late enough for a tail loss probe.
    assert!(number(&row, "retransmits") < retransmits, "{retransmits} at the other frontend: {row}");
    assert_eq!(number(&row, "synack_retransmits"), 0, "{row}");
}

#[test]
fn a_lost_syn_shows_in_the_connect_time_of_its_server() {
    let Some(netns) = netns("a_lost_syn_shows_in_the_connect_time") else { return };
    let (slow, fast) = (SocketAddr::from((netns.inside(), 8002)), address());
    let reply = Reply::Bytes { request: REQUEST, reply: 1000 };
    netns.enter(|| Backend::start_at(slow, reply)).unwrap().unwrap();
    Backend::start_at(fast, reply).unwrap();
    let listen = address();
    let haproxy = haproxy(&[("www", listen)], &[slow, fast]);
    let config = LbstatdConfig::new(haproxy.socket());
    let Some(lbstatd) = skip::with_ebpf("a_lost_syn_shows_in_the_connect_time", config) else { return };
    listener(&lbstatd, listen, |row| is(row, "proxy", "www"));

    netns.lose("tcp dport 8002 tcp flags & (syn|ack) == syn limit rate 1/day burst 1 packets").unwrap();
    // One for each server: round robin.
    for _ in 0..2 {
        let mut connection = Connection::open(listen).unwrap();
        connection.send(&[b'q'; REQUEST]).unwrap();
        connection.receive(1000).unwrap();
        connection.end().unwrap();
    }
    assert_eq!(netns.lost().unwrap(), 1);
    let ended = |row: &Value| is(row, "established", 1) && is(row, "open", 0);
    let row = wait_for_row(&lbstatd, "kernelServers", slow, ended);
    assert!(number(&row, "retransmits") >= 1, "{row}");
    assert_eq!(row["server"], "one", "{row}");
    let row = wait_for_row(&lbstatd, "kernelServers", fast, ended);
    assert_eq!(number(&row, "retransmits"), 0, "{row}");
    // The first SYN is sent again after a second (RFC 6298, section 2.1).
    let connect = |server: SocketAddr| {
        let page = lbstatd.metrics().unwrap();
        let address = format!("address=\"{server}\"");
        let of = |name: &str| {
            let name = format!("haproxy_kernel_server_connect_seconds_{name}{{");
            let line = page.lines().find(|line| line.starts_with(&name) && line.contains(&address));
            line.unwrap_or_else(|| panic!("no {name} of {server}")).rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        let (count, sum): (f64, f64) = (of("count"), of("sum"));
        assert_eq!(count, 1.0);
        sum
    };
    assert!((1.0..3.0).contains(&connect(slow)), "{}", connect(slow));
    assert!(connect(fast) < 0.5, "{}", connect(fast));
}

#[test]
fn haproxy_in_another_network_namespace_is_counted() {
    let Some(netns) = netns("haproxy_in_another_network_namespace") else { return };
    let listen = SocketAddr::from((netns.inside(), 8003));
    counts_connections("haproxy_in_another_network_namespace", netns.program("haproxy"), listen, |row| {
        number(row, "namespace") != 0
    });
}

#[test]
fn haproxy_in_a_pid_namespace_is_counted() {
    if netns("haproxy_in_a_pid_namespace").is_none() {
        return;
    }
    let haproxy = Program::behind("unshare", &["--pid", "--fork", "--kill-child", "haproxy"]);
    counts_connections("haproxy_in_a_pid_namespace", haproxy, address(), |row| number(row, "namespace") == 0);
}

/// What the kernel counts for a HAProxy that was started so before the daemon.
fn counts_connections(test: &str, program: Program, listen: SocketAddr, place: impl Fn(&Value) -> bool) {
    let answer = "    http-request return status 200 content-type text/plain string ok\n";
    let sections = format!("{DEFAULTS}\nfrontend www\n    bind {listen}\n{answer}");
    let haproxy = Haproxy::start_with(program, HaproxyConfig { sections, ..HaproxyConfig::default() }).unwrap();
    let Some(lbstatd) = skip::with_ebpf(test, LbstatdConfig::new(haproxy.socket())) else { return };
    let row = listener(&lbstatd, listen, |row| is(row, "proxy", "www") && is(row, "sockets", 1));
    assert!(place(&row), "{row}");
    let (mut sent, mut received) = (0, 0);
    for _ in 0..5 {
        let mut connection = Connection::open(listen).unwrap();
        assert_eq!(connection.request("/").unwrap(), 200);
        let bytes = connection.end().unwrap();
        (sent, received) = (sent + bytes.0, received + bytes.1);
    }
    let row = listener(&lbstatd, listen, |row| is(row, "accepted", 5) && is(row, "open", 0));
    assert_eq!((number(&row, "bytes_received"), number(&row, "bytes_acked")), (sent, received), "{row}");
    assert!(place(&row), "{row}");
}

/// A network of the test's own; reported as skipped where there can be none.
fn netns(test: &str) -> Option<Netns> {
    if !rustix::process::geteuid().is_root() {
        skipped(test, "only root can make a network of its own");
        return None;
    }
    Some(Netns::start().unwrap())
}

/// Frontends by name and address, all with the same servers.
fn haproxy(frontends: &[(&str, SocketAddr)], servers: &[SocketAddr]) -> Haproxy {
    let mut sections = format!("{DEFAULTS}    mode tcp\n");
    for (name, listen) in frontends {
        sections.push_str(&format!("frontend {name}\n    bind {listen}\n    default_backend servers\n"));
    }
    sections.push_str("backend servers\n");
    for (name, server) in ["one", "two"].iter().zip(servers) {
        sections.push_str(&format!("    server {name} {server}\n"));
    }
    Haproxy::start(HaproxyConfig { sections, ..HaproxyConfig::default() }).unwrap()
}

fn listener(lbstatd: &Lbstatd, address: SocketAddr, condition: impl Fn(&Value) -> bool) -> Value {
    wait_for_row(lbstatd, "kernelListeners", address, condition)
}

/// The one row of this address, once it is so.
fn wait_for_row(lbstatd: &Lbstatd, table: &str, address: SocketAddr, condition: impl Fn(&Value) -> bool) -> Value {
    let find = || -> Result<Value> {
        let dump: Value = serde_json::from_str(&dump_of(lbstatd, "json"))?;
        let rows = dump["tables"][table].as_array().with_context(|| format!("no table {table}"))?;
        let mut rows = rows.iter().filter(|row| row["address"] == address.to_string());
        let row = rows.next().with_context(|| format!("no row of {address} in {table}"))?;
        ensure!(rows.next().is_none(), "several rows of {address} in {table}");
        ensure!(condition(row), "last seen: {row}");
        Ok(row.clone())
    };
    wait_for(&format!("{address} in {table}"), find).unwrap()
}

fn is(row: &Value, column: &str, value: impl Into<Value>) -> bool {
    row[column] == value.into()
}

fn number(row: &Value, column: &str) -> u64 {
    row[column].as_u64().unwrap_or_else(|| panic!("no number {column} in {row}"))
}
