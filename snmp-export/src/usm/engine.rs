//! The engine: its identity, and the clock that tells fresh messages from stale ones.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// An snmpEngineID: 5 to 32 octets, neither all zero nor all 0xff (RFC 3411 section 5).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EngineId(Box<[u8]>);

/// The octets are no snmpEngineID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an engine ID is 5 to 32 octets in hexadecimal, neither all 00 nor all ff")]
pub struct NoEngineId;

impl EngineId {
    /// An ID of one's own from random octets, to be kept: RFC 3411's format 5 (octets) below the enterprise number of
    /// net-snmp (8072), in whose playpen the project's objects live, since it has no number of its own.
    pub fn from_random(octets: [u8; 12]) -> Self {
        let mut id = vec![0x80, 0x00, 0x1f, 0x88, 0x05];
        id.extend_from_slice(&octets);
        Self(id.into())
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for EngineId {
    type Error = NoEngineId;

    fn try_from(octets: &[u8]) -> Result<Self, NoEngineId> {
        let all = |octet| octets.iter().all(|other| *other == octet);
        let valid = (5..=32).contains(&octets.len()) && !all(0) && !all(0xff);
        if valid { Ok(Self(octets.into())) } else { Err(NoEngineId) }
    }
}

/// Takes hexadecimal, with or without `0x` in front, as net-snmp's tools do.
impl FromStr for EngineId {
    type Err = NoEngineId;

    fn from_str(text: &str) -> Result<Self, NoEngineId> {
        let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
        let octet = |pair: &[u8]| {
            let digit = |place: usize| pair.get(place).and_then(|digit| char::from(*digit).to_digit(16));
            u8::try_from(digit(0)? * 16 + digit(1)?).ok()
        };
        let octets: Option<Vec<u8>> = digits.chunks(2).map(octet).collect();
        Self::try_from(&octets.ok_or(NoEngineId)?[..])
    }
}

/// In hexadecimal, without a prefix.
impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The time of an engine as messages carry it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clock {
    /// snmpEngineBoots: 0 to 2147483647; at the end of this range no message is fresh any more.
    pub boots: u32,
    /// snmpEngineTime: seconds since the engine began with this `boots`, 0 to 2147483647.
    pub time: u32,
}

/// Where snmpEngineBoots and snmpEngineTime end.
pub(crate) const LATCHED: u32 = i32::MAX as u32;

/// How far a message's time may be from the engine's, in seconds (RFC 3414 section 2.2.3).
pub(crate) const TIME_WINDOW: u32 = 150;

impl Clock {
    /// Whether a message that carries this time is fresh for the authoritative engine whose time is `now`
    /// (RFC 3414 section 3.2 step 7a).
    pub(crate) fn is_fresh_at(self, now: Self) -> bool {
        now.boots != LATCHED && self.boots == now.boots && self.time.abs_diff(now.time) <= TIME_WINDOW
    }

    /// The time this clock shows so much later; where the seconds end, one boot more begins (RFC 3414 section 2.2.2).
    pub(crate) fn later(self, elapsed: Duration) -> Self {
        if self.boots >= LATCHED {
            return Self { boots: LATCHED, ..self };
        }
        let seconds = u64::from(self.time) + elapsed.as_secs();
        let turns = u32::try_from(seconds / (u64::from(LATCHED) + 1)).unwrap_or(LATCHED);
        let time = u32::try_from(seconds % (u64::from(LATCHED) + 1)).unwrap_or(LATCHED);
        Self { boots: self.boots.saturating_add(turns).min(LATCHED), time }
    }
}

/// This SNMP engine, authoritative for what it answers and for the traps it sends.
#[derive(Clone, Debug)]
pub struct Engine {
    id: EngineId,
    boots: u32,
    started: Instant,
    max_size: u32,
}

impl Engine {
    /// The longest message it sends and takes, in octets, if nothing else is said: what fits into a UDP datagram over
    /// IPv4.
    pub const MAX_SIZE: u32 = 65_507;

    /// The engine of this ID, which starts now for the `boots`th time: a number that was never used with it before.
    pub fn start(id: EngineId, boots: u32) -> Self {
        Self { id, boots: boots.min(LATCHED), started: Instant::now(), max_size: Self::MAX_SIZE }
    }

    /// The same with another limit to its messages: 484 (RFC 3412 section 6.3) to [`Self::MAX_SIZE`] octets.
    #[must_use]
    pub fn with_max_size(self, octets: u32) -> Self {
        Self { max_size: octets.clamp(484, Self::MAX_SIZE), ..self }
    }

    /// Its snmpEngineID.
    pub fn id(&self) -> &EngineId {
        &self.id
    }

    /// Its snmpEngineMaxMessageSize, in octets.
    pub fn max_size(&self) -> u32 {
        self.max_size
    }

    /// Its snmpEngineBoots and snmpEngineTime.
    pub fn clock(&self, now: Instant) -> Clock {
        Clock { boots: self.boots, time: 0 }.later(now.saturating_duration_since(self.started))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_shown() {
        let id = EngineId::from_random([0xab; 12]);
        assert_eq!(id.to_string(), "80001f8805abababababababababababab");
        assert_eq!(format!("0x{id}").parse(), Ok(id));
        for text in ["", "8000", "80001f880", "80001f88zz", "0000000000", "ffffffffff", &"80".repeat(33), "80001f88é"]
        {
            assert_eq!(text.parse::<EngineId>(), Err(NoEngineId), "{text}");
        }
    }

    #[test]
    fn a_message_is_fresh_within_150_seconds_of_the_same_boot() {
        let now = Clock { boots: 3, time: 1000 };
        for (boots, time, fresh) in
            [(3, 1000, true), (3, 850, true), (3, 849, false), (3, 1150, true), (3, 1151, false), (2, 1000, false)]
        {
            assert_eq!(Clock { boots, time }.is_fresh_at(now), fresh, "{boots} {time}");
        }
        let latched = Clock { boots: LATCHED, time: 5 };
        assert!(!latched.is_fresh_at(latched));
    }

    #[test]
    fn seconds_that_end_begin_another_boot() {
        let clock = Clock { boots: 3, time: 5 };
        assert_eq!(clock.later(Duration::from_millis(1999)), Clock { boots: 3, time: 6 });
        assert_eq!(clock.later(Duration::from_secs(1 << 31)), Clock { boots: 4, time: 5 });
        assert_eq!(Clock { boots: LATCHED - 1, time: 0 }.later(Duration::from_secs(5 << 31)).boots, LATCHED);
        let latched = Clock { boots: LATCHED, time: 7 };
        assert_eq!(latched.later(Duration::from_secs(1 << 40)), latched);
    }
}
