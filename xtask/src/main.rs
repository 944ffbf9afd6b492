//! `cargo xtask`: builds, loads, demonstrates and tests lbstatd.
//!
//! Each subcommand has a file of its own; this one only names them.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod build_ebpf;
mod demo;
mod load;
mod mib;
mod test;
mod vm;

/// Builds, loads, demonstrates and tests lbstatd
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the kernel programs and refreshes the committed object
    BuildEbpf(build_ebpf::Args),
    /// Builds the kernel programs from source, loads and attaches them, and prints their counters
    Load(load::Args),
    /// Shows lbstatd at work on a private HAProxy, snmpd and Prometheus endpoint
    Demo(demo::Args),
    /// Runs every check and test of the project
    Test(test::Args),
    /// Measures speed, memory and CPU against a C program and with 20,000 servers
    Bench(bench::Args),
    /// Runs the tests of the kernel programs on Debian's kernels, in virtual machines
    Vm(vm::Args),
    /// Writes the MIB modules generated from the schema
    Mib(mib::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::BuildEbpf(args) => build_ebpf::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::Mib(args) => mib::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
