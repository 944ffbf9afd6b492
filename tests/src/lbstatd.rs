//! The daemon under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::loopback::{address, http_get};
use crate::process::Process;
use crate::wait::wait_for;

/// A running `lbstatd run`.
#[derive(Debug)]
pub struct Lbstatd {
    process: Process,
    program: PathBuf,
    config: LbstatdConfig,
    prometheus: SocketAddr,
    dir: TempDir,
}

/// Its settings that matter here.
#[derive(Clone, Debug)]
pub struct LbstatdConfig {
    /// HAProxy's stats sockets.
    pub stats_sockets: Vec<PathBuf>,
    /// `auto`, `on` or `off`.
    pub ebpf: &'static str,
    /// Time between collections.
    pub interval: &'static str,
    /// Address of its Prometheus endpoint; one of its own if none is given.
    pub prometheus: Option<SocketAddr>,
    /// More flags of `lbstatd run`.
    pub flags: Vec<String>,
    /// Its configuration file, for what is no flag.
    pub file: String,
}

impl LbstatdConfig {
    /// One stats socket, no eBPF, collections every 100 ms.
    pub fn new(stats_socket: PathBuf) -> Self {
        Self {
            stats_sockets: vec![stats_socket],
            ebpf: "off",
            interval: "100ms",
            prometheus: None,
            flags: Vec::new(),
            file: String::new(),
        }
    }
}

impl Lbstatd {
    /// Starts it and waits for its first snapshot.
    ///
    /// # Errors
    /// When it does not start; with what it said.
    pub fn start(config: &LbstatdConfig) -> Result<Self> {
        Self::start_program(&lbstatd_binary()?, config)
    }

    /// The same with another program than the one under test.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_program(program: &Path, config: &LbstatdConfig) -> Result<Self> {
        let dir = TempDir::with_prefix("lbstatd-run-")?;
        let prometheus = config.prometheus.unwrap_or_else(address);
        let process = spawn(program, dir.path(), config, prometheus)?;
        let program = program.to_owned();
        let mut lbstatd = Self { process, program, config: config.clone(), prometheus, dir };
        lbstatd.wait_ready()?;
        Ok(lbstatd)
    }

    /// Starts it again, with the same settings and sockets, after [`Self::end_with`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.program, self.dir.path(), &self.config, self.prometheus)?;
        self.wait_ready()
    }

    /// Path of its control socket.
    pub fn control(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    /// Address of its Prometheus endpoint.
    pub fn prometheus(&self) -> SocketAddr {
        self.prometheus
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it exposes to Prometheus now.
    ///
    /// # Errors
    /// When its endpoint does not answer.
    pub fn metrics(&self) -> Result<String> {
        http_get(self.prometheus, "/metrics")
    }

    /// The value of one series, written as it is exposed, labels in their order.
    ///
    /// # Errors
    /// When its endpoint does not answer, or has no such series.
    pub fn metric(&self, series: &str) -> Result<f64> {
        metric(&self.metrics()?, series)
    }

    /// Waits until everything it shows was collected after this call.
    ///
    /// # Errors
    /// When it does not publish any more.
    pub fn wait_fresh(&self) -> Result<()> {
        let now = self.metric(GENERATION)?;
        // The next snapshot may have been begun before.
        wait_for("two more snapshots", || match self.metric(GENERATION)? {
            generation if generation >= now + 2.0 => Ok(()),
            generation => bail!("generation {generation}, {now} before"),
        })
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn is_running(&mut self) -> Result<bool> {
        self.process.is_running()
    }

    /// Sends it a signal and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end_with(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.process.end_with(signal)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let prometheus = self.prometheus;
        self.process.wait_ready(|| match metric(&http_get(prometheus, "/metrics")?, GENERATION)? {
            generation if generation >= 1.0 => Ok(()),
            generation => bail!("generation {generation}"),
        })
    }
}

fn spawn(program: &Path, dir: &Path, config: &LbstatdConfig, prometheus: SocketAddr) -> Result<Process> {
    let file = dir.join("lbstatd.toml");
    std::fs::write(&file, &config.file).with_context(|| format!("cannot write {}", file.display()))?;
    Process::start(program, dir.join("lbstatd.log"), |command| {
        command.arg("run").arg("--control").arg(dir.join("control.sock")).arg("--config").arg(&file);
        if !config.flags.iter().any(|flag| flag == "--state-dir") {
            command.arg("--state-dir").arg(dir.join("state"));
        }
        for socket in &config.stats_sockets {
            command.arg("--stats-socket").arg(socket);
        }
        command
            .args(["--ebpf", config.ebpf, "--interval", config.interval])
            .arg("--prometheus")
            .arg(prometheus.to_string())
            .args(&config.flags)
    })
}

const GENERATION: &str = "lbstatd_snapshot_generation";

fn metric(exposition: &str, series: &str) -> Result<f64> {
    let mut values = exposition.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = values.next().with_context(|| format!("no series {series}"))?;
    if values.next().is_some() {
        bail!("several series {series}");
    }
    value.parse().with_context(|| format!("{series} is {value}"))
}

/// The program under test: `LBSTATD_BIN`, or the one built beside this program.
///
/// # Errors
/// When there is none.
pub fn lbstatd_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("LBSTATD_BIN") {
        return Ok(PathBuf::from(path));
    }
    // Tests are in target/<profile>/deps, xtask in target/<profile>.
    let here = std::env::current_exe()?;
    here.ancestors()
        .skip(1)
        .take(2)
        .map(|folder: &Path| folder.join("lbstatd"))
        .find(|candidate| candidate.is_file())
        .with_context(|| {
            format!("no lbstatd beside {}: `cargo build -p lbstatd` first, or set LBSTATD_BIN", here.display())
        })
}
