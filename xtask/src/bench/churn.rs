//! Hours of a load balancer's life in minutes: whether anything grows, and whether anything is counted twice or not.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbstatd_tests::{Churn, Process, Shaken, address, http_get, wait_for};
use tempfile::TempDir;

use super::observe::memory;

/// How often it is looked at what the daemon holds.
const LOOK: Duration = Duration::from_secs(15);

pub(super) fn run(lbstatd: &Path, minutes: u16) -> Result<()> {
    let mut shaken = Shaken::start()?;
    let dir = TempDir::with_prefix("lbstatd-bench-")?;
    let prometheus = address();
    let log = dir.path().join("lbstatd.log");
    let mut daemon = Process::start(lbstatd, log, |command| {
        command.args(["run", "--ebpf", "on", "--interval", "100ms", "--prometheus", &prometheus.to_string()]);
        command.arg("--stats-socket").arg(shaken.haproxy.socket()).arg("--control").arg(dir.path().join("control.sock"))
    })?;
    let label = format!("address=\"{}\"", shaken.listen);
    let accepted = || accepted(&http_get(prometheus, "/metrics")?, &label);
    daemon.wait_ready(|| accepted().map(drop))?;
    let before = accepted()?;

    println!(
        "{:>6} {:>11} {:>10} {:>8} {:>8} {:>9} {:>6} {:>9}",
        "s", "connections", "listeners", "servers", "reloads", "memory", "files", "maps"
    );
    let start = Instant::now();
    let mut total = Churn::default();
    while start.elapsed() < Duration::from_secs(60) * u32::from(minutes) {
        total += shaken.shake(LOOK)?;
        println!(
            "{:>6} {:>11} {:>10} {:>8} {:>8} {:>6.1} MB {:>6} {:>6.1} MB",
            start.elapsed().as_secs(),
            total.answered,
            total.listeners,
            total.servers,
            total.reloads,
            memory(daemon.id(), "VmRSS")?,
            fs::read_dir(format!("/proc/{}/fd", daemon.id()))?.count(),
            maps(daemon.id())?,
        );
    }
    let end = wait_for("the kernel's count to be the clients'", || {
        let counted = accepted()? - before;
        ensure!((total.answered..=total.answered + total.lost).contains(&counted), "the kernel has counted {counted}");
        Ok(counted)
    })?;
    println!(
        "clients: {} connections answered, {} lost in reloads; the kernel accepted {end}",
        total.answered, total.lost
    );
    let log = daemon.log();
    ensure!(!log.contains("not counted"), "the kernel's maps were full: {log}");
    Ok(())
}

/// Of the frontend, in Prometheus's format.
fn accepted(page: &str, label: &str) -> Result<u64> {
    let of_it = |line: &&str| line.starts_with("haproxy_kernel_connections_accepted_total{") && line.contains(label);
    let line = page.lines().find(of_it).context("the frontend is not counted yet")?;
    let (_, value) = line.rsplit_once(' ').context("no value")?;
    Ok(value.parse()?)
}

/// Memory in MB that the kernel charges for the eBPF maps of a process.
fn maps(pid: u32) -> Result<f64> {
    let mut bytes = 0.0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let (Some(_), Some(charged)) = (field("map_type:"), field("memlock:")) {
            bytes += charged.parse::<f64>()?;
        }
    }
    Ok(bytes / 1e6)
}
