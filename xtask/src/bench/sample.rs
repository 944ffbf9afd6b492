//! What a sample of the kernel takes: with nothing to see, and with 1,000 listeners and 50,000 open sockets.
//!
//! The sockets belong to processes of their own (this program again), since one process may not open so many. The time
//! of a sample is what the daemon says of its own, the CPU what the scheduler counts for its thread.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbstatd_tests::{Haproxy, HaproxyConfig, Process, address, http_get, wait_for};
use tempfile::TempDir;

use super::observe::cpu_of_thread;

const LISTENERS: u16 = 1000;
/// Both ends of a connection are sockets of this host.
const CONNECTIONS: usize = 25_000;
/// Of one process, each of two descriptors.
const MOST: usize = 9_000;
const SAMPLES: usize = 30;

pub(super) fn run(lbstatd: &Path) -> Result<()> {
    println!("{:32} {:>9} {:>9} {:>9} {:>12}", "", "median", "least", "most", "CPU a sample");
    observe(lbstatd, &haproxy(1)?, "1 listener, nothing else")?;
    let haproxy = haproxy(LISTENERS)?;
    observe(lbstatd, &haproxy, &format!("{LISTENERS} listeners"))?;
    let _held = hold_all()?;
    observe(lbstatd, &haproxy, &format!("{LISTENERS} listeners, {} sockets", 2 * CONNECTIONS))
}

fn haproxy(listeners: u16) -> Result<Haproxy> {
    // Above what the test bed gives to others.
    let first = SocketAddr::new(address().ip(), 40_000);
    let last = first.port() + listeners - 1;
    let sections = format!(
        "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n    option socket-stats\n\
         frontend www\n    bind {first}-{last}\n"
    );
    Haproxy::start(HaproxyConfig { sections, ..HaproxyConfig::default() })
}

/// The processes that hold the connections, once all are open.
fn hold_all() -> Result<Vec<(Process, TempDir)>> {
    let mut held = Vec::new();
    let mut left = CONNECTIONS;
    while left > 0 {
        let connections = left.min(MOST);
        left -= connections;
        let dir = TempDir::with_prefix("lbstatd-bench-")?;
        let process = Process::start(std::env::current_exe()?, dir.path().join("log"), |command| {
            command.args(["bench", "hold", &connections.to_string()])
        })?;
        held.push((process, dir));
    }
    for (process, _) in &mut held {
        wait_for("connections to be open", || {
            ensure!(process.is_running()?, "their process has ended: {}", process.log());
            ensure!(process.log().contains(READY), "not yet");
            Ok(())
        })?;
    }
    Ok(held)
}

const READY: &str = "all open";

/// The other process: opens so many connections to itself, and keeps them.
pub(super) fn hold(connections: usize) -> Result<()> {
    let listener = TcpListener::bind(address())?;
    let address: SocketAddr = listener.local_addr()?;
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let client = TcpStream::connect(address).context("cannot connect: is the limit of open files 20,000?")?;
        held.push((client, listener.accept()?.0));
    }
    writeln!(std::io::stdout(), "{READY}")?;
    loop {
        std::thread::park();
    }
}

fn observe(lbstatd: &Path, haproxy: &Haproxy, what: &str) -> Result<()> {
    let dir = TempDir::with_prefix("lbstatd-bench-")?;
    let prometheus = address();
    let mut daemon = Process::start(lbstatd, dir.path().join("lbstatd.log"), |command| {
        command.args(["run", "--ebpf", "on", "--interval", "500ms", "--prometheus", &prometheus.to_string()]);
        command.arg("--stats-socket").arg(haproxy.socket()).arg("--control").arg(dir.path().join("control.sock"))
    })?;
    let read = || -> Result<(f64, f64)> {
        let page = http_get(prometheus, "/metrics")?;
        let of = |name: &str| {
            let series = format!("{name}{{source=\"ebpf\",target=\"\"}} ");
            let value = page.lines().find_map(|line| line.strip_prefix(&series));
            value.and_then(|value| value.parse().ok()).with_context(|| format!("no {series}"))
        };
        Ok((of("lbstatd_collections_total")?, of("lbstatd_collection_duration_seconds")?))
    };
    daemon.wait_ready(|| {
        let (samples, duration) = read()?;
        ensure!(samples >= 3.0 && duration > 0.0, "no samples yet");
        Ok(())
    })?;
    let (first, begin) = (read()?.0, cpu_of_thread(daemon.id(), "lbstatd-kernel")?);
    let (mut last, mut durations) = (first, Vec::new());
    while durations.len() < SAMPLES {
        let (samples, duration) = read()?;
        if samples > last {
            durations.push(duration * 1e3);
            last = samples;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let spent = cpu_of_thread(daemon.id(), "lbstatd-kernel")?.saturating_sub(begin);
    durations.sort_by(f64::total_cmp);
    println!(
        "{what:32} {:>6.2} ms {:>6.2} ms {:>6.2} ms {:>9.2} ms",
        durations[durations.len() / 2],
        durations[0],
        durations[durations.len() - 1],
        spent.as_secs_f64() * 1e3 / (last - first)
    );
    Ok(())
}
