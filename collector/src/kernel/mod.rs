//! The kernel's own counters of TCP listeners and of HAProxy's connections to servers: loads the eBPF programs and reads
//! what they have counted. What each counter means is in `docs/kernel.md`.
//!
//! | hook | gives | without it |
//! |---|---|---|
//! | `inet_sock_set_state` | connections accepted, closed and tried, queues' peaks, what connections moved until their end | nothing works |
//! | `tcp_destroy_sock` | what the first one missed, because the kernel skips a program that would interrupt itself | under load a few connections may seem open for ever |
//! | `tcp_retransmit_synack` | SYN-ACKs sent again | [`Listener::synack_retransmits`] is `None` |
//! | `inet_csk_accept` | the wait in the accept queue | [`Listener::accept_wait`] is `None` |
//! | `iter_tcp` | accept queues, drops, what live connections have moved | nothing works |
//! | `iter_task` | HAProxy in another process namespace, workers of a master | process numbers are taken for the host's |
//! | `iter_task_file` | which process a listener belongs to, live sockets of other network namespaces | [`Listener::owned`] stays false |
//!
//! Counting begins when a listener is first seen: at [`Kernel::load`] for those that exist, at `listen(2)` for later
//! ones. Connections older than that count as open, and for what they move from then on, but not as accepted.
//! The hooks see every network namespace of the host. Sockets that listened in another one before the load are found as
//! soon as their process is asked for.

use std::{
    collections::{BTreeMap, HashSet},
    io::{ErrorKind, Read},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData},
    programs::Iter,
};
use lbstatd_ebpf_abi::{Address, Control, Listener as Row, Server as ServerRow};
use tracing::{debug, warn};

mod btf;
mod error;
mod load;
mod log;
mod offsets;
mod overflows;
mod owners;
mod runs;
mod sample;
mod servers;
mod totals;

pub use btf::BtfError;
pub use error::KernelError;
pub use log::KernelLog;
pub use owners::Process;
pub use runs::ProgramRuns;
pub use sample::{HISTOGRAM_BUCKETS, Histogram, LIFETIME_SCALE, Listener, Sample, Server};

use overflows::Overflows;
use owners::Owners;
use servers::Servers;
use totals::{Sees, Totals};

/// One attachment to the kernel and how it fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Name of the program, which is that of the kernel's function or iterator.
    pub name: &'static str,
    /// Whether it works.
    pub state: HookState,
}

/// How a hook fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    /// Loaded and attached.
    Healthy,
    /// This kernel cannot have it, and why.
    Unsupported(String),
    /// The kernel could have it, and why it does not work.
    Failed(String),
}

/// The loaded programs. Dropping it detaches them.
pub struct Kernel {
    ebpf: Ebpf,
    hooks: Vec<Hook>,
    log: Option<KernelLog>,
    /// Open while runs are measured.
    measuring: Option<OwnedFd>,
    control: Array<MapData, Control>,
    rows: HashMap<MapData, u64, Row>,
    adopters: HashMap<MapData, Address, u64>,
    server_rows: HashMap<MapData, Address, ServerRow>,
    owners: Owners,
    totals: Totals,
    overflows: Overflows,
    servers: Servers,
    /// The network namespace of this process.
    namespace: u32,
    /// Whether HAProxy has sockets in others.
    far: bool,
    /// Listeners whose owner was looked for.
    searched: HashSet<u64>,
    pass: u64,
    /// When connections were visited last, and how long that took.
    visited: (Instant, Duration),
    refused: [u64; 3],
}

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/prebuilt/lbstatd.bpf.o");

/// After this many samples the owner of an unowned listener is looked for again: a socket can change hands.
const SEARCH_AGAIN: u64 = 64;

impl Kernel {
    /// Loads the programs that were built into this binary, attaches them, and starts to count.
    ///
    /// # Errors
    /// Whatever keeps `inet_sock_set_state` or `iter_tcp` from working; the other hooks show in [`Kernel::hooks`].
    pub fn load() -> Result<Self, KernelError> {
        Self::load_object(OBJECT)
    }

    /// As [`Kernel::load`], with the programs of an object file's bytes.
    ///
    /// # Errors
    /// As [`Kernel::load`], and [`KernelError::Object`].
    pub fn load_object(bytes: &[u8]) -> Result<Self, KernelError> {
        let load::Loaded { mut ebpf, hooks, namespace } = load::load(bytes)?;
        let sees = Sees {
            accept_wait: is_healthy(&hooks, "inet_csk_accept"),
            synack_retransmits: is_healthy(&hooks, "tcp_retransmit_synack"),
        };
        let log = KernelLog::take(&mut ebpf);
        let mut kernel = Self {
            control: Array::try_from(load::map(&mut ebpf, "CONTROL")?).map_err(load::object)?,
            rows: HashMap::try_from(load::map(&mut ebpf, "LISTENERS")?).map_err(load::object)?,
            adopters: HashMap::try_from(load::map(&mut ebpf, "ADOPTERS")?).map_err(load::object)?,
            owners: Owners::take(&mut ebpf)?,
            server_rows: HashMap::try_from(load::map(&mut ebpf, "SERVERS")?).map_err(load::object)?,
            ebpf,
            hooks,
            log,
            measuring: None,
            totals: Totals::new(namespace, sees),
            overflows: Overflows::begin(),
            servers: Servers::new(namespace),
            namespace,
            far: false,
            searched: HashSet::new(),
            pass: 0,
            visited: (Instant::now(), Duration::ZERO),
            refused: [0; 3],
        };
        // Existing listeners are found now, so that counting begins here and not at the first sample; the second pass
        // adopts connections that were made during the first.
        for _ in 0..2 {
            kernel.begin_pass(true)?;
            run_iterator(&mut kernel.ebpf, "iter_tcp")?;
            kernel.end_pass(true)?;
        }
        Ok(kernel)
    }

    /// The hooks, healthy or not.
    #[must_use]
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// Settles the counters of every listener of the host and reads them. `processes` are those whose listeners shall be
    /// marked as owned, and whose connections to servers shall be counted.
    ///
    /// Takes some milliseconds, and about a microsecond per open connection, and a third of that per connection in
    /// TIME_WAIT.
    ///
    /// # Errors
    /// [`KernelError::Sample`].
    pub fn sample(&mut self, processes: &[Process]) -> Result<Sample, KernelError> {
        self.sample_visiting(true, processes)
    }

    /// As [`Self::sample`], but spends no more than a hundredth of the time on visits of connections: where they take
    /// longer, some samples are without. What live connections have moved is then known from the last visit; everything
    /// else is as new as ever.
    ///
    /// # Errors
    /// [`KernelError::Sample`].
    pub fn sample_sparingly(&mut self, processes: &[Process]) -> Result<Sample, KernelError> {
        let (at, took) = self.visited;
        self.sample_visiting(at.elapsed() >= took * 100, processes)
    }

    fn sample_visiting(&mut self, connections: bool, processes: &[Process]) -> Result<Sample, KernelError> {
        let connections = self.begin_pass(connections)?;
        let can_look = self.works("iter_task");
        if self.owners.update(&mut self.ebpf, self.pass, processes, can_look)? {
            self.searched.clear();
        }
        let started = Instant::now();
        run_iterator(&mut self.ebpf, "iter_tcp")?;
        if connections {
            self.visited = (Instant::now(), started.elapsed());
        }
        if self.far {
            run_iterator(&mut self.ebpf, "iter_task_file")?;
        }
        let mut rows = self.read_rows()?;
        if self.must_search(&rows) {
            run_iterator(&mut self.ebpf, "iter_task_file")?;
            rows = self.read_rows()?;
            self.searched = rows.keys().copied().collect();
        }
        self.end_pass(connections)?;
        let owners = self.owners.current();
        let far = |row: &Row| row.address.namespace != self.namespace && owners.contains(&row.owner);
        self.far = rows.values().any(far);
        let mut sum = self.totals.sum(self.pass, &rows, owners, connections);
        self.overflows.tell_apart(&mut sum.listeners, &sum.full);
        for cookie in sum.retired {
            // Nobody else removes rows, and a failure leaves the row for the next time.
            if let Err(reason) = self.rows.remove(&cookie) {
                debug!(target: "lbstatd::kernel", cookie, %reason, "a retired listener's row stays");
            }
        }
        Ok(Sample { listeners: sum.listeners, servers: self.sample_servers()?, programs: self.runs() })
    }

    fn sample_servers(&mut self) -> Result<Vec<Server>, KernelError> {
        let rows: std::collections::HashMap<_, _> =
            self.server_rows.iter().collect::<Result<_, _>>().map_err(failed("the servers' map"))?;
        self.far = self.works("iter_task_file")
            && (self.far || rows.keys().any(|address| address.namespace != self.namespace));
        let sum = self.servers.sum(self.pass, rows);
        for address in sum.retired {
            if let Err(reason) = self.server_rows.remove(&address) {
                debug!(target: "lbstatd::kernel", ?address, %reason, "a retired server's row stays");
            }
        }
        Ok(sum.servers)
    }

    /// How often each program has run, and how often the kernel skipped it.
    #[must_use]
    pub fn runs(&self) -> Vec<ProgramRuns> {
        runs::read(&self.ebpf)
    }

    /// Lets the kernel measure the programs' runs (`BPF_ENABLE_STATS`) while this value lives; see [`Self::runs`]. It
    /// then does so for all BPF programs of the host, and takes some 50 ns of each run.
    ///
    /// # Errors
    /// [`KernelError::NotMeasured`] without CAP_SYS_ADMIN, unless the administrator has switched it on.
    pub fn measure_runs(&mut self) -> Result<(), KernelError> {
        self.measuring = runs::measure()?;
        Ok(())
    }

    /// Lets a program `nothing` run wherever `inet_sock_set_state` does, for benchmarks: what [`Self::runs`] shows of it is
    /// what measuring takes of each run of any program.
    ///
    /// # Errors
    /// [`KernelError::Object`].
    pub fn run_nothing(&mut self) -> Result<(), KernelError> {
        load::attach_nothing(&mut self.ebpf)
    }

    /// The programs' log, for a task that forwards it; `None` if it was taken before or nobody listens to the target
    /// `lbstatd::kernel` at debug level.
    pub fn take_log(&mut self) -> Option<KernelLog> {
        self.log.take()
    }

    fn works(&self, name: &str) -> bool {
        is_healthy(&self.hooks, name)
    }

    /// Tells the programs that a sample begins, and whether it is to visit connections: it must where one may have to be
    /// adopted, and that is returned.
    fn begin_pass(&mut self, connections: bool) -> Result<bool, KernelError> {
        self.pass += 1;
        let mut control = self.control.get(&0, 0).map_err(failed("the control map"))?;
        let connections = connections || control.adopt > 0;
        control.pass = self.pass;
        control.listeners_only = u64::from(!connections);
        self.control.set(0, control, 0).map_err(failed("the control map"))?;
        Ok(connections)
    }

    fn end_pass(&mut self, connections: bool) -> Result<(), KernelError> {
        let mut control = self.control.get(&0, 0).map_err(failed("the control map"))?;
        self.warn_of_refused(&control);
        if control.adopt > 0 && connections {
            control.adopt -= 1;
            self.control.set(0, control, 0).map_err(failed("the control map"))?;
            if control.adopt == 0 {
                // What stays is overwritten when the address is used again, and ignored until then.
                owners::clear(&mut self.adopters);
            }
        }
        Ok(())
    }

    fn warn_of_refused(&mut self, control: &Control) {
        use lbstatd_ebpf_abi::{MAX_LISTENERS, MAX_SERVERS};
        let [listeners, servers, outgoing] = self.refused;
        if control.refused > listeners {
            warn!(target: "lbstatd::kernel", refused = control.refused - listeners, "more than {MAX_LISTENERS} listeners: some are not counted");
        }
        if control.refused_servers > servers {
            warn!(target: "lbstatd::kernel", connections = control.refused_servers - servers, "more than {MAX_SERVERS} servers: some are not counted");
        }
        if control.refused_outgoing > outgoing {
            warn!(target: "lbstatd::kernel", connections = control.refused_outgoing - outgoing, "too many connections to servers at a time: some are not counted");
        }
        self.refused = [control.refused, control.refused_servers, control.refused_outgoing];
    }

    fn read_rows(&self) -> Result<BTreeMap<u64, Row>, KernelError> {
        // A row made by a new listener during the walk can make the kernel begin again; the map drops doubles.
        self.rows.iter().collect::<Result<_, _>>().map_err(failed("the listeners' map"))
    }

    /// Whether there are listeners whose owner was not looked for yet.
    fn must_search(&mut self, rows: &BTreeMap<u64, Row>) -> bool {
        if self.pass.is_multiple_of(SEARCH_AGAIN) {
            self.searched.clear();
        }
        let owners = self.owners.current();
        let is_new = |(cookie, row): (&u64, &Row)| {
            row.gone == 0 && !owners.contains(&row.owner) && !self.searched.contains(cookie)
        };
        self.works("iter_task_file") && !owners.is_empty() && rows.iter().any(is_new)
    }
}

fn is_healthy(hooks: &[Hook], name: &str) -> bool {
    hooks.iter().any(|hook| hook.name == name && hook.state == HookState::Healthy)
}

/// Runs an iterator program over everything the kernel shows it.
fn run_iterator(ebpf: &mut Ebpf, name: &'static str) -> Result<(), KernelError> {
    let program = ebpf.program_mut(name).ok_or_else(|| load::object(format!("it has no program {name}")))?;
    let iterator: &mut Iter = program.try_into().map_err(load::object)?;
    let link = iterator.attach().map_err(failed(name))?;
    let mut file = iterator.take_link(link).map_err(failed(name))?.into_file().map_err(failed(name))?;
    let mut buffer = [0; 64];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // The kernel pauses after a million objects, and for signals.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // The program has ended it.
            Err(error) if error.kind() == ErrorKind::ArgumentListTooLong => return Ok(()),
            Err(error) => return Err(failed(name)(error)),
        }
    }
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> KernelError {
    move |reason| KernelError::Sample { what, reason: reason.to_string() }
}
