//! A SYN flood from addresses that never answer: seen at the frontend it is for, and only there.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use lbstatd_tests::{Connection, Haproxy, HaproxyConfig, Lbstatd, LbstatdConfig, Netns, Segment, TcpControl, Tun};
use serde_json::Value;

use crate::network::{is, listener, number, tun};
use crate::skip;
use crate::zoo::DEFAULTS;

const FLOODED: u16 = 8001;
const OTHER: u16 = 8002;
/// Of the flooded frontend. The kernel's queue of handshakes takes one more.
const BACKLOG: u32 = 64;
const QUEUE: u64 = BACKLOG as u64 + 1;
const SYNS: u32 = 5_000;

/// A HAProxy and its clients' network, which nothing else is in.
struct Scene {
    netns: Netns,
    tun: Tun,
    haproxy: Haproxy,
}

impl Scene {
    /// In a namespace with these settings of net.ipv4.
    fn start(settings: &[(&str, &str)]) -> Self {
        let netns = Netns::start().unwrap();
        for (name, value) in settings {
            netns.enter(|| std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value)).unwrap().unwrap();
        }
        let tun = Tun::open_in(&netns).unwrap();
        let answer = "http-request return status 200 content-type text/plain string ok";
        let sections = format!(
            "{DEFAULTS}
frontend flooded
    bind 0.0.0.0:{FLOODED} backlog {BACKLOG}
    {answer}
frontend other
    bind 0.0.0.0:{OTHER}
    {answer}
"
        );
        let config = HaproxyConfig { sections, ..HaproxyConfig::default() };
        let haproxy = Haproxy::start_with(netns.program("haproxy"), config).unwrap();
        Self { netns, tun, haproxy }
    }

    /// Sends SYNs, each from another address or port.
    fn flood(&mut self) {
        for number in 0..SYNS {
            let port = 1024 + u16::try_from(number / Tun::FAR).unwrap();
            let syn = Segment {
                source: SocketAddrV4::new(self.tun.far(number), port),
                destination: SocketAddrV4::new(self.tun.near(), FLOODED),
                control: TcpControl::Syn,
                sequence: number,
                acknowledged: None,
                payload: b"",
            };
            self.tun.send(&syn.packet());
        }
    }

    /// Whom SYN-ACKs have come for since the last call.
    fn syn_acks(&mut self) -> Vec<SocketAddrV4> {
        let packets = std::iter::from_fn(|| self.tun.receive());
        let to =
            |packet: Vec<u8>| Segment::parse(&packet).filter(|s| s.control == TcpControl::Syn).map(|s| s.destination);
        packets.filter_map(to).collect()
    }

    /// A client that is answered.
    fn ask(&self, port: u16) {
        let mut connection = Connection::open((self.netns.inside(), port).into()).unwrap();
        assert_eq!(connection.request("/").unwrap(), 200);
        connection.end().unwrap();
    }
}

fn row(lbstatd: &Lbstatd, port: u16, condition: impl Fn(&Value) -> bool) -> Value {
    listener(lbstatd, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into(), condition)
}

#[test]
fn a_syn_flood_shows_at_its_frontend_alone_and_after_it_is_over() {
    const TEST: &str = "a_syn_flood_shows_at_its_frontend_alone";
    if !tun(TEST) {
        return;
    }
    // A handshake is given up 3 seconds after its SYN, and not after 63.
    let mut scene = Scene::start(&[("tcp_syncookies", "0"), ("tcp_synack_retries", "1")]);
    let Some(lbstatd) = skip::with_ebpf(TEST, LbstatdConfig::new(scene.haproxy.socket())) else { return };
    row(&lbstatd, FLOODED, |row| is(row, "proxy", "flooded"));
    row(&lbstatd, OTHER, |row| is(row, "proxy", "other"));

    scene.flood();
    let dropped = u64::from(SYNS) - QUEUE;
    let now = row(&lbstatd, FLOODED, |row| is(row, "drops", dropped) && is(row, "syn_backlog", QUEUE));
    assert_eq!((number(&now, "syn_backlog_peak"), number(&now, "accepted")), (QUEUE, 0), "{now}");
    scene.ask(OTHER);
    lbstatd.wait_fresh().unwrap();
    let now = row(&lbstatd, FLOODED, |row| is(row, "syn_backlog_peak", 0));
    assert_eq!((number(&now, "syn_backlog_peak_1m"), number(&now, "syn_backlog_peak_5m")), (QUEUE, QUEUE), "{now}");
    let other = row(&lbstatd, OTHER, |row| is(row, "proxy", "other"));
    assert!(number(&other, "syn_backlog_peak_5m") <= 1, "{other}");
    assert_eq!(scene.syn_acks().len() as u64, 2 * QUEUE);
    assert_eq!((number(&now, "synack_retransmits"), number(&now, "drops")), (QUEUE, dropped), "{now}");

    scene.ask(FLOODED);
    let answered = |row: &Value| is(row, "accepted", 1) && is(row, "open", 0);
    let now = row(&lbstatd, FLOODED, answered);
    assert_eq!((number(&now, "synack_retransmits"), number(&now, "drops")), (QUEUE, dropped), "{now}");
    let now = row(&lbstatd, OTHER, answered);
    let here = ["synack_retransmits", "drops", "syn_backlog"].map(|column| number(&now, column));
    assert_eq!(here, [0; 3], "{now}");
}

#[test]
fn with_syn_cookies_a_flood_turns_nobody_away() {
    const TEST: &str = "with_syn_cookies_a_flood_turns_nobody_away";
    if !tun(TEST) {
        return;
    }
    let mut scene = Scene::start(&[("tcp_syncookies", "1")]);
    let Some(lbstatd) = skip::with_ebpf(TEST, LbstatdConfig::new(scene.haproxy.socket())) else { return };
    row(&lbstatd, FLOODED, |row| is(row, "proxy", "flooded"));

    scene.flood();
    scene.ask(FLOODED);
    let now = row(&lbstatd, FLOODED, |row| is(row, "accepted", 1) && is(row, "open", 0));
    assert_eq!((number(&now, "drops"), number(&now, "backlog_limit")), (0, BACKLOG.into()), "{now}");
    // By the client's timestamp, whose lowest six bits hold part of the cookie.
    assert_eq!(
        (number(&now["handshake"], "count"), number(&now["handshake"], "sum_microseconds") % 1000),
        (1, 0),
        "{now}"
    );
    assert!(number(&now, "syn_backlog_peak") >= QUEUE, "{now}");
    let answered: HashSet<SocketAddrV4> = scene.syn_acks().into_iter().collect();
    assert_eq!(answered.len(), SYNS as usize);
}
