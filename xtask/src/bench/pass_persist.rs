//! The same 20,007 varbinds through snmpd from lbstatd and from a C program, walk after walk in turns.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lbstatd_tests::{PassPersist, Process, Snmpd, wait_for};
use tempfile::TempDir;

use super::contender::{Contender, TOOLS, in_turns};
use super::observe::child_of;
use super::{LBSTATS, ROWS, peers, responder};

pub(super) fn run(lbstatd: &Path, rounds: u8) -> Result<()> {
    let haproxy = super::haproxy(60, 12, 700)?;
    let dir = TempDir::with_prefix("lbstatd-bench-")?;
    let alone = format!("{} pass-persist --stats-socket {}", lbstatd.display(), haproxy.socket().display());
    let control = dir.path().join("control.sock");
    let _daemon = Process::start(lbstatd, dir.path().join("lbstatd.log"), |command| {
        command.args(["run", "--ebpf", "off"]);
        command.arg("--stats-socket").arg(haproxy.socket()).arg("--control").arg(&control)
    })?;
    wait_for("the daemon's socket", || Ok(std::os::unix::net::UnixStream::connect(&control).map(drop)?))?;
    let followed = format!("{} pass-persist --control {}", lbstatd.display(), control.display());
    let rows = responder::rows(lbstatd, &haproxy.socket())?;
    ensure!(rows.len() == ROWS, "the table has {} rows", rows.len());
    let peer = peers::pass_persist(dir.path(), &rows)?;

    let mut contenders = [
        start("C", peer.display().to_string())?,
        start("lbstatd, stats socket", alone)?,
        start("lbstatd, daemon", followed)?,
    ];
    println!("{ROWS} varbinds through snmpd, {rounds} rounds; ratios are to C, of medians");
    in_turns(&mut contenders, TOOLS.len(), rounds)
}

/// A responder under an snmpd of its own.
fn start(name: &'static str, command: String) -> Result<Contender> {
    let snmpd = Snmpd::start(&[PassPersist { root: ".1.3.6.1.4.1.23263", command }])?;
    // snmpd starts it for the first request.
    snmpd.client().get_next(&[LBSTATS])?;
    let responder = child_of(snmpd.id())?;
    let contender = Contender::new(name, snmpd, responder, ROWS);
    contender.try_walk().with_context(|| format!("{name}: the first walk"))?;
    Ok(contender)
}
