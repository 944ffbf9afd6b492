//! `cargo xtask vm`: the tests of the kernel programs on Debian's kernels, each in a virtual machine of its own.
//!
//! The kernels are Debian's for cloud machines, downloaded and unpacked, never installed. A machine has no disk and no
//! network: its file system is an archive with the test program, lbstatd and busybox. It prints what the tests say on
//! its serial port and switches itself off.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use lbstatd_tests::{KERNELS, debian_kernel, packages};

mod initramfs;
mod machine;

use crate::test;
use initramfs::Initramfs;

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernels to boot, such as 6.1 [default: all]
    #[arg(value_parser = KERNELS.map(|(version, _)| version))]
    kernels: Vec<String>,
    /// Show everything that the machines print
    #[arg(long)]
    verbose: bool,
    /// Runs only the tests whose names contain one of these
    #[arg(last = true)]
    filters: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    packages::ensure(packages::VM)?;
    let programs = programs()?;
    let all = KERNELS.map(|(version, _)| version.to_owned());
    let kernels = if args.kernels.is_empty() { &all[..] } else { &args.kernels };
    for version in kernels {
        let kernel = debian_kernel(version)?;
        let mut archive = programs.clone();
        archive.file("/init", 0o755, init((version != TOO_OLD).then_some(&args.filters))?.as_bytes());
        let start = Instant::now();
        let console = machine::boot(&kernel, &archive.finish()).with_context(|| format!("Linux {version}"))?;
        if args.verbose {
            println!("{console}");
        }
        let outcome = Outcome::parse(&console).with_context(|| format!("Linux {version} printed:\n{console}"))?;
        println!("{outcome}  (boot and tests took {:.1} s)\n", start.elapsed().as_secs_f64());
        outcome.judge(version).with_context(|| format!("Linux {version} printed:\n{console}"))?;
    }
    Ok(())
}

/// Around what the machine's parts print.
const CHECK: &str = "=== lbstatd check";
const TESTS: &str = "=== tests";
const END: &str = "=== end";

/// It has no socket cookies and no socket storage in tracing programs: lbstatd has to say so.
const TOO_OLD: &str = "5.10";

/// The file system, but for the first process.
fn programs() -> Result<Initramfs> {
    let busybox = packages::find_program("busybox").context("there is no busybox")?;
    let mut archive = Initramfs::default();
    for folder in ["/proc", "/sys", "/dev", "/tmp", "/run"] {
        archive.folder(folder);
    }
    archive.program("/bin/busybox", &busybox)?;
    archive.link("/bin/sh", "busybox");
    archive.program("/bin/kernel-tests", &test_program()?)?;
    test::build_lbstatd()?;
    archive.program("/bin/lbstatd", &lbstatd_tests::lbstatd_binary()?)?;
    Ok(archive)
}

/// The machine's first process: asks lbstatd what it thinks of the kernel, and runs those of the tests that match.
fn init(tests: Option<&Vec<String>>) -> Result<String> {
    let filters = tests.map_or(&[][..], Vec::as_slice);
    let plain =
        |filter: &String| filter.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':');
    ensure!(filters.iter().all(plain), "a filter is a part of a test's name");
    let tests = match tests {
        // In a shell between, since tests take process 1 for a stranger.
        Some(filters) => format!("sh -c 'kernel-tests --test-threads 4 {} 2>&1; exit $?'", filters.join(" ")),
        None => "true".to_owned(),
    };
    Ok(format!(
        "#!/bin/sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tracefs tracefs /sys/kernel/tracing
busybox mount -t tmpfs tmpfs /tmp
busybox ip link set lo up
echo '{CHECK}'
busybox uname -r
lbstatd check --stats-socket /run/none --control /run/none 2>&1
echo '{TESTS}'
{tests}
echo \"{END} $?\"
busybox poweroff -f
"
    ))
}

/// The daemon's tests against the kernel, built.
fn test_program() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--workspace", "--exclude", "lbstatd-ebpf", "--test", "kernel", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "building the kernel tests failed, see above");
    let messages = String::from_utf8(output.stdout)?;
    let program = messages.lines().filter(|line| line.contains("\"name\":\"kernel\"")).find_map(|line| {
        let (_, path) = line.split_once("\"executable\":\"")?;
        path.split_once('"').map(|(path, _)| PathBuf::from(path))
    });
    program.context("cargo names no program for the kernel tests")
}

/// What a machine found out about its kernel.
struct Outcome {
    release: String,
    /// What `lbstatd check` says of the kernel.
    findings: Vec<String>,
    /// Names of tests, and how they ended.
    tests: BTreeMap<String, String>,
    /// Why tests were not run.
    skipped: Option<String>,
    status: String,
}

impl Outcome {
    fn parse(console: &str) -> Result<Self> {
        let part = |begin: &str, end: &str| {
            let (_, rest) = console.split_once(begin).with_context(|| format!("no `{begin}`"))?;
            let (part, rest) = rest.split_once(end).with_context(|| format!("no `{end}`"))?;
            anyhow::Ok((part, rest))
        };
        let (check, _) = part(CHECK, TESTS)?;
        let (tests, status) = part(TESTS, END)?;
        let release = check.lines().map(str::trim).find(|line| !line.is_empty()).context("no `uname -r`")?;
        let about_kernel = |line: &&str| line.contains("kernel");
        let ended = |line: &str| {
            let (name, how) = line.strip_prefix("test ")?.split_once(" ... ")?;
            Some((name.to_owned(), how.to_owned()))
        };
        Ok(Self {
            release: release.to_owned(),
            findings: check.lines().skip(2).filter(about_kernel).map(str::to_owned).collect(),
            tests: tests.lines().filter_map(ended).collect(),
            skipped: tests.lines().find_map(|line| line.strip_prefix("SKIPPED kernel tests: ")).map(str::to_owned),
            status: status.lines().next().unwrap_or_default().trim().to_owned(),
        })
    }

    /// Whether this is what a kernel of this version must show.
    fn judge(&self, version: &str) -> Result<()> {
        ensure!(self.release.starts_with(&format!("{version}.")), "this is Linux {}", self.release);
        let refusal = self.findings.iter().find(|line| line.starts_with("WRONG"));
        if version == TOO_OLD {
            let reason = refusal.context("this kernel is expected to be refused")?;
            ensure!(reason.contains("5.12"), "the refusal does not name the version that is needed: {reason}");
            return Ok(());
        }
        ensure!(self.status == "0", "the tests failed: status {}", self.status);
        ensure!(!self.tests.is_empty(), "no test ran");
        if let Some(reason) = refusal.or(self.skipped.as_ref()) {
            bail!("the kernel programs do not work there: {reason}");
        }
        Ok(())
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "Linux {}", self.release)?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))?;
        if let Some(reason) = &self.skipped {
            writeln!(f, "  tests skipped: {reason}")?;
        }
        let failed: Vec<&str> =
            self.tests.iter().filter(|(_, how)| *how != "ok").map(|(name, _)| name.as_str()).collect();
        write!(f, "  {} tests passed", self.tests.len() - failed.len())?;
        if failed.is_empty() { Ok(()) } else { write!(f, ", failed: {}", failed.join(", ")) }
    }
}
