//! The same varbinds through AgentX from lbstatd and from a C subagent on net-snmp's library, walk after walk in turns.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbstatd_tests::{Haproxy, Process, Snmpd, wait_for};
use tempfile::TempDir;

use super::LBSTATS;
use super::observe::{cpu, cpu_of_thread};
use super::pass_persist::rows;
use super::responder::Row;

/// Manager, options, and walks a round.
const TOOLS: [(&str, &[&str], usize); 2] = [("snmpbulkwalk", &["-On", "-Cr50"], 4), ("snmpwalk", &["-On"], 1)];

/// A subagent and its master.
struct Contender {
    name: &'static str,
    snmpd: Snmpd,
    subagent: Process,
    rows: usize,
    /// For each tool.
    walks: [Vec<Walk>; 2],
}

struct Walk {
    wall: Duration,
    /// Time on a processor: of all the subagent does, of its thread for AgentX where it has one, and of snmpd.
    subagent: Duration,
    thread: Duration,
    snmpd: Duration,
}

pub(super) fn run(lbstatd: &Path, haproxy: &Haproxy, rounds: u8) -> Result<()> {
    let dir = TempDir::with_prefix("lbstatd-bench-")?;
    let table = rows(lbstatd, &haproxy.socket())?;
    let peer = build_peer(dir.path(), &table)?;
    let mut contenders = [
        Contender::start("C", table.len(), dir.path(), |master, log| {
            Process::start(&peer, log, |command| command.arg(master))
        })?,
        Contender::start("lbstatd", table.len(), dir.path(), |master, log| {
            Process::start(lbstatd, log, |command| {
                command.args(["run", "--ebpf", "off", "--agentx", master]);
                command.arg("--stats-socket").arg(haproxy.socket());
                command.arg("--control").arg(dir.path().join("control.sock"))
            })
        })?,
    ];
    // A snmpwalk of half a million rows takes minutes and says the same as one of 20,000.
    let tools = if table.len() > 100_000 { 1 } else { TOOLS.len() };
    for round in 0..usize::from(rounds) {
        for (tool, (.., repeats)) in TOOLS.iter().enumerate().take(tools) {
            for repeat in 0..*repeats {
                for turn in 0..contenders.len() {
                    let contender = &mut contenders[(round + repeat + turn) % 2];
                    let walk = contender.walk(tool)?;
                    contender.walks[tool].push(walk);
                }
            }
        }
    }
    println!("{} varbinds through AgentX, {rounds} rounds; ratios are to C, of medians", table.len());
    for tool in 0..tools {
        report(tool, &contenders);
    }
    Ok(())
}

impl Contender {
    fn start(
        name: &'static str,
        rows: usize,
        dir: &Path,
        subagent: impl FnOnce(&str, PathBuf) -> Result<Process>,
    ) -> Result<Self> {
        let master = dir.join(format!("{name}.master")).display().to_string();
        let snmpd = Snmpd::start_master(&master)?;
        let subagent = subagent(&master, dir.join(format!("{name}.log")))?;
        let mut contender = Self { name, snmpd, subagent, rows, walks: [Vec::new(), Vec::new()] };
        let first = wait_for("the first walk", || contender.walk(0));
        first.with_context(|| format!("{name} says: {}", contender.subagent.log()))?;
        Ok(contender)
    }

    fn walk(&mut self, tool: usize) -> Result<Walk> {
        let (name, options, _) = TOOLS[tool];
        let (subagent, master) = (self.subagent.id(), self.snmpd.id());
        let before = (cpu(subagent)?, cpu_of_thread(subagent, "agentx")?, cpu(master)?);
        let start = Instant::now();
        let output = self.snmpd.client().tool(name, options, &[LBSTATS])?;
        let wall = start.elapsed();
        // The last line says that the view ends.
        let rows = output.stdout.lines().filter(|line| !line.contains("No more variables left")).count();
        let whole = output.status.success() && rows == self.rows;
        ensure!(whole, "{name} got {rows} of {} rows; it says {:?}", self.rows, output.stderr);
        Ok(Walk {
            wall,
            subagent: cpu(subagent)?.saturating_sub(before.0),
            thread: cpu_of_thread(subagent, "agentx")?.saturating_sub(before.1),
            snmpd: cpu(master)?.saturating_sub(before.2),
        })
    }
}

/// The C subagent with these rows compiled in.
pub(super) fn build_peer(dir: &Path, rows: &[Row]) -> Result<PathBuf> {
    let mut header = String::new();
    for Row { oid, kind, value } in rows {
        // Three octal digits cannot run into what follows.
        let value: String = value
            .iter()
            .map(|octet| match octet {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'.' => char::from(*octet).to_string(),
                octet => format!("\\{octet:03o}"),
            })
            .collect();
        writeln!(header, "{{\"{oid}\", \"{value}\", {}}},", kind.to_uppercase())?;
    }
    std::fs::write(dir.join("rows.h"), header)?;
    let program = dir.join("agentx_table");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/agentx_table.c");
    let status = Command::new("cc")
        .args(["-O2", "-Wall", "-I"])
        .args([dir, Path::new("-o"), &program, &source])
        .args(["-lnetsnmpmibs", "-lnetsnmpagent", "-lnetsnmp"])
        .status()
        .context("cannot start cc")?;
    ensure!(status.success(), "cc: {status}");
    Ok(program)
}

fn report(tool: usize, contenders: &[Contender]) {
    let (name, options, _) = TOOLS[tool];
    let [c, ..] = contenders else { return };
    println!("\n{name} {}, {} walks of each", options.join(" "), c.walks[tool].len());
    println!(
        "{:8} {:^30} {:^30} {:^15} {:^21}",
        "", "varbinds/s", "own CPU, µs a varbind", "thread, µs", "snmpd's CPU, µs"
    );
    println!(
        "{:8} {:>7} {:>6} {:>8} {:>6}  {:>7} {:>6} {:>7} {:>6}  {:>7} {:>7}  {:>10} {:>8}",
        "",
        "median",
        "ratio",
        "best",
        "ratio",
        "median",
        "ratio",
        "least",
        "ratio",
        "median",
        "least",
        "median",
        "least"
    );
    for contender in contenders {
        let figures = |contender: &Contender| {
            let speed = contender.spread(tool, |walk| walk.wall).map(|each| 1e6 / each);
            (speed, contender.spread(tool, |walk| walk.subagent))
        };
        let ((speed, cpu), (c_speed, c_cpu)) = (figures(contender), figures(c));
        let (thread, snmpd) = (contender.spread(tool, |walk| walk.thread), contender.spread(tool, |walk| walk.snmpd));
        println!(
            "{:8} {:>7.0} {:>6.2} {:>8.0} {:>6.2}  {:>7.2} {:>6.2} {:>7.2} {:>6.2}  {:>7.2} {:>7.2}  {:>10.2} {:>8.2}",
            contender.name,
            speed[0],
            speed[0] / c_speed[0],
            speed[1],
            speed[1] / c_speed[1],
            cpu[0],
            cpu[0] / c_cpu[0],
            cpu[1],
            cpu[1] / c_cpu[1],
            thread[0],
            thread[1],
            snmpd[0],
            snmpd[1],
        );
    }
}

impl Contender {
    /// Microseconds a varbind: of the median walk, and of the best.
    fn spread(&self, tool: usize, of: impl Fn(&Walk) -> Duration) -> [f64; 2] {
        let mut values: Vec<Duration> = self.walks[tool].iter().map(of).collect();
        values.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "there are less than a million rows")]
        let rows = self.rows as f64;
        [values[values.len() / 2], values[0]].map(|value| value.as_secs_f64() * 1e6 / rows)
    }
}
