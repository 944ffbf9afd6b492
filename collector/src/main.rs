//! `lbstatd`: eBPF-assisted collector for HAProxy with SNMP and Prometheus export.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lbstatd::commands::{check, dump, pass_persist, run, top, user};
use tracing_subscriber::EnvFilter;

/// eBPF-assisted collector for HAProxy with SNMP and Prometheus export
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Run(run::Args),
    /// Serve lbStats to snmpd, which starts this with a `pass_persist` line
    PassPersist(pass_persist::Args),
    /// Print one snapshot
    Dump(dump::Args),
    /// Watch frontends and servers live
    Top(top::Args),
    /// Say what is wrong with this host's set-up and how to mend it
    Check(check::Args),
    /// Add, list and remove users of SNMPv3
    #[command(subcommand)]
    User(user::Command),
    /// Print the MIB module
    Mib,
}

/// 0 done, 1 failed while running, 2 wrong usage or configuration (clap exits with 2 by itself).
fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => {
            let settings = match args.settings() {
                Ok(settings) => settings,
                Err(error) => return fail(&error, 2),
            };
            log();
            run::run(&settings)
        }
        // snmpd joins standard error and standard output: nothing may be logged here.
        Command::PassPersist(args) => pass_persist::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Check(args) => match check::run(&args) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Command::User(command) => user::run(&command),
        Command::Mib => print_mib(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn print_mib() -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(lbstats::mib::exceliance().as_bytes())?)
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("lbstatd: {error:#}");
    ExitCode::from(code)
}

/// Logs go to standard error; `RUST_LOG` says how much (info by default). Under systemd the journal has the time.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().with_ansi(false).init();
    } else {
        log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
