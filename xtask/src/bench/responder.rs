//! A pass_persist responder, asked over pipes without snmpd.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Result, ensure};

use super::{LBSTATS, ROWS};

/// A responder of our own; it ends with this value.
pub(super) struct Responder {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) oid: String,
    pub(super) kind: String,
    pub(super) value: Vec<u8>,
}

/// The whole table, as lbstatd answers it.
pub(super) fn rows(lbstatd: &Path, socket: &Path) -> Result<Vec<Row>> {
    let mut responder = Responder::start(Command::new(lbstatd).arg("pass-persist").arg("--stats-socket").arg(socket))?;
    let mut rows: Vec<Row> = Vec::with_capacity(ROWS);
    while let Some(row) = responder.next(rows.last().map_or(LBSTATS, |row| &row.oid))? {
        if !row.oid.starts_with(LBSTATS) {
            break;
        }
        rows.push(row);
    }
    Ok(rows)
}

impl Responder {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else { anyhow::bail!("no pipes") };
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn ping(&mut self) -> Result<()> {
        self.input.write_all(b"PING\n")?;
        let answer = self.line()?;
        ensure!(answer == b"PONG", "the answer to PING is {:?}", answer.escape_ascii().to_string());
        Ok(())
    }

    /// The row after this OID, asked for as snmpd does; none at the end.
    pub(super) fn next(&mut self, oid: &str) -> Result<Option<Row>> {
        self.ping()?;
        self.input.write_all(format!("getnext\n{oid}\n").as_bytes())?;
        let oid = self.text()?;
        if oid == "NONE" {
            return Ok(None);
        }
        Ok(Some(Row { oid, kind: self.text()?, value: self.line()? }))
    }

    fn text(&mut self) -> Result<String> {
        Ok(String::from_utf8(self.line()?)?)
    }

    fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        self.output.read_until(b'\n', &mut line)?;
        ensure!(line.pop() == Some(b'\n'), "the responder has ended");
        Ok(line)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
