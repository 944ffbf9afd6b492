//! The kernel's counts joined with what HAProxy says: the tables of a sample, made once for each.

use std::sync::Arc;
use std::time::Instant;

use lbstats::Table;
use lbstats::schema::{KERNEL_FRONTEND, KERNEL_SERVER, LISTENER};

use super::listeners::{Listeners, Names};
use super::reconcile::Frontends;
use super::servers::Servers;
use super::socket::Kept;
use crate::kernel::Sample;

/// The tables of the last sample, and what the next one needs of it.
pub(super) struct Join {
    began: Instant,
    /// Number of the sample that the tables are of.
    sample: u64,
    listeners: Listeners,
    frontends: Frontends,
    servers: Servers,
    /// [`LISTENER`], [`KERNEL_FRONTEND`] and [`KERNEL_SERVER`].
    pub(super) tables: [Arc<Table>; 3],
}

impl Join {
    /// Without a sample.
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            sample: 0,
            listeners: Listeners::default(),
            frontends: Frontends::default(),
            servers: Servers::default(),
            tables: [&LISTENER, &KERNEL_FRONTEND, &KERNEL_SERVER].map(|schema| Arc::new(Table::empty(schema))),
        }
    }

    /// Takes a sample of this number, unless it is the one it has; `said` is what each stats socket last said, by its
    /// place. A table that comes out the same is shared with the one before.
    pub(super) fn take(&mut self, number: u64, sample: &Sample, said: impl Iterator<Item = (usize, Arc<Kept>)>) {
        if number == self.sample {
            return;
        }
        self.sample = number;
        let now = self.began.elapsed();
        let said: Vec<(usize, Arc<Kept>)> = said.collect();
        let names = Names::new(said.iter().flat_map(|(_, kept)| &kept.listens), &sample.listeners);
        let tables = [
            self.listeners.join(&sample.listeners, &names, now),
            self.frontends.join(&sample.listeners, &names, &said),
            self.servers.join(&sample.servers, &said, now),
        ];
        for (kept, table) in self.tables.iter_mut().zip(tables) {
            if **kept != table {
                *kept = Arc::new(table);
            }
        }
    }
}
