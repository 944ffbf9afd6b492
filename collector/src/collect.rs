//! The tick: reads every source, joins what they say, and publishes a snapshot.
//!
//! A round begins with each tick. It reads all stats sockets at once, then samples the kernel with the processes they
//! told of, and publishes. It waits only for sources that answered last time, and for those no longer than half an
//! interval: one that hangs delays nobody else, keeps its last rows, and says why in its [`Source`]. What comes late is
//! published when it comes. A socket that failed is tried again after a pause of its own, between ticks as well, so that
//! a long interval does not mean a long blindness after a restart of HAProxy.
//!
//! The eBPF programs are loaded once, beside the first readings. If that fails it is not tried again: rights and kernels
//! do not change under a running process, so whoever mends them restarts it.

mod histograms;
mod join;
mod listeners;
mod merge;
mod probe;
mod reconcile;
mod servers;
mod socket;
mod windows;

use std::convert::Infallible;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lbstats::{DaemonTables, Snapshot, Source, unix_micros};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use tracing::{info, warn};

use crate::faces::Faces;
use crate::haproxy::Limits;
use crate::publish::Published;
use join::Join;
use merge::Merged;
use probe::Event;
pub use probe::Probe;
use socket::{Finished, Socket};

/// What is collected, and how often.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Paths of HAProxy's stats sockets. Their order matters where several HAProxies run side by side: see
    /// [`run`].
    pub stats_sockets: Vec<PathBuf>,
    /// Time between two rounds.
    pub interval: Duration,
    /// How long a reading may take and how much it may bring.
    pub limits: Limits,
    /// Whether the kernel is asked.
    pub ebpf: Ebpf,
    /// The faces whose state goes into each snapshot.
    pub faces: Arc<Faces>,
}

/// Whether the eBPF programs are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Ebpf {
    /// If they can be loaded; else the reason is shown.
    #[default]
    Auto,
    /// They must be: else the daemon does not start.
    On,
    /// No.
    Off,
}

/// Why the collection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// [`Ebpf::On`], and the programs cannot be loaded.
    #[error("eBPF cannot be used: {0}; `ebpf = \"auto\"` works without it")]
    Ebpf(String),
}

/// Collects and publishes until `stop` is ready. The first snapshot is published as soon as the sockets have answered
/// or failed once.
///
/// Each row carries the number of its process. With `nbproc` (HAProxy before 2.5) that is the number HAProxy gives its
/// process. A HAProxy of one process calls it 1, always; where several such HAProxies are collected, each has the number
/// of its socket's place in [`Settings::stats_sockets`], from 1, so that the rows of each keep their index whichever of
/// them is running. A socket whose number is taken, or whose process is collected through another socket already, adds
/// no rows, and its source says so.
///
/// # Errors
/// [`CollectError`]. Whatever happens to a source later does not end the collection.
pub async fn run(
    settings: Settings,
    published: Arc<Published>,
    stop: impl Future<Output = ()>,
) -> Result<(), CollectError> {
    let probe = start_kernel(settings.ebpf, false);
    run_with(settings, probe, published, stop).await
}

/// Starts the thread that loads the eBPF programs and samples them; it inherits the caller's capabilities and gives them
/// up by itself, so that the rest of the process need not have them.
/// With `measure` the kernel measures how long the programs run, if it lets this process ask for that.
pub fn start_kernel(ebpf: Ebpf, measure: bool) -> Option<Probe> {
    (ebpf != Ebpf::Off).then(|| Probe::load(measure))
}

/// As [`run`], with the kernel's thread started already.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    settings: Settings,
    probe: Option<Probe>,
    published: Arc<Published>,
    stop: impl Future<Output = ()>,
) -> Result<(), CollectError> {
    let collection = Collection::new(settings, published, probe);
    tokio::select! {
        () = stop => Ok(()),
        ended = collection.collect() => match ended {
            Err(error) => Err(error),
        },
    }
}

struct Collection {
    settings: Settings,
    published: Arc<Published>,
    sockets: Vec<Socket>,
    readings: JoinSet<Finished>,
    probe: Option<Probe>,
    merged: Merged,
    join: Join,
    /// Whether a reading came in since the tables were merged.
    changed: bool,
}

impl Collection {
    fn new(settings: Settings, published: Arc<Published>, probe: Option<Probe>) -> Self {
        let socket = |path: &PathBuf| Socket::new(path, settings.limits, probe.is_some());
        let sockets = settings.stats_sockets.iter().map(socket).collect();
        let merged = Merged::empty(settings.stats_sockets.len());
        let readings = JoinSet::new();
        Self { settings, published, sockets, readings, probe, merged, join: Join::new(), changed: false }
    }

    async fn collect(mut self) -> Result<Infallible, CollectError> {
        let mut ticks = interval(self.settings.interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let retry = self.sockets.iter().filter_map(Socket::retry).min();
            tokio::select! {
                biased;
                _ = ticks.tick() => self.round().await?,
                Some(done) = self.readings.join_next() => {
                    self.finish(done);
                    self.publish().await;
                }
                event = probe::event(&mut self.probe) => {
                    self.take(event)?;
                    self.publish().await;
                }
                () = until(retry) => self.start_retries(),
            }
        }
    }

    /// One tick.
    async fn round(&mut self) -> Result<(), CollectError> {
        let now = Instant::now();
        let end = now + (self.settings.interval / 2).min(Duration::from_millis(250));
        for place in 0..self.sockets.len() {
            if self.sockets[place].is_due(now) {
                self.start(place);
            }
        }
        while self.sockets.iter().any(Socket::is_awaited) {
            match timeout_at(end, self.readings.join_next()).await {
                Ok(Some(done)) => self.finish(done),
                Ok(None) | Err(_) => break,
            }
        }
        if self.ask_kernel()
            && let Ok(event) = timeout_at(end, probe::event(&mut self.probe)).await
        {
            self.take(event)?;
        }
        self.publish().await;
        Ok(())
    }

    fn start(&mut self, place: usize) {
        let reading = self.sockets[place].start(place);
        self.readings.spawn(reading);
    }

    fn start_retries(&mut self) {
        let now = Instant::now();
        for place in 0..self.sockets.len() {
            if self.sockets[place].retry().is_some_and(|at| at <= now) {
                self.start(place);
            }
        }
    }

    fn finish(&mut self, done: Result<Finished, tokio::task::JoinError>) {
        match done {
            Ok(done) => self.changed |= self.sockets[done.place].finish(done),
            // A reading that panics is a fault of this program: going on would hide it behind old numbers.
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }

    /// Asks for a sample; false if there is none to be had, or none soon.
    fn ask_kernel(&mut self) -> bool {
        let processes = self.sockets.iter().filter_map(Socket::process).collect();
        self.probe.as_mut().is_some_and(|probe| probe.ask(processes))
    }

    /// Takes what the kernel's thread says.
    fn take(&mut self, event: Event) -> Result<(), CollectError> {
        let loaded = matches!(event, Event::Loaded(_));
        let Some(probe) = &mut self.probe else { return Ok(()) };
        if let Err(reason) = probe.take(event)
            && self.settings.ebpf == Ebpf::On
        {
            return Err(CollectError::Ebpf(reason));
        }
        if loaded {
            self.ask_kernel();
        }
        Ok(())
    }

    async fn publish(&mut self) {
        // What came in meanwhile needs no snapshot of its own.
        while let Some(done) = self.readings.try_join_next() {
            self.finish(done);
        }
        if std::mem::take(&mut self.changed) {
            let readings = self.sockets.iter().map(|socket| socket.kept.clone()).collect();
            self.merged = merge::merge(readings, self.settings.stats_sockets.clone()).await;
        }
        if let Some(probe) = &self.probe {
            let said = self.sockets.iter().zip(&self.merged.faults).enumerate();
            let said = said.filter_map(|(place, (socket, fault))| match fault {
                None => Some((place, socket.kept.clone()?)),
                Some(_) => None,
            });
            self.join.take(probe.samples, &probe.sample, said);
        }
        let sources = self.sources();
        let [processes, frontends, backends, servers] = self.merged.tables.clone();
        let [listeners, kernel_frontends, kernel_servers] = self.join.tables.clone();
        self.published.store(Snapshot {
            generation: self.published.load().generation + 1,
            taken: unix_micros(),
            haproxy_read: self.sockets.iter().filter_map(|socket| socket.source.succeeded).max(),
            processes,
            frontends,
            backends,
            servers,
            listeners,
            kernel_frontends,
            kernel_servers,
            sources,
            hooks: self.probe.as_ref().map_or_else(Vec::new, |probe| probe.hooks.clone()),
            programs: self.probe.as_ref().map_or_else(Vec::new, Probe::programs),
            faces: self.settings.faces.read(),
            daemon: DaemonTables::default(),
        });
    }

    fn sources(&self) -> Vec<Source> {
        let sockets = self.sockets.iter().zip(&self.merged.faults).map(|(socket, fault)| {
            let error = socket.source.error.clone().or_else(|| fault.clone());
            Source { error, ..socket.source.clone() }
        });
        sockets.chain(self.probe.as_ref().map(|probe| probe.source.clone())).collect()
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Notes the outcome of a collection; says so in the log when it differs from the one before.
fn note(source: &mut Source, error: Option<String>, duration: Duration) {
    let duration = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    source.duration = duration;
    source.duration_total = source.duration_total.saturating_add(duration);
    let first = source.succeeded.is_none() && source.errors == 0;
    match &error {
        Some(error) => {
            source.errors += 1;
            if source.error.as_ref() != Some(error) {
                warn!("{error}");
            }
        }
        None => {
            if source.error.is_some() && !first {
                info!(source = source.kind.name(), target = %source.target, "answers again");
            }
            source.succeeded = Some(unix_micros());
        }
    }
    source.error = error;
}

#[cfg(test)]
mod tests;
