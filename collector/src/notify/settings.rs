//! `[notify]` and `[[trap]]` of the configuration.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use snmp_export::usm::SecurityLevel;

use super::damp::Limits;
use super::detect::Rules;
use super::event::Kind;
use super::pressure::Thresholds;

/// The UDP port of notifications (RFC 3417 section 3).
const TRAP_PORT: u16 = 162;

/// What is told, and from when on: the table `[notify]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct NotifySettings {
    /// Kinds that are never told.
    pub off: Vec<Kind>,
    /// Whether notifications go to the AgentX master as well.
    pub agentx: bool,
    /// How long a server, backend or frontend must be in another state before that is told.
    #[serde(deserialize_with = "duration")]
    pub hold: Duration,
    /// How long a surge or flood must be over before that is told.
    #[serde(deserialize_with = "duration")]
    pub quiet: Duration,
    /// Sessions in percent of a frontend's limit at or below which it is open again.
    #[serde(deserialize_with = "percent")]
    pub open_below: u32,
    /// Accept queue in percent of its limit from which on there is a surge.
    #[serde(deserialize_with = "percent")]
    pub surge_on: u32,
    /// Accept queue in percent of its limit up to which there is none.
    #[serde(deserialize_with = "percent")]
    pub surge_off: u32,
    /// SYN queue in percent of its limit from which on there is a flood.
    #[serde(deserialize_with = "percent")]
    pub synflood_backlog: u32,
    /// SYNs dropped a second from which on there is a flood.
    #[serde(deserialize_with = "positive")]
    pub synflood_drops: u32,
    /// SYN-ACKs repeated a second from which on there is a flood.
    #[serde(deserialize_with = "positive")]
    pub synflood_retransmits: u32,
    /// An object that was told of so often within `flap-window` flaps.
    #[serde(deserialize_with = "positive")]
    pub flap_changes: u32,
    /// See `flap-changes`.
    #[serde(deserialize_with = "duration")]
    pub flap_window: Duration,
    /// An object that flaps is told to be good after so long.
    #[serde(deserialize_with = "duration")]
    pub flap_hold: Duration,
    /// Notifications a second.
    #[serde(deserialize_with = "positive")]
    pub rate: u32,
}

/// A receiver of notifications: a table `[[trap]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Table")]
pub struct Receiver {
    /// Where it listens.
    pub to: SocketAddr,
    /// How it is spoken to.
    pub security: Security,
    /// Whether each notification must be acknowledged.
    pub inform: bool,
    /// How long to wait for the first acknowledgement; each further one takes twice as long.
    pub timeout: Duration,
    /// How often to send an inform again.
    pub retries: u32,
}

/// Version of SNMP, and what opens the receiver's door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// SNMPv1 (RFC 1157), with the community's name.
    V1(Community),
    /// SNMPv2c (RFC 1901).
    V2c(Community),
    /// SNMPv3 with this user, of the users' file.
    V3 {
        /// Name of the user.
        user: String,
        /// Its level.
        level: SecurityLevel,
    },
}

/// The name of a community, which is as good as a password: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Community(pub String);

impl Default for NotifySettings {
    fn default() -> Self {
        Self {
            off: Vec::new(),
            agentx: true,
            hold: Duration::from_secs(3),
            quiet: Duration::from_secs(10),
            open_below: 90,
            surge_on: 80,
            surge_off: 50,
            synflood_backlog: 80,
            synflood_drops: 100,
            synflood_retransmits: 100,
            flap_changes: 6,
            flap_window: Duration::from_secs(600),
            flap_hold: Duration::from_secs(120),
            rate: 10,
        }
    }
}

impl NotifySettings {
    /// The rules that these settings make.
    pub fn rules(&self) -> Rules {
        Rules {
            off: self.off.iter().copied().collect::<HashSet<Kind>>(),
            hold: self.hold,
            quiet: self.quiet,
            open_below: self.open_below,
            thresholds: Thresholds {
                surge_on: self.surge_on,
                // Below the other, whatever was set.
                surge_off: self.surge_off.min(self.surge_on.saturating_sub(1)),
                flood_backlog: self.synflood_backlog,
                flood_drops: self.synflood_drops,
                flood_retransmits: self.synflood_retransmits,
            },
            limits: Limits {
                flap_changes: self.flap_changes as usize,
                flap_window: self.flap_window,
                flap_hold: self.flap_hold,
                rate: self.rate,
            },
        }
    }
}

impl fmt::Debug for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Community(…)")
    }
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:1162`, `2001:db8::1`, `[2001:db8::1]:1162`. The flag
/// `--trap` takes it for SNMPv2c with community `public`.
impl FromStr for Receiver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { to: address(text)?, security: Security::V2c(Community("public".to_owned())), ..Self::blank() })
    }
}

impl Receiver {
    fn blank() -> Self {
        Self {
            to: SocketAddr::from(([0, 0, 0, 0], 0)),
            security: Security::V2c(Community(String::new())),
            inform: false,
            timeout: Duration::from_secs(2),
            retries: 3,
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    (bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, TRAP_PORT))).or_else(|_| text.parse::<SocketAddr>()).map_err(
        |_| format!("`{text}` is no IP address with or without a port, such as 192.0.2.1 or [2001:db8::1]:162"),
    )
}

/// The table as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    to: String,
    #[serde(default)]
    version: Version,
    community: Option<String>,
    user: Option<String>,
    #[serde(default, deserialize_with = "level")]
    level: Option<SecurityLevel>,
    #[serde(default)]
    inform: bool,
    #[serde(default, deserialize_with = "some_duration")]
    timeout: Option<Duration>,
    retries: Option<u32>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum Version {
    #[serde(rename = "v1")]
    V1,
    #[default]
    #[serde(rename = "v2c")]
    V2c,
    #[serde(rename = "v3")]
    V3,
}

impl TryFrom<Table> for Receiver {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let Table { to, version, community, user, level, inform, timeout, retries } = table;
        let to = address(&to)?;
        if version == Version::V1 && inform {
            return Err(format!("trap to {to}: version v1 has no informs; use v2c or v3"));
        }
        let security = match (version, community, user) {
            (Version::V3, None, Some(user)) => Security::V3 { user, level: level.unwrap_or(SecurityLevel::AuthPriv) },
            (Version::V3, ..) => return Err(format!("trap to {to}: version v3 takes a user and no community")),
            (_, Some(community), None) if level.is_none() => {
                let community = Community(community);
                if version == Version::V1 { Security::V1(community) } else { Security::V2c(community) }
            }
            _ => return Err(format!("trap to {to}: versions v1 and v2c take a community, no user and no level")),
        };
        let blank = Self::blank();
        let (timeout, retries) = (timeout.unwrap_or(blank.timeout), retries.unwrap_or(blank.retries));
        if timeout.is_zero() || timeout > Duration::from_secs(60) || retries > 10 {
            return Err(format!("trap to {to}: timeout is up to 60s and retries up to 10"));
        }
        Ok(Self { to, security, inform, timeout, retries })
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = humantime::parse_duration(&text);
    duration.map_err(|_| serde::de::Error::custom(format!("`{text}` is no duration such as 3s")))
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecurityLevel>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        percent @ 1..=100 => Ok(percent),
        other => Err(serde::de::Error::custom(format!("{other} is no percentage from 1 to 100"))),
    }
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(serde::de::Error::custom("0 is too few: 1 at least")),
        number @ 1..=1_000_000 => Ok(number),
        other => Err(serde::de::Error::custom(format!("{other} is too many: 1000000 at most"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(text: &str) -> Result<Receiver, String> {
        toml::from_str::<Receiver>(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn receivers_are_read_with_their_defaults() {
        let read = receiver("to = \"192.0.2.1\"\ncommunity = \"c\"").unwrap();
        assert_eq!(read, Receiver { security: Security::V2c(Community("c".into())), ..receiver_of("192.0.2.1:162") });
        let read = receiver("to = \"[2001:db8::1]:1162\"\nversion = \"v3\"\nuser = \"u\"\ninform = true\nretries = 0");
        let expected = Receiver {
            security: Security::V3 { user: "u".into(), level: SecurityLevel::AuthPriv },
            inform: true,
            retries: 0,
            ..receiver_of("[2001:db8::1]:1162")
        };
        assert_eq!(read.unwrap(), expected);
        for text in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:162"] {
            assert_eq!(text.parse::<Receiver>(), Ok(receiver_of("[2001:db8::1]:162")), "{text}");
        }
    }

    fn receiver_of(text: &str) -> Receiver {
        text.parse().unwrap()
    }

    #[test]
    fn contradictions_are_refused() {
        for (text, complaint) in [
            ("community = \"c\"", "missing field `to`"),
            ("to = \"receiver.example\"\ncommunity = \"c\"", "`receiver.example` is no IP address"),
            ("to = \"::1\"", "trap to [::1]:162: versions v1 and v2c take a community"),
            ("to = \"::1\"\ncommunity = \"c\"\nlevel = \"authPriv\"", "trap to [::1]:162: versions v1 and v2c take"),
            ("to = \"::1\"\nversion = \"v3\"\ncommunity = \"c\"", "trap to [::1]:162: version v3 takes a user"),
            (
                "to = \"::1\"\nversion = \"v1\"\ncommunity = \"c\"\ninform = true",
                "trap to [::1]:162: version v1 has no",
            ),
            ("to = \"::1\"\nversion = \"v4\"", "unknown variant `v4`"),
            ("to = \"::1\"\nversion = \"v3\"\nuser = \"u\"\nlevel = \"high\"", "`high` is no security level"),
            ("to = \"::1\"\ncommunity = \"c\"\nretrys = 1", "unknown field `retrys`"),
            ("to = \"::1\"\ncommunity = \"c\"\ntimeout = \"1h\"", "trap to [::1]:162: timeout is up to 60s"),
        ] {
            let error = receiver(text).unwrap_err();
            assert!(error.starts_with(complaint), "{text}: {error}");
        }
    }

    #[test]
    fn a_community_is_never_shown() {
        let receiver = receiver("to = \"::1\"\ncommunity = \"secret\"").unwrap();
        assert!(!format!("{receiver:?}").contains("secret"));
        let error = super::tests::receiver("to = \"::1\"\nversion = \"v3\"\ncommunity = \"secret\"").unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn settings_are_checked() {
        let read = |text: &str| toml::from_str::<NotifySettings>(text).map_err(|error| error.message().to_owned());
        assert_eq!(read("").unwrap(), NotifySettings::default());
        let settings = read("off = [\"serverup\", \"surgeoff\"]\nhold = \"0s\"\nsurge-on = 40").unwrap();
        assert_eq!(settings.off, [Kind::ServerUp, Kind::SurgeOff]);
        assert_eq!((settings.hold, settings.rules().thresholds.surge_off), (Duration::ZERO, 39));
        for (text, complaint) in [
            ("off = [\"serverdwn\"]", "unknown variant `serverdwn`"),
            ("hold = \"soon\"", "`soon` is no duration such as 3s"),
            ("surge-on = 101", "101 is no percentage from 1 to 100"),
            ("rate = 0", "0 is too few"),
            ("treshold = 1", "unknown field `treshold`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(complaint), "{text}: {error}");
        }
    }
}
