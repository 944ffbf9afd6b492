//! What notifications tell: the kinds, numbered as `alTrapId` in EXCELIANCE-MIB, and one event of a kind.

use std::time::Duration;

/// What happened; the numbers are those of `alTrapId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A server is down.
    ServerDown = 201,
    /// A frontend has as many sessions as it may have.
    FrontendFull = 202,
    /// A backend has no server left.
    BackendDown = 203,
    /// A server is up again.
    ServerUp = 211,
    /// A frontend has room for sessions again.
    FrontendOpen = 212,
    /// A backend has a server again.
    BackendUp = 213,
    /// The SYN flood is over.
    SynFloodOff = 401,
    /// The surge is over.
    SurgeOff = 404,
    /// A listener's SYN queue is flooded.
    SynFloodOn = 411,
    /// A listener's accept queue fills up.
    SurgeOn = 414,
}

/// What can be in one of two states, and is told of when that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A server: down or up.
    Server,
    /// A backend: down or up.
    Backend,
    /// A frontend's sessions: full or open.
    Frontend,
    /// A frontend's accept queue: a surge or none.
    Surge,
    /// A frontend's SYN queue: a flood or none.
    SynFlood,
}

/// A notification before it is a PDU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `alTrapId`; none of a test, which is sent as `eNotificationMsg`.
    pub kind: Option<Kind>,
    /// `alTrapName`: `backend/server`, the frontend, the backend, or the address of a listener without a name.
    pub name: String,
    /// `alTrapMsg`: what happened, in words.
    pub message: String,
    /// When, since the start of the daemon: what `sysUpTime` says in the notification.
    pub uptime: Duration,
}

/// The size that the MIB gives `alTrapMsg` and `alTrapName`.
const LONGEST: usize = 255;

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::ServerDown,
        Self::FrontendFull,
        Self::BackendDown,
        Self::ServerUp,
        Self::FrontendOpen,
        Self::BackendUp,
        Self::SynFloodOff,
        Self::SurgeOff,
        Self::SynFloodOn,
        Self::SurgeOn,
    ];

    /// Its number in `alTrapId`.
    pub fn id(self) -> i32 {
        self as i32
    }

    /// Its name in `alTrapId`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerDown => "serverdown",
            Self::FrontendFull => "frontendfull",
            Self::BackendDown => "backenddown",
            Self::ServerUp => "serverup",
            Self::FrontendOpen => "frontendopen",
            Self::BackendUp => "backendup",
            Self::SynFloodOff => "synfloodoff",
            Self::SurgeOff => "surgeoff",
            Self::SynFloodOn => "synfloodon",
            Self::SurgeOn => "surgeon",
        }
    }
}

impl Class {
    /// The kind that tells of the bad state, or of the good one.
    pub fn kind(self, bad: bool) -> Kind {
        match (self, bad) {
            (Self::Server, true) => Kind::ServerDown,
            (Self::Server, false) => Kind::ServerUp,
            (Self::Backend, true) => Kind::BackendDown,
            (Self::Backend, false) => Kind::BackendUp,
            (Self::Frontend, true) => Kind::FrontendFull,
            (Self::Frontend, false) => Kind::FrontendOpen,
            (Self::Surge, true) => Kind::SurgeOn,
            (Self::Surge, false) => Kind::SurgeOff,
            (Self::SynFlood, true) => Kind::SynFloodOn,
            (Self::SynFlood, false) => Kind::SynFloodOff,
        }
    }
}

/// A text as DisplayString takes it: printable ASCII, `?` for the rest, at most 255 octets.
pub fn display_string(text: &str) -> String {
    let plain = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(LONGEST).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbered_and_named_as_in_the_mib() {
        let mib = lbstats::mib::exceliance();
        for kind in Kind::ALL {
            let entry = format!("{}({})", kind.name(), kind.id());
            assert_eq!(mib.matches(&entry).count(), 1, "{entry}");
        }
    }

    #[test]
    fn texts_are_cut_to_what_the_mib_takes() {
        assert_eq!(display_string("a\nb\u{e9} c"), "a?b? c");
        assert_eq!(display_string(&"x".repeat(300)).len(), 255);
    }
}
