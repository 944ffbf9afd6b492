//! `cargo xtask load`: builds the kernel programs from source, loads and attaches them, and shows what they count.

use std::{
    io::{ErrorKind, Write, stdout},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use lbstatd::kernel::{HookState, Kernel, Listener, Process};

use crate::build_ebpf;

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show only the listeners of this process (repeatable)
    #[arg(long)]
    pid: Vec<u32>,
    /// Seconds between two tables
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    interval: f64,
    /// Print one table and end
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let built = build_ebpf::build()?;
    let started = Instant::now();
    let mut kernel = Kernel::load_object(&built.object)?;
    println!("loaded and attached in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    for hook in kernel.hooks() {
        match &hook.state {
            HookState::Healthy => println!("  {:<20} healthy", hook.name),
            HookState::Unsupported(reason) => println!("  {:<20} unsupported: {reason}", hook.name),
            HookState::Failed(reason) => println!("  {:<20} failed: {reason}", hook.name),
        }
    }
    let processes: Vec<_> = args.pid.iter().copied().map(Process::from).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    loop {
        let started = Instant::now();
        let mut listeners = kernel.sample(&processes)?.listeners;
        let took = started.elapsed();
        if !args.pid.is_empty() {
            listeners.retain(|listener| listener.owned);
        }
        match print(&listeners, took) {
            // `| head` has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            printed => printed.context("writing the table")?,
        }
        let wait = Duration::from_secs_f64(args.interval);
        if args.once || runtime.block_on(interrupted(wait)) {
            // Dropping the kernel detaches everything; the end of the process would as well.
            return Ok(());
        }
    }
}

/// Waits, and tells whether Ctrl-C came meanwhile.
async fn interrupted(wait: Duration) -> bool {
    tokio::time::timeout(wait, tokio::signal::ctrl_c()).await.is_ok()
}

fn print(listeners: &[Listener], took: Duration) -> std::io::Result<()> {
    let mut out = stdout().lock();
    writeln!(
        out,
        "\n{:<28} {:>5} {:>12} {:>8} {:>16} {:>16} {:>7} {:>7} {:>9}",
        "listener", "socks", "accepted", "open", "bytes received", "bytes acked", "backlog", "limit", "drops"
    )?;
    for listener in listeners {
        writeln!(
            out,
            "{:<28} {:>5} {:>12} {:>8} {:>16} {:>16} {:>7} {:>7} {:>9}",
            listener.address.to_string(),
            listener.sockets,
            listener.accepted,
            listener.open,
            listener.bytes_received,
            listener.bytes_acked,
            listener.backlog,
            listener.backlog_limit,
            listener.drops
        )?;
    }
    writeln!(out, "{} addresses, sampled in {:.1} ms; Ctrl-C ends", listeners.len(), took.as_secs_f64() * 1e3)?;
    out.flush()
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds between 0.01 and 3600 is wanted".to_owned()),
    }
}
