//! `cargo xtask demo`: lbstatd at work on a private HAProxy, with its own SNMP agent and Prometheus endpoint; on request
//! behind a private snmpd.

use std::io::{IsTerminal, Write, stdout};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use lbstatd::control::Client;
use lbstatd_tests::{
    Haproxy, Lbstatd, LbstatdConfig, PassPersist, Snmp, Snmpd, lbstatd_binary, local_address, packages, wait_for,
};
use lbstats::{Snapshot, SourceKind};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

mod page;
mod scene;

use crate::test;
use page::Page;

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one round, with the whole walk, and end
    #[arg(long)]
    once: bool,
    /// Walk through a private snmpd and pass_persist instead of lbstatd's own SNMP agent
    #[arg(long)]
    snmpd: bool,
}

/// Everything the demo has started; it ends with this value.
struct Demo {
    haproxy: Haproxy,
    lbstatd: Lbstatd,
    /// Holds snmpd, if it is asked for.
    _snmpd: Option<Snmpd>,
    manager: Snmp,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    packages::ensure(packages::DEMO)?;
    if args.snmpd {
        packages::ensure(packages::SNMPD)?;
    }
    println!("Building lbstatd");
    test::build_lbstatd()?;
    println!("Starting HAProxy and lbstatd");
    let demo = start(args.snmpd)?;
    if args.once { print_once(&demo) } else { show_until_stopped(&demo) }
}

fn start(through_snmpd: bool) -> Result<Demo> {
    let haproxy = scene::start()?;
    let agent = local_address()?;
    let config = LbstatdConfig {
        ebpf: "auto",
        interval: "1s",
        prometheus: Some(local_address()?),
        flags: vec![format!("--snmp-listen={agent}"), "--community=public".to_owned()],
        ..LbstatdConfig::new(haproxy.socket())
    };
    let lbstatd = Lbstatd::start(&config)?;
    if !through_snmpd {
        return Ok(Demo { haproxy, lbstatd, _snmpd: None, manager: Snmp::new(agent)? });
    }
    let command = format!("{} pass-persist --control {}", lbstatd_binary()?.display(), lbstatd.control().display());
    let snmpd = Snmpd::start_at(local_address()?, &PassPersist::both_roots(&command))?;
    let manager = snmpd.client().clone();
    Ok(Demo { haproxy, lbstatd, _snmpd: Some(snmpd), manager })
}

/// Waits until everything has something to show, and shows it.
fn print_once(demo: &Demo) -> Result<()> {
    let (page, snapshot) = wait_for("traffic to show in lbStats and in the kernel's counters", || {
        let snapshot = demo.snapshot()?;
        ensure!(is_counted(&snapshot) || is_refused(&snapshot), "the kernel has counted nothing yet");
        let page = demo.page()?;
        ensure!(page.rows() == demo.expected_rows()?, "the walk has {} rows", page.rows());
        ensure!(page.has_sessions() && page.has_failure(), "lbStats shows no sessions or no failed server yet");
        Ok((page, snapshot))
    })?;
    let mut out = stdout().lock();
    writeln!(out, "\nlbStats, walked over SNMP:\n{}", page.walk())?;
    for line in page.head(&snapshot, demo.places()).iter().chain(&page.kernel(&snapshot)).chain(&page.state(&snapshot))
    {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "\n{}", demo.row_count(&page)?)?;
    Ok(())
}

/// Refreshes once a second; on a terminal in place, else one page after the other.
fn show_until_stopped(demo: &Demo) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stop = Stop::listen(&runtime)?;
    let screen = stdout().is_terminal().then(page::Screen::enter).transpose()?;
    loop {
        let snapshot = demo.snapshot()?;
        let page = demo.page()?;
        let mut lines = page.head(&snapshot, demo.places());
        lines.extend(page.kernel(&snapshot));
        lines.extend(page.state(&snapshot));
        lines.push(String::new());
        lines.push(demo.row_count(&page)?);
        lines.extend(page.tables());
        match &screen {
            Some(screen) => screen.show(&lines)?,
            None => writeln!(stdout(), "{}\n", lines.join("\n"))?,
        }
        if runtime.block_on(stop.came_within(Duration::from_secs(1))) {
            return Ok(());
        }
    }
}

impl Demo {
    fn snapshot(&self) -> Result<Snapshot> {
        Client::connect(&self.lbstatd.control(), false)?.next(Some(Duration::from_secs(5)))
    }

    fn page(&self) -> Result<Page> {
        let folders = format!("{0}:{0}/base", root().join("mibs").display());
        let mibs = Some((folders.as_str(), "EXCELIANCE-MIB"));
        let walk =
            self.manager.tool_with_mibs("snmpbulkwalk", mibs, &["-Os", "-Cr50"], &["EXCELIANCE-MIB::lbStats"])?;
        if !walk.status.success() {
            bail!("the walk failed: {}{}", walk.stderr, walk.stdout);
        }
        Ok(Page::new(walk.stdout))
    }

    fn places(&self) -> Places {
        Places { prometheus: self.lbstatd.prometheus(), agent: self.manager.address(), control: self.lbstatd.control() }
    }

    /// By HAProxy's own word.
    fn expected_rows(&self) -> Result<usize> {
        let (frontends, backends, servers) = self.haproxy.sizes()?;
        Ok(51 + 13 * frontends + 23 * backends + 27 * servers)
    }

    fn row_count(&self, page: &Page) -> Result<String> {
        let (frontends, backends, servers) = self.haproxy.sizes()?;
        let (rows, expected) = (page.rows(), self.expected_rows()?);
        let sum = format!("51 + 13·{frontends} frontends + 23·{backends} backends + 27·{servers} servers = {expected}");
        let verdict = if rows == expected { "as it must be" } else { "WRONG" };
        Ok(format!("lbStats over SNMP: {rows} rows; {sum}: {verdict}"))
    }
}

/// Where to look for oneself.
struct Places {
    prometheus: SocketAddr,
    agent: SocketAddr,
    control: PathBuf,
}

/// Whether every listener that HAProxy names has had connections.
fn is_counted(snapshot: &Snapshot) -> bool {
    let listeners = &snapshot.listeners;
    let accepted = listeners.schema().place("accepted").expect("the schema counts accepted connections");
    !listeners.is_empty() && (0..listeners.len()).all(|row| listeners.number(accepted, row) > Some(0))
}

fn is_refused(snapshot: &Snapshot) -> bool {
    let kernel = snapshot.sources.iter().find(|source| source.kind == SourceKind::Ebpf);
    kernel.is_none_or(|kernel| kernel.errors > 0)
}

/// The signals that end the demo.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen(runtime: &Runtime) -> Result<Self> {
        let _context = runtime.enter();
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn came_within(&mut self, wait: Duration) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => true,
            () = tokio::time::sleep(wait) => false,
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the xtask crate lies in the workspace")
}
