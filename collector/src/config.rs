//! The daemon's settings: `/etc/lbstatd/lbstatd.toml`, overridden by flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use lbstats::Oid;
use lbstats::schema::LBSTATD_ROOT;
use serde::{Deserialize, Deserializer};
use snmp_export::Tree;

use crate::collect::Ebpf;
use crate::control;

/// The file that is read where `--config` names none; it need not exist.
pub const DEFAULT_FILE: &str = "/etc/lbstatd/lbstatd.toml";

/// The stats socket of HAProxy Enterprise's SNMP module, the default where no other is named.
pub const DEFAULT_STATS_SOCKET: &str = "/var/run/hapee-extras/hapee-lb.sock";

const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// Settings as one source gives them: the file, or the flags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// HAProxy's stats socket; repeat it for several processes [default: /var/run/hapee-extras/hapee-lb.sock]
    #[arg(long, value_name = "PATH")]
    pub stats_socket: Vec<PathBuf>,
    /// Serve Prometheus on this address [default: off]
    #[arg(long, value_name = "ADDR:PORT")]
    pub prometheus: Option<SocketAddr>,
    /// Socket for the other commands [default: /run/lbstatd/control.sock]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Permissions of that socket, octal [default: 0666; nothing can be changed through it]
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    #[serde(deserialize_with = "mode")]
    pub control_mode: Option<u32>,
    /// Kernel counters: auto reports why there are none, on refuses to start without [default: auto]
    #[arg(long, value_name = "auto|on|off")]
    pub ebpf: Option<Ebpf>,
    /// Let the kernel measure how long the eBPF programs run; needs CAP_SYS_ADMIN at the start [default: false]
    #[arg(long)]
    pub ebpf_stats: bool,
    /// Time between two collections, from 10ms [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub interval: Option<Duration>,
    /// Root of LBSTATD-MIB in the daemon's SNMP faces [default: 1.3.6.1.4.1.8072.9999.9999.4300]
    #[arg(long, value_name = "OID", value_parser = parse_root)]
    #[serde(deserialize_with = "root")]
    pub mib_root: Option<Oid>,
}

impl Settings {
    /// The settings in a file.
    ///
    /// # Errors
    /// In one line, with the file, the line and what is wrong there.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {shown}: check the path and its permissions"))?;
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            anyhow::anyhow!("{shown}:{line}: {}", error.message().replace('\n', " "))
        })
    }

    /// These settings, and what they leave open as `other` says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            stats_socket: if self.stats_socket.is_empty() { other.stats_socket } else { self.stats_socket },
            prometheus: self.prometheus.or(other.prometheus),
            control: self.control.or(other.control),
            control_mode: self.control_mode.or(other.control_mode),
            ebpf: self.ebpf.or(other.ebpf),
            ebpf_stats: self.ebpf_stats || other.ebpf_stats,
            interval: self.interval.or(other.interval),
            mib_root: self.mib_root.or(other.mib_root),
        }
    }

    /// The stats sockets to read.
    pub fn stats_sockets(&self) -> Vec<PathBuf> {
        if self.stats_socket.is_empty() { vec![DEFAULT_STATS_SOCKET.into()] } else { self.stats_socket.clone() }
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.control.clone().unwrap_or_else(|| control::DEFAULT_PATH.into())
    }

    /// Permissions of the control socket.
    pub fn control_mode(&self) -> u32 {
        self.control_mode.unwrap_or(0o666)
    }

    /// The root of LBSTATD-MIB.
    pub fn mib_root(&self) -> &[u32] {
        self.mib_root.as_deref().unwrap_or(LBSTATD_ROOT)
    }

    /// Time between two collections.
    pub fn interval(&self) -> Duration {
        self.interval.unwrap_or(Duration::from_secs(1))
    }
}

/// Reads a duration as `1s` or `250ms`, for an interval.
///
/// # Errors
/// What is wrong with it.
pub fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    let duration = humantime::parse_duration(text).with_context(|| format!("`{text}` is no duration such as 1s"))?;
    if duration < SHORTEST_INTERVAL {
        bail!("`{text}` is shorter than 10ms");
    }
    Ok(duration)
}

/// Reads the root of LBSTATD-MIB, an OID in numeric form that overlaps no other subtree.
///
/// # Errors
/// What is wrong with it.
pub fn parse_root(text: &str) -> anyhow::Result<Oid> {
    let root: Oid =
        text.parse().with_context(|| format!("`{text}` is no OID such as 1.3.6.1.4.1.8072.9999.9999.4300"))?;
    Tree::new(false, &root)?;
    Ok(root)
}

fn parse_mode(text: &str) -> anyhow::Result<u32> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => bail!("`{text}` is no octal mode such as 0660"),
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).map_err(|error| serde::de::Error::custom(format!("{error:#}")))
}

fn root<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Oid>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_root(&text).map(Some).map_err(|error| serde::de::Error::custom(format!("{error:#}")))
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_mode(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let name = file.path().display().to_string();
        Settings::read(file.path()).map_err(|error| format!("{error:#}").replace(&name, "FILE"))
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = read("stats-socket = [\"/a\", \"/b\"]\ninterval = \"250ms\"\ncontrol-mode = \"0660\"\n").unwrap();
        let flags = Settings { stats_socket: vec!["/c".into()], ebpf: Some(Ebpf::Off), ..Settings::default() };
        let settings = flags.or(file);
        assert_eq!(settings.stats_sockets(), [PathBuf::from("/c")]);
        assert_eq!(settings.interval(), Duration::from_millis(250));
        assert_eq!(settings.control_mode(), 0o660);
        assert_eq!(settings.ebpf, Some(Ebpf::Off));
        assert_eq!(settings.control(), PathBuf::from("/run/lbstatd/control.sock"));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, complaint) in [
            ("\nprometeus = \"127.0.0.1:1\"\n", "FILE:2: unknown field `prometeus`"),
            ("interval = \"1ms\"", "FILE:1: `1ms` is shorter than 10ms"),
            ("interval = \"soon\"", "FILE:1: `soon` is no duration such as 1s"),
            ("\n\nprometheus = \"nowhere\"", "FILE:3: invalid socket address syntax"),
            ("mib-root = \"1.3.6.1.4.1.23263\"", "FILE:1: the root .1.3.6.1.4.1.23263 of LBSTATD-MIB overlaps"),
            ("mib-root = \"here\"", "FILE:1: `here` is no OID"),
            ("control-mode = \"8\"", "FILE:1: `8` is no octal mode"),
            ("ebpf = \"maybe\"", "FILE:1: unknown variant `maybe`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(complaint) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_one_line() {
        let error = format!("{:#}", Settings::read(Path::new("/nonexistent/x.toml")).unwrap_err());
        assert!(error.contains("/nonexistent/x.toml") && error.contains("No such file") && !error.contains('\n'));
    }
}
