//! What the engine counts, and the scalars in which managers read it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use lbstats::Value;

use super::engine::Engine;

/// What is counted, in the order of their objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Messages of another security model.
    UnknownSecurityModels,
    /// Messages that want privacy without authentication.
    InvalidMsgs,
    /// PDUs of a kind or for an engine that nobody here answers for.
    UnknownPduHandlers,
    /// Messages for a context that is not available now; there is none such here.
    UnavailableContexts,
    /// Messages for a context that is none.
    UnknownContexts,
    /// Messages of a security level that their user has no keys for.
    UnsupportedSecLevels,
    /// Authentic messages that are too old, or from before a restart.
    NotInTimeWindows,
    /// Messages of users that are none.
    UnknownUserNames,
    /// Messages for another engine: discovery begins with one.
    UnknownEngineIds,
    /// Messages that are not authentic.
    WrongDigests,
    /// Authentic messages that cannot be decrypted.
    DecryptionErrors,
}

/// How often each has happened since the start. Anybody may count at any time, without waiting.
#[derive(Debug, Default)]
pub struct Stats([AtomicU32; COUNTERS.len()]);

type Object = (Counter, &'static [u32]);

/// snmpMPDStats (RFC 3412), snmpTargetObjects (RFC 3413), usmStats (RFC 3414).
#[rustfmt::skip] // An object to a line.
const COUNTERS: [Object; 11] = [
    (Counter::UnknownSecurityModels, &[1, 3, 6, 1, 6, 3, 11, 2, 1, 1, 0]),
    (Counter::InvalidMsgs,           &[1, 3, 6, 1, 6, 3, 11, 2, 1, 2, 0]),
    (Counter::UnknownPduHandlers,    &[1, 3, 6, 1, 6, 3, 11, 2, 1, 3, 0]),
    (Counter::UnavailableContexts,   &[1, 3, 6, 1, 6, 3, 12, 1, 4, 0]),
    (Counter::UnknownContexts,       &[1, 3, 6, 1, 6, 3, 12, 1, 5, 0]),
    (Counter::UnsupportedSecLevels,  &[1, 3, 6, 1, 6, 3, 15, 1, 1, 1, 0]),
    (Counter::NotInTimeWindows,      &[1, 3, 6, 1, 6, 3, 15, 1, 1, 2, 0]),
    (Counter::UnknownUserNames,      &[1, 3, 6, 1, 6, 3, 15, 1, 1, 3, 0]),
    (Counter::UnknownEngineIds,      &[1, 3, 6, 1, 6, 3, 15, 1, 1, 4, 0]),
    (Counter::WrongDigests,          &[1, 3, 6, 1, 6, 3, 15, 1, 1, 5, 0]),
    (Counter::DecryptionErrors,      &[1, 3, 6, 1, 6, 3, 15, 1, 1, 6, 0]),
];

impl Counter {
    /// The counter of this object.
    pub(crate) fn of(oid: &[u32]) -> Option<Self> {
        COUNTERS.iter().find(|(_, object)| *object == oid).map(|(counter, _)| *counter)
    }

    /// Its object, with the 0 at the end.
    pub fn oid(self) -> &'static [u32] {
        COUNTERS[self as usize].1
    }
}

impl Stats {
    /// How often it has happened; wraps at 2^32.
    pub fn read(&self, counter: Counter) -> u32 {
        self.0[counter as usize].load(Relaxed)
    }

    /// Counts one more, and returns how many it are now.
    pub(crate) fn count(&self, counter: Counter) -> u32 {
        self.0[counter as usize].fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// The scalars of the engine (snmpEngine, RFC 3411 section 5) and of everything counted, in the order of their
    /// OIDs.
    pub fn scalars<'a>(&self, engine: &'a Engine, now: Instant) -> [(&'static [u32], Value<'a>); 15] {
        let clock = engine.clock(now);
        let integer = |number: u32| Value::Integer(i32::try_from(number).unwrap_or(i32::MAX));
        let mut scalars = [(&[][..], Value::Integer(0)); 15];
        scalars[..4].copy_from_slice(&[
            (&[1, 3, 6, 1, 6, 3, 10, 2, 1, 1, 0], Value::OctetString(engine.id().octets())),
            (&[1, 3, 6, 1, 6, 3, 10, 2, 1, 2, 0], integer(clock.boots)),
            (&[1, 3, 6, 1, 6, 3, 10, 2, 1, 3, 0], integer(clock.time)),
            (&[1, 3, 6, 1, 6, 3, 10, 2, 1, 4, 0], integer(engine.max_size())),
        ]);
        for ((counter, oid), scalar) in COUNTERS.iter().zip(&mut scalars[4..]) {
            *scalar = (oid, Value::Counter32(self.read(*counter)));
        }
        scalars
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usm::EngineId;

    #[test]
    fn each_counter_is_read_under_its_own_object() {
        let stats = Stats::default();
        for (place, (counter, oid)) in COUNTERS.iter().enumerate() {
            assert_eq!((*counter as usize, counter.oid()), (place, *oid));
            assert_eq!(Counter::of(oid), Some(*counter));
            (0..place).for_each(|_| drop(stats.count(*counter)));
        }
        let engine = Engine::start(EngineId::from_random([1; 12]), 7);
        let scalars = stats.scalars(&engine, Instant::now());
        assert!(scalars.is_sorted_by(|one, next| one.0 < next.0), "{scalars:?}");
        assert_eq!(scalars[1].1, Value::Integer(7));
        assert_eq!(scalars[14].1, Value::Counter32(10));
    }
}
