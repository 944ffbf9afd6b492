//! A Prometheus server of one's own, and promtool.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::loopback::{address, http_get};
use crate::packages::find_program;
use crate::process::{Output, Process};

/// A server that scrapes one target every second.
#[derive(Debug)]
pub struct Prometheus {
    _process: Process,
    address: SocketAddr,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start; with what it said.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let dir = TempDir::with_prefix("lbstatd-prometheus-")?;
        let config = dir.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs: [{{job_name: lbstatd, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let address = address();
        let mut process = Process::start("prometheus", dir.path().join("prometheus.log"), |command| {
            command
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
                .arg(format!("--web.listen-address={address}"))
        })?;
        process.wait_ready(|| http_get(address, "/-/ready").map(|_| ()))?;
        Ok(Self { _process: process, address, _dir: dir })
    }

    /// The value of the one series that an instant query selects.
    ///
    /// # Errors
    /// When it selects none or several.
    pub fn query(&self, query: &str) -> Result<f64> {
        let body = http_get(self.address, &format!("/api/v1/query?query={}", percent_encode(query)))?;
        let answer: Value = serde_json::from_str(&body).with_context(|| format!("{query}: {body}"))?;
        match answer["data"]["result"].as_array().map(Vec::as_slice) {
            Some([series]) => {
                let value = series["value"][1].as_str().context("a series without a value")?;
                value.parse().with_context(|| format!("{query}: {value}"))
            }
            _ => bail!("{query} does not select one series: {body}"),
        }
    }
}

/// What `promtool check metrics` says about a text in the exposition format.
///
/// # Errors
/// When promtool cannot be started; complaints are in its output.
pub fn promtool_check(exposition: &str) -> Result<Output> {
    let promtool = find_program("promtool").context("there is no promtool here; `cargo xtask test` installs it")?;
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start promtool")?;
    // It reads everything before it says anything.
    child.stdin.take().context("promtool's standard input")?.write_all(exposition.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|octet| match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(octet).to_string(),
            _ => format!("%{octet:02X}"),
        })
        .collect()
}
