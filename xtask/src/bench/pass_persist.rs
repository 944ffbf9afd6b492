//! The same 20,007 varbinds through snmpd from lbstatd and from a C program, walk after walk in turns.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbstatd_tests::{PassPersist, Process, Snmpd, wait_for};
use tempfile::TempDir;

use super::LBSTATS;
use super::observe::{child_of, cpu};
use super::responder::{Responder, Row};

/// 51 + 13 × 60 + 23 × 12 + 27 × 700.
pub(super) const ROWS: usize = 20_007;
/// Manager, options, and walks a round.
const TOOLS: [(&str, &[&str], usize); 2] = [("snmpbulkwalk", &["-On", "-Cr50"], 4), ("snmpwalk", &["-On"], 1)];

/// A responder under an snmpd of its own.
struct Contender {
    name: &'static str,
    snmpd: Snmpd,
    responder: u32,
    /// For each tool.
    walks: [Vec<Walk>; 2],
}

struct Walk {
    wall: Duration,
    /// Time on a processor.
    responder: Duration,
    snmpd: Duration,
}

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
    let rows = rows(lbstatd, &haproxy.socket())?;
    ensure!(rows.len() == ROWS, "the table has {} rows", rows.len());
    let peer = build_peer(dir.path(), &rows)?;

    let mut contenders = [
        Contender::start("C", peer.display().to_string())?,
        Contender::start("lbstatd, stats socket", alone)?,
        Contender::start("lbstatd, daemon", followed)?,
    ];
    for round in 0..usize::from(rounds) {
        for (tool, (.., repeats)) in TOOLS.iter().enumerate() {
            for repeat in 0..*repeats {
                // Each is first, second and last as often as the others.
                for turn in 0..contenders.len() {
                    let contender = &mut contenders[(round + repeat + turn) % 3];
                    let walk = contender.walk(tool)?;
                    contender.walks[tool].push(walk);
                }
            }
        }
    }
    println!("{ROWS} varbinds through snmpd, {rounds} rounds; ratios are to C, of medians");
    for tool in 0..TOOLS.len() {
        report(tool, &contenders);
    }
    Ok(())
}

impl Contender {
    fn start(name: &'static str, command: String) -> Result<Self> {
        let snmpd = Snmpd::start(&[PassPersist { root: ".1.3.6.1.4.1.23263", command }])?;
        // snmpd starts it for the first request.
        snmpd.client().get_next(&[LBSTATS])?;
        let responder = child_of(snmpd.id())?;
        let mut contender = Self { name, snmpd, responder, walks: [Vec::new(), Vec::new()] };
        contender.walk(0).with_context(|| format!("{name}: the first walk"))?;
        Ok(contender)
    }

    fn walk(&mut self, tool: usize) -> Result<Walk> {
        let (name, options, _) = TOOLS[tool];
        let (responder, snmpd) = (cpu(self.responder)?, cpu(self.snmpd.id())?);
        let start = Instant::now();
        let output = self.snmpd.client().tool(name, options, &[LBSTATS])?;
        let wall = start.elapsed();
        // The last line says that the view ends.
        let rows = output.stdout.lines().filter(|line| !line.contains("No more variables left")).count();
        ensure!(output.status.success() && rows == ROWS, "{name} got {rows} rows; it says {:?}", output.stderr);
        Ok(Walk {
            wall,
            responder: cpu(self.responder)?.saturating_sub(responder),
            snmpd: cpu(self.snmpd.id())?.saturating_sub(snmpd),
        })
    }
}

/// The whole table, as lbstatd answers it.
pub(super) fn rows(lbstatd: &Path, socket: &Path) -> Result<Vec<Row>> {
    let mut responder = Responder::start(Command::new(lbstatd).arg("pass-persist").arg("--stats-socket").arg(socket))?;
    let mut rows: Vec<Row> = Vec::with_capacity(ROWS);
    while let Some(row) = responder.next(rows.last().map_or(LBSTATS, |row| &row.oid))? {
        if !row.oid.starts_with(LBSTATS) {
            break;
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The C responder with these rows compiled in.
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
        writeln!(header, "{{\"{oid}\", \"{kind}\", \"{value}\"}},")?;
    }
    std::fs::write(dir.join("rows.h"), header)?;
    let program = dir.join("passpersist");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/passpersist.c");
    let status = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-I"])
        .args([dir, Path::new("-o"), &program, &source])
        .status()
        .context("cannot start cc")?;
    ensure!(status.success(), "cc: {status}");
    Ok(program)
}

fn report(tool: usize, contenders: &[Contender]) {
    let (name, options, _) = TOOLS[tool];
    let [c, ..] = contenders else { return };
    println!("\n{name} {}, {} walks of each", options.join(" "), c.walks[tool].len());
    println!("{:22} {:^30} {:^30} {:^21}", "", "varbinds/s", "responder's CPU per getnext", "snmpd's CPU, µs");
    println!(
        "{:22} {:>7} {:>6} {:>8} {:>6}  {:>7} {:>6} {:>7} {:>6}  {:>10} {:>8}",
        "", "median", "ratio", "best", "ratio", "median", "ratio", "least", "ratio", "median", "least"
    );
    for contender in contenders {
        let figures = |contender: &Contender| {
            let speed = spread(&contender.walks[tool], |walk| walk.wall).map(|each| 1e6 / each);
            let cpu = spread(&contender.walks[tool], |walk| walk.responder);
            (speed, cpu)
        };
        let ((speed, cpu), (c_speed, c_cpu)) = (figures(contender), figures(c));
        let snmpd = spread(&contender.walks[tool], |walk| walk.snmpd);
        println!(
            "{:22} {:>7.0} {:>6.2} {:>8.0} {:>6.2}  {:>7.2} {:>6.2} {:>7.2} {:>6.2}  {:>10.2} {:>8.2}",
            contender.name,
            speed[0],
            speed[0] / c_speed[0],
            speed[1],
            speed[1] / c_speed[1],
            cpu[0],
            cpu[0] / c_cpu[0],
            cpu[1],
            cpu[1] / c_cpu[1],
            snmpd[0],
            snmpd[1],
        );
    }
}

/// Microseconds a varbind: of the median walk, and of the best.
fn spread(walks: &[Walk], of: impl Fn(&Walk) -> Duration) -> [f64; 2] {
    let mut values: Vec<Duration> = walks.iter().map(of).collect();
    values.sort_unstable();
    [values[values.len() / 2], values[0]].map(|value| value.as_secs_f64() * 1e6 / ROWS as f64)
}
