//! A net-snmp receiver of notifications of one's own.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::loopback::address;
use crate::process::Process;

/// An snmptrapd on a loopback address, which takes what its configuration says.
#[derive(Debug)]
pub struct Snmptrapd {
    process: Process,
    address: SocketAddr,
    dir: TempDir,
    configuration: String,
    starts: u32,
    /// What it was told before it was started again.
    before: Vec<Told>,
}

/// A notification as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// How: such as `TRAP2, SNMP v2c, community secret` or `INFORM, SNMP v3, user one, context `; of version 1, `TRAP` with
    /// agent address, enterprise, generic and specific trap.
    pub how: String,
    /// Names, numeric with a leading dot, and values as net-snmp's tools print them.
    pub varbinds: Vec<(String, String)>,
}

/// What a line of its log begins with if it is a notification.
const MARK: &str = "NOTIFIED ";

impl Snmptrapd {
    /// Starts it on an address of its own with these lines of configuration (`authCommunity`, `createUser`, `authUser`),
    /// and waits until it listens.
    ///
    /// # Errors
    /// When it does not start; with what it said.
    pub fn start(configuration: &str) -> Result<Self> {
        let dir = TempDir::with_prefix("lbstatd-snmptrapd-")?;
        // Where it would be created with a word on standard error.
        std::fs::create_dir_all(dir.path().join("persistent/cert_indexes"))?;
        let address = address();
        let process = spawn(&dir, address, configuration, 0)?;
        let configuration = configuration.to_owned();
        let mut snmptrapd = Self { process, address, dir, configuration, starts: 1, before: Vec::new() };
        snmptrapd.wait_ready()?;
        Ok(snmptrapd)
    }

    /// Where it listens, on UDP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that it was told, oldest first.
    ///
    /// # Errors
    /// When its log holds something else than notifications.
    pub fn told(&self) -> Result<Vec<Told>> {
        let log = self.process.log();
        let lines = log.lines().filter_map(|line| line.strip_prefix(MARK));
        let told = lines.map(|line| parse(line).with_context(|| format!("snmptrapd printed {line:?}")));
        Ok([self.before.clone(), told.collect::<Result<_>>()?].concat())
    }

    /// Everything it has logged since it was started last.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Kills it; [`Self::restart`] brings it back.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn kill(&mut self) -> Result<()> {
        self.before = self.told()?;
        self.process.end_with(Signal::KILL).map(|_| ())
    }

    /// Starts it again on the same address.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process = spawn(&self.dir, self.address, &self.configuration, self.starts)?;
        self.starts += 1;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let log = self.dir.path().join(log_name(self.starts - 1));
        self.process.wait_ready(|| match std::fs::read_to_string(&log)? {
            // It says so once its socket is bound.
            log if log.contains("NET-SNMP version") => Ok(()),
            log => bail!("{log}"),
        })
    }
}

fn log_name(starts: u32) -> String {
    format!("snmptrapd-{starts}.log")
}

fn spawn(dir: &TempDir, address: SocketAddr, configuration: &str, starts: u32) -> Result<Process> {
    let file = dir.path().join("snmptrapd.conf");
    let text = format!("{configuration}\nformat1 {MARK}TRAP %a %N %w %q|%v\\n\nformat2 {MARK}%P|%v\\n\n");
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Process::start("snmptrapd", dir.path().join(log_name(starts)), |command| {
        command
            .args(["-f", "-Lo", "-On", "-Oe", "-Ot", "-C", "-c"])
            .arg(&file)
            .arg(format!("udp:{address}"))
            .env("SNMP_PERSISTENT_DIR", dir.path().join("persistent"))
            .env("SNMPCONFPATH", dir.path())
            .env("MIBS", "")
            .env("LC_ALL", "C")
    })
}

/// The variable bindings have tabulators between them.
fn parse(line: &str) -> Result<Told> {
    let (how, list) = line.split_once('|').context("no `|`")?;
    let varbind = |text: &str| text.split_once(" = ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    let varbinds: Option<Vec<_>> = list.split('\t').map(varbind).collect();
    Ok(Told { how: how.to_owned(), varbinds: varbinds.context("a variable binding without ` = `")? })
}

impl Told {
    /// The value of this name, as it is printed.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.varbinds.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let told = parse("TRAP2, SNMP v2c, community c|.1.3 = INTEGER: 5\t.1.4 = STRING: \"a = b\"").unwrap();
        assert_eq!(told.how, "TRAP2, SNMP v2c, community c");
        assert_eq!((told.value(".1.3"), told.value(".1.4")), (Some("INTEGER: 5"), Some("STRING: \"a = b\"")));
        assert_eq!(told.value(".1"), None);
        for line in ["", "TRAP2", "TRAP2|x"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
