//! pass-persist on a HAProxy with 20,000 servers: how soon it answers, how much memory it takes, what a collection costs.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbstatd_tests::{Haproxy, Process, wait_for};
use tempfile::TempDir;

use super::LBSTATS;
use super::observe::{cpu, memory};
use super::responder::Responder;

const SERVERS: usize = 20_000;
const STARTS: usize = 5;
/// At a time, each begun on another snapshot.
const WALKS: usize = 5;
/// While collections run, one each second.
const RUN: Duration = Duration::from_secs(20);

pub(super) fn run(lbstatd: &Path) -> Result<()> {
    let haproxy = super::haproxy(20, 20, SERVERS)?;
    println!("{SERVERS} servers, {} varbinds of theirs", SERVERS * 27);
    observe(lbstatd, &haproxy, "stats socket", "--stats-socket", &haproxy.socket())?;

    let dir = TempDir::with_prefix("lbstatd-bench-")?;
    let control = dir.path().join("control.sock");
    let daemon = Process::start(lbstatd, dir.path().join("lbstatd.log"), |command| {
        command.args(["run", "--ebpf", "off"]);
        command.arg("--stats-socket").arg(haproxy.socket()).arg("--control").arg(&control)
    })?;
    wait_for("the daemon's first snapshot", || {
        let mut responder = Responder::start(Command::new(lbstatd).args(["pass-persist", "--control"]).arg(&control))?;
        responder.next(LBSTATS)?.context("no row").map(drop)
    })?;
    observe(lbstatd, &haproxy, "daemon", "--control", &control)?;
    println!("  the daemon: {:.0} MB, {:.0} MB at most", memory(daemon.id(), "VmRSS")?, memory(daemon.id(), "VmHWM")?);
    Ok(())
}

fn observe(lbstatd: &Path, haproxy: &Haproxy, name: &str, option: &str, path: &Path) -> Result<()> {
    println!("\nFed by the {name}:");
    let mut firsts = Vec::new();
    for _ in 0..STARTS {
        let (first, nones) = first_answer(Command::new(lbstatd).arg("pass-persist").arg(option).arg(path))?;
        firsts.push(first);
        if nones > 0 {
            println!("  a start gave NONE {nones} times before");
        }
    }
    firsts.sort_unstable();
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    println!(
        "  first correct answer after {:.0} ms (median of {STARTS} starts; worst {:.0} ms)",
        milliseconds(firsts[STARTS / 2]),
        milliseconds(firsts[STARTS - 1])
    );

    let mut responder = Responder::start(Command::new(lbstatd).arg("pass-persist").arg(option).arg(path))?;
    wait_for("the first row", || responder.next(LBSTATS)?.context("no row"))?;
    let start = Instant::now();
    let (ours, theirs) = (cpu(responder.id())?, cpu(haproxy.id())?);
    // A walk stays on its snapshot while newer ones come: memory is highest while several walk that began apart.
    let mut columns = (4..28).cycle();
    let mut walks = VecDeque::new();
    let mut begin = start;
    while start.elapsed() < RUN {
        if begin <= Instant::now() {
            walks.truncate(WALKS - 1);
            walks.push_front(format!("{LBSTATS}.4.1.{}", columns.next().unwrap_or_default()));
            begin += Duration::from_millis(1500);
        }
        for oid in &mut walks {
            *oid = responder.next(oid)?.context("the table has ended")?.oid;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let (wall, id) = (start.elapsed().as_secs_f64(), responder.id());
    let (ours, theirs) = (cpu(id)?.saturating_sub(ours), cpu(haproxy.id())?.saturating_sub(theirs));
    println!("  memory: {:.0} MB after {wall:.0} s, {:.0} MB at most", memory(id, "VmRSS")?, memory(id, "VmHWM")?);
    println!(
        "  a collection each second: {:.1} ms of CPU a second in pass-persist, {:.1} ms in HAProxy",
        milliseconds(ours) / wall,
        milliseconds(theirs) / wall
    );
    Ok(())
}

/// Time from the start to the first row, and how often it said before that there is none.
fn first_answer(command: &mut Command) -> Result<(Duration, u32)> {
    let start = Instant::now();
    let mut responder = Responder::start(command)?;
    for nones in 0.. {
        if let Some(row) = responder.next(&format!("{LBSTATS}.4.1"))? {
            // The number of the process, in the first column.
            ensure!(
                row.oid.starts_with(&format!("{LBSTATS}.4.1.1.1.")) && row.value == b"1",
                "the first row is {row:?}"
            );
            return Ok((start.elapsed(), nones));
        }
        ensure!(start.elapsed() < Duration::from_secs(30), "no row within 30 s");
        std::thread::sleep(Duration::from_millis(1));
    }
    unreachable!("the loop counts further than 30 s")
}
