//! `cargo xtask bench`: what lbstatd costs, against a C program of the same purpose and with 20,000 servers.
//!
//! Everything measured here is a process of its own under a real snmpd and a real HAProxy; a number is what the kernel
//! says of that process, or a wall clock around a manager's walk. `docs/performance.md` has a run and what it says.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use lbstatd_tests::packages::{self, Package};
use lbstatd_tests::{Haproxy, HaproxyConfig};

mod agent;
mod agentx;
mod churn;
mod clients;
mod contender;
mod observe;
mod outside;
mod overhead;
mod pass_persist;
mod peers;
mod responder;
mod sample;
mod scale;

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(clap::Subcommand)]
enum Subject {
    /// Walks 20,007 varbinds through snmpd, from lbstatd and from a C responder, in turns
    PassPersist {
        /// Turns; each walks every responder once with each tool
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..))]
        rounds: u8,
    },
    /// Loads HAProxy with and without the kernel programs, in turns
    Overhead {
        /// Turns with and without, for each kind of load
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
        pairs: u16,
    },
    /// Walks the own SNMP agent at full load, beside a bare UDP echo, and in turns with snmpd
    Agent {
        /// Turns; each measures everybody once
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
        rounds: u8,
    },
    /// Walks 20,007 varbinds through snmpd's AgentX, from lbstatd and from a C subagent, in turns
    Agentx {
        /// Turns; each walks every subagent once or more with each tool
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..))]
        rounds: u8,
        /// With 20,000 servers, which are 540,771 varbinds
        #[arg(long)]
        large: bool,
    },
    /// Shakes HAProxy for minutes: connections at full rate, listeners and servers that come and go, reloads
    Churn {
        /// For how long
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
        minutes: u16,
    },
    /// Times samples of the kernel, with up to 1,000 listeners and 50,000 open sockets
    Sample,
    /// Opens connections and keeps them, for `sample`
    #[command(hide = true)]
    Hold {
        /// How many
        connections: usize,
    },
    /// Starts and runs pass-persist on a HAProxy with 20,000 servers
    Scale,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    packages::ensure(packages::DEMO)?;
    packages::ensure(packages::SNMPD)?;
    match args.subject {
        Subject::PassPersist { rounds } => pass_persist::run(&release_with_peer()?, rounds),
        Subject::Overhead { pairs } => overhead::run(pairs),
        Subject::Agent { rounds } => {
            packages::ensure(NET_SNMP)?;
            agent::run(&release_with_peer()?, rounds)
        }
        Subject::Agentx { rounds, large } => {
            packages::ensure(NET_SNMP)?;
            let haproxy = if large { haproxy(20, 20, 20_000)? } else { haproxy(60, 12, 700)? };
            agentx::run(&release_with_peer()?, &haproxy, rounds)
        }
        Subject::Churn { minutes } => churn::run(&build_release()?, minutes),
        Subject::Sample => sample::run(&build_release()?),
        Subject::Hold { connections } => sample::hold(connections),
        Subject::Scale => scale::run(&release_with_peer()?),
    }
}

/// The program as it is shipped, and what its peer is compiled with.
fn release_with_peer() -> Result<PathBuf> {
    let package = |name, program| Package { name, program: Some(program) };
    packages::ensure(&[package("gcc", "cc"), package("libc6-dev", "cc")])?;
    build_release()
}

/// What the C subagent is compiled with.
const NET_SNMP: &[Package] = &[Package { name: "libsnmp-dev", program: Some("net-snmp-config") }];

/// The root of lbStats.
const LBSTATS: &str = ".1.3.6.1.4.1.23263.4.3.1.3";

/// Rows of lbStats with 60 frontends, 12 backends and 700 servers: 51 + 13 × 60 + 23 × 12 + 27 × 700.
const ROWS: usize = 20_007;

/// A HAProxy with so many frontends, and so many servers in so many backends.
fn haproxy(frontends: usize, backends: usize, servers: usize) -> Result<Haproxy> {
    let mut sections =
        String::from("defaults\n    mode http\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n");
    for number in 1..=frontends {
        let backend = number % backends + 1;
        writeln!(sections, "frontend fe{number}\n    bind unix@fe{number}.sock\n    default_backend be{backend}")?;
    }
    for number in 1..=backends {
        let servers = servers / backends + usize::from(number <= servers % backends);
        writeln!(sections, "backend be{number}\n    server-template srv 1-{servers} 127.0.0.1:9")?;
    }
    Haproxy::start(HaproxyConfig { sections, ..HaproxyConfig::default() })
}

/// The program as it is shipped, or the one that `LBSTATD_BIN` names.
fn build_release() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("LBSTATD_BIN") {
        return Ok(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "lbstatd"])
        .current_dir(root)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("`cargo build --release --package lbstatd`: {status}");
    }
    // This program is in target/debug or target/release.
    let here = std::env::current_exe()?;
    let target = here.ancestors().nth(2).context("this program is in no target folder")?;
    Ok(target.join("release/lbstatd"))
}
