//! The kernel's thread: loads the eBPF programs, samples them when asked, and lets nobody wait for either.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use lbstats::{Hook, Program, Source, SourceKind};
use tokio::sync::mpsc as async_mpsc;
use tracing::{debug, info, warn};

use super::note;
use crate::kernel::{self, HookState, Kernel, KernelLog, Process, Sample};
use crate::privileges::{describe, keep_what_samples_need};

/// The kernel as a source: the thread's two ends, and what it last said.
pub struct Probe {
    /// Dropping it ends the thread.
    asks: mpsc::Sender<Vec<Process>>,
    events: async_mpsc::UnboundedReceiver<Event>,
    state: State,
    pub(super) source: Source,
    pub(super) hooks: Vec<Hook>,
    /// What the kernel counted, as last sampled.
    pub(super) sample: Sample,
    /// How many samples there were.
    pub(super) samples: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Loading,
    Ready,
    Sampling,
    Failed,
}

/// What the thread says.
pub(super) enum Event {
    /// The programs are loaded, or never will be.
    Loaded(Result<(Vec<Hook>, Option<KernelLog>), String>),
    /// A sample is done.
    Sampled(Result<Sample, String>, Vec<Hook>, Duration),
    /// The thread is gone.
    Ended,
}

/// Loaded programs: their hooks, their log, and what samples them.
pub(super) struct Loaded {
    pub(super) hooks: Vec<Hook>,
    pub(super) log: Option<KernelLog>,
    pub(super) sampler: Box<Sampler>,
}

/// Gives a sample, with the listeners of these processes marked, and how the hooks fare.
pub(super) type Sampler = dyn FnMut(&[Process]) -> (Result<Sample, String>, Vec<Hook>);

impl Probe {
    /// Loads the eBPF programs in a thread of their own.
    pub(super) fn load(measure: bool) -> Self {
        Self::start(move || {
            let mut kernel = Kernel::load().map_err(|error| error.to_string())?;
            if measure && let Err(error) = kernel.measure_runs() {
                warn!("{error}");
            }
            give_up_capabilities(&mut kernel);
            let (healthy, log) = (hooks(&kernel), kernel.take_log());
            let sampler = move |processes: &[Process]| {
                let sample = kernel.sample_sparingly(processes).map_err(|error| error.to_string());
                (sample, hooks(&kernel))
            };
            Ok(Loaded { hooks: healthy, log, sampler: Box::new(sampler) })
        })
    }

    /// Runs `load` in a thread, which then samples until this is dropped. Nobody waits for the thread's end: a sample
    /// that runs is finished, the programs are detached, and it is gone.
    pub(super) fn start(load: impl FnOnce() -> Result<Loaded, String> + Send + 'static) -> Self {
        let (asks, asked) = mpsc::channel();
        let (tell, events) = async_mpsc::unbounded_channel();
        let mut source = Source::new(SourceKind::Ebpf, "");
        source.collections = 1;
        let work = move || serve(load, &asked, &tell);
        let state = match std::thread::Builder::new().name("lbstatd-kernel".to_owned()).spawn(work) {
            Ok(_) => State::Loading,
            Err(error) => {
                note(&mut source, Some(format!("no thread for eBPF: {error}")), Duration::ZERO);
                State::Failed
            }
        };
        Self { asks, events, state, source, hooks: Vec::new(), sample: Sample::default(), samples: 0 }
    }

    /// Asks for a sample unless one runs; false if the answer is not worth waiting for: there will be none, or the last
    /// one was a failure, or late.
    pub(super) fn ask(&mut self, processes: Vec<Process>) -> bool {
        if self.state != State::Ready {
            return false;
        }
        self.state = State::Sampling;
        self.source.collections += 1;
        // If the thread is gone, the next event says so.
        self.asks.send(processes).is_ok() && self.source.error.is_none()
    }

    /// What the programs cost; the kernel says so for all of them or for none.
    pub(super) fn programs(&self) -> Vec<Program> {
        let known = self.sample.programs.iter().any(|program| program.runs > 0);
        let program = |program: &kernel::ProgramRuns| Program {
            name: program.name.clone(),
            runs: known.then_some(program.runs),
            time: known.then(|| u64::try_from(program.time.as_nanos()).unwrap_or(u64::MAX)),
            missed: program.missed,
        };
        self.sample.programs.iter().map(program).collect()
    }

    /// Takes what the thread says.
    ///
    /// # Errors
    /// Why the programs cannot be loaded.
    pub(super) fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Loaded(Ok((hooks, log))) => {
                // The load is not a collection of its own: the first sample ends it.
                self.source.collections = 0;
                self.state = State::Ready;
                self.hooks = hooks;
                if let Ok(capabilities) = describe(std::process::id()) {
                    debug!("the eBPF programs are loaded; effective capabilities: {capabilities}");
                }
                if let Some(log) = log {
                    tokio::spawn(forward(log));
                }
            }
            Event::Loaded(Err(reason)) => {
                self.state = State::Failed;
                note(&mut self.source, Some(reason.clone()), Duration::ZERO);
                return Err(reason);
            }
            Event::Sampled(sample, hooks, duration) => {
                self.state = State::Ready;
                self.hooks = hooks;
                note(&mut self.source, sample.as_ref().err().cloned(), duration);
                if let Ok(sample) = sample {
                    self.sample = sample;
                    self.samples += 1;
                }
            }
            Event::Ended => {
                self.state = State::Failed;
                note(
                    &mut self.source,
                    Some("the thread that reads eBPF ended: restart lbstatd".into()),
                    Duration::ZERO,
                );
            }
        }
        Ok(())
    }
}

/// What the kernel's thread says next; nothing, for ever, without one.
pub(super) async fn event(probe: &mut Option<Probe>) -> Event {
    match probe {
        Some(probe) if probe.state != State::Failed => probe.events.recv().await.unwrap_or(Event::Ended),
        _ => std::future::pending().await,
    }
}

/// The thread: ends when nobody listens any more.
fn serve(
    load: impl FnOnce() -> Result<Loaded, String>,
    asked: &mpsc::Receiver<Vec<Process>>,
    tell: &async_mpsc::UnboundedSender<Event>,
) {
    let Loaded { hooks, log, mut sampler } = match load() {
        Ok(loaded) => loaded,
        Err(reason) => {
            let _ = tell.send(Event::Loaded(Err(reason)));
            return;
        }
    };
    if tell.send(Event::Loaded(Ok((hooks, log)))).is_err() {
        return;
    }
    while let Ok(processes) = asked.recv() {
        let begin = Instant::now();
        let (sample, hooks) = sampler(&processes);
        if tell.send(Event::Sampled(sample, hooks, begin.elapsed())).is_err() {
            return;
        }
    }
}

/// Of this thread, whose work with them is done.
fn give_up_capabilities(kernel: &mut Kernel) {
    match keep_what_samples_need(|| kernel.sample(&[]).map(drop)) {
        Ok(false) => {}
        Ok(true) => info!(
            "the eBPF thread keeps CAP_BPF: this kernel (before 5.19) asks for it whenever counters are read; \
             `sysctl kernel.unprivileged_bpf_disabled=0` lets it go"
        ),
        Err(error) => warn!("the eBPF thread keeps its capabilities: {error}: allow the system call capset"),
    }
}

fn hooks(kernel: &Kernel) -> Vec<Hook> {
    let hook = |hook: &kernel::Hook| {
        let (state, reason) = match &hook.state {
            HookState::Healthy => ("healthy", ""),
            HookState::Unsupported(reason) => ("unsupported", reason.as_str()),
            HookState::Failed(reason) => ("failed", reason.as_str()),
        };
        Hook { name: hook.name.to_owned(), state: state.to_owned(), reason: reason.to_owned() }
    };
    kernel.hooks().iter().map(hook).collect()
}

async fn forward(log: KernelLog) {
    if let Err(error) = log.forward().await {
        warn!("the log of the eBPF programs is not shown: {error}");
    }
}
