//! Where the collection publishes and every face reads: one snapshot at a time, swapped atomically.

use std::sync::Arc;

use arc_swap::ArcSwap;
use lbstats::Snapshot;
use tokio::sync::watch;

/// The newest snapshot. Reading it never waits for anything; who wants to, waits for the next one.
#[derive(Debug)]
pub struct Published {
    snapshot: ArcSwap<Snapshot>,
    generation: watch::Sender<u64>,
}

impl Published {
    /// Holds the empty snapshot, generation 0.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { snapshot: ArcSwap::from_pointee(Snapshot::empty()), generation: watch::Sender::new(0) })
    }

    /// The newest snapshot.
    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Makes this the newest snapshot.
    pub fn store(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        self.snapshot.store(Arc::new(snapshot));
        self.generation.send_replace(generation);
    }

    /// Tells of each new generation after now.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}
