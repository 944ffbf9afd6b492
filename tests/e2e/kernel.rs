//! The kernel's counters, against traffic of known size through the real HAProxy.

use std::net::SocketAddr;

use lbstatd_tests::{
    Backend, Connection, Haproxy, HaproxyConfig, Lbstatd, LbstatdConfig, Level, Reply, address, lbstatd_binary, run,
    wait_until,
};

use crate::exposition::Exposition;
use crate::skip;
use crate::zoo::DEFAULTS;

const REQUEST: usize = 1_000;
const REPLY: usize = 3_000;

/// What the kernel says about one address.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counted {
    accepted: f64,
    open: f64,
    received: f64,
    acked: f64,
}

#[test]
fn tcp_connections_and_bytes_are_exact_live_ones_included() {
    let server = Backend::start(Reply::Bytes { request: REQUEST, reply: REPLY }).unwrap().address();
    let (busy, idle) = (address(), address());
    let sections = format!(
        "{DEFAULTS}    mode tcp
frontend busy
    bind {busy}
    default_backend servers
frontend idle
    bind {idle}
    default_backend servers
backend servers
    server one {server}
"
    );
    let haproxy = start(Level::Operator, sections);
    let config = LbstatdConfig::new(haproxy.socket());
    let Some(lbstatd) = skip::with_ebpf("tcp_connections_and_bytes_are_exact", config) else { return };
    becomes(&lbstatd, "busy", busy, Counted::default());

    let exchange = |connection: &mut Connection| {
        connection.send(&[b'q'; REQUEST]).unwrap();
        connection.receive(REPLY).unwrap();
    };
    for _ in 0..20 {
        let mut connection = Connection::open(busy).unwrap();
        for _ in 0..5 {
            exchange(&mut connection);
        }
        assert_eq!(connection.end().unwrap(), (5 * REQUEST as u64, 5 * REPLY as u64));
    }
    let closed = Counted { accepted: 20.0, open: 0.0, received: (100 * REQUEST) as f64, acked: (100 * REPLY) as f64 };
    becomes(&lbstatd, "busy", busy, closed);

    // Live connections are counted while they live, and once.
    let mut live: Vec<Connection> = (0..7).map(|_| Connection::open(busy).unwrap()).collect();
    for round in 1..=3_u32 {
        live.iter_mut().for_each(exchange);
        let exchanges = f64::from(100 + 7 * round);
        let open = Counted {
            accepted: 27.0,
            open: 7.0,
            received: exchanges * REQUEST as f64,
            acked: exchanges * REPLY as f64,
        };
        becomes(&lbstatd, "busy", busy, open);
    }
    for connection in live {
        connection.end().unwrap();
    }
    let all = Counted { accepted: 27.0, open: 0.0, received: (121 * REQUEST) as f64, acked: (121 * REPLY) as f64 };
    becomes(&lbstatd, "busy", busy, all);

    lbstatd.wait_fresh().unwrap();
    let page = Exposition::of(&lbstatd).unwrap();
    assert_eq!(counted(&page, "busy", busy), Some(all), "it goes on counting");
    assert_eq!(counted(&page, "idle", idle), Some(Counted::default()));
    let by_haproxy = |metric: &str| page.get(&format!("haproxy_frontend_{metric}_total{{proxy=\"busy\"}}"));
    assert_eq!(by_haproxy("connections"), Some(all.accepted));
    assert_eq!((by_haproxy("bytes_in"), by_haproxy("bytes_out")), (Some(all.received), Some(all.acked)));

    let dump: serde_json::Value = serde_json::from_str(&dump_of(&lbstatd, "json")).unwrap();
    let rows = dump["tables"]["kernelListeners"].as_array().unwrap();
    let row = rows.iter().find(|row| row["proxy"] == "busy").unwrap();
    assert_eq!((&row["accepted"], &row["open"]), (&27.into(), &0.into()));
    assert_eq!((&row["bytes_received"], &row["bytes_acked"]), (&(121 * REQUEST).into(), &(121 * REPLY).into()));
    let page = Exposition::parse(&dump_of(&lbstatd, "prometheus"));
    assert_eq!(counted(&page, "busy", busy), Some(all));
}

#[test]
fn http_bytes_are_those_on_the_wire() {
    let server = Backend::start(Reply::Http { body: 5_000 }).unwrap().address();
    let (busy, second, idle) = (address(), address(), address());
    let sections = format!(
        "{DEFAULTS}
frontend busy
    bind {busy}
    bind {second}
    default_backend servers
frontend idle
    bind {idle}
    default_backend servers
backend servers
    server one {server}
"
    );
    let haproxy = start(Level::Operator, sections);
    let config = LbstatdConfig::new(haproxy.socket());
    let Some(lbstatd) = skip::with_ebpf("http_bytes_are_those_on_the_wire", config) else { return };
    becomes(&lbstatd, "busy", busy, Counted::default());

    let mut expected = Counted::default();
    for connections in 1..=5_u16 {
        let mut connection = Connection::open(busy).unwrap();
        for _ in 0..connections {
            assert_eq!(connection.request("/path?and=query").unwrap(), 200);
        }
        let (sent, received) = connection.end().unwrap();
        expected.accepted += 1.0;
        expected.received += sent as f64;
        expected.acked += received as f64;
    }
    becomes(&lbstatd, "busy", busy, expected);
    // Two addresses of one frontend are told apart, and nothing goes to another frontend.
    becomes(&lbstatd, "busy", second, Counted::default());
    becomes(&lbstatd, "idle", idle, Counted::default());
}

#[test]
fn an_ipv6_listener_is_counted_like_any_other() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return skip::skipped("an_ipv6_listener_is_counted_like_any_other", "this machine has no ::1");
    }
    let server = Backend::start(Reply::Bytes { request: REQUEST, reply: REPLY }).unwrap().address();
    let listen = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address().port()));
    let sections = format!(
        "{DEFAULTS}    mode tcp\nfrontend six\n    bind {listen}\n    default_backend servers\nbackend servers\n    server one {server}\n"
    );
    let haproxy = start(Level::Operator, sections);
    let config = LbstatdConfig::new(haproxy.socket());
    let Some(lbstatd) = skip::with_ebpf("an_ipv6_listener_is_counted_like_any_other", config) else { return };
    becomes(&lbstatd, "six", listen, Counted::default());
    let mut connection = Connection::open(listen).unwrap();
    connection.send(&[b'q'; REQUEST]).unwrap();
    connection.receive(REPLY).unwrap();
    let live = Counted { accepted: 1.0, open: 1.0, received: REQUEST as f64, acked: REPLY as f64 };
    becomes(&lbstatd, "six", listen, live);
}

#[test]
fn where_haproxy_hides_addresses_they_stand_for_the_frontend() {
    let server = Backend::start(Reply::Http { body: 10 }).unwrap().address();
    let listen = address();
    let sections = format!(
        "{DEFAULTS}
frontend www
    bind {listen}
    default_backend servers
backend servers
    server one {server}
"
    );
    let haproxy = start(Level::User, sections);
    let config = LbstatdConfig::new(haproxy.socket());
    let Some(lbstatd) = skip::with_ebpf("where_haproxy_hides_addresses", config) else { return };
    becomes(&lbstatd, "", listen, Counted::default());
    let mut connection = Connection::open(listen).unwrap();
    assert_eq!(connection.request("/").unwrap(), 200);
    let (sent, received) = connection.end().unwrap();
    let expected = Counted { accepted: 1.0, open: 0.0, received: sent as f64, acked: received as f64 };
    becomes(&lbstatd, "", listen, expected);
    // The server's own socket is none of HAProxy's.
    let page = Exposition::of(&lbstatd).unwrap();
    assert_eq!(page.family("haproxy_kernel_connections_accepted_total").count(), 1);
}

#[test]
fn counters_go_on_through_a_reload_and_a_restart() {
    let server = Backend::start(Reply::Bytes { request: REQUEST, reply: REPLY }).unwrap().address();
    let listen = address();
    let sections = format!(
        "{DEFAULTS}    mode tcp
frontend www
    bind {listen}
    default_backend servers
backend servers
    server one {server}
"
    );
    let mut haproxy = start(Level::Operator, sections);
    let config = LbstatdConfig::new(haproxy.socket());
    let Some(lbstatd) = skip::with_ebpf("counters_go_on_through_a_reload_and_a_restart", config) else { return };
    becomes(&lbstatd, "www", listen, Counted::default());
    let exchange = |connection: &mut Connection| {
        connection.send(&[b'q'; REQUEST]).unwrap();
        connection.receive(REPLY).unwrap();
    };
    let total = |connections: u32, open: u32, exchanges: u32| Counted {
        accepted: f64::from(connections),
        open: f64::from(open),
        received: f64::from(exchanges) * REQUEST as f64,
        acked: f64::from(exchanges) * REPLY as f64,
    };
    let mut old = Connection::open(listen).unwrap();
    exchange(&mut old);
    becomes(&lbstatd, "www", listen, total(1, 1, 1));

    // The old process keeps its connection, the new one takes the next.
    let old_process = haproxy.reload().unwrap();
    let mut new = Connection::open(listen).unwrap();
    exchange(&mut new);
    exchange(&mut old);
    becomes(&lbstatd, "www", listen, total(2, 2, 3));
    old.end().unwrap();
    new.end().unwrap();
    becomes(&lbstatd, "www", listen, total(2, 0, 3));
    drop(old_process);

    haproxy.kill().unwrap();
    haproxy.restart().unwrap();
    let mut after = Connection::open(listen).unwrap();
    exchange(&mut after);
    becomes(&lbstatd, "www", listen, total(3, 1, 4));
}

fn start(level: Level, sections: String) -> Haproxy {
    Haproxy::start(HaproxyConfig { level, sections, ..HaproxyConfig::default() }).unwrap()
}

pub(crate) fn dump_of(lbstatd: &Lbstatd, format: &str) -> String {
    let control = lbstatd.control();
    let arguments = ["dump", "--format", format, "--control", control.to_str().unwrap()];
    let output = run(lbstatd_binary().unwrap(), |command| command.args(arguments)).unwrap();
    assert_eq!((output.status.code(), output.stderr.as_str()), (Some(0), ""));
    output.stdout
}

/// Waits for exactly this; a counter that has gone beyond it never comes back, and fails with what was seen last.
fn becomes(lbstatd: &Lbstatd, proxy: &str, address: SocketAddr, expected: Counted) {
    let what = format!("{proxy} on {address} to be {expected:?}");
    let observe = || Ok(counted(&Exposition::of(lbstatd)?, proxy, address));
    wait_until(&what, observe, |counted| *counted == Some(expected)).unwrap();
}

fn counted(page: &Exposition, proxy: &str, address: SocketAddr) -> Option<Counted> {
    let of = |metric| page.get(&format!("haproxy_kernel_{metric}{{address=\"{address}\",proxy=\"{proxy}\"}}"));
    Some(Counted {
        accepted: of("connections_accepted_total")?,
        open: of("connections_open")?,
        received: of("received_bytes_total")?,
        acked: of("acked_bytes_total")?,
    })
}
