//! A snapshot as octets, for the daemon's control socket. Both ends are of one version; a decoder trusts nothing.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::histogram::{BUCKETS, Histogram};
use crate::schema::{self, TableSchema};
use crate::snapshot::{DaemonTables, Face, Hook, Program, Snapshot, Source};
use crate::table::Table;

/// Why octets are no snapshot of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The other end has another schema.
    #[error("the daemon is of another version than this command: restart the older of the two")]
    OtherVersion,
    /// Cut, garbled, or contradicting itself.
    #[error("the snapshot from the daemon is garbled")]
    Garbled,
}

#[derive(Serialize, Deserialize)]
struct Message<'a> {
    schema: u64,
    generation: u64,
    taken: u64,
    haproxy_read: Option<u64>,
    #[serde(borrow)]
    tables: [Cells<'a>; 7],
    sources: Cow<'a, [Source]>,
    hooks: Cow<'a, [Hook]>,
    programs: Cow<'a, [Program]>,
    faces: Cow<'a, [Face]>,
}

#[derive(Serialize, Deserialize)]
struct Cells<'a> {
    /// Each one more than the cell: an absent one, the most frequent, takes one octet instead of ten.
    cells: Vec<u64>,
    #[serde(borrow)]
    text: &'a [u8],
    /// Each histogram's sum and then its buckets.
    histograms: Vec<u64>,
}

impl Snapshot {
    /// The snapshot as octets.
    pub fn encode(&self) -> Vec<u8> {
        let [processes, frontends, backends, servers] = self.lbstats();
        let [listeners, kernel_frontends, kernel_servers] = self.kernel();
        let tables = [processes, frontends, backends, servers, listeners, kernel_frontends, kernel_servers];
        let tables = tables.map(|table| {
            let (cells, text, histograms) = table.parts();
            let numbers = |histogram: &Histogram| std::iter::once(histogram.sum).chain(histogram.buckets);
            Cells {
                cells: cells.iter().map(|cell| cell.wrapping_add(1)).collect(),
                text,
                histograms: histograms.iter().flat_map(numbers).collect(),
            }
        });
        let message = Message {
            schema: fingerprint(),
            generation: self.generation,
            taken: self.taken,
            haproxy_read: self.haproxy_read,
            tables,
            sources: Cow::Borrowed(&self.sources),
            hooks: Cow::Borrowed(&self.hooks),
            programs: Cow::Borrowed(&self.programs),
            faces: Cow::Borrowed(&self.faces),
        };
        postcard::to_stdvec(&message).expect("plain data in memory always encodes")
    }

    /// The snapshot that [`Snapshot::encode`] made of these octets.
    ///
    /// # Errors
    /// As [`DecodeError`] says.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let (schema, _) = postcard::take_from_bytes::<u64>(octets).map_err(|_| DecodeError::Garbled)?;
        if schema != fingerprint() {
            return Err(DecodeError::OtherVersion);
        }
        let message: Message<'_> = postcard::from_bytes(octets).map_err(|_| DecodeError::Garbled)?;
        let [processes, frontends, backends, servers, listeners, kernel_frontends, kernel_servers] = message.tables;
        Ok(Self {
            generation: message.generation,
            taken: message.taken,
            haproxy_read: message.haproxy_read,
            processes: processes.table(&schema::PROCESS)?,
            frontends: frontends.table(&schema::FRONTEND)?,
            backends: backends.table(&schema::BACKEND)?,
            servers: servers.table(&schema::SERVER)?,
            listeners: listeners.table(&schema::LISTENER)?,
            kernel_frontends: kernel_frontends.table(&schema::KERNEL_FRONTEND)?,
            kernel_servers: kernel_servers.table(&schema::KERNEL_SERVER)?,
            sources: message.sources.into_owned(),
            hooks: message.hooks.into_owned(),
            programs: message.programs.into_owned(),
            faces: message.faces.into_owned(),
            daemon: DaemonTables::default(),
        })
    }
}

impl Cells<'_> {
    fn table(self, schema: &'static TableSchema) -> Result<Arc<Table>, DecodeError> {
        let mut cells = self.cells;
        cells.iter_mut().for_each(|cell| *cell = cell.wrapping_sub(1));
        let (histograms, rest) = self.histograms.as_chunks::<{ BUCKETS + 1 }>();
        if !rest.is_empty() {
            return Err(DecodeError::Garbled);
        }
        let histogram = |[sum, buckets @ ..]: &[u64; BUCKETS + 1]| Histogram { sum: *sum, buckets: *buckets };
        let histograms = histograms.iter().map(histogram).collect();
        Table::from_parts(schema, cells, self.text.to_vec(), histograms).map(Arc::new).ok_or(DecodeError::Garbled)
    }
}

/// FNV-1a over what gives cells their meaning: the same columns in the same places have the same fingerprint.
fn fingerprint() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for table in schema::TABLES {
        let columns = table.columns.iter().map(|column| column.source);
        for octet in std::iter::once(table.name).chain(columns).flat_map(|name| name.bytes().chain([0])) {
            hash = (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceKind;
    use crate::schema::{LISTENER, SERVER, Syntax};
    use crate::table::{Field, TableBuilder};
    use proptest::prelude::*;

    fn snapshot() -> Snapshot {
        let mut servers = TableBuilder::new(&SERVER);
        for id in 1..4 {
            servers
                .push(|_, column| match column.source {
                    "iid" | "sid" => Field::Number(id),
                    "svname" => Field::Text(b"a"),
                    _ => Field::Absent,
                })
                .unwrap();
        }
        let mut listeners = TableBuilder::new(&LISTENER);
        for octets in [&[127, 0, 0, 1][..], &[0; 16]] {
            let filled = Histogram { sum: 7, buckets: [2; BUCKETS] };
            listeners
                .push(|place, column| match column.syntax {
                    Syntax::Address => Field::Text(octets),
                    Syntax::Histogram(_) => Field::Histogram(if place % 2 == 0 { &filled } else { &Histogram::EMPTY }),
                    _ if place < LISTENER.index => Field::Number(1),
                    _ => Field::Absent,
                })
                .unwrap();
        }
        let mut snapshot = Snapshot::empty();
        snapshot.servers = Arc::new(servers.finish().0);
        snapshot.listeners = Arc::new(listeners.finish().0);
        snapshot.sources.push(Source::new(SourceKind::Ebpf, ""));
        snapshot
    }

    #[test]
    fn goes_there_and_back() {
        let snapshot = snapshot();
        assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
    }

    #[test]
    fn another_version_is_told_from_garbage() {
        let mut octets = snapshot().encode();
        octets[0] ^= 1;
        assert_eq!(Snapshot::decode(&octets), Err(DecodeError::OtherVersion));
        assert_eq!(Snapshot::decode(b""), Err(DecodeError::Garbled));
    }

    proptest! {
        #[test]
        fn cut_or_changed_octets_never_make_an_unsound_table(at in 0_usize..2000, octet: u8, keep in 0_usize..2000) {
            let mut octets = snapshot().encode();
            let len = octets.len();
            octets[at % len] = octet;
            octets.truncate(keep.max(len / 2));
            if let Ok(snapshot) = Snapshot::decode(&octets) {
                for table in snapshot.lbstats().into_iter().chain(snapshot.kernel()) {
                    for row in 0..table.len() {
                        let _ = table.index(row).count();
                        for column in 0..table.schema().columns.len() {
                            let _ = table.value(column, row);
                            let _ = table.histogram(column, row).map(Histogram::count);
                        }
                    }
                }
            }
        }
    }
}
