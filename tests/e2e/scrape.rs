//! The Prometheus endpoint: promtool's opinion, a real server's scrape, and HAProxy's own exporter beside it.

use lbstatd_tests::{
    Connection, Haproxy, HaproxyConfig, Lbstatd, LbstatdConfig, Level, Prometheus, address, http_get, promtool_check,
    wait_until,
};

use crate::exposition::Exposition;
use crate::skip;
use crate::zoo::{self, DEFAULTS};

#[test]
fn a_real_server_scrapes_it_and_promtool_has_nothing_to_say() {
    let zoo = zoo::start(Level::Operator);
    zoo.traffic();
    let lbstatd = Lbstatd::start(&LbstatdConfig { ebpf: "auto", ..LbstatdConfig::new(zoo.haproxy.socket()) }).unwrap();
    let verdict = promtool_check(&lbstatd.metrics().unwrap()).unwrap();
    assert_eq!((verdict.status.code(), verdict.stdout + &verdict.stderr), (Some(0), String::new()));

    let prometheus = Prometheus::start(lbstatd.prometheus()).unwrap();
    wait_until("the target to be up", || prometheus.query("up"), |up| *up == 1.0).unwrap();
    wait_until(
        "the frontend's sessions",
        || prometheus.query(r#"haproxy_frontend_sessions_total{proxy="www"}"#),
        |sessions| *sessions == 3.0,
    )
    .unwrap();
    let first = prometheus.query("lbstatd_snapshot_generation").unwrap();
    wait_until("a later scrape", || prometheus.query("lbstatd_snapshot_generation"), |now| *now > first).unwrap();
}

#[test]
fn the_kernels_families_please_promtool_too() {
    let zoo = zoo::start(Level::Operator);
    let config = LbstatdConfig::new(zoo.haproxy.socket());
    let Some(lbstatd) = skip::with_ebpf("the_kernels_families_please_promtool_too", config) else { return };
    let page = || lbstatd.metrics();
    let page = wait_until("kernel counters", page, |page| page.contains("haproxy_kernel_listener_sockets{")).unwrap();
    let verdict = promtool_check(&page).unwrap();
    assert_eq!((verdict.status.code(), verdict.stdout + &verdict.stderr), (Some(0), String::new()));
}

#[test]
fn names_types_and_values_are_those_of_haproxys_own_exporter() {
    let server = lbstatd_tests::Backend::start(lbstatd_tests::Reply::Http { body: 100 }).unwrap().address();
    let (www, tcp, exporter) = (address(), address(), address());
    let sections = format!(
        "{DEFAULTS}
frontend www
    bind {www}
    http-request deny if {{ path /denied }}
    default_backend app
frontend tcp
    mode tcp
    bind {tcp}
    default_backend app
frontend exporter
    bind {exporter}
    http-request use-service prometheus-exporter
backend app
    server one {server} maxconn 30 maxqueue 4
    server spare {server} backup
    server off {server} disabled
backend empty
"
    );
    let haproxy = Haproxy::start(HaproxyConfig { sections, ..HaproxyConfig::default() }).unwrap();
    for path in ["/", "/missing", "/denied"] {
        Connection::open(www).unwrap().request(path).unwrap();
    }
    let lbstatd = Lbstatd::start(&LbstatdConfig::new(haproxy.socket())).unwrap();
    let theirs = || Exposition::parse(&http_get(exporter, "/metrics").unwrap());
    let before = theirs();
    lbstatd.wait_fresh().unwrap();
    let ours = Exposition::of(&lbstatd).unwrap();
    let after = theirs();

    let mut both = 0;
    for (family, kind) in &ours.types {
        let Some(their_kind) = after.types.get(family) else { continue };
        both += 1;
        let expected = if NOT_FOR_PROMTOOL.contains(&family.as_str()) { "gauge" } else { their_kind };
        assert_eq!(kind, expected, "type of {family}");
    }
    assert!(both > 100, "only {both} families in common");

    let mut equal = 0;
    for (series, value) in &ours.series {
        let (Some(first), Some(last)) = (before.get(series), after.get(series)) else { continue };
        // What has not moved between their two pages did not move in ours; the page itself is traffic to the exporter.
        // Averages over fewer than 1024 requests differ between HAProxy's socket and its exporter.
        let comparable = !FLICKERS.iter().any(|name| series.starts_with(name)) && !series.contains("_time_average_");
        if first == last && comparable {
            assert_eq!(*value, last, "{series}");
            equal += 1;
        }
    }
    assert!(equal > 200, "only {equal} series could be compared");

    // Whatever they show of proxies and servers, we show, but for what HAProxy does not have: NaN there, or -1.
    let missing: Vec<&String> = after
        .series
        .iter()
        .filter(|(series, value)| !value.is_nan() && **value != -1.0 && ours.get(series).is_none())
        .map(|(series, _)| series)
        .filter(|series| {
            ["frontend_", "backend_", "server_"].iter().any(|of| series["haproxy_".len()..].starts_with(of))
        })
        .filter(|series| !NOT_ON_THE_SOCKET.iter().any(|name| series.starts_with(name)))
        .collect();
    assert!(missing.is_empty(), "{} series of HAProxy's exporter are missing: {missing:#?}", missing.len());
}

/// Sums over a backend's servers that only the exporter makes: their columns on the stats socket are empty.
const NOT_ON_THE_SOCKET: [&str; 2] = ["haproxy_backend_agg_server_", "haproxy_backend_agg_check_status"];

/// A counter of theirs without `_total`, which promtool would refuse.
const NOT_FOR_PROMTOOL: [&str; 1] = ["haproxy_process_failed_resolutions"];

/// Gauges that can be the same at two moments and another between them.
const FLICKERS: [&str; 6] = [
    "haproxy_process_current_",
    "haproxy_process_idle_time_percent",
    "haproxy_process_jobs",
    "haproxy_process_bytes_out_rate",
    "haproxy_process_pool_",
    "haproxy_frontend_current_",
];
