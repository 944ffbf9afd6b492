//! `lbstatd pass-persist`: what snmpd starts.
//!
//! snmpd reads our answers without a time limit, and a late one stops all of snmpd. So the thread that answers touches
//! nothing but memory; another thread keeps the newest snapshot there, from the daemon or from HAProxy itself.

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context;

use lbstats::schema::LBSTATD_ROOT;
use lbstats::{Oid, Source};
use snmp_export::{Tree, View, Walks};

use crate::backoff::Backoff;
use crate::collect::{self, Ebpf};
use crate::config::{self, DEFAULT_STATS_SOCKET, parse_duration};
use crate::control::{self, Client};
use crate::haproxy::Limits;
use crate::publish::Published;

/// The longest that the very first request waits for a first snapshot; no later request waits for anything.
const FIRST_SNAPSHOT: Duration = Duration::from_millis(500);
/// Pause before the daemon is asked again.
const PAUSE: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(2);

/// Flags of `pass-persist`.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Ask the daemon on this socket [default: /run/lbstatd/control.sock if a daemon answers there]
    #[arg(long, value_name = "PATH", conflicts_with = "stats_socket")]
    control: Option<PathBuf>,
    /// Read HAProxy's stats socket without a daemon; repeat it for several processes
    /// [default: /var/run/hapee-extras/hapee-lb.sock]
    #[arg(long, value_name = "PATH")]
    stats_socket: Vec<PathBuf>,
    /// Time between two readings of the stats socket, from 10ms
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// Age of HAProxy's statistics above which the subtree is empty
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration)]
    max_age: Duration,
    /// Longest walk that is answered from the moment it began; what is left of it is answered from newer values
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse_duration)]
    max_walk: Duration,
    /// Serve the ALOHA twin of lbStats (1.3.6.1.4.1.23263.4.2.1.3) and the product's name as well
    #[arg(long)]
    aloha: bool,
    /// Root of LBSTATD-MIB [default: 1.3.6.1.4.1.8072.9999.9999.4300]
    #[arg(long, value_name = "OID", value_parser = config::parse_root)]
    mib_root: Option<Oid>,
}

/// Answers on standard output until standard input ends.
///
/// # Errors
/// When the root does not fit, a thread cannot be started, or snmpd closed its end; never while serving.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let tree = Arc::new(Tree::new(args.aloha, args.mib_root.as_deref().unwrap_or(LBSTATD_ROOT))?);
    let published = Published::new();
    let first = feed(args, published.clone()).context("cannot start a thread")?;
    let mut first = Some(first);
    let newest = || {
        if let Some(first) = first.take() {
            let _ = first.recv_timeout(FIRST_SNAPSHOT);
        }
        View::unless_older(published.load(), args.max_age).through(&tree)
    };
    let input = io::stdin().lock();
    // Whole answers go out at once: the buffer of the standard library's handle would only copy them.
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    snmp_export::pass_persist::serve(input, output, Walks::new(Walks::PAUSE, args.max_walk), newest)
        .context("snmpd is gone")
}

/// Starts the thread that keeps `published` fresh. The receiver hears when the first snapshot is there, or cannot be.
fn feed(args: &Args, published: Arc<Published>) -> io::Result<Receiver<()>> {
    let (outcome, first) = channel();
    let daemon = match &args.control {
        Some(path) => Some(path.clone()),
        None if args.stats_socket.is_empty() && Client::connect(Path::new(control::DEFAULT_PATH), false).is_ok() => {
            Some(control::DEFAULT_PATH.into())
        }
        None => None,
    };
    let feeder = thread::Builder::new().name("feeder".into());
    match daemon {
        Some(path) => feeder.spawn(move || follow(&path, &published, &outcome))?,
        None => {
            let settings = collect_settings(args);
            feeder.spawn(move || collect_alone(settings, &published, outcome))?
        }
    };
    Ok(first)
}

/// Follows the daemon for ever.
fn follow(path: &Path, published: &Published, outcome: &Sender<()>) {
    let mut backoff = Backoff::new(PAUSE);
    loop {
        if let Ok(mut client) = Client::connect(path, true) {
            while let Ok(snapshot) = client.next(None) {
                backoff.reset();
                published.store(snapshot);
                let _ = outcome.send(());
            }
        }
        let _ = outcome.send(());
        thread::sleep(backoff.pause());
    }
}

fn collect_settings(args: &Args) -> collect::Settings {
    let stats_sockets =
        if args.stats_socket.is_empty() { vec![DEFAULT_STATS_SOCKET.into()] } else { args.stats_socket.clone() };
    collect::Settings {
        stats_sockets,
        interval: args.interval,
        limits: Limits::default(),
        ebpf: Ebpf::Off,
        faces: Arc::default(),
    }
}

/// Reads HAProxy's sockets for ever, on this thread.
fn collect_alone(settings: collect::Settings, published: &Arc<Published>, outcome: Sender<()>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let mut changes = published.changes();
        let newest = published.clone();
        tokio::spawn(async move {
            // A round publishes without a socket that is slow, and the first snapshot is then an empty one.
            let settled = |source: &Source| source.succeeded.is_some() || source.errors > 0;
            while changes.changed().await.is_ok() {
                if newest.load().sources.iter().all(settled) {
                    break;
                }
            }
            let _ = outcome.send(());
        });
        let _ = collect::run(settings, published.clone(), std::future::pending()).await;
    });
}
