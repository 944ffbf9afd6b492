//! `lbstatd check`: what is wrong with this host's set-up, and the line that mends it.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use lbstats::Snapshot;

use crate::collect::Ebpf;
use crate::commands::run;
use crate::config::Settings;
use crate::control::Client;
use crate::haproxy::{Client as StatsSocket, Limits, Reading};
use crate::kernel::{HookState, Kernel};
use crate::privileges;
use crate::snmp_engine;
use crate::users::UsersFile;

const PATIENCE: Duration = Duration::from_secs(5);
const SNMPD_CONF: &str = "/etc/snmp/snmpd.conf";

/// Flags of `check`: those of `run`, whose settings are checked.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    run: run::Args,
}

/// One thing that was looked at.
struct Finding {
    verdict: Verdict,
    what: String,
    /// What to do about it; empty if nothing.
    mend: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// Works, and could tell more.
    Note,
    Wrong,
}

/// Prints a line for each thing that was looked at; false if one of them is wrong.
///
/// # Errors
/// When nothing can be printed.
pub fn run(args: &Args) -> anyhow::Result<bool> {
    let settings = match args.run.settings() {
        Ok(settings) => settings,
        Err(error) => {
            print(&[wrong(format!("{error:#}"), "correct that line, then check again")])?;
            return Ok(false);
        }
    };
    let mut findings = Vec::new();
    for path in settings.stats_sockets() {
        findings.extend(stats_socket(&path)?);
    }
    findings.extend(ebpf(&settings));
    findings.extend(daemon(&settings));
    findings.extend(snmpv3(&settings));
    findings.extend(snmpd(&settings));
    print(&findings)?;
    Ok(findings.iter().all(|finding| finding.verdict != Verdict::Wrong))
}

fn print(findings: &[Finding]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    findings.iter().try_for_each(|finding| writeln!(out, "{finding}"))?;
    Ok(())
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok   ",
            Verdict::Note => "note ",
            Verdict::Wrong => "WRONG",
        };
        write!(f, "{verdict}  {}", self.what)?;
        if !self.mend.is_empty() {
            write!(f, "\n       mend: {}", self.mend)?;
        }
        Ok(())
    }
}

fn ok(what: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Ok, what: what.into(), mend: String::new() }
}

fn note(what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Note, what: what.into(), mend: mend.into() }
}

fn wrong(what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Wrong, what: what.into(), mend: mend.into() }
}

fn stats_socket(path: &Path) -> anyhow::Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reading = runtime.block_on(async { StatsSocket::new(path, Limits::default()).read().await });
    Ok(match reading {
        Err(error) => vec![Finding { verdict: Verdict::Wrong, what: error.to_string(), mend: String::new() }],
        Ok(reading) => describe(path, &reading),
    })
}

fn describe(path: &Path, reading: &Reading) -> Vec<Finding> {
    let shown = path.display();
    let process = &reading.process;
    let text = |source| {
        let place = process.schema().place(source);
        let text = place.filter(|_| !process.is_empty()).and_then(|place| process.text(place, 0));
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    };
    let mut findings = vec![ok(format!(
        "{} {} answers on {shown}: {} frontends, {} backends, {} servers",
        text("Name"),
        text("Version"),
        reading.frontends.len(),
        reading.backends.len(),
        reading.servers.len(),
    ))];
    if reading.listens.is_empty() && !reading.frontends.is_empty() {
        findings.push(note(
            format!("HAProxy does not tell on {shown} what its frontends listen on: kernel counters go by address"),
            "`option socket-stats` in the defaults section, and `level operator` on the `stats socket` line",
        ));
    }
    findings
}

fn ebpf(settings: &Settings) -> Vec<Finding> {
    if settings.ebpf == Some(Ebpf::Off) {
        return vec![note("kernel counters are switched off", "`ebpf = \"auto\"` in lbstatd.toml")];
    }
    let mut kernel = match Kernel::load() {
        Ok(kernel) => kernel,
        Err(error) => return vec![Finding { verdict: Verdict::Wrong, what: error.to_string(), mend: String::new() }],
    };
    let unmeasured = settings.ebpf_stats.then(|| kernel.measure_runs().err()).flatten();
    (kernel.hooks().iter())
        .map(|hook| match &hook.state {
            HookState::Healthy => ok(format!("kernel hook {} works", hook.name)),
            HookState::Unsupported(reason) => note(format!("kernel hook {} is unsupported: {reason}", hook.name), ""),
            HookState::Failed(reason) => wrong(format!("kernel hook {} failed: {reason}", hook.name), ""),
        })
        .chain(unmeasured.map(|error| wrong(error.to_string(), "")))
        .collect()
}

fn daemon(settings: &Settings) -> Vec<Finding> {
    let path = settings.control();
    let answer =
        Client::connect(&path, false).and_then(|mut client| Ok((client.next(Some(PATIENCE))?, client.daemon())));
    let (snapshot, process) = match answer {
        Ok(answer) => answer,
        Err(error) => return vec![note(format!("{error:#}"), "")],
    };
    let shown = path.display();
    let mut findings = vec![ok(format!("the daemon answers on {shown}: generation {}", snapshot.generation))];
    // Others' processes may be hidden (hidepid): that is no fault of the daemon's.
    if let Some(Ok(capabilities)) = process.map(privileges::describe) {
        findings.push(ok(format!("the daemon's effective capabilities: {capabilities}")));
    }
    findings.extend(snapshot.sources.iter().map(|source| {
        let name = [source.kind.name(), &source.target].join(" ");
        let name = name.trim_end();
        match &source.error {
            None => ok(format!("the daemon reads {name} in {} µs", source.duration)),
            Some(error) => wrong(format!("the daemon cannot read {name}: {error}"), ""),
        }
    }));
    findings.extend(snapshot.faces.iter().map(|face| match &face.error {
        None if face.kind == "notifications" => ok(format!(
            "notifications go to {}: {} so far, and {} that nobody took",
            face.target, face.requests, face.refused
        )),
        Some(error) if face.kind == "notifications" => {
            wrong(format!("notifications do not reach {}: {error}", face.target), "")
        }
        None => ok(format!("the daemon serves {} {}: {} requests so far", face.kind, face.target, face.requests)),
        Some(error) => wrong(format!("the daemon cannot serve {} {}: {error}", face.kind, face.target), ""),
    }));
    findings.extend(uncounted(&snapshot));
    findings
}

/// Frontends whose connections the kernel does not count, or not all of them.
fn uncounted(snapshot: &Snapshot) -> Vec<Finding> {
    let table = &snapshot.kernel_frontends;
    let text = |source, row| {
        let text = table.schema().place(source).and_then(|place| table.text(place, row));
        text.map(|text| String::from_utf8_lossy(text).into_owned())
    };
    let finding = |row| {
        let (proxy, reason) = (text("proxy", row)?, text("uncounted", row)?);
        Some(note(format!("the kernel does not count all connections of frontend {proxy}: {reason}"), ""))
    };
    (0..table.len()).filter_map(finding).collect()
}

/// The users of SNMPv3, if there are any.
fn snmpv3(settings: &Settings) -> Option<Finding> {
    let path = settings.snmp_users();
    let users = UsersFile::read(&path).and_then(|file| {
        let Some(file) = file else { return Ok(None) };
        let state = settings.state_dir();
        let lost =
            || format!("{} has no SNMP engine: remove {} and add the users again", state.display(), path.display());
        file.ready(&snmp_engine::known_identity(&state)?.with_context(lost)?)?;
        Ok(Some(file.users.len()))
    });
    let denied = |error: &anyhow::Error| {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        kind == Some(std::io::ErrorKind::PermissionDenied)
    };
    match users {
        Ok(None) => None,
        Err(error) if denied(&error) => Some(note(format!("{error:#}"), "check as root, or as lbstatd's account")),
        Ok(Some(number)) => Some(ok(format!("{} has {number} SNMPv3 users for this engine", path.display()))),
        Err(error) => Some(wrong(format!("no SNMPv3: {error:#}"), "")),
    }
}

/// snmpd's configuration, where it is in Debian's and Red Hat's place and may be read.
fn snmpd(settings: &Settings) -> Vec<Finding> {
    let Ok(text) = std::fs::read_to_string(SNMPD_CONF) else { return Vec::new() };
    let lines = || text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let root = "1.3.6.1.4.1.23263";
    if settings.agentx.is_some() {
        if !lines().any(|line| line.split_whitespace().eq(["master", "agentx"])) {
            return vec![note(
                "snmpd is no AgentX master by its configuration",
                format!("`master agentx` in {SNMPD_CONF}"),
            )];
        }
    } else if !lines().any(|line| line.starts_with("pass_persist") && line.contains(root)) {
        let mend = format!("`pass_persist .{root} /usr/bin/lbstatd pass-persist` in {SNMPD_CONF}");
        return vec![note("snmpd does not serve lbStats", mend)];
    }
    let view = "view systemonly included";
    let restricted = lines().any(|line| line.split_whitespace().take(3).eq(view.split(' ')));
    if restricted && !lines().any(|line| line.starts_with("view") && line.contains(root)) {
        let mend = format!("`{view} .{root}` in {SNMPD_CONF}");
        return vec![wrong("snmpd serves lbStats and its view hides it", mend)];
    }
    vec![ok("snmpd serves lbStats")]
}
