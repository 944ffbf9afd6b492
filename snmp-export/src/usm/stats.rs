//! What the engine counts, and the objects in which managers read it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

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
pub struct Stats([AtomicU32; Counter::ALL.len()]);

/// snmpMPDStats (RFC 3412), snmpTargetObjects (RFC 3413), usmStats (RFC 3414).
#[rustfmt::skip] // An object to a line.
const COUNTERS: [(Counter, &[u32]); Counter::ALL.len()] = [
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
    /// All of them, in the order of their objects.
    pub const ALL: [Self; 11] = [
        Self::UnknownSecurityModels,
        Self::InvalidMsgs,
        Self::UnknownPduHandlers,
        Self::UnavailableContexts,
        Self::UnknownContexts,
        Self::UnsupportedSecLevels,
        Self::NotInTimeWindows,
        Self::UnknownUserNames,
        Self::UnknownEngineIds,
        Self::WrongDigests,
        Self::DecryptionErrors,
    ];

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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_has_its_own_object_and_count() {
        let stats = Stats::default();
        for (place, (counter, oid)) in COUNTERS.iter().enumerate() {
            assert_eq!((*counter as usize, Counter::ALL[place], counter.oid()), (place, *counter, *oid));
            assert_eq!(Counter::of(oid), Some(*counter));
            for times in 0..place {
                assert_eq!(stats.count(*counter) as usize, times + 1);
            }
        }
        assert!(COUNTERS.is_sorted_by(|one, next| one.1 < next.1));
        assert_eq!(stats.read(Counter::UnknownSecurityModels), 0);
        assert_eq!(stats.read(Counter::DecryptionErrors), 10);
        assert_eq!(Counter::of(&[1, 3]), None);
    }
}
