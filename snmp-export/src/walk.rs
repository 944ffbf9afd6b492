//! A walk under way, and how a request finds the walk that it goes on with.

use std::time::{Duration, Instant};

use lbstats::Oid;

/// A walk, and what it is on.
#[derive(Debug)]
pub(crate) struct Walk<T> {
    pub(crate) on: T,
    /// The OID it began with.
    pub(crate) from: Oid,
    /// The last OID answered.
    pub(crate) reach: Oid,
    pub(crate) began: Instant,
    pub(crate) used: Instant,
}

/// Which of some walks a request for what follows an OID belongs to.
pub(crate) enum Asked {
    /// The one whose last answer that OID was.
    Ahead(usize),
    /// The one that gave that OID as an answer some time ago.
    Behind(usize),
}

impl<T> Walk<T> {
    /// Whether neither its pause nor the whole of it is too long.
    pub(crate) fn goes_on(&self, now: Instant, pause: Duration, max_walk: Duration) -> bool {
        now.saturating_duration_since(self.used) <= pause && now.saturating_duration_since(self.began) <= max_walk
    }
}

/// Finds the walk, among those that `may` be it, that a request for what follows `oid` belongs to. `is_cell` says of a
/// walk whether `oid` is a cell of its view.
pub(crate) fn find<T>(
    walks: &[Walk<T>],
    oid: &[u32],
    may: impl Fn(&Walk<T>) -> bool,
    is_cell: impl FnOnce(&Walk<T>) -> bool,
) -> Option<Asked> {
    // Of several, the one that has waited longest, since two managers that walk abreast take turns.
    let ahead = (0..walks.len()).filter(|at| *walks[*at].reach == *oid && may(&walks[*at]));
    if let Some(at) = ahead.min_by_key(|at| walks[*at].used) {
        return Some(Asked::Ahead(at));
    }
    // Of several, the one that is least far ahead of it.
    let passed = |walk: &Walk<T>| *walk.from < *oid && *oid < *walk.reach && may(walk);
    let behind = (0..walks.len()).filter(|at| passed(&walks[*at]));
    let nearest = behind.min_by(|a, b| walks[*a].reach.cmp(&walks[*b].reach))?;
    // What is no cell was no answer: somebody begins there.
    is_cell(&walks[nearest]).then_some(Asked::Behind(nearest))
}
