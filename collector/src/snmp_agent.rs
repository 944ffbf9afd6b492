//! The daemon's own SNMP agent: its sockets, and the threads that answer on them.
//!
//! Each address has as many sockets as there are workers, and each socket one thread that waits for a datagram, answers
//! it from memory, and waits again. The kernel gives all datagrams of one manager's socket to the same worker
//! (SO_REUSEPORT), which is why a worker's memory of walks is its own. What is encoded of a snapshot is shared by all.

mod socket;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use ipnet::IpNet;
use lbstats::Oid;
use lbstats::schema::LBSTATS_ROOTS;
use snmp_export::agent::{Agent, Answer, Columns, Subtrees, System, Worker};
use snmp_export::usm::Usm;
use snmp_export::{Tree, View};

use crate::config::Settings;
use crate::faces::{FaceState, Faces};
use crate::publish::Published;
use socket::Socket;

/// Pause after a socket failed, so that a failure that stays does not take a processor.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
const SNMPV2_MIB: &[u32] = &[1, 3, 6, 1, 6, 3, 1];

/// An agent whose sockets are bound and that answers nobody yet.
#[derive(Debug)]
pub struct Bound {
    agent: Agent,
    from: Vec<IpNet>,
    max_age: Duration,
    tree: Arc<Tree>,
    listeners: Vec<(SocketAddr, Vec<Socket>)>,
}

/// An agent that answers until this is dropped.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    sockets: Vec<Arc<Socket>>,
    threads: Vec<JoinHandle<()>>,
}

/// Where the workers find what they answer from.
#[derive(Debug)]
struct Newest {
    published: Arc<Published>,
    max_age: Duration,
    tree: Arc<Tree>,
    columns: ArcSwap<Columns>,
}

/// Binds the sockets of the agent that the settings ask for; that takes privileges for ports below 1024.
///
/// # Errors
/// In one line, with the address, the reason and the remedy.
pub fn bind(settings: &Settings) -> anyhow::Result<Bound> {
    let workers = settings.snmp_workers();
    let mut listeners = Vec::new();
    for address in &settings.snmp_listen {
        let sockets = Socket::bind(*address, workers)
            .map_err(|error| anyhow::anyhow!("cannot listen for SNMP on {address}: {error}: {}", remedy(&error)))?;
        let bound = sockets.first().and_then(|socket| socket.local_address().ok()).unwrap_or(*address);
        listeners.push((bound, sockets));
    }
    if !listeners.is_empty() && settings.community.is_empty() && !settings.snmp_users().exists() {
        tracing::warn!(
            "nobody is answered over SNMP: `lbstatd user add NAME` makes a user of SNMPv3, `community` in lbstatd.toml lets \
             others in"
        );
    }
    let subtrees = match &settings.snmp_view[..] {
        [] => Subtrees::all(),
        roots => Subtrees::new(roots.iter().cloned()),
    };
    Ok(Bound {
        agent: Agent::new(&system(settings), settings.community.clone(), subtrees, settings.snmp_max_size()),
        from: settings.snmp_from.clone(),
        max_age: settings.max_age(),
        tree: settings.tree()?,
        listeners,
    })
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "stop what listens there, snmpd perhaps, or change snmp-listen",
        std::io::ErrorKind::PermissionDenied => "a port below 1024 takes CAP_NET_BIND_SERVICE; or change snmp-listen",
        std::io::ErrorKind::AddrNotAvailable => "give snmp-listen an address of this host",
        _ => "see snmp-listen in lbstatd.toml",
    }
}

fn system(settings: &Settings) -> System {
    let kernel = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        text.trim_end().to_owned()
    };
    let modules = [
        (SNMPV2_MIB, "SNMPv2-MIB: the system and snmp groups"),
        (LBSTATS_ROOTS[0], "EXCELIANCE-MIB: lbStats"),
        (settings.mib_root(), "LBSTATD-MIB: what the kernel counts"),
    ];
    System {
        description: format!(
            "lbstatd {}: HAProxy statistics; Linux {} {}",
            env!("CARGO_PKG_VERSION"),
            kernel("osrelease"),
            std::env::consts::ARCH
        ),
        // For want of an enterprise number.
        object_id: Oid::from(settings.mib_root()),
        contact: settings.sys_contact.clone().unwrap_or_default(),
        name: settings.sys_name.clone().unwrap_or_else(|| kernel("hostname")),
        location: settings.sys_location.clone().unwrap_or_default(),
        modules: modules.map(|(oid, what)| (Oid::from(oid), what.to_owned())).to_vec(),
    }
}

impl Bound {
    /// Answers SNMPv3 as well.
    pub fn secure(&mut self, usm: Arc<Usm>) {
        self.agent.secure(usm);
    }

    /// Answers from what is published, until what is returned is dropped; `faces` show how each address fares.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(self, published: &Arc<Published>, faces: &Faces) -> anyhow::Result<Running> {
        let first = View::unless_older(published.load(), self.max_age).through(&self.tree);
        let columns = ArcSwap::from_pointee(Columns::new(first));
        let newest = Arc::new(Newest { published: published.clone(), max_age: self.max_age, tree: self.tree, columns });
        let (agent, from) = (Arc::new(self.agent), Arc::from(self.from));
        let mut running = Running { stop: Arc::default(), sockets: Vec::new(), threads: Vec::new() };
        for (address, sockets) in self.listeners {
            let face = faces.add("snmp", address.to_string());
            tracing::info!("answering SNMP on {address}");
            for socket in sockets.into_iter().map(Arc::new) {
                let serving = Serving {
                    socket: socket.clone(),
                    worker: Worker::new(agent.clone()),
                    newest: newest.clone(),
                    from: Arc::clone(&from),
                    face: face.clone(),
                    stop: running.stop.clone(),
                };
                running.sockets.push(socket);
                let thread = std::thread::Builder::new().name("snmp".into());
                running.threads.push(thread.spawn(move || serving.serve()).context("cannot start a thread for SNMP")?);
            }
            face.up();
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.sockets.iter().for_each(|socket| socket.wake());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Newest {
    /// The columns of the newest snapshot: those that another worker made already, if there are any.
    fn columns(&self) -> Arc<Columns> {
        let (snapshot, columns) = (self.published.load(), self.columns.load_full());
        if columns.view().is_still(&snapshot, self.max_age) {
            return columns;
        }
        let columns = Arc::new(Columns::new(View::unless_older(snapshot, self.max_age).through(&self.tree)));
        self.columns.store(columns.clone());
        columns
    }
}

/// What one thread has.
struct Serving {
    socket: Arc<Socket>,
    worker: Worker,
    newest: Arc<Newest>,
    /// Networks whose managers are answered; none is all.
    from: Arc<[IpNet]>,
    face: Arc<FaceState>,
    stop: Arc<AtomicBool>,
}

impl Serving {
    fn serve(mut self) {
        let mut datagram = vec![0; usize::from(u16::MAX)];
        loop {
            let received = self.socket.receive(&mut datagram);
            if self.stop.load(Relaxed) {
                return;
            }
            match received {
                Ok((length, from)) => self.answer(&datagram[..length], from),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!("cannot receive over SNMP: {error}");
                    std::thread::sleep(AFTER_FAILURE);
                }
            }
        }
    }

    fn answer(&mut self, datagram: &[u8], peer: socket::Peer) {
        let manager = peer.address().ip();
        let answer = match self.admits(manager) {
            true => self.worker.answer(datagram, manager, Instant::now(), || self.newest.columns()),
            false => Answer::Silence,
        };
        let sent = match answer {
            Answer::Send(octets, varbinds) => self.socket.send(octets, &peer).map(|()| Some(varbinds)),
            Answer::Silence => Ok(None),
        };
        match sent {
            Ok(Some(varbinds)) => {
                self.face.requests.fetch_add(1, Relaxed);
                self.face.varbinds.fetch_add(varbinds as u64, Relaxed);
            }
            Ok(None) => {
                self.face.refused.fetch_add(1, Relaxed);
            }
            Err(error) => {
                tracing::debug!("cannot answer {} over SNMP: {error}", peer.address());
                self.face.refused.fetch_add(1, Relaxed);
            }
        }
    }

    fn admits(&self, manager: IpAddr) -> bool {
        self.from.is_empty() || self.from.iter().any(|network| network.contains(&manager))
    }
}
