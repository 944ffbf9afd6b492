//! Which snapshot answers a PDU: a walk stays on the one it began with, everything else gets the newest.
//!
//! As [`crate::Walks`] does it for single requests, by the OID that is asked for; here a whole PDU belongs to the walk
//! of its first repeating variable, and the manager's address tells walks apart too.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lbstats::Oid;

use super::columns::Columns;

/// Walks remembered at a time; of one more, that takes the place of the one used longest ago.
const MAX_WALKS: usize = 64;
/// Snapshots kept at a time, since one may have many megabytes; one more ends the walks on the oldest.
const MAX_SNAPSHOTS: usize = 3;
/// A walk ends after a pause longer than the one to three seconds after which managers repeat a request.
const PAUSE: Duration = crate::Walks::PAUSE;
/// How long a walk stays on its snapshot, which bounds how old an answer can be.
const MAX_WALK: Duration = crate::Walks::MAX_WALK;

/// The walks under way.
#[derive(Debug, Default)]
pub(super) struct Walks(Vec<Walk>);

#[derive(Debug)]
struct Walk {
    manager: IpAddr,
    /// The OID it began with.
    from: Oid,
    /// The last OID answered.
    reach: Oid,
    columns: Arc<Columns>,
    began: Instant,
    used: Instant,
}

impl Walks {
    /// The columns of the walk that a request for what follows `oid` belongs to.
    pub(super) fn columns(&mut self, now: Instant, manager: IpAddr, oid: &[u32]) -> Option<Arc<Columns>> {
        self.0.retain(|walk| {
            now.saturating_duration_since(walk.used) <= PAUSE && now.saturating_duration_since(walk.began) <= MAX_WALK
        });
        let at = self.ahead(manager, oid).or_else(|| self.behind(manager, oid))?;
        let walk = &mut self.0[at];
        walk.used = now;
        Some(walk.columns.clone())
    }

    /// What followed `oid` was answered up to `reach`: a walk goes on with that, or begins.
    pub(super) fn answered(&mut self, now: Instant, manager: IpAddr, oid: &[u32], reach: &Oid, columns: &Arc<Columns>) {
        if let Some(at) = self.ahead(manager, oid) {
            self.0[at].reach.assign(reach);
        } else if self.behind(manager, oid).is_none() {
            self.begin(now, manager, oid, reach, columns);
        }
    }

    /// The walk whose last answer was `oid`; of several, the one that has waited longest.
    fn ahead(&self, manager: IpAddr, oid: &[u32]) -> Option<usize> {
        let at = (0..self.0.len()).filter(|at| self.0[*at].manager == manager && *self.0[*at].reach == *oid);
        at.min_by_key(|at| self.0[*at].used)
    }

    /// The walk that gave `oid` as an answer some time ago; of several, the one that is least far ahead of it.
    fn behind(&self, manager: IpAddr, oid: &[u32]) -> Option<usize> {
        let passed = |walk: &Walk| walk.manager == manager && *walk.from < *oid && *oid < *walk.reach;
        let at = (0..self.0.len()).filter(|at| passed(&self.0[*at]));
        let nearest = at.min_by(|a, b| self.0[*a].reach.cmp(&self.0[*b].reach))?;
        // What is no cell was no answer: somebody begins there.
        self.0[nearest].columns.view().cell_at(oid).map(|_| nearest)
    }

    fn begin(&mut self, now: Instant, manager: IpAddr, from: &[u32], reach: &Oid, columns: &Arc<Columns>) {
        if self.0.len() == MAX_WALKS
            && let Some(oldest) = (0..MAX_WALKS).min_by_key(|at| self.0[*at].used)
        {
            self.0.swap_remove(oldest);
        }
        let (from, reach, columns) = (Oid::from(from), reach.clone(), columns.clone());
        self.0.push(Walk { manager, from, reach, columns, began: now, used: now });
        let mut generations: Vec<u64> = self.0.iter().map(Walk::generation).collect();
        generations.sort_unstable();
        generations.dedup();
        if let Some(excess) = generations.len().checked_sub(MAX_SNAPSHOTS + 1) {
            self.0.retain(|walk| walk.generation() > generations[excess]);
        }
    }
}

impl Walk {
    fn generation(&self) -> u64 {
        self.columns.view().snapshot().generation
    }
}
