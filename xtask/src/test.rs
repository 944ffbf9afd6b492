//! `cargo xtask test`: every check and test of the project, one after the other, until one fails.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lbstatd_tests::{debian_kernel, packages};
use tempfile::NamedTempFile;

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compares the kernel programs' object with the sources by hash only, and builds nothing anew
    #[arg(long)]
    fast: bool,
    /// Runs only the tests whose names contain one of these, and no other check
    #[arg(last = true)]
    filters: Vec<String>,
}

/// A check or a group of tests.
struct Step<'a> {
    title: &'static str,
    /// Whether it is left out when tests are chosen by name.
    only_in_full: bool,
    run: Box<dyn Fn() -> Result<Outcome> + 'a>,
}

enum Outcome {
    Passed,
    /// Not run, and why.
    Skipped(String),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    // Tests that this machine cannot run append their names and reasons to it.
    let skipped_tests = NamedTempFile::with_prefix("lbstatd-skipped-tests-")?;
    let mut summary = Vec::new();
    let start = Instant::now();
    for step in steps(args, skipped_tests.path()) {
        if step.only_in_full && !args.filters.is_empty() {
            continue;
        }
        println!("\n=== {} ===", step.title);
        let begun = Instant::now();
        let outcome = (step.run)().with_context(|| format!("\"{}\" failed", step.title))?;
        let word = match &outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Skipped(reason) => format!("SKIPPED: {reason}"),
        };
        println!("=== {}: {word} ({}) ===", step.title, seconds(begun.elapsed()));
        summary.push(format!("  {:7}  {}: {word}", seconds(begun.elapsed()), step.title));
    }
    println!("\nAll passed in {}:\n{}", seconds(start.elapsed()), summary.join("\n"));
    for line in std::fs::read_to_string(&skipped_tests)?.lines() {
        println!("  {line}");
    }
    Ok(())
}

fn steps<'a>(args: &'a Args, skipped_tests: &'a Path) -> Vec<Step<'a>> {
    let full = |title, run: Box<dyn Fn() -> Result<Outcome> + 'a>| Step { title, only_in_full: true, run };
    let tests = |title, run: Box<dyn Fn() -> Result<Outcome> + 'a>| Step { title, only_in_full: false, run };
    let kernel: &[&str] = if args.fast { &["build-ebpf", "--check", "--no-build"] } else { &["build-ebpf", "--check"] };
    vec![
        tests("Programs", Box::new(programs)),
        full("Format", Box::new(|| cargo(["fmt", "--all", "--check"], &[]))),
        full("Lints", Box::new(lints)),
        full("Kernel programs", Box::new(|| xtask(kernel.iter().copied()))),
        full("MIB modules", Box::new(|| xtask(["mib", "--check"]))),
        tests("Unit tests", Box::new(|| unit_tests(&args.filters))),
        tests("Build lbstatd", Box::new(|| build_lbstatd().map(|()| Outcome::Passed))),
        tests("End-to-end tests", Box::new(|| end_to_end_tests(&args.filters, skipped_tests))),
        full("Another kernel, in a virtual machine", Box::new(other_kernel)),
        full("systemd unit", Box::new(systemd_unit)),
    ]
}

fn programs() -> Result<Outcome> {
    packages::ensure(packages::TESTS)?;
    for component in ["clippy", "rustfmt"] {
        let there = Command::new(cargo_program()).args([component.trim_start_matches("rust"), "--version"]).output();
        if there.is_ok_and(|output| output.status.success()) {
            continue;
        }
        println!("Installing the toolchain's {component}");
        let status = Command::new("rustup").args(["component", "add", component]).status();
        if !status.is_ok_and(|status| status.success()) {
            bail!("this toolchain has no {component}; install it (`rustup component add {component}`) and try again");
        }
    }
    Ok(Outcome::Passed)
}

fn lints() -> Result<Outcome> {
    // The end-to-end tests are none of "all targets", since they are no tests that `cargo test` runs unasked.
    for targets in [&["--all-targets"][..], &["--test", "e2e"]] {
        cargo(["clippy", "--workspace"].iter().chain(targets).chain(&["--", "-D", "warnings"]).copied(), &[])?;
    }
    Ok(Outcome::Passed)
}

/// Of all crates, with the tests of the daemon against the real kernel and a real HAProxy.
fn unit_tests(filters: &[String]) -> Result<Outcome> {
    let filters: Vec<&str> = std::iter::once("--").chain(filters.iter().map(String::as_str)).collect();
    cargo(std::iter::once("test").chain(OUTSIDE_THE_KERNEL).chain(filters), &[])
}

fn end_to_end_tests(filters: &[String], skipped_tests: &Path) -> Result<Outcome> {
    // They wait for other processes most of the time.
    let threads = 3 * std::thread::available_parallelism().map_or(1, usize::from);
    let threads = format!("--test-threads={threads}");
    let arguments = std::iter::once("test").chain(OUTSIDE_THE_KERNEL).chain(["--test", "e2e", "--", &threads]);
    cargo(arguments.chain(filters.iter().map(String::as_str)), &[("LBSTATD_SKIPPED_TESTS", skipped_tests.as_os_str())])
}

/// The kernel programs have no tests that run here. Tests of both kinds are asked for of the same packages, since
/// cargo would compile half of the dependencies again for another choice.
const OUTSIDE_THE_KERNEL: [&str; 3] = ["--workspace", "--exclude", "lbstatd-ebpf"];

/// The oldest kernel that is supported and easy to get; `cargo xtask vm` has more.
fn other_kernel() -> Result<Outcome> {
    const VERSION: &str = "6.1";
    // Without a mirror of Debian's nothing is wrong with lbstatd.
    if let Err(reason) = packages::ensure(packages::VM).and_then(|()| debian_kernel(VERSION)) {
        return Ok(Outcome::Skipped(format!("{reason:#}")));
    }
    xtask(["vm", VERSION])
}

/// In a root of its own, where the unit finds the daemon at the place that it names.
fn systemd_unit() -> Result<Outcome> {
    let Some(analyze) = packages::find_program("systemd-analyze") else {
        return Ok(Outcome::Skipped("there is no systemd-analyze here".to_owned()));
    };
    let root = root().join("target/systemd-root");
    let (units, programs) = (root.join("etc/systemd/system"), root.join("usr/bin"));
    std::fs::create_dir_all(&units)?;
    std::fs::create_dir_all(&programs)?;
    std::fs::copy(self::root().join("systemd/lbstatd.service"), units.join("lbstatd.service"))?;
    std::fs::copy(lbstatd_tests::lbstatd_binary()?, programs.join("lbstatd"))?;
    // What its ExecReload names.
    std::fs::create_dir_all(root.join("bin"))?;
    std::fs::copy(packages::find_program("kill").context("there is no program kill")?, root.join("bin/kill"))?;
    let output = Command::new(analyze)
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(format!("--root={}", root.display()))
        .arg("lbstatd.service")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() || !said.trim().is_empty() {
        bail!("systemd-analyze verify: {}: {said}", output.status);
    }
    Ok(Outcome::Passed)
}

/// Builds the program, for tests and the demo.
pub(crate) fn build_lbstatd() -> Result<()> {
    // With this package, as it was compiled when this program was: so there is nothing left to do but to link.
    cargo(["build", "--package", "xtask", "--package", "lbstatd", "--bin", "lbstatd"], &[]).map(|_| ())
}

fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>, env: &[(&str, &OsStr)]) -> Result<Outcome> {
    let mut command = Command::new(cargo_program());
    command.args(arguments).envs(env.iter().copied());
    finish(command)
}

/// Another command of this program.
fn xtask<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Outcome> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments);
    finish(command)
}

fn finish(mut command: Command) -> Result<Outcome> {
    command.current_dir(root());
    let status: ExitStatus =
        command.status().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let program = Path::new(command.get_program()).file_name().unwrap_or_default().display().to_string();
        bail!("`{program} {}`: {status}", arguments.join(" "));
    }
    Ok(Outcome::Passed)
}

fn cargo_program() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the xtask crate lies in the workspace")
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
