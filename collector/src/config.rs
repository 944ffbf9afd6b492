//! The daemon's settings: `/etc/lbstatd/lbstatd.toml`, overridden by flags.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use ipnet::IpNet;
use lbstats::Oid;
use lbstats::schema::LBSTATD_ROOT;
use serde::{Deserialize, Deserializer};
use snmp_export::Tree;
use snmp_export::agent::Community;

use crate::agentx::Master;
use crate::collect::Ebpf;
use crate::control;
use crate::notify::{NotifySettings, Receiver};

/// The file that is read where `--config` names none; it need not exist.
pub const DEFAULT_FILE: &str = "/etc/lbstatd/lbstatd.toml";

/// The stats socket of HAProxy Enterprise's SNMP module, the default where no other is named.
pub const DEFAULT_STATS_SOCKET: &str = "/var/run/hapee-extras/hapee-lb.sock";

const DEFAULT_STATE_DIR: &str = "/var/lib/lbstatd";

/// An Ethernet frame without the headers of IPv4 and UDP.
const DEFAULT_SNMP_SIZE: u16 = 1472;
/// What every manager and agent can take (RFC 3417 section 3.2.1), and what UDP can carry.
const SNMP_SIZES: RangeInclusive<u16> = 484..=65507;

/// As the usual `--max-age` of `pass-persist`.
const MAX_AGE: Duration = Duration::from_secs(60);
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
    /// Serve SNMP through the AgentX master (snmpd) at this socket: /var/agentx/master, or tcp:127.0.0.1:705
    /// [default: off]
    #[arg(long, value_name = "PATH|tcp:ADDR:PORT")]
    pub agentx: Option<Master>,
    /// Serve the ALOHA twin of lbStats (1.3.6.1.4.1.23263.4.2.1.3) and the product's name as well, through the AgentX
    /// master and to managers that ask the daemon itself
    #[arg(long)]
    pub aloha: bool,
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
    /// Answer SNMP on this UDP address; repeat it for several [default: off]
    #[arg(long, value_name = "ADDR:PORT")]
    pub snmp_listen: Vec<SocketAddr>,
    /// Community of SNMPv1 and v2c that may read; repeat it for several. Anybody on this host sees it in the list of
    /// processes: the configuration file is the better place [default: none, and nobody is answered]
    #[arg(long, value_name = "NAME", value_parser = parse_community)]
    #[serde(deserialize_with = "communities")]
    pub community: Vec<Community>,
    /// Answer SNMP only to managers in this network; repeat it for several [default: all]
    #[arg(long, value_name = "ADDR[/LENGTH]", value_parser = parse_network)]
    #[serde(deserialize_with = "networks")]
    pub snmp_from: Vec<IpNet>,
    /// Show only this subtree over SNMP; repeat it for several [default: everything]
    #[arg(long, value_name = "OID", value_parser = parse_oid)]
    #[serde(deserialize_with = "oids")]
    pub snmp_view: Vec<Oid>,
    /// Threads that answer SNMP on each address [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub snmp_workers: Option<NonZeroUsize>,
    /// Octets of the largest SNMP message that is sent, 484 to 65507 [default: 1472, what one Ethernet frame takes]
    #[arg(long, value_name = "OCTETS", value_parser = parse_size)]
    #[serde(deserialize_with = "max_size")]
    pub snmp_max_size: Option<u16>,
    /// Whom to ask about this host: sysContact [default: empty]
    #[arg(long, value_name = "TEXT")]
    pub sys_contact: Option<String>,
    /// Where this host is: sysLocation [default: empty]
    #[arg(long, value_name = "TEXT")]
    pub sys_location: Option<String>,
    /// Name of this host: sysName [default: its host name]
    #[arg(long, value_name = "TEXT")]
    pub sys_name: Option<String>,
    /// Root of LBSTATD-MIB in the daemon's SNMP faces [default: 1.3.6.1.4.1.8072.9999.9999.4300]
    #[arg(long, value_name = "OID", value_parser = parse_root)]
    #[serde(deserialize_with = "root")]
    pub mib_root: Option<Oid>,
    /// Folder of what must outlive a restart: the SNMP engine [default: /var/lib/lbstatd]
    #[arg(long, value_name = "PATH")]
    pub state_dir: Option<PathBuf>,
    /// File of the SNMPv3 users, which `lbstatd user` writes [default: snmp-users.toml in the state directory]
    #[arg(long, value_name = "PATH")]
    pub snmp_users: Option<PathBuf>,
    /// Send notifications to this receiver as SNMPv2c traps of community public, to port 162 if none is given; repeat it
    /// for several. The configuration file knows more [default: none]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub trap: Vec<Receiver>,
    /// What is told in notifications.
    #[arg(skip)]
    pub notify: Option<NotifySettings>,
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

    /// The settings of this file, or of [`DEFAULT_FILE`] if none is named and there is one.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn configured(path: Option<&Path>) -> anyhow::Result<Self> {
        match path {
            Some(path) => Self::read(path),
            None if Path::new(DEFAULT_FILE).exists() => Self::read(Path::new(DEFAULT_FILE)),
            None => Ok(Self::default()),
        }
    }

    /// These settings, and what they leave open as `other` says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        fn list<T>(one: Vec<T>, other: Vec<T>) -> Vec<T> {
            if one.is_empty() { other } else { one }
        }
        Self {
            stats_socket: list(self.stats_socket, other.stats_socket),
            prometheus: self.prometheus.or(other.prometheus),
            agentx: self.agentx.or(other.agentx),
            aloha: self.aloha || other.aloha,
            control: self.control.or(other.control),
            control_mode: self.control_mode.or(other.control_mode),
            ebpf: self.ebpf.or(other.ebpf),
            ebpf_stats: self.ebpf_stats || other.ebpf_stats,
            interval: self.interval.or(other.interval),
            snmp_listen: list(self.snmp_listen, other.snmp_listen),
            community: list(self.community, other.community),
            snmp_from: list(self.snmp_from, other.snmp_from),
            snmp_view: list(self.snmp_view, other.snmp_view),
            snmp_workers: self.snmp_workers.or(other.snmp_workers),
            snmp_max_size: self.snmp_max_size.or(other.snmp_max_size),
            sys_contact: self.sys_contact.or(other.sys_contact),
            sys_location: self.sys_location.or(other.sys_location),
            sys_name: self.sys_name.or(other.sys_name),
            mib_root: self.mib_root.or(other.mib_root),
            state_dir: self.state_dir.or(other.state_dir),
            snmp_users: self.snmp_users.or(other.snmp_users),
            trap: list(self.trap, other.trap),
            notify: self.notify.or(other.notify),
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

    /// Age of HAProxy's statistics above which the daemon's SNMP faces do not show them any more.
    pub fn max_age(&self) -> Duration {
        // Nothing is too old that could not be younger.
        MAX_AGE.max(3 * self.interval())
    }

    /// What the daemon's SNMP faces serve.
    ///
    /// # Errors
    /// When the root of LBSTATD-MIB is in the way of another subtree.
    pub fn tree(&self) -> anyhow::Result<Arc<Tree>> {
        Ok(Arc::new(Tree::new(self.aloha, self.mib_root())?))
    }

    /// Threads that answer SNMP on each address.
    pub fn snmp_workers(&self) -> NonZeroUsize {
        self.snmp_workers.unwrap_or(NonZeroUsize::MIN)
    }

    /// Folder of what must outlive a restart.
    pub fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| DEFAULT_STATE_DIR.into())
    }

    /// File of the SNMPv3 users.
    pub fn snmp_users(&self) -> PathBuf {
        self.snmp_users.clone().unwrap_or_else(|| self.state_dir().join("snmp-users.toml"))
    }

    /// Octets of the largest SNMP message that is sent.
    pub fn snmp_max_size(&self) -> usize {
        usize::from(self.snmp_max_size.unwrap_or(DEFAULT_SNMP_SIZE))
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

fn parse_community(name: &str) -> anyhow::Result<Community> {
    if name.is_empty() {
        bail!("a community needs a name");
    }
    Ok(Community::new(name))
}

fn parse_network(text: &str) -> anyhow::Result<IpNet> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.with_context(|| format!("`{text}` is no network such as 192.0.2.0/24 or 2001:db8::/32"))
}

fn parse_oid(text: &str) -> anyhow::Result<Oid> {
    let oid = text.parse().with_context(|| format!("`{text}` is no object identifier such as 1.3.6.1.2.1"))?;
    Ok(oid)
}

fn parse_size(text: &str) -> anyhow::Result<u16> {
    match text.parse() {
        Ok(size) if SNMP_SIZES.contains(&size) => Ok(size),
        _ => bail!("`{text}` is no number from {} to {}", SNMP_SIZES.start(), SNMP_SIZES.end()),
    }
}

fn communities<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Community>, D::Error> {
    each(deserializer, parse_community)
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    each(deserializer, parse_network)
}

fn oids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Oid>, D::Error> {
    each(deserializer, parse_oid)
}

fn each<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> anyhow::Result<T>,
) -> Result<Vec<T>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parse = |text: &String| parse(text).map_err(|error| serde::de::Error::custom(format!("{error:#}")));
    texts.iter().map(parse).collect()
}

fn max_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let size = i64::deserialize(deserializer)?;
    parse_size(&size.to_string()).map(Some).map_err(serde::de::Error::custom)
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
            ("\nagentx = \"master\"", "FILE:2: `master` is neither the path of a socket"),
            ("control-mode = \"8\"", "FILE:1: `8` is no octal mode"),
            ("ebpf = \"maybe\"", "FILE:1: unknown variant `maybe`"),
            ("snmp-listen = [\"127.0.0.1\"]", "FILE:1: invalid socket address syntax"),
            ("\ncommunity = [\"\"]", "FILE:2: a community needs a name"),
            ("snmp-from = [\"10.0.0.0/33\"]", "FILE:1: `10.0.0.0/33` is no network such as"),
            ("\n\nsnmp-view = [\n\"1.3.x\"]", "FILE:3: `1.3.x` is no object identifier such as"),
            ("snmp-workers = 0", "FILE:1: invalid value: integer `0`, expected a nonzero"),
            ("snmp-max-size = 100", "FILE:1: `100` is no number from 484 to 65507"),
            ("[notify]\nhold = \"1s\"\nrates = 5", "FILE:3: unknown field `rates`"),
            ("[notify]\noff = [\n\"serverup\",\n\"servrup\"]", "FILE:4: unknown variant `servrup`"),
            ("\n[[trap]]\nto = \"here\"\ncommunity = \"secret\"", "FILE:2: `here` is no IP address"),
            ("[[trap]]\nto = \"::1\"\ncommunity = \"secret\"\ninfrm = true", "FILE:4: unknown field `infrm`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(complaint) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_agent_is_set_up() {
        let text = concat!(
            "snmp-listen = [\"127.0.0.1:161\", \"[::]:161\"]\ncommunity = [\"s3cret\"]\nsnmp-from = [\"::1\", \"10.0.0.0/8\"]\n",
            "snmp-view = [\".1.3.6.1.2.1\"]\nsnmp-workers = 4\nsnmp-max-size = 65507\nsys-name = \"lb1\"\n",
        );
        let settings = read(text).unwrap();
        assert_eq!(settings.snmp_listen.len(), 2);
        assert_eq!(settings.snmp_from, ["::1/128", "10.0.0.0/8"].map(|network| network.parse().unwrap()));
        assert_eq!(settings.snmp_view, [Oid::from(&[1, 3, 6, 1, 2, 1][..])]);
        assert_eq!((settings.snmp_workers().get(), settings.snmp_max_size()), (4, 65507));
        assert_eq!(settings.community, [Community::new("s3cret")]);
        assert!(!format!("{settings:?}").contains("s3cret"));
        assert_eq!(Settings::default().snmp_max_size(), 1472);
        assert_eq!(Settings::default().snmp_users(), PathBuf::from("/var/lib/lbstatd/snmp-users.toml"));
        assert_eq!(read("state-dir = \"/s\"").unwrap().snmp_users(), PathBuf::from("/s/snmp-users.toml"));
        assert_eq!(read("snmp-users = \"/u\"").unwrap().snmp_users(), PathBuf::from("/u"));
    }

    #[test]
    fn a_missing_file_is_one_line() {
        let error = format!("{:#}", Settings::read(Path::new("/nonexistent/x.toml")).unwrap_err());
        assert!(error.contains("/nonexistent/x.toml") && error.contains("No such file") && !error.contains('\n'));
    }
}
