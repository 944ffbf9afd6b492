//! What the kernel counts, named and joined: in Prometheus, in LBSTATD-MIB, in `dump`.

use std::net::SocketAddr;

use lbstatd_tests::{
    Backend, Connection, Haproxy, HaproxyConfig, Lbstatd, LbstatdConfig, Level, PassPersist, Reply, Snmpd, address,
    lbstatd_binary, promtool_check, run, wait_until,
};

use crate::exposition::Exposition;
use crate::skip;
use crate::zoo::DEFAULTS;

/// LBSTATD-MIB, written down a second time.
const ROOT: &str = ".1.3.6.1.4.1.8072.9999.9999.4300";

/// A frontend `www` before a backend `app` with a server that answers, `one`, and one that refuses, `two`; and the
/// first one a second time, in a backend of another name.
struct Scene {
    haproxy: Haproxy,
    www: SocketAddr,
    one: SocketAddr,
    two: SocketAddr,
}

fn scene(level: Level, frontend: &str) -> Scene {
    let one = Backend::start(Reply::Http { body: 100 }).unwrap().address();
    let (www, two) = (address(), address());
    let sections = format!(
        "{DEFAULTS}    retries 0
frontend www
    bind {www}
{frontend}
    use_backend refusing if {{ path /refuse }}
    default_backend app
backend app
    server one {one} check inter 1s
backend copy
    server one {one}
    server again {one}
backend refusing
    server two {two}
"
    );
    Scene { haproxy: start(level, sections), www, one, two }
}

fn start(level: Level, sections: String) -> Haproxy {
    Haproxy::start(HaproxyConfig { level, sections, ..HaproxyConfig::default() }).unwrap()
}

fn request(www: SocketAddr, path: &str) -> u16 {
    let mut connection = Connection::open(www).unwrap();
    let status = connection.request(path).unwrap();
    connection.end().unwrap();
    status
}

#[test]
fn servers_are_named_whatever_the_socket_tells() {
    for level in [Level::Operator, Level::User] {
        let scene = scene(level, "");
        let config = LbstatdConfig::new(scene.haproxy.socket());
        let Some(lbstatd) = skip::with_ebpf("servers_are_named_whatever_the_socket_tells", config) else { return };
        let labels = format!("{{address=\"{}\",proxy=\"app,copy\",server=\"again,one\"}}", scene.one);
        let one = |page: &Exposition, metric: &str| page.get(&format!("haproxy_kernel_server_{metric}{labels}"));
        // Named, and seen often enough to be compared.
        becomes(&lbstatd, "the checks to be seen", |page| one(page, "unattributed_connects") >= Some(2.0));

        let before = Exposition::of(&lbstatd).unwrap();
        let attempts = one(&before, "haproxy_attempts_total").unwrap();
        for _ in 0..7 {
            assert_eq!(request(scene.www, "/"), 200);
        }
        assert_eq!(request(scene.www, "/refuse"), 503);
        becomes(&lbstatd, "7 attempts", |page| one(page, "haproxy_attempts_total") == Some(attempts + 7.0));
        let two = format!("{{address=\"{}\",kind=\"refused\",proxy=\"refusing\",server=\"two\"}}", scene.two);
        let failed = format!("haproxy_kernel_server_connect_failures_total{two}");
        becomes(&lbstatd, "the refused connection", |page| page.get(&failed) == Some(1.0));

        let page = Exposition::of(&lbstatd).unwrap();
        let of = |metric| one(&page, metric).unwrap();
        assert!(of("connections_established_total") >= 7.0 + of("unattributed_connects"));
        assert_eq!(of("connect_seconds_count"), of("connections_established_total"));
        let bucket = format!(
            "haproxy_kernel_server_connect_seconds_bucket{{address=\"{}\",le=\"+Inf\",proxy=\"app,copy\",server=\"again,one\"}}",
            scene.one
        );
        assert_eq!(page.get(&bucket), one(&page, "connect_seconds_count"));
    }
}

#[test]
fn the_page_is_what_prometheus_likes() {
    let scene = scene(Level::Operator, "");
    let config = LbstatdConfig::new(scene.haproxy.socket());
    let Some(lbstatd) = skip::with_ebpf("the_page_is_what_prometheus_likes", config) else { return };
    for _ in 0..5 {
        assert_eq!(request(scene.www, "/"), 200);
    }
    let handshakes = format!("haproxy_kernel_handshake_seconds_count{{address=\"{}\",proxy=\"www\"}}", scene.www);
    becomes(&lbstatd, "five handshakes", |page| page.get(&handshakes) == Some(5.0));
    let page = lbstatd.metrics().unwrap();
    for family in ["handshake_seconds", "rtt_seconds", "connection_duration_seconds", "server_connect_seconds"] {
        assert!(page.contains(&format!("# TYPE haproxy_kernel_{family} histogram\n")), "{family}");
    }
    let verdict = promtool_check(&page).unwrap();
    assert_eq!((verdict.status.code(), verdict.stdout + &verdict.stderr), (Some(0), String::new()));
}

#[test]
fn the_mib_holds_what_dump_shows() {
    let scene = scene(Level::Operator, "");
    // One round, and one sample when the programs are loaded.
    let config = LbstatdConfig { interval: "1h", ..LbstatdConfig::new(scene.haproxy.socket()) };
    let Some(lbstatd) = skip::with_ebpf("the_mib_holds_what_dump_shows", config) else { return };
    let command =
        format!("{} pass-persist --control {}", lbstatd_binary().unwrap().display(), lbstatd.control().display());
    let snmpd = Snmpd::start(&[PassPersist { root: ROOT, command }]).unwrap();
    let walk = || {
        let mut walk = snmpd.client().tool("snmpbulkwalk", &["-On"], &[ROOT])?.stdout;
        // The last line says that the view ends.
        walk.truncate(walk.trim_end().rfind('\n').map_or(0, |end| end + 1));
        Ok(walk)
    };
    let dump = || {
        let dump = dump_of(&lbstatd, "snmp");
        let own: Vec<&str> = dump.split_inclusive('\n').filter(|line| line.starts_with(ROOT)).collect();
        own.concat()
    };
    let expected = dump();
    let port = scene.www.port();
    let octets = scene.www.ip().to_string();
    let accepted = format!("{ROOT}.1.1.1.7.0.1.4.{octets}.{port} = Counter64: 0\n");
    let name = format!("{ROOT}.1.1.1.5.0.1.4.{octets}.{port} = STRING: \"www\"\n");
    assert!(expected.contains(&accepted) && expected.contains(&name), "{accepted}{expected}");
    assert!(expected.contains(&format!("{ROOT}.1.5.1.2.8.105.116.101.114.95.116.99.112 = STRING: \"healthy\"\n")));
    wait_until("a walk as the dump is", walk, |walk| *walk == expected).unwrap();
    assert_eq!(dump(), expected, "nothing moved meanwhile");

    // The same with names, which the module has to know.
    let folders = crate::mib::folders();
    let mibs = Some((folders.as_str(), "LBSTATD-MIB"));
    let named = snmpd.client().tool_with_mibs("snmpwalk", mibs, &[], &["LBSTATD-MIB::lbstatdObjects"]).unwrap();
    assert_eq!((named.status.code(), named.stderr.as_str()), (Some(0), ""));
    let named_lines: Vec<&str> = named.stdout.lines().filter(|line| !line.contains("No more variables")).collect();
    assert_eq!(named_lines.len(), expected.lines().count());
    assert!(named_lines.iter().all(|line| line.starts_with("LBSTATD-MIB::lbstatd")), "{}", named.stdout);
    assert!(named.stdout.contains("LBSTATD-MIB::lbstatdSourceUp.1 = INTEGER: true(1)\n"), "{}", named.stdout);
}

#[test]
fn what_haproxy_has_not_accepted_waits_in_the_queue() {
    // Two at a time: what comes then has to wait.
    let scene = scene(Level::Operator, "    maxconn 2\n    backlog 100");
    let config = LbstatdConfig::new(scene.haproxy.socket());
    let Some(lbstatd) = skip::with_ebpf("what_haproxy_has_not_accepted_waits_in_the_queue", config) else { return };
    let www = |metric: &'static str| format!("haproxy_kernel_frontend_{metric}{{proxy=\"www\"}}");
    let balance = |page: &Exposition| {
        ["accepted_total", "haproxy_connections_total", "unaccepted_connections", "untracked_connections"]
            .map(|metric| page.get(&www(metric)))
    };
    becomes(&lbstatd, "a balance", |page| balance(page) == [Some(0.0); 4]);
    let mut clients: Vec<Connection> = (0..10).map(|_| Connection::open(scene.www).unwrap()).collect();
    becomes(&lbstatd, "eight to wait", |page| {
        let queue = format!("haproxy_kernel_accept_queue_length{{address=\"{}\",proxy=\"www\"}}", scene.www);
        page.get(&queue) == Some(8.0) && balance(page) == [10.0, 2.0, 8.0, 0.0].map(Some)
    });
    // One after the other they are served, and nothing is left unexplained.
    while let Some(client) = clients.pop() {
        drop(client);
    }
    becomes(&lbstatd, "all to be accepted", |page| balance(page) == [10.0, 10.0, 0.0, 0.0].map(Some));
    // The spike is over and still there.
    let page = Exposition::of(&lbstatd).unwrap();
    for (window, expected) in [("10s", 8.0), ("1m", 8.0), ("5m", 8.0)] {
        let peak =
            format!("haproxy_kernel_accept_queue_peak{{address=\"{}\",proxy=\"www\",window=\"{window}\"}}", scene.www);
        assert!(page.get(&peak) >= Some(expected), "{window}: {:?}", page.get(&peak));
    }
}

#[test]
fn totals_go_on_where_a_reload_begins_again() {
    let mut scene = scene(Level::Operator, "");
    let config = LbstatdConfig::new(scene.haproxy.socket());
    let Some(lbstatd) = skip::with_ebpf("totals_go_on_where_a_reload_begins_again", config) else { return };
    let www = |metric: &'static str| format!("haproxy_kernel_frontend_{metric}{{proxy=\"www\"}}");
    let totals =
        |page: &Exposition| ["accepted_total", "haproxy_connections_total"].map(|metric| page.get(&www(metric)));
    becomes(&lbstatd, "a balance", |page| totals(page) == [Some(0.0); 2]);
    for _ in 0..5 {
        assert_eq!(request(scene.www, "/"), 200);
    }
    becomes(&lbstatd, "five connections", |page| totals(page) == [Some(5.0); 2]);
    let old = scene.haproxy.reload().unwrap();
    for _ in 0..3 {
        assert_eq!(request(scene.www, "/"), 200);
    }
    becomes(&lbstatd, "eight connections", |page| totals(page) == [Some(8.0); 2]);
    let page = Exposition::of(&lbstatd).unwrap();
    assert_eq!(page.get("haproxy_frontend_connections_total{proxy=\"www\"}"), Some(3.0), "HAProxy's own begins again");
    assert_eq!(page.get(&www("unaccepted_connections")), Some(0.0));
    drop(old);
}

#[test]
fn frontends_that_are_not_counted_say_why() {
    let (tcp, shared) = (address(), address());
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("front.sock");
    let sections = format!(
        "{DEFAULTS}
frontend local
    bind {}
frontend tcp
    bind {tcp}
frontend this
    bind {shared}
frontend that
    bind {shared}
",
        socket.display()
    );
    let haproxy = start(Level::Operator, sections);
    let Some(lbstatd) = skip::with_ebpf("frontends_that_are_not_counted_say_why", LbstatdConfig::new(haproxy.socket()))
    else {
        return;
    };
    let reason = |page: &Exposition, proxy: &str| {
        let mut reasons = page.family("haproxy_kernel_frontend_uncounted_info");
        reasons.find(|(labels, _)| labels.contains(&format!("proxy=\"{proxy}\""))).map(|(labels, _)| labels.to_owned())
    };
    becomes(&lbstatd, "reasons", |page| reason(page, "local").is_some_and(|reason| reason.contains("Unix-domain")));
    let page = Exposition::of(&lbstatd).unwrap();
    assert_eq!(reason(&page, "tcp"), None);
    for proxy in ["this", "that"] {
        assert!(reason(&page, proxy).is_some_and(|reason| reason.contains("shares an address")), "{proxy}");
    }
    let control = lbstatd.control();
    let stats = haproxy.socket();
    let check = run(lbstatd_binary().unwrap(), |command| {
        command
            .args(["check", "--ebpf", "off", "--control", control.to_str().unwrap()])
            .arg("--stats-socket")
            .arg(stats)
    })
    .unwrap();
    let line = "note   the kernel does not count all connections of frontend local: it listens on a Unix-domain socket, which is not TCP";
    assert!(check.stdout.lines().any(|found| found == line), "{}", check.stdout);
}

#[test]
fn dump_shows_histograms_and_percentiles() {
    let scene = scene(Level::Operator, "");
    let config = LbstatdConfig::new(scene.haproxy.socket());
    let Some(lbstatd) = skip::with_ebpf("dump_shows_histograms_and_percentiles", config) else { return };
    for _ in 0..4 {
        assert_eq!(request(scene.www, "/"), 200);
    }
    let row = || -> anyhow::Result<serde_json::Value> {
        let dump: serde_json::Value = serde_json::from_str(&dump_of(&lbstatd, "json"))?;
        let rows = dump["tables"]["kernelListeners"].as_array().cloned().unwrap_or_default();
        Ok(rows.into_iter().find(|row| row["proxy"] == "www").unwrap_or_default())
    };
    let row = wait_until("four connections to end", row, |row| row["lifetime"]["count"] == 4).unwrap();
    let buckets = row["lifetime"]["buckets"].as_array().unwrap();
    assert_eq!(buckets.iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum::<u64>(), 4);
    assert!(row["lifetime"]["sum_microseconds"].as_u64().unwrap() > 0);
    assert!(row["lifetime_p50"].as_u64() <= row["lifetime_p99"].as_u64() && row["lifetime_p50"].is_u64(), "{row:#}");
    assert_eq!(row["handshake"]["count"], 4);
    assert_eq!(row["address"], scene.www.to_string());
}

fn dump_of(lbstatd: &Lbstatd, format: &str) -> String {
    let control = lbstatd.control();
    let arguments = ["dump", "--format", format, "--control", control.to_str().unwrap()];
    let output = run(lbstatd_binary().unwrap(), |command| command.args(arguments)).unwrap();
    assert_eq!((output.status.code(), output.stderr.as_str()), (Some(0), ""));
    output.stdout
}

fn becomes(lbstatd: &Lbstatd, what: &str, condition: impl Fn(&Exposition) -> bool) {
    let observe = || Exposition::of(lbstatd);
    let kernel = |page: &Exposition| {
        let kernel = page.series.iter().filter(|(series, value)| {
            let shown = series.starts_with("haproxy_kernel") && !series.contains("_bucket") && **value != 0.0;
            shown || series.starts_with("lbstatd_source_error")
        });
        kernel.map(|(series, value)| format!("{series} {value}\n")).collect::<String>()
    };
    // A failure shows what matters of the page.
    let observed = || observe().map(|page| Seen { holds: condition(&page), kernel: kernel(&page) });
    wait_until(what, observed, |seen| seen.holds).unwrap();
}

struct Seen {
    holds: bool,
    kernel: String,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kernel)
    }
}
