//! Programs that answer through an snmpd each, walked in turns, and what their walks take.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbstatd_tests::{Snmp, Snmpd};

use super::LBSTATS;
use super::observe::{cpu, cpu_of_thread};

/// Manager, options, and walks a round.
pub(super) const TOOLS: [(&str, &[&str], usize); 2] =
    [("snmpbulkwalk", &["-On", "-Cr50"], 4), ("snmpwalk", &["-On"], 1)];

/// A program under an snmpd of its own.
pub(super) struct Contender {
    name: &'static str,
    snmpd: Snmpd,
    /// The program that answers.
    program: u32,
    /// Rows of a whole walk.
    rows: usize,
    /// For each tool.
    walks: [Vec<Walk>; 2],
}

struct Walk {
    wall: Duration,
    /// Time on a processor: of all the program does, of its thread for AgentX where it has one, and of snmpd.
    program: Duration,
    thread: Duration,
    snmpd: Duration,
}

/// What one whole walk of lbStats takes.
pub(super) fn walk(snmp: &Snmp, tool: usize, rows: usize) -> Result<Duration> {
    let (name, options, _) = TOOLS[tool];
    let start = Instant::now();
    let output = snmp.tool(name, options, &[LBSTATS])?;
    let wall = start.elapsed();
    // The last line says that the view ends.
    let got = output.stdout.lines().filter(|line| !line.contains("No more variables left")).count();
    ensure!(output.status.success() && got == rows, "{name} got {got} of {rows} rows; it says {:?}", output.stderr);
    Ok(wall)
}

/// Walks each of them with so many of the tools, and reports. Each is first, second and last as often as the others.
pub(super) fn in_turns(contenders: &mut [Contender], tools: usize, rounds: u8) -> Result<()> {
    let count = contenders.len();
    for round in 0..usize::from(rounds) {
        for (tool, (.., repeats)) in TOOLS.iter().enumerate().take(tools) {
            for repeat in 0..*repeats {
                for turn in 0..count {
                    let contender = &mut contenders[(round + repeat + turn) % count];
                    let walk = contender.walk(tool)?;
                    contender.walks[tool].push(walk);
                }
            }
        }
    }
    for tool in 0..tools {
        report(tool, contenders);
    }
    Ok(())
}

impl Contender {
    pub(super) fn new(name: &'static str, snmpd: Snmpd, program: u32, rows: usize) -> Self {
        Self { name, snmpd, program, rows, walks: [Vec::new(), Vec::new()] }
    }

    /// A walk that is not reported.
    pub(super) fn try_walk(&self) -> Result<()> {
        self.walk(0).map(drop)
    }

    fn walk(&self, tool: usize) -> Result<Walk> {
        let (program, master) = (self.program, self.snmpd.id());
        let before = (cpu(program)?, cpu_of_thread(program, "agentx")?, cpu(master)?);
        Ok(Walk {
            wall: walk(self.snmpd.client(), tool, self.rows)?,
            program: cpu(program)?.saturating_sub(before.0),
            thread: cpu_of_thread(program, "agentx")?.saturating_sub(before.1),
            snmpd: cpu(master)?.saturating_sub(before.2),
        })
    }

    /// Microseconds a varbind: of the median walk, and of the best.
    fn spread(&self, tool: usize, of: impl Fn(&Walk) -> Duration) -> [f64; 2] {
        let mut values: Vec<Duration> = self.walks[tool].iter().map(of).collect();
        values.sort_unstable();
        [values[values.len() / 2], values[0]].map(|value| value.as_secs_f64() * 1e6 / self.rows as f64)
    }
}

/// Ratios are to the first contender.
fn report(tool: usize, contenders: &[Contender]) {
    let (name, options, _) = TOOLS[tool];
    let [first, ..] = contenders else { return };
    println!("\n{name} {}, {} walks of each", options.join(" "), first.walks[tool].len());
    println!("{:22} {:^30} {:^30} {:^18}", "", "varbinds/s", "own CPU, µs a varbind", "snmpd's CPU, µs");
    println!(
        "{:22} {:>7} {:>6} {:>8} {:>6}  {:>7} {:>6} {:>7} {:>6}  {:>10} {:>8}",
        "", "median", "ratio", "best", "ratio", "median", "ratio", "least", "ratio", "median", "least"
    );
    for contender in contenders {
        let figures = |contender: &Contender| {
            let speed = contender.spread(tool, |walk| walk.wall).map(|each| 1e6 / each);
            (speed, contender.spread(tool, |walk| walk.program))
        };
        let ((speed, cpu), (first_speed, first_cpu)) = (figures(contender), figures(first));
        let snmpd = contender.spread(tool, |walk| walk.snmpd);
        println!(
            "{:22} {:>7.0} {:>6.2} {:>8.0} {:>6.2}  {:>7.2} {:>6.2} {:>7.2} {:>6.2}  {:>10.2} {:>8.2}",
            contender.name,
            speed[0],
            speed[0] / first_speed[0],
            speed[1],
            speed[1] / first_speed[1],
            cpu[0],
            cpu[0] / first_cpu[0],
            cpu[1],
            cpu[1] / first_cpu[1],
            snmpd[0],
            snmpd[1],
        );
        let thread = contender.spread(tool, |walk| walk.thread);
        if thread[0] > 0.0 {
            println!("{:22} of its CPU {:.2}, least {:.2}, are the thread that answers", "", thread[0], thread[1]);
        }
    }
}
