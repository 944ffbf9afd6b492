//! Snapshots to test and measure with: rows with the ids asked for, and numbers that tell the cells apart.

use std::net::IpAddr;
use std::sync::Arc;

use lbstats::schema::{BACKEND, FRONTEND, KERNEL_FRONTEND, LISTENER, PROCESS, SERVER, Syntax, TableSchema};
use lbstats::{Field, Hook, Snapshot, Table, TableBuilder};

/// The index of each row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ids {
    pub(crate) processes: Vec<u32>,
    pub(crate) frontends: Vec<(u32, u32)>,
    pub(crate) backends: Vec<(u32, u32)>,
    pub(crate) servers: Vec<(u32, u32, u32)>,
    /// Namespace, address, port.
    pub(crate) listeners: Vec<(u32, IpAddr, u16)>,
    pub(crate) hooks: Vec<String>,
    /// Added to every number that is no index.
    pub(crate) base: u64,
}

/// A snapshot with these rows; a duplicate counts once.
pub(crate) fn snapshot(ids: &Ids) -> Snapshot {
    let mut snapshot = Snapshot::empty();
    snapshot.generation = 1;
    snapshot.haproxy_read = Some(snapshot.taken);
    snapshot.processes = table(&PROCESS, ids.base, ids.processes.iter().map(|pid| vec![*pid]));
    snapshot.frontends = table(&FRONTEND, ids.base, ids.frontends.iter().map(|(pid, iid)| vec![*pid, *iid]));
    snapshot.backends = table(&BACKEND, ids.base, ids.backends.iter().map(|(pid, iid)| vec![*pid, *iid]));
    snapshot.servers = table(&SERVER, ids.base, ids.servers.iter().map(|(pid, iid, sid)| vec![*pid, *iid, *sid]));
    snapshot.kernel_frontends =
        table(&KERNEL_FRONTEND, ids.base, ids.frontends.iter().map(|(pid, iid)| vec![*pid, *iid]));
    snapshot.listeners = listeners(&ids.listeners);
    let hook = |name: &String| Hook { name: name.clone(), state: "healthy".into(), reason: String::new() };
    snapshot.hooks = ids.hooks.iter().map(hook).collect();
    snapshot
}

fn listeners(ids: &[(u32, IpAddr, u16)]) -> Arc<Table> {
    let mut builder = TableBuilder::new(&LISTENER);
    for (namespace, address, port) in ids {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        builder
            .push(|place, column| match column.source {
                "namespace" => Field::Number(u64::from(*namespace)),
                "address_type" => Field::Number(if address.is_ipv4() { 1 } else { 2 }),
                "address_octets" => Field::Text(&octets),
                "port" => Field::Number(u64::from(*port)),
                "address" => Field::Text(b"as text"),
                _ if column.syntax.is_number() => Field::Number(u64::from(*port) + place as u64),
                _ => Field::Absent,
            })
            .expect("addresses fit");
    }
    Arc::new(builder.finish().0)
}

fn table(schema: &'static TableSchema, base: u64, rows: impl Iterator<Item = Vec<u32>>) -> Arc<Table> {
    let mut builder = TableBuilder::new(schema);
    for (row, index) in rows.enumerate() {
        let number = |place: usize| base + (row * 1000 + place) as u64;
        let text = format!("name-{row}");
        builder
            .push(|place, column| match index.get(place) {
                Some(arc) => Field::Number(u64::from(*arc)),
                // Not in every column, as with HAProxy.
                None if place % 5 == 4 => Field::Absent,
                None if column.syntax == Syntax::Text => Field::Text(text.as_bytes()),
                None => Field::Number(number(place)),
            })
            .expect("ids up to 2147483647 and short texts fit");
    }
    Arc::new(builder.finish().0)
}
