//! The own SNMP agent at full load, against a bare UDP echo of the same sizes and the peers under snmpd.
//!
//! Requests are those of a real walk at 50 repetitions, recorded first and then sent with 32 in flight. Varbinds are
//! counted by the agent, datagrams by the sender, time on a processor by the kernel.

mod load;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use lbstatd_tests::{Haproxy, Lbstatd, LbstatdConfig, PassPersist, Process, Snmp, Snmpd, address, wait_for};
use tempfile::TempDir;

use super::contender::walk;
use super::observe::cpu;
use super::{LBSTATS, ROWS, peers, responder};
use load::{IN_FLIGHT, Recorded, load, single_gets};

/// How long each measurement of a round takes.
const SPELL: Duration = Duration::from_secs(2);
/// Collections a second while the time of single gets is measured.
const BUSY: &str = "100ms";
const VARBINDS: &str = "lbstatd_face_varbinds_total";

/// One measurement of a round.
struct Spell {
    datagrams: f64,
    varbinds: f64,
    /// Time on a processor for each varbind, collections included.
    cpu: Duration,
}

pub(super) fn run(lbstatd: &Path, rounds: u8) -> Result<()> {
    let dir = TempDir::with_prefix("lbstatd-bench-")?;
    let echo = peers::echo(dir.path())?;
    for (frontends, backends, servers, name) in [(60, 12, 700, "20,007 varbinds"), (20, 20, 20_000, "20,000 servers")] {
        let haproxy = super::haproxy(frontends, backends, servers)?;
        println!("\n{name}");
        throughput(lbstatd, &haproxy, &echo, dir.path(), rounds)?;
        latency(lbstatd, &haproxy)?;
        if servers == 700 {
            against_snmpd(lbstatd, &haproxy, dir.path(), rounds)?;
        }
    }
    Ok(())
}

fn start(lbstatd: &Path, haproxy: &Haproxy, interval: &'static str) -> Result<(Lbstatd, SocketAddr)> {
    let address = address();
    let flags = ["--snmp-listen", &address.to_string(), "--community", "public"].map(str::to_owned).to_vec();
    let config = LbstatdConfig { interval, flags, ..LbstatdConfig::new(haproxy.socket()) };
    Ok((Lbstatd::start_program(lbstatd, &config)?, address))
}

/// Echo and agent in turns.
fn throughput(lbstatd: &Path, haproxy: &Haproxy, echo: &Path, dir: &Path, rounds: u8) -> Result<()> {
    let (daemon, agent) = start(lbstatd, haproxy, "1s")?;
    let recorded = wait_for("the first reading of HAProxy", || Recorded::walk(agent, LBSTATS))?;
    println!(
        "  a walk: {} varbinds in {} answers of {} octets; requests of {}",
        recorded.varbinds,
        recorded.requests.len(),
        recorded.answer_size,
        recorded.request_size()
    );
    let target = address();
    let _echo = Process::start(echo, dir.join("udpecho.log"), |command| {
        command.arg(target.ip().to_string()).arg(target.port().to_string()).arg(recorded.answer_size.to_string())
    })?;
    wait_for("the echo", || load(target, &recorded.requests, Duration::ZERO))?;
    let (mut echoes, mut spells) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (datagrams, wall) = load(target, &recorded.requests, SPELL)?;
        echoes.push(datagrams as f64 / wall.as_secs_f64());
        spells.push(spell(&daemon, agent, &recorded)?);
    }
    let echo = median(echoes.iter().copied());
    let datagrams = median(spells.iter().map(|spell| spell.datagrams));
    println!(
        "  {IN_FLIGHT} in flight, {rounds} rounds of {} s each, medians: {:.0} varbinds/s; {datagrams:.0} datagrams/s, {:.2} of the echo's {echo:.0}; {:.3} µs of CPU a varbind",
        SPELL.as_secs(),
        median(spells.iter().map(|spell| spell.varbinds)),
        median(spells.iter().zip(&echoes).map(|(spell, echo)| spell.datagrams / echo)),
        median(spells.iter().map(|spell| spell.cpu.as_secs_f64() * 1e6)),
    );
    Ok(())
}

fn spell(daemon: &Lbstatd, agent: SocketAddr, recorded: &Recorded) -> Result<Spell> {
    let series = |daemon: &Lbstatd| daemon.metric(&format!("{VARBINDS}{{face=\"snmp\",target=\"{agent}\"}}"));
    // The counts are those of the newest snapshot.
    daemon.wait_fresh()?;
    let (before, used) = (series(daemon)?, cpu(daemon.id())?);
    let (datagrams, wall) = load(agent, &recorded.requests, SPELL)?;
    let used = cpu(daemon.id())?.saturating_sub(used);
    daemon.wait_fresh()?;
    let varbinds = series(daemon)? - before;
    ensure!(varbinds > 0.0, "the agent has counted nothing");
    Ok(Spell {
        datagrams: datagrams as f64 / wall.as_secs_f64(),
        varbinds: varbinds / wall.as_secs_f64(),
        cpu: used.div_f64(varbinds),
    })
}

/// Single gets, one at a time, while a walk goes on at full rate and HAProxy is read ten times a second.
fn latency(lbstatd: &Path, haproxy: &Haproxy) -> Result<()> {
    let (_daemon, agent) = start(lbstatd, haproxy, BUSY)?;
    let recorded = wait_for("the first reading of HAProxy", || Recorded::walk(agent, LBSTATS))?;
    for (what, busy) in [("alone", false), ("under a walk at full rate", true)] {
        let mut times = std::thread::scope(|scope| {
            let walk = busy.then(|| scope.spawn(|| load(agent, &recorded.requests, 2 * SPELL)));
            let times = single_gets(agent, &format!("{LBSTATS}.1.1.1.1"), 2 * SPELL);
            walk.map(|walk| walk.join().expect("the load does not panic")).transpose()?;
            times
        })?;
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
        println!(
            "  single gets {what}, collections each {BUSY}: {} of them, median {:.0} µs, p99 {:.0} µs, worst {:.0} µs",
            times.len(),
            at(50),
            at(99),
            at(100)
        );
    }
    Ok(())
}

/// `snmpbulkwalk -Cr50` of the own agent, and of two C programs under snmpd: by pass_persist and by AgentX.
fn against_snmpd(lbstatd: &Path, haproxy: &Haproxy, dir: &Path, rounds: u8) -> Result<()> {
    let (_daemon, agent) = start(lbstatd, haproxy, "1s")?;
    let agent = Snmp::new(agent)?;
    let rows = responder::rows(lbstatd, &haproxy.socket())?;
    let responder = peers::pass_persist(dir, &rows)?;
    let piped = Snmpd::start(&[PassPersist { root: ".1.3.6.1.4.1.23263", command: responder.display().to_string() }])?;
    let master = dir.join("master").display().to_string();
    let extended = Snmpd::start_master(&master)?;
    let subagent = peers::agentx(dir, &rows)?;
    let _subagent = Process::start(subagent, dir.join("subagent.log"), |command| command.arg(&master))?;
    let contenders = [
        ("the agent", &agent),
        ("snmpd and a C pass_persist", piped.client()),
        ("snmpd and a C AgentX subagent", extended.client()),
    ];
    for (name, manager) in contenders {
        wait_for(&format!("the first walk of {name}"), || walk(manager, 0, ROWS))?;
    }
    let mut walks = contenders.map(|_| Vec::new());
    for _ in 0..rounds {
        for ((_, manager), walks) in contenders.iter().zip(&mut walks) {
            walks.push(walk(manager, 0, ROWS)?.as_secs_f64());
        }
    }
    let medians = walks.map(|walks| median(walks.into_iter()));
    for ((name, _), seconds) in contenders.iter().zip(medians) {
        let times = seconds / medians[0];
        println!("  snmpbulkwalk -Cr50: {:.0} ms with {name}, {times:.1} times the agent's", seconds * 1e3);
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
