//! Which snapshot answers a PDU: a walk stays on the one it began with, everything else gets the newest.
//!
//! As [`crate::Walks`] does it for single requests, by the OID that is asked for; here a whole PDU belongs to the walk
//! of its first repeating variable, and the manager's address tells walks apart too.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lbstats::Oid;

use super::columns::Columns;
use crate::walk::{self, Asked, Walk};

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
pub(super) struct Walks(Vec<Walk<On>>);

#[derive(Debug)]
struct On {
    manager: IpAddr,
    columns: Arc<Columns>,
}

impl Walks {
    /// The columns of the walk that a request for what follows `oid` belongs to.
    pub(super) fn columns(&mut self, now: Instant, manager: IpAddr, oid: &[u32]) -> Option<Arc<Columns>> {
        self.0.retain(|walk| walk.goes_on(now, PAUSE, MAX_WALK));
        let (Asked::Ahead(at) | Asked::Behind(at)) = self.find(manager, oid)?;
        let walk = &mut self.0[at];
        walk.used = now;
        Some(walk.on.columns.clone())
    }

    /// What followed `oid` was answered up to `reach`: a walk goes on with that, or begins.
    pub(super) fn answered(&mut self, now: Instant, manager: IpAddr, oid: &[u32], reach: &Oid, columns: &Arc<Columns>) {
        match self.find(manager, oid) {
            Some(Asked::Ahead(at)) => self.0[at].reach.assign(reach),
            Some(Asked::Behind(_)) => {}
            None => self.begin(now, manager, oid, reach, columns),
        }
    }

    fn find(&self, manager: IpAddr, oid: &[u32]) -> Option<Asked> {
        let is_cell = |walk: &Walk<On>| walk.on.columns.view().cell_at(oid).is_some();
        walk::find(&self.0, oid, |walk| walk.on.manager == manager, is_cell)
    }

    fn begin(&mut self, now: Instant, manager: IpAddr, from: &[u32], reach: &Oid, columns: &Arc<Columns>) {
        if self.0.len() == MAX_WALKS
            && let Some(oldest) = (0..MAX_WALKS).min_by_key(|at| self.0[*at].used)
        {
            self.0.swap_remove(oldest);
        }
        let on = On { manager, columns: columns.clone() };
        self.0.push(Walk { on, from: Oid::from(from), reach: reach.clone(), began: now, used: now });
        let mut generations: Vec<u64> = self.0.iter().map(generation).collect();
        generations.sort_unstable();
        generations.dedup();
        if let Some(excess) = generations.len().checked_sub(MAX_SNAPSHOTS + 1) {
            self.0.retain(|walk| generation(walk) > generations[excess]);
        }
    }
}

fn generation(walk: &Walk<On>) -> u64 {
    walk.on.columns.view().snapshot().generation
}
