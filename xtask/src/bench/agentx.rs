//! The same varbinds through AgentX from lbstatd and from a C subagent on net-snmp's library, walk after walk in turns.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lbstatd_tests::{Haproxy, Process, Snmpd, wait_for};
use tempfile::TempDir;

use super::contender::{Contender, TOOLS, in_turns};
use super::{peers, responder};

pub(super) fn run(lbstatd: &Path, haproxy: &Haproxy, rounds: u8) -> Result<()> {
    let dir = TempDir::with_prefix("lbstatd-bench-")?;
    let table = responder::rows(lbstatd, &haproxy.socket())?;
    let peer = peers::agentx(dir.path(), &table)?;
    let (c, _c) =
        start("C", table.len(), dir.path(), |master, log| Process::start(&peer, log, |command| command.arg(master)))?;
    let (ours, _ours) = start("lbstatd", table.len(), dir.path(), |master, log| {
        Process::start(lbstatd, log, |command| {
            command.args(["run", "--ebpf", "off", "--agentx", master]);
            command.arg("--stats-socket").arg(haproxy.socket());
            command.arg("--control").arg(dir.path().join("control.sock"))
        })
    })?;
    println!("{} varbinds through AgentX, {rounds} rounds; ratios are to C, of medians", table.len());
    // A snmpwalk of half a million rows takes minutes and says the same as one of 20,000.
    let tools = if table.len() > 100_000 { 1 } else { TOOLS.len() };
    in_turns(&mut [c, ours], tools, rounds)
}

/// A subagent and its master.
fn start(
    name: &'static str,
    rows: usize,
    dir: &Path,
    subagent: impl FnOnce(&str, PathBuf) -> Result<Process>,
) -> Result<(Contender, Process)> {
    let master = dir.join(format!("{name}.master")).display().to_string();
    let snmpd = Snmpd::start_master(&master)?;
    let subagent = subagent(&master, dir.join(format!("{name}.log")))?;
    let contender = Contender::new(name, snmpd, subagent.id(), rows);
    let first = wait_for("the first walk", || contender.try_walk());
    first.with_context(|| format!("{name} says: {}", subagent.log()))?;
    Ok((contender, subagent))
}
