//! What the daemon can do with which rights, as systemd's unit gives them to an account of its own.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use lbstatd_tests::{
    Connection, Haproxy, HaproxyConfig, LbstatdConfig, Process, address, http_get, lbstatd_binary, run, wait_until,
};
use tempfile::TempDir;

use crate::exposition::Exposition;
use crate::nobody::{NONE, folder_with_lbstatd, is_out_of_reach, options, set_mode};
use crate::skip;
use crate::zoo::DEFAULTS;

/// lbstatd as the user nobody, who may read HAProxy's stats socket.
struct Nobody {
    process: Process,
    listen: SocketAddr,
    prometheus: SocketAddr,
    haproxy: Haproxy,
    dir: TempDir,
}

/// The daemon's two, and no other.
const TWO: &str = "-all,+bpf,+perfmon";

impl Nobody {
    fn start(capabilities: &str) -> Self {
        let (haproxy, listen) = haproxy();
        let (dir, binary) = folder_with_lbstatd();
        let prometheus = address();
        let mut process = Process::start("setpriv", dir.path().join("log"), |command| {
            command
                .args(options(capabilities))
                .arg(&binary)
                .args(["run", "--interval", "100ms", "--stats-socket"])
                .arg(haproxy.socket())
                .arg("--control")
                .arg(dir.path().join("control.sock"))
                .args(["--prometheus", &prometheus.to_string()])
        })
        .unwrap();
        process.wait_ready(|| http_get(prometheus, "/metrics").map(|_| ())).unwrap();
        Self { process, listen, prometheus, haproxy, dir }
    }

    fn waits_for(&self, what: &str, listen: SocketAddr, expected: f64) {
        let series = format!("haproxy_kernel_connections_{what}_total{{address=\"{listen}\",proxy=\"www\"}}");
        let observe = || Ok(self.page()?.get(&series));
        wait_until(&format!("{series} {expected}"), observe, |value| *value == Some(expected)).unwrap();
    }

    fn page(&self) -> anyhow::Result<Exposition> {
        Ok(Exposition::parse(&http_get(self.prometheus, "/metrics")?))
    }
}

#[test]
fn two_capabilities_are_enough() {
    let test = "two_capabilities_are_enough";
    if is_out_of_reach(test) {
        return;
    }
    let (of_root, _) = haproxy();
    let Some(root) = skip::with_ebpf(test, LbstatdConfig::new(of_root.socket())) else { return };
    let mut nobody = Nobody::start(TWO);
    let page = wait_until(
        "the kernel's counters",
        || nobody.page(),
        |page| page.get(skip::UP) == Some(1.0) && page.family("haproxy_kernel_listener_sockets").count() == 1,
    )
    .unwrap();
    let hooks = |page: &Exposition| -> Vec<String> {
        let hooks = page.family("lbstatd_hook_state").filter(|(_, value)| *value == 1.0);
        hooks.map(|(labels, _)| labels.to_owned()).collect()
    };
    assert_eq!(hooks(&page), hooks(&Exposition::of(&root).unwrap()), "what root has");
    assert_eq!(held(nobody.process.id()), [], "capabilities after the load");
    let check = check(&nobody);
    assert!(check.stdout.contains("the daemon's effective capabilities: none"), "{check:?}");

    // Without them it counts, and finds listeners that a new configuration brings.
    exchange(nobody.listen);
    nobody.waits_for("accepted", nobody.listen, 1.0);
    let (one, two) = (address(), address());
    let _old = nobody.haproxy.reload_with(sections(&[one, two])).unwrap();
    let_in(&nobody.haproxy);
    for listen in [one, two, two] {
        exchange(listen);
    }
    nobody.waits_for("accepted", one, 1.0);
    nobody.waits_for("accepted", two, 2.0);
    let mode = std::fs::metadata(nobody.dir.path().join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "snmpd's account must be able to connect");
}

#[test]
fn without_rights_everything_but_the_kernel_works_and_it_says_why() {
    let test = "without_rights_everything_but_the_kernel_works_and_it_says_why";
    if is_out_of_reach(test) {
        return;
    }
    let nobody = Nobody::start(NONE);
    let refused = |page: &Exposition| skip::reason(page).is_some_and(|reason| reason.contains("CAP_BPF"));
    let page = wait_until("the reason", || nobody.page(), refused).unwrap();
    assert_eq!(page.get(skip::UP), Some(0.0));
    let haproxy = format!("lbstatd_up{{source=\"haproxy\",target=\"{}\"}}", nobody.haproxy.socket().display());
    assert_eq!(page.get(&haproxy), Some(1.0));
    assert_eq!(page.get("haproxy_frontend_sessions_total{proxy=\"www\"}"), Some(0.0));

    let check = check(&nobody);
    assert_eq!((check.status.code(), check.stderr.as_str()), (Some(1), ""));
    assert!(check.stdout.lines().any(|line| line.starts_with("WRONG") && line.contains("CAP_BPF")), "{check:?}");
}

#[test]
fn root_keeps_what_opens_haproxys_socket_and_nothing_else() {
    let test = "root_keeps_what_opens_haproxys_socket_and_nothing_else";
    if is_out_of_reach(test) {
        return;
    }
    let (haproxy, _) = haproxy();
    // As HAProxy's own account would have it: closed to everybody else.
    let owner = Some(rustix::fs::Uid::from_raw(65_534));
    rustix::fs::chown(haproxy.socket(), owner, None).unwrap();
    set_mode(&haproxy.socket(), 0o600);
    let Some(lbstatd) = skip::with_ebpf(test, LbstatdConfig::new(haproxy.socket())) else { return };
    let held = held(lbstatd.id());
    let dac_override = 1 << 1;
    assert!(!held.is_empty() && held.iter().all(|(_, set)| *set == dac_override), "{held:x?}");
    let haproxy = format!("lbstatd_up{{source=\"haproxy\",target=\"{}\"}}", haproxy.socket().display());
    assert_eq!(lbstatd.metric(&haproxy).unwrap(), 1.0);
}

#[test]
fn the_kernel_measures_the_programs_when_asked() {
    let test = "the_kernel_measures_the_programs_when_asked";
    if is_out_of_reach(test) {
        return;
    }
    let (haproxy, listen) = haproxy();
    if skip::with_ebpf(test, LbstatdConfig::new(haproxy.socket())).is_none() {
        return;
    }
    let dir = TempDir::with_prefix("lbstatd-stats-").unwrap();
    let prometheus = address();
    let mut process = Process::start(lbstatd_binary().unwrap(), dir.path().join("log"), |command| {
        let command = command.args(["run", "--ebpf-stats", "--interval", "100ms", "--stats-socket"]);
        let command = command.arg(haproxy.socket()).arg("--control").arg(dir.path().join("control.sock"));
        command.args(["--prometheus", &prometheus.to_string()])
    })
    .unwrap();
    let page = || Ok(Exposition::parse(&http_get(prometheus, "/metrics")?));
    process.wait_ready(|| page().map(drop)).unwrap();
    let of_hook = |page: &Exposition, what: &str| {
        page.get(&format!("lbstatd_program_{what}_total{{program=\"inet_sock_set_state\"}}")).unwrap_or_default()
    };
    let before = wait_until("runs to be counted", page, |page| of_hook(page, "runs") > 0.0).unwrap();
    (0..10).for_each(|_| exchange(listen));
    // Several changes of state for each connection, at both ends; each takes less than a millisecond.
    let counted = |page: &Exposition| of_hook(page, "runs") >= of_hook(&before, "runs") + 50.0;
    let after = wait_until("the runs of ten connections", page, counted).unwrap();
    let (runs, time) = (of_hook(&after, "runs"), of_hook(&after, "run_time_seconds"));
    assert!(time > 0.0 && time / runs < 1e-3, "{time} s in {runs} runs");
}

/// The threads that hold capabilities, in any of their sets, and which.
fn held(process: u32) -> Vec<(String, u64)> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let threads = tasks.map(|task| {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        let sets = ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"].map(|set| u64::from_str_radix(field(set), 16).unwrap());
        (field("Name:").to_owned(), sets.into_iter().fold(0, |all, set| all | set))
    });
    let threads: Vec<(String, u64)> = threads.collect();
    assert!(threads.iter().any(|(name, _)| name == "lbstatd-kernel"), "{threads:?}");
    threads.into_iter().filter(|(_, set)| *set != 0).collect()
}

fn check(nobody: &Nobody) -> lbstatd_tests::Output {
    run("setpriv", |command| {
        let (binary, control) = (nobody.dir.path().join("lbstatd"), nobody.dir.path().join("control.sock"));
        let command = command.args(options(NONE)).arg(binary).arg("check").arg("--control").arg(control);
        command.arg("--stats-socket").arg(nobody.haproxy.socket())
    })
    .unwrap()
}

/// A connection that is refused by HAProxy, which has no server for it, after the kernel has accepted it.
fn exchange(listen: SocketAddr) {
    let mut connection = Connection::open(listen).unwrap();
    assert_eq!(connection.request("/").unwrap(), 503);
}

fn haproxy() -> (Haproxy, SocketAddr) {
    let listen = address();
    let haproxy = Haproxy::start(HaproxyConfig { sections: sections(&[listen]), ..HaproxyConfig::default() }).unwrap();
    let_in(&haproxy);
    (haproxy, listen)
}

fn sections(listen: &[SocketAddr]) -> String {
    let binds: String = listen.iter().map(|address| format!("    bind {address}\n")).collect();
    format!("{DEFAULTS}\nfrontend www\n{binds}")
}

/// Everybody may read the stats socket.
fn let_in(haproxy: &Haproxy) {
    set_mode(haproxy.socket().parent().unwrap(), 0o755);
    set_mode(&haproxy.socket(), 0o666);
}
