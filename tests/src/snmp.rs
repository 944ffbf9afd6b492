//! net-snmp's tools, with options that make their output exact.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::{Output, run};

/// A manager with community `public`, version 2c, that waits 10 s for an answer and does not ask again.
#[derive(Clone, Debug)]
pub struct Snmp {
    agent: SocketAddr,
    /// Keeps the tools off the user's and the system's configuration and state.
    home: Arc<TempDir>,
}

/// A varbind of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Varbind {
    /// The object identifier.
    pub oid: Vec<u32>,
    /// What stands there.
    pub answer: Answer,
}

/// What an agent says about an object identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A value.
    Value(SnmpValue),
    /// noSuchObject.
    NoSuchObject,
    /// noSuchInstance.
    NoSuchInstance,
    /// endOfMibView.
    EndOfMibView,
}

/// A value with its type on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnmpValue {
    /// INTEGER
    Integer(i64),
    /// Counter32
    Counter32(u64),
    /// Counter64
    Counter64(u64),
    /// OCTET STRING
    OctetString(Vec<u8>),
    /// Any other type, as the tools print it.
    Other(String),
}

impl Varbind {
    /// The object identifier with a dot in front of each arc.
    pub fn dotted(&self) -> String {
        self.oid.iter().map(|arc| format!(".{arc}")).collect()
    }
}

/// Numeric identifiers, enumerations and time ticks, strings in hexadecimal on one line: no doubt about any octet.
const EXACT: [&str; 5] = ["-On", "-Oe", "-Ot", "-Ox", "--hexOutputLength=0"];

impl Snmp {
    /// A manager of this agent.
    ///
    /// # Errors
    /// When no temporary directory can be made.
    pub fn new(agent: SocketAddr) -> Result<Self> {
        let home = TempDir::with_prefix("lbstatd-snmp-")?;
        // The first tool would create it, and say so on its standard error.
        std::fs::create_dir(home.path().join("cert_indexes"))?;
        Ok(Self { agent, home: Arc::new(home) })
    }

    /// Where its agent listens.
    pub fn address(&self) -> SocketAddr {
        self.agent
    }

    /// Asks for exactly these objects.
    ///
    /// # Errors
    /// When the agent does not answer, or with an error status.
    pub fn get(&self, oids: &[&str]) -> Result<Vec<Varbind>> {
        self.exact("snmpget", &[], oids)
    }

    /// Asks for what follows each of these.
    ///
    /// # Errors
    /// When the agent does not answer, or with an error status.
    pub fn get_next(&self, oids: &[&str]) -> Result<Vec<Varbind>> {
        self.exact("snmpgetnext", &[], oids)
    }

    /// The values of a whole subtree, with GetNext, one varbind at a time. Identifiers that do not ascend fail.
    ///
    /// # Errors
    /// When the agent does not answer, or identifiers do not ascend.
    pub fn walk(&self, root: &str) -> Result<Vec<Varbind>> {
        self.exact("snmpwalk", &[], &[root]).map(without_end)
    }

    /// The values of a whole subtree, with GetBulk.
    ///
    /// # Errors
    /// When the agent does not answer, or identifiers do not ascend.
    pub fn bulk_walk(&self, root: &str) -> Result<Vec<Varbind>> {
        self.exact("snmpbulkwalk", &["-Cr50"], &[root]).map(without_end)
    }

    /// sysUpTime, in hundredths of a second.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn uptime(&self) -> Result<u64> {
        let answer = self.get(&[".1.3.6.1.2.1.1.3.0"])?;
        match answer.first().map(|varbind| &varbind.answer) {
            Some(Answer::Value(SnmpValue::Other(ticks))) => ticks.parse().context("sysUpTime"),
            other => bail!("sysUpTime is {other:?}"),
        }
    }

    /// Whether the agent answers at once; a question that comes before it listens is lost, and not worth waiting for.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn answers(&self) -> Result<()> {
        let output = self.tool("snmpget", &["-t", "0.2"], &[".1.3.6.1.2.1.1.3.0"])?;
        if output.status.success() { Ok(()) } else { bail!("{}: {}", self.agent, output.stderr) }
    }

    /// Runs one of the tools with options of one's own; the agent's address goes between options and objects.
    ///
    /// # Errors
    /// When the tool cannot be started; what it says about the agent is in its output.
    pub fn tool(&self, tool: &str, options: &[&str], objects: &[&str]) -> Result<Output> {
        self.tool_with_mibs(tool, None, options, objects)
    }

    /// As [`Self::tool`], with the folders of MIB modules, separated by colons, and the modules to load from there.
    ///
    /// # Errors
    /// When the tool cannot be started.
    pub fn tool_with_mibs(
        &self,
        tool: &str,
        mibs: Option<(&str, &str)>,
        options: &[&str],
        objects: &[&str],
    ) -> Result<Output> {
        run(tool, |command| {
            command.args(["-v2c", "-c", "public", "-t", "10", "-r", "0"]);
            match mibs {
                Some((folders, modules)) => command.args(["-M", folders, "-m", modules]),
                None => command.env("MIBS", ""),
            };
            command
                .args(options)
                .arg(format!("{}:{}", if self.agent.is_ipv6() { "udp6" } else { "udp" }, self.agent))
                .args(objects)
                .env("SNMP_PERSISTENT_DIR", self.home.path())
                .env("SNMPCONFPATH", self.home.path())
                // What octets are printable depends on it.
                .env("LC_ALL", "C")
        })
    }

    fn exact(&self, tool: &str, options: &[&str], objects: &[&str]) -> Result<Vec<Varbind>> {
        let options: Vec<&str> = EXACT.iter().chain(options).copied().collect();
        let output = self.tool(tool, &options, objects)?;
        if !output.status.success() || !output.stderr.is_empty() {
            bail!("{tool} {}: {}: {}{}", self.agent, output.status, output.stderr, output.stdout);
        }
        output.stdout.lines().map(|line| parse_line(line).with_context(|| format!("{tool} printed {line:?}"))).collect()
    }
}

/// What follows the last value: that the view ends, or of an empty subtree that there is nothing.
fn without_end(mut walk: Vec<Varbind>) -> Vec<Varbind> {
    walk.pop_if(|last| !matches!(last.answer, Answer::Value(_)));
    walk
}

fn parse_line(line: &str) -> Result<Varbind> {
    let (oid, value) = line.split_once(" = ").context("no ` = `")?;
    let oid = oid.strip_prefix('.').context("not a numeric identifier")?;
    let oid = oid.split('.').map(str::parse).collect::<Result<_, _>>()?;
    Ok(Varbind { oid, answer: parse_answer(value)? })
}

fn parse_answer(text: &str) -> Result<Answer> {
    match text {
        "No Such Object available on this agent at this OID" => return Ok(Answer::NoSuchObject),
        "No Such Instance currently exists at this OID" => return Ok(Answer::NoSuchInstance),
        "No more variables left in this MIB View (It is past the end of the MIB tree)" => {
            return Ok(Answer::EndOfMibView);
        }
        // The type is left out of an empty string.
        "\"\"" => return Ok(Answer::Value(SnmpValue::OctetString(Vec::new()))),
        _ => {}
    }
    let value = match text.split_once(": ") {
        Some(("INTEGER", number)) => SnmpValue::Integer(number.parse()?),
        Some(("Counter32", number)) => SnmpValue::Counter32(number.parse()?),
        Some(("Counter64", number)) => SnmpValue::Counter64(number.parse()?),
        Some(("Hex-STRING", octets)) => {
            let octets = octets.split_ascii_whitespace().map(|octet| u8::from_str_radix(octet, 16));
            SnmpValue::OctetString(octets.collect::<Result<_, _>>()?)
        }
        Some(("STRING", _)) => bail!("a string that is not in hexadecimal"),
        _ => SnmpValue::Other(text.to_owned()),
    };
    Ok(Answer::Value(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_to_the_octet() {
        let value = |line| parse_line(line).unwrap().answer;
        assert_eq!(parse_line(".1.3.6 = INTEGER: 5").unwrap().oid, [1, 3, 6]);
        assert_eq!(value(".1 = Counter64: 18446744073709551615"), Answer::Value(SnmpValue::Counter64(u64::MAX)));
        assert_eq!(value(".1 = Hex-STRING: 41 C3 0A "), Answer::Value(SnmpValue::OctetString(b"A\xc3\n".to_vec())));
        assert_eq!(value(".1 = \"\""), Answer::Value(SnmpValue::OctetString(Vec::new())));
        assert_eq!(value(".1 = No Such Instance currently exists at this OID"), Answer::NoSuchInstance);
        for line in ["", ".1.3", "x = INTEGER: 5", ".1 = INTEGER: five", ".1 = STRING: \"a\""] {
            assert!(parse_line(line).is_err(), "{line}");
        }
    }
}
