//! One stats socket between readings: its client, its last reading, and when it may be asked again.

use std::future::Future;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lbstats::{Source, SourceKind, Table};
use tokio::time::Instant;

use super::note;
use crate::backoff::Backoff;
use crate::haproxy::{Client, Destination, Limits, Listen, ReadError, Reading, Unnamed};
use crate::kernel::Process;

/// Pause before a socket that failed is asked again.
const PAUSE: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3);

/// A stats socket.
pub(super) struct Socket {
    /// Not here while it reads.
    client: Option<Client>,
    backoff: Backoff,
    /// After a failure, when to ask again.
    retry: Option<Instant>,
    /// Whether nobody listens there any more.
    gone: bool,
    pub(super) source: Source,
    pub(super) kept: Option<Arc<Kept>>,
}

/// The last good reading of a socket. Tables that did not change since the one before are shared with it, and servers'
/// addresses are those last told.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// The tables of lbStats, in order.
    pub(super) tables: [Arc<Table>; 4],
    pub(super) listens: Vec<Listen>,
    pub(super) unnamed: Vec<Unnamed>,
    pub(super) destinations: Vec<Destination>,
    pub(super) pid: Option<u32>,
    pub(super) peer: Option<u32>,
    pub(super) process_number: u32,
    pub(super) processes: u32,
}

/// A reading that is over.
pub(super) struct Finished {
    pub(super) place: usize,
    client: Client,
    outcome: Result<Reading, ReadError>,
    duration: Duration,
}

impl Socket {
    /// With `servers`, the addresses of servers are wanted.
    pub(super) fn new(path: &Path, limits: Limits, servers: bool) -> Self {
        let client = Client::new(path, limits);
        Self {
            client: Some(if servers { client.with_servers() } else { client }),
            backoff: Backoff::new(PAUSE),
            retry: None,
            gone: false,
            source: Source::new(SourceKind::Haproxy, path.display().to_string()),
            kept: None,
        }
    }

    /// Whether a tick may start a reading.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.client.is_some() && self.retry.is_none_or(|at| at <= now)
    }

    /// When to ask again without waiting for a tick.
    pub(super) fn retry(&self) -> Option<Instant> {
        self.retry.filter(|_| self.client.is_some())
    }

    /// Whether it reads now and can be expected to be done soon: it answered last time, or this is the first time.
    pub(super) fn is_awaited(&self) -> bool {
        self.client.is_none() && (self.source.error.is_none() || self.source.collections == 1)
    }

    /// HAProxy's process, unless it is gone: its number may then be another's.
    pub(super) fn process(&self) -> Option<Process> {
        let kept = self.kept.as_ref().filter(|_| !self.gone)?;
        Some(Process { pid: kept.pid?, peer: kept.peer })
    }

    /// A reading, to be run.
    ///
    /// # Panics
    /// If one is running.
    pub(super) fn start(&mut self, place: usize) -> impl Future<Output = Finished> + Send + use<> {
        let mut client = self.client.take().expect("only a socket that is not read is started");
        self.retry = None;
        self.source.collections += 1;
        async move {
            let begin = Instant::now();
            let outcome = client.read().await;
            Finished { place, client, outcome, duration: begin.elapsed() }
        }
    }

    /// Takes the end of a reading; true if it brought something.
    pub(super) fn finish(&mut self, done: Finished) -> bool {
        self.client = Some(done.client);
        note(&mut self.source, done.outcome.as_ref().err().map(ToString::to_string), done.duration);
        match done.outcome {
            Ok(reading) => {
                self.backoff.reset();
                self.gone = false;
                if reading.duplicates > 0 {
                    tracing::warn!(
                        "{} of the rows that HAProxy sent on {} have a number twice and are left out",
                        reading.duplicates,
                        self.source.target
                    );
                }
                self.kept = Some(Arc::new(Kept::new(reading, self.kept.as_deref())));
                true
            }
            Err(error) => {
                self.gone = error.means_gone();
                self.retry = Some(Instant::now() + self.backoff.pause());
                false
            }
        }
    }
}

impl Kept {
    fn new(reading: Reading, before: Option<&Self>) -> Self {
        let mut tables = [reading.process, reading.frontends, reading.backends, reading.servers].map(Arc::new);
        for (table, before) in tables.iter_mut().zip(before.iter().flat_map(|before| &before.tables)) {
            if table == before {
                *table = before.clone();
            }
        }
        let told_before = || before.map(|before| before.destinations.clone()).unwrap_or_default();
        Self {
            tables,
            listens: reading.listens,
            unnamed: reading.unnamed,
            destinations: reading.destinations.unwrap_or_else(told_before),
            pid: reading.pid,
            peer: reading.peer,
            process_number: reading.process_number,
            processes: reading.processes,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use lbstats::schema::{BACKEND, FRONTEND, PROCESS, SERVER};
    use lbstats::{Field, TableBuilder};

    /// What one HAProxy of this pid may have said of its frontends, by name and `conn_tot`.
    pub(in crate::collect) fn kept(pid: u32, frontends: &[(&str, u64)]) -> Kept {
        let mut tables = [&PROCESS, &FRONTEND, &BACKEND, &SERVER].map(|schema| Arc::new(Table::empty(schema)));
        let mut builder = TableBuilder::new(&FRONTEND);
        for (iid, (name, total)) in (2..).zip(frontends) {
            let row = builder.push(|_, column| match column.source {
                "iid" => Field::Number(iid),
                "pxname" => Field::Text(name.as_bytes()),
                "conn_tot" => Field::Number(*total),
                _ => Field::Absent,
            });
            row.unwrap();
        }
        tables[1] = Arc::new(builder.finish().0);
        let (listens, unnamed, destinations) = (Vec::new(), Vec::new(), Vec::new());
        Kept { tables, listens, unnamed, destinations, pid: Some(pid), peer: None, process_number: 1, processes: 1 }
    }
}
