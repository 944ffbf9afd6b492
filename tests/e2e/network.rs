//! What the network does to connections, and namespaces: seen at the right frontend and server, and only there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbstatd_tests::{
    Backend, Connection, Detour, Haproxy, HaproxyConfig, Lbstatd, LbstatdConfig, Netns, Passed, Program, Reply,
    TcpControl, address, wait_for,
};
use serde_json::Value;

use crate::kernel::dump_of;
use crate::skip::{self, skipped};
use crate::zoo::DEFAULTS;

const REQUEST: usize = 100;
const REPLY: usize = 300_000;

/// Frontends that are reached by a detour listen on 8001 and 8002 there, servers on 9001.
const SERVER: u16 = 9001;

#[test]
fn a_long_way_shows_at_its_frontend_and_its_server() {
    const TEST: &str = "a_long_way_shows_at_its_frontend_and_its_server";
    const EACH: u64 = 8;
    // There and back is just above the lower bound of a bucket, so that what the machine adds has room.
    const WAY: Duration = Duration::from_millis(70);
    const BUCKET: u64 = 196_608;
    let Some(detour) = detour(TEST, WAY) else { return };
    let reply = Reply::Bytes { request: REQUEST, reply: 1000 };
    Backend::start_at((detour.near(), SERVER).into(), reply).unwrap();
    let (far_server, near_server) = ((detour.far(), SERVER).into(), Backend::start(reply).unwrap().address());
    let (far, near) = ((detour.near(), 8001).into(), address());
    let haproxy = haproxy(&[("far", far), ("near", near)], &[far_server, near_server]);
    let Some(lbstatd) = skip::with_ebpf(TEST, LbstatdConfig::new(haproxy.socket())) else { return };
    listener(&lbstatd, far, |row| is(row, "proxy", "far"));

    // Each frontend's go to both servers in turns.
    thread::scope(|scope| {
        for client in 0..2 * EACH {
            let to = if client < EACH { (detour.far(), 8001).into() } else { near };
            scope.spawn(move || {
                let mut connection = Connection::open(to).unwrap();
                connection.send(&[b'q'; REQUEST]).unwrap();
                connection.receive(1000).unwrap();
                connection.end().unwrap();
            });
        }
    });

    let way_and_back = 2 * u64::try_from(WAY.as_micros()).unwrap();
    let long = |row: &Value, column: &str| {
        let histogram = &row[column];
        assert_eq!(histogram["count"], EACH, "{column}: {row}");
        // A smoothed time is rounded down.
        assert!(number(histogram, "sum_microseconds") >= EACH * (way_and_back - 1), "{column}: {row}");
        assert_eq!(bucket(histogram, 0), BUCKET, "{column}: {row}");
        assert!(bucket(histogram, EACH / 2) <= 2 * BUCKET, "{column}: {row}");
    };
    let short = |row: &Value, column: &str, most: u64| {
        let histogram = &row[column];
        assert_eq!(histogram["count"], EACH, "{column}: {row}");
        assert!(bucket(histogram, EACH / 2) <= most, "{column}: {row}");
    };
    let row = listener(&lbstatd, far, |row| is(row, "accepted", EACH) && is(row, "open", 0));
    long(&row, "handshake");
    long(&row, "rtt");
    let row = listener(&lbstatd, near, |row| is(row, "accepted", EACH) && is(row, "open", 0));
    short(&row, "handshake", 1024);
    // An acknowledgement may wait for data to go with: 40 ms, by the kernel's constants.
    short(&row, "rtt", 65_536);
    let ended = |row: &Value| is(row, "established", EACH) && is(row, "open", 0);
    let row = wait_for_row(&lbstatd, "kernelServers", far_server, ended);
    long(&row, "connect");
    long(&row, "rtt");
    let row = wait_for_row(&lbstatd, "kernelServers", near_server, ended);
    short(&row, "connect", 1024);
    short(&row, "rtt", 65_536);
}

/// The upper bound of the bucket that holds one of the observations, counted from the shortest.
fn bucket(histogram: &Value, place: u64) -> u64 {
    let mut below = 0;
    let mut buckets = histogram["buckets"].as_array().unwrap().iter();
    let bucket = buckets.find(|bucket| {
        below += number(bucket, "count");
        below > place
    });
    number(bucket.unwrap(), "le_microseconds")
}

#[test]
fn what_gets_lost_on_the_way_to_clients_shows_at_their_frontend() {
    const TEST: &str = "what_gets_lost_on_the_way_to_clients";
    let Some(detour) = detour(TEST, Duration::from_millis(5)) else { return };
    let (lossy, sound) = ((detour.near(), 8001).into(), (detour.near(), 8002).into());
    let server = Backend::start(Reply::Bytes { request: REQUEST, reply: REPLY }).unwrap().address();
    let haproxy = haproxy(&[("lossy", lossy), ("sound", sound)], &[server]);
    let Some(lbstatd) = skip::with_ebpf(TEST, LbstatdConfig::new(haproxy.socket())) else { return };
    listener(&lbstatd, lossy, |row| is(row, "proxy", "lossy"));

    let mut first = true;
    detour.lose(move |segment| {
        segment.source.port() == 8001 && segment.control == TcpControl::Syn && std::mem::take(&mut first)
    });
    let mut connection = Connection::open((detour.far(), 8001).into()).unwrap();
    let mut segments = 0;
    detour.lose(move |segment| {
        let theirs = segment.source.port() == 8001 && !segment.payload.is_empty();
        segments += u32::from(theirs);
        theirs && segments % 10 == 0
    });
    for _ in 0..3 {
        connection.send(&[b'q'; REQUEST]).unwrap();
        connection.receive(REPLY).unwrap();
    }
    connection.end().unwrap();
    let mut connection = Connection::open((detour.far(), 8002).into()).unwrap();
    connection.send(&[b'q'; REQUEST]).unwrap();
    connection.receive(REPLY).unwrap();
    connection.end().unwrap();

    // What the kernel sends again without need, because an acknowledgement is late, is counted as well: as often as it
    // was on the way.
    let ended = |row: &Value| is(row, "accepted", 1) && is(row, "open", 0);
    let rows = [lossy, sound].map(|address| listener(&lbstatd, address, ended));
    let passed = detour.passed();
    for (row, port) in rows.iter().zip([8001, 8002]) {
        let by_haproxy = passed.iter().filter(|segment| segment.source.port() == port);
        let (syn_acks, others): (Vec<_>, Vec<_>) = by_haproxy.partition(|segment| segment.control == TcpControl::Syn);
        let again = [sent_again(&syn_acks), sent_again(&others)];
        assert_eq!(["synack_retransmits", "retransmits"].map(|column| number(row, column)), again, "{row}");
        let lost = [&syn_acks, &others].map(|all| all.iter().filter(|segment| segment.lost).count() as u64);
        assert_eq!(lost.map(|lost| lost > 0), [port == 8001; 2], "{lost:?}");
        assert!(again[0] >= lost[0] && again[1] >= lost[1], "{lost:?} were lost, {again:?} were sent again");
    }
    let bytes = (number(&rows[0], "bytes_received"), number(&rows[0], "bytes_acked"));
    assert_eq!(bytes, (3 * REQUEST as u64, 3 * REPLY as u64));
    assert!(number(&rows[0], "retransmits") > number(&rows[1], "retransmits"), "{rows:?}");
    // The kernel has measured it by the client's timestamps, in whole milliseconds.
    let handshake = &rows[0]["handshake"];
    let time = number(handshake, "sum_microseconds");
    assert_eq!((number(handshake, "count"), time % 1000), (1, 0), "{handshake}");
    assert!(time >= 10_000, "{handshake}");
}

/// How many of these begin before the end of what their connection had sent already.
fn sent_again(segments: &[&Passed]) -> u64 {
    let mut ends = HashMap::new();
    let mut again = 0;
    for segment in segments {
        let flag = u32::from(matches!(segment.control, TcpControl::Syn | TcpControl::Fin));
        let length = u32::try_from(segment.length).unwrap() + flag;
        if length == 0 {
            continue;
        }
        let end = ends.entry((segment.source, segment.destination)).or_insert(segment.sequence);
        again += u64::from(is_before(segment.sequence, *end));
        if is_before(*end, segment.sequence.wrapping_add(length)) {
            *end = segment.sequence.wrapping_add(length);
        }
    }
    again
}

/// Of sequence numbers, which wrap.
fn is_before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

#[test]
fn a_lost_syn_shows_in_the_connect_time_of_its_server() {
    const TEST: &str = "a_lost_syn_shows_in_the_connect_time_of_its_server";
    let Some(detour) = detour(TEST, Duration::ZERO) else { return };
    let reply = Reply::Bytes { request: REQUEST, reply: 1000 };
    Backend::start_at((detour.near(), SERVER).into(), reply).unwrap();
    let (slow, fast) = ((detour.far(), SERVER).into(), Backend::start(reply).unwrap().address());
    let listen = address();
    let haproxy = haproxy(&[("www", listen)], &[slow, fast]);
    let Some(lbstatd) = skip::with_ebpf(TEST, LbstatdConfig::new(haproxy.socket())) else { return };
    listener(&lbstatd, listen, |row| is(row, "proxy", "www"));

    let mut first = true;
    detour.lose(move |segment| segment.destination.port() == SERVER && std::mem::take(&mut first));
    // One for each server: round robin.
    for _ in 0..2 {
        let mut connection = Connection::open(listen).unwrap();
        connection.send(&[b'q'; REQUEST]).unwrap();
        connection.receive(1000).unwrap();
        connection.end().unwrap();
    }
    let ended = |row: &Value| is(row, "established", 1) && is(row, "open", 0);
    let row = wait_for_row(&lbstatd, "kernelServers", slow, ended);
    assert_eq!(row["server"], "one", "{row}");
    let passed = detour.passed();
    let by_haproxy: Vec<_> = passed.iter().filter(|segment| segment.destination.port() == SERVER).collect();
    assert_eq!((by_haproxy[0].control, by_haproxy[0].lost), (TcpControl::Syn, true));
    assert_eq!(number(&row, "retransmits"), sent_again(&by_haproxy), "{row}");
    // The first SYN is sent again after a second (RFC 6298, section 2.1).
    assert!((1_000_000..3_000_000).contains(&number(&row["connect"], "sum_microseconds")), "{row}");
    let row = wait_for_row(&lbstatd, "kernelServers", fast, ended);
    assert!(number(&row["connect"], "sum_microseconds") < 500_000, "{row}");
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
    root(test).then(|| Netns::start().unwrap())
}

/// A long way; reported as skipped where there can be none.
fn detour(test: &str, delay: Duration) -> Option<Detour> {
    tun(test).then(|| Detour::open(delay).unwrap())
}

fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(test, "only root can make a network of its own");
    }
    root
}

/// Whether there can be TUN interfaces; reported as skipped if not.
pub(crate) fn tun(test: &str) -> bool {
    let there = Path::new("/dev/net/tun").exists();
    if !there {
        skipped(test, "there is no /dev/net/tun");
    }
    there && root(test)
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

pub(crate) fn listener(lbstatd: &Lbstatd, address: SocketAddr, condition: impl Fn(&Value) -> bool) -> Value {
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

pub(crate) fn is(row: &Value, column: &str, value: impl Into<Value>) -> bool {
    row[column] == value.into()
}

pub(crate) fn number(row: &Value, column: &str) -> u64 {
    row[column].as_u64().unwrap_or_else(|| panic!("no number {column} in {row}"))
}
