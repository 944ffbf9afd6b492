//! The programs in C that lbstatd is measured against.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::responder::Row;

/// A pass_persist responder with these rows compiled in.
pub(super) fn pass_persist(dir: &Path, rows: &[Row]) -> Result<PathBuf> {
    write_rows(dir, rows, |Row { oid, kind, .. }, value| format!("{{\"{oid}\", \"{kind}\", \"{value}\"}}"))?;
    compile(dir, "passpersist", &["-Wextra", "-Werror"])
}

/// An AgentX subagent with these rows compiled in.
pub(super) fn agentx(dir: &Path, rows: &[Row]) -> Result<PathBuf> {
    let of = |Row { oid, kind, .. }: &Row, value| format!("{{\"{oid}\", \"{value}\", {}}}", kind.to_uppercase());
    write_rows(dir, rows, of)?;
    compile(dir, "agentx_table", &["-lnetsnmpmibs", "-lnetsnmpagent", "-lnetsnmp"])
}

/// A UDP echo.
pub(super) fn echo(dir: &Path) -> Result<PathBuf> {
    compile(dir, "udpecho", &["-Wextra", "-Werror"])
}

/// Writes `rows.h`: of each row, what `initializer` makes of it and its value as the inside of a C string.
fn write_rows(dir: &Path, rows: &[Row], initializer: impl Fn(&Row, String) -> String) -> Result<()> {
    let mut header = String::new();
    for row in rows {
        // Three octal digits cannot run into what follows.
        let octets = row.value.iter().map(|octet| match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'.' => char::from(*octet).to_string(),
            octet => format!("\\{octet:03o}"),
        });
        writeln!(header, "{},", initializer(row, octets.collect()))?;
    }
    Ok(std::fs::write(dir.join("rows.h"), header)?)
}

fn compile(dir: &Path, name: &str, options: &[&str]) -> Result<PathBuf> {
    let program = dir.join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("bench/{name}.c"));
    let status = Command::new("cc")
        .args(["-O2", "-Wall", "-I"])
        .args([dir, Path::new("-o"), &program, &source])
        .args(options)
        .status()
        .context("cannot start cc")?;
    ensure!(status.success(), "cc: {status}");
    Ok(program)
}
