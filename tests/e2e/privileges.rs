//! What the daemon can do with which rights, as systemd's unit gives them to an account of its own.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use lbstatd_tests::{Haproxy, HaproxyConfig, LbstatdConfig, Process, address, http_get, run, wait_until};
use tempfile::TempDir;

use crate::exposition::Exposition;
use crate::nobody::{NONE, folder_with_lbstatd, is_out_of_reach, options, set_mode};
use crate::skip;
use crate::zoo::DEFAULTS;

/// lbstatd as the user nobody, who may read HAProxy's stats socket.
struct Nobody {
    _process: Process,
    prometheus: SocketAddr,
    haproxy: Haproxy,
    dir: TempDir,
}

/// The daemon's two, and no other.
const TWO: &str = "-all,+bpf,+perfmon";

impl Nobody {
    fn start(capabilities: &str) -> Self {
        let haproxy = haproxy();
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
        Self { _process: process, prometheus, haproxy, dir }
    }

    fn page(&self) -> anyhow::Result<Exposition> {
        Ok(Exposition::parse(&http_get(self.prometheus, "/metrics")?))
    }
}

#[test]
fn two_capabilities_are_enough() {
    let test = "two_capabilities_are_enough";
    if is_out_of_reach(test) || skip::with_ebpf(test, LbstatdConfig::new(haproxy().socket())).is_none() {
        return;
    }
    let nobody = Nobody::start(TWO);
    let page = wait_until(
        "the kernel's counters",
        || nobody.page(),
        |page| page.get(skip::UP) == Some(1.0) && page.family("haproxy_kernel_listener_sockets").count() == 1,
    )
    .unwrap();
    let hooks: Vec<&str> =
        page.family("lbstatd_hook_state").filter(|(_, value)| *value == 1.0).map(|(labels, _)| labels).collect();
    assert!(!hooks.is_empty() && hooks.iter().all(|hook| hook.contains("healthy")), "{hooks:?}");
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

    let check = run("setpriv", |command| {
        let arguments = ["check", "--control", "/nonexistent/control.sock", "--stats-socket"];
        let binary = nobody.dir.path().join("lbstatd");
        command.args(options(NONE)).arg(binary).args(arguments).arg(nobody.haproxy.socket())
    })
    .unwrap();
    assert_eq!((check.status.code(), check.stderr.as_str()), (Some(1), ""));
    assert!(check.stdout.lines().any(|line| line.starts_with("WRONG") && line.contains("CAP_BPF")), "{check:?}");
}

fn haproxy() -> Haproxy {
    let sections = format!("{DEFAULTS}\nfrontend www\n    bind {}\n", address());
    let haproxy = Haproxy::start(HaproxyConfig { sections, ..HaproxyConfig::default() }).unwrap();
    set_mode(haproxy.socket().parent().unwrap(), 0o755);
    set_mode(&haproxy.socket(), 0o666);
    haproxy
}
