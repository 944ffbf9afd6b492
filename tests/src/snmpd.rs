//! A net-snmp master agent of one's own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::loopback::address;
use crate::process::Process;
use crate::snmp::Snmp;

/// An snmpd on a loopback address, read with community `public`, and with SNMPv3 by [`MONITOR`].
#[derive(Debug)]
pub struct Snmpd {
    process: Process,
    client: Snmp,
    address: SocketAddr,
    dir: TempDir,
}

/// Options of net-snmp's tools for the SNMPv3 user, who must authenticate and encrypt and may only read.
#[rustfmt::skip] // An option and its value to a line.
pub const MONITOR: [&str; 13] = [
    "-v3", "-l", "authPriv", "-u", "monitor",
    "-a", "SHA", "-A", "an authentication phrase",
    "-x", "AES", "-X", "a privacy phrase",
];

/// A line `pass_persist` of its configuration.
#[derive(Clone, Debug)]
pub struct PassPersist {
    /// Root of the subtree, numeric with a leading dot.
    pub root: &'static str,
    /// The program and its arguments; snmpd splits it at spaces and knows no quotes.
    pub command: String,
}

impl Snmpd {
    /// Starts it on an address of its own and waits until it answers.
    ///
    /// # Errors
    /// When it does not start; with what it said.
    pub fn start(pass_persist: &[PassPersist]) -> Result<Self> {
        Self::start_at(address(), pass_persist)
    }

    /// Starts it on this address and waits until it answers.
    ///
    /// # Errors
    /// When it does not start; with what it said.
    pub fn start_at(address: SocketAddr, pass_persist: &[PassPersist]) -> Result<Self> {
        Self::start_with(address, &configuration(address, pass_persist))
    }

    /// Starts it as an AgentX master that listens on this socket, a path or `tcp:ADDR:PORT`, and shows lbStats and
    /// LBSTATD-MIB, of which it has nothing itself.
    ///
    /// # Errors
    /// When it does not start; with what it said.
    pub fn start_master(socket: &str) -> Result<Self> {
        Self::start_master_with(socket, "")
    }

    /// The same with more lines of configuration.
    ///
    /// # Errors
    /// As [`Self::start_master`].
    pub fn start_master_with(socket: &str, lines: &str) -> Result<Self> {
        let address = address();
        Self::start_with(address, &(configuration(address, &[]) + &master(socket) + lines))
    }

    fn start_with(address: SocketAddr, configuration: &str) -> Result<Self> {
        let dir = TempDir::with_prefix("lbstatd-snmpd-")?;
        let config = dir.path().join("snmpd.conf");
        std::fs::write(&config, configuration).with_context(|| format!("cannot write {}", config.display()))?;
        let mut snmpd = Self { process: spawn(dir.path())?, client: Snmp::new(address)?, address, dir };
        snmpd.wait_ready()?;
        Ok(snmpd)
    }

    /// Starts it again, as it was, after [`Self::end_with`], and waits until it answers.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(self.dir.path())?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let client = self.client.clone();
        self.process.wait_ready(|| client.answers())
    }

    /// A manager's view of it.
    pub fn client(&self) -> &Snmp {
        &self.client
    }

    /// Where it listens, on UDP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Sends it a signal and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end_with(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.process.end_with(signal)
    }
}

/// With the configuration in this folder.
fn spawn(dir: &Path) -> Result<Process> {
    Process::start("snmpd", dir.join("snmpd.log"), |command| {
        command
            // In the foreground, log to stderr, this configuration and no other, and no modules that would open more
            // sockets or query the agent itself.
            .args(["-f", "-Le", "-I", "-smux,mteTrigger,mteTriggerConf", "-C", "-c"])
            .arg(dir.join("snmpd.conf"))
            .env("SNMP_PERSISTENT_DIR", dir.join("persistent"))
            .env("SNMPCONFPATH", dir)
            .env("MIBS", "")
    })
}

fn master(socket: &str) -> String {
    let lbstatd_mib = ".1.3.6.1.4.1.8072.9999.9999.4300";
    let roots = PassPersist::both_roots("").map(|pass| pass.root).into_iter().chain([lbstatd_mib]);
    let roots: String = roots.map(|root| format!("view lbstatd included {root}\n")).collect();
    // A subagent that hangs shows as a question that takes longer than this.
    format!("{roots}agentXSocket {socket}\nagentXTimeout 1\nagentXRetries 1\nmaster agentx\n")
}

fn configuration(address: SocketAddr, pass_persist: &[PassPersist]) -> String {
    // Its log is for what goes wrong, not for each request.
    let mut text = format!("agentaddress udp:{address}\ndontLogTCPWrappersConnects yes\n");
    // A view that holds no more than what is asked for, as a careful administrator has it.
    text.push_str("view lbstatd included .1.3.6.1.2.1.1\n");
    for pass in pass_persist {
        text.push_str(&format!("view lbstatd included {}\n", pass.root));
    }
    // Read-write, so that a refused SET is refused by the subtree and not by the community.
    text.push_str("rwcommunity public 127.0.0.0/8 -V lbstatd\n");
    // What net-snmp-create-v3-user writes, and the line beside it.
    text.push_str("createUser monitor SHA \"an authentication phrase\" AES \"a privacy phrase\"\n");
    text.push_str("rouser monitor priv -V lbstatd\n");
    for PassPersist { root, command } in pass_persist {
        text.push_str(&format!("pass_persist {root} {command}\n"));
    }
    text
}

impl PassPersist {
    /// The lines that serve lbStats at both its roots with this command.
    pub fn both_roots(command: &str) -> [Self; 2] {
        [".1.3.6.1.4.1.23263", ".1.3.6.1.4.1.58750"].map(|root| Self { root, command: command.to_owned() })
    }
}
