//! `lbstatd`: eBPF-assisted collector for HAProxy with SNMP and Prometheus export.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lbstatd::commands::{check, dump, pass_persist, run, top, user};
use lbstatd::config;
use lbstats::Oid;
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
    /// Print a MIB module
    Mib(MibArgs),
}

#[derive(clap::Args)]
struct MibArgs {
    /// The module to print
    #[arg(value_name = "MODULE", default_value = "EXCELIANCE-MIB", ignore_case = true)]
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(["EXCELIANCE-MIB", "LBSTATD-MIB"]))]
    module: String,
    /// Root of LBSTATD-MIB [default: 1.3.6.1.4.1.8072.9999.9999.4300]
    #[arg(long, value_name = "OID", value_parser = config::parse_root)]
    mib_root: Option<Oid>,
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
        Command::Mib(args) => print_mib(&args),
        Command::User(command) => user::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn print_mib(args: &MibArgs) -> anyhow::Result<()> {
    let modules = lbstats::mib::modules(args.mib_root.as_deref());
    let chosen = modules.into_iter().filter(|(name, _)| name.eq_ignore_ascii_case(&args.module));
    let mut out = std::io::stdout().lock();
    for (_, text) in chosen {
        out.write_all(text.as_bytes())?;
    }
    Ok(())
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
