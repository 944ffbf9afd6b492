//! `lbstatd run`: the daemon.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::agentx::{self, AgentX};
use crate::collect;
use crate::config::Settings;
use crate::faces::Faces;
use crate::haproxy::Limits;
use crate::notify;
use crate::publish::Published;
use crate::snmpv3::{self, Snmpv3};
use crate::{control, http, privileges, snmp_agent};

/// Flags of `run`.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Read settings from this file [default: /etc/lbstatd/lbstatd.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Settings,
}

impl Args {
    /// The settings in force.
    ///
    /// # Errors
    /// What is wrong with the configuration file.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        Ok(self.flags.clone().or(Settings::configured(self.config.as_deref())?))
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps the daemon from starting.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let sockets = Sockets::bind(settings)?;
    let kernel = collect::start_kernel(settings.ebpf.unwrap_or_default(), settings.ebpf_stats);
    // The runtime's threads come after this, and inherit what is left.
    if let Err(error) = privileges::keep_what_serving_needs() {
        tracing::warn!("the daemon keeps its capabilities: {error}: allow the system calls capset and prctl");
    }
    // Two threads: one collects, one serves; the kernel's samples have a thread of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(settings, sockets, kernel))
}

/// Everything that is listened on: bound first, while the daemon has the rights to.
struct Sockets {
    control: control::Listener,
    prometheus: Option<TcpListener>,
    snmp: snmp_agent::Bound,
}

impl Sockets {
    fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let control = control::bind(&settings.control(), settings.control_mode())?;
        let prometheus = settings.prometheus.map(http::bind).transpose()?;
        Ok(Self { control, prometheus, snmp: snmp_agent::bind(settings)? })
    }
}

async fn serve(settings: &Settings, sockets: Sockets, kernel: Option<collect::Probe>) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let published = Published::new();
    let faces = Arc::new(Faces::default());
    let mut snmp = sockets.snmp;
    let snmpv3 = Snmpv3::start(settings, &faces);
    if let Some(snmpv3) = &snmpv3 {
        snmp.secure(snmpv3.usm().clone());
    }
    snmpv3::reload_on_hangup(snmpv3.clone())?;
    let _snmp = snmp.start(&published, &faces)?;

    tokio::spawn(control::serve(sockets.control, published.clone()));
    if let Some(listener) = sockets.prometheus {
        let bound = listener.local_addr()?;
        tracing::info!("serving Prometheus on http://{bound}/metrics");
        tokio::spawn(http::serve(listener, published.clone()));
    }

    let agentx = start_agentx(settings, &published, &faces)?;
    let notifier = agentx.as_ref().map(AgentX::notifier);
    let rules = settings.notify.clone().unwrap_or_default();
    notify::start(&settings.trap, &rules, notify::Ways { published: &published, faces: &faces, notifier, snmpv3 })?;

    let mut stopped_too = stopped.clone();
    let stopping = async move {
        let _ = stopped_too.wait_for(|stop| *stop).await;
    };
    let collection = collect::run_with(collect_settings(settings, faces), kernel, published.clone(), stopping);
    let mut collection = tokio::spawn(collection);
    tokio::spawn(tell_ready(published));

    tokio::select! {
        ended = &mut collection => return ended.context("the collection panicked")?.map_err(Into::into),
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
    }
    tell_systemd("STOPPING=1");
    let _ = stop.send(true);
    if let Some(agentx) = agentx {
        // It takes as long as the master does, which may be a second.
        let _ = tokio::task::spawn_blocking(|| agentx.stop()).await;
    }
    collection.await.context("the collection panicked")?.map_err(Into::into)
}

/// The subagent, if there is to be one.
fn start_agentx(settings: &Settings, published: &Arc<Published>, faces: &Faces) -> anyhow::Result<Option<AgentX>> {
    let Some(master) = &settings.agentx else { return Ok(None) };
    let state = faces.add("agentx", master.to_string());
    let settings = agentx::Settings { master: master.clone(), tree: settings.tree()?, max_age: settings.max_age() };
    agentx::start(settings, published.clone(), state).map(Some).context("cannot start the thread for AgentX")
}

fn collect_settings(settings: &Settings, faces: Arc<Faces>) -> collect::Settings {
    collect::Settings {
        stats_sockets: settings.stats_sockets(),
        interval: settings.interval(),
        limits: Limits::default(),
        ebpf: settings.ebpf.unwrap_or_default(),
        faces,
    }
}

/// Tells the service manager when the first snapshot is out.
async fn tell_ready(published: Arc<Published>) {
    let mut changes = published.changes();
    if changes.wait_for(|generation| *generation > 0).await.is_ok() {
        if let Ok(capabilities) = privileges::describe(std::process::id()) {
            tracing::debug!("effective capabilities: {capabilities}");
        }
        tell_systemd("READY=1");
    }
}

/// One state line to systemd (sd_notify(3)); nothing happens without `NOTIFY_SOCKET`.
fn tell_systemd(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!("cannot tell systemd {state}: {error}");
    }
}
