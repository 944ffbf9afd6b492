//! The addresses that HAProxy connects to, named by the servers that HAProxy says are there.
//!
//! One server is often in several backends, and the kernel sees one address: its row has all their names, each once, in
//! alphabetical order, with commas between them. An address that is no server's keeps an empty name: the target of a
//! check with an address or port of its own, a name server, a peer.
//!
//! Health checks connect like traffic does. HAProxy counts the connections it tries for traffic (`connect`); what the
//! kernel counts beyond that is shown as unattributed.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lbstats::schema::{KERNEL_SERVER, SERVER};
use lbstats::{Field, Table, TableBuilder};

use super::histograms::Histograms;
use super::listeners::{AddressColumns, Key, place};
use super::reconcile::{Counter, Growth};
use super::socket::Kept;
use super::windows::Recent;
use crate::kernel::Server;

/// What is kept of the servers from one sample to the next.
#[derive(Default)]
pub(super) struct Servers {
    recent: HashMap<Key, [Recent; 3]>,
    connects: Growth,
    /// HAProxy's `connect` of each server, by the place of its socket, backend and name.
    attempts: HashMap<(usize, String, String), Counter>,
    /// By address, since both counts are known: what the kernel counted, and what HAProxy did.
    counted: HashMap<(IpAddr, u16), Counted>,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    connects: u64,
    attempts: u64,
}

/// The servers of one address.
#[derive(Default)]
struct Named<'a> {
    proxies: BTreeSet<&'a str>,
    servers: BTreeSet<&'a str>,
    /// HAProxy's attempts since the last sample; none where it does not count them.
    attempts: Option<u64>,
}

impl Servers {
    /// The rows of a sample; `said` is what each stats socket last said, by its place.
    pub(super) fn join(&mut self, sample: &[Server], said: &[(usize, Arc<Kept>)], now: Duration) -> Table {
        let names = self.names(said);
        let mut recent = std::mem::take(&mut self.recent);
        let connects: Vec<(Key, u64)> = sample.iter().map(|server| (key(server), server.connects)).collect();
        let mut counted = HashMap::new();
        for (server, grown) in sample.iter().zip(self.connects.of(&connects)) {
            let place = place(server.address);
            let before = self.counted.get(&place).copied().unwrap_or_default();
            counted.entry(place).or_insert(before).connects += grown;
        }
        for (place, named) in &names {
            if let (Some(counted), Some(attempts)) = (counted.get_mut(place), named.attempts) {
                counted.attempts += attempts;
            }
        }
        self.counted = counted;
        let mut builder = TableBuilder::new(&KERNEL_SERVER);
        for server in sample {
            let mut kept = recent.remove(&key(server)).unwrap_or_default();
            let place = place(server.address);
            let named = names.get(&place);
            let counted = named.and_then(|named| named.attempts).and_then(|_| self.counted.get(&place));
            push(&mut builder, server, named, counted.copied(), &mut kept, now);
            self.recent.insert(key(server), kept);
        }
        builder.finish().0
    }

    /// The servers of each address, with what their `connect` has grown by.
    fn names<'a>(&mut self, said: &'a [(usize, Arc<Kept>)]) -> HashMap<(IpAddr, u16), Named<'a>> {
        let mut names: HashMap<(IpAddr, u16), Named<'a>> = HashMap::new();
        let mut before = std::mem::take(&mut self.attempts);
        for (socket, kept) in said {
            let connects = connects(&kept.tables[3]);
            for destination in &kept.destinations {
                let named = names.entry(place(destination.address)).or_default();
                named.proxies.insert(&destination.proxy);
                named.servers.insert(&destination.server);
                let key = (*socket, destination.proxy.clone(), destination.server.clone());
                if let Some(connect) = connects.get(&(&*destination.proxy, &*destination.server)) {
                    let mut counter = before.remove(&key).unwrap_or_default();
                    let grown = counter.grow(kept.pid, *connect);
                    *named.attempts.get_or_insert(0) += grown;
                    self.attempts.insert(key, counter);
                }
            }
        }
        names
    }
}

fn key(server: &Server) -> Key {
    (server.namespace, server.address)
}

/// Each server's `connect`, by backend and name.
fn connects(servers: &Table) -> HashMap<(&str, &str), u64> {
    let [proxy, server, connect] =
        ["pxname", "svname", "connect"].map(|source| SERVER.place(source).expect("a column of servers"));
    let text = |column, row| servers.text(column, row).and_then(|text| str::from_utf8(text).ok());
    let row = |row| Some(((text(proxy, row)?, text(server, row)?), servers.number(connect, row)?));
    (0..servers.len()).filter_map(row).collect()
}

fn push(
    builder: &mut TableBuilder,
    server: &Server,
    named: Option<&Named<'_>>,
    counted: Option<Counted>,
    kept: &mut [Recent; 3],
    now: Duration,
) {
    let address = AddressColumns::of(server.address);
    let histograms = [("connect", &server.connect), ("rtt", &server.rtt), ("lifetime", &server.lifetime)];
    let histograms = Histograms::take(histograms.map(|(name, histogram)| (name, Some(histogram))), kept, now);
    let joined = |names: Option<&BTreeSet<&str>>| {
        names.map(|names| names.iter().copied().collect::<Vec<_>>().join(",")).unwrap_or_default()
    };
    let (proxies, servers) = (joined(named.map(|n| &n.proxies)), joined(named.map(|n| &n.servers)));
    let row = builder.push(|_, column| {
        if let Some(field) = address.field(column.source).or_else(|| histograms.field(column.source)) {
            return field;
        }
        match column.source {
            "proxy" => Field::Text(proxies.as_bytes()),
            "server" => Field::Text(servers.as_bytes()),
            "attempts" => counted.map_or(Field::Absent, |counted| Field::Number(counted.attempts)),
            "unattributed" => counted
                .map_or(Field::Absent, |counted| Field::Number(counted.connects.saturating_sub(counted.attempts))),
            source => Field::Number(number(server, source)),
        }
    });
    row.expect("counters of the kernel and names of a bounded answer fit their columns");
}

fn number(server: &Server, source: &str) -> u64 {
    match source {
        "namespace" => server.namespace.into(),
        "connects" => server.connects,
        "established" => server.established,
        "open" => server.open,
        "refused" => server.refused,
        "timed_out" => server.timed_out,
        "unreachable" => server.unreachable,
        "failed_otherwise" => server.failed_otherwise,
        "failures" => server.refused + server.timed_out + server.unreachable + server.failed_otherwise,
        "closed_by_peer" => server.closed_by_peer,
        "closed_by_us" => server.closed_by_us,
        "resets_received" => server.resets_received,
        "resets_sent" => server.resets_sent,
        "closed_timed_out" => server.closed_timed_out,
        "bytes_received" => server.bytes_received,
        "bytes_acked" => server.bytes_acked,
        "segments_received" => server.segments_received,
        "segments_sent" => server.segments_sent,
        "retransmits" => server.retransmits,
        other => unreachable!("the schema's column {other} of servers has no value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::socket::tests::kept;
    use crate::haproxy::Destination;

    fn server(address: &str, connects: u64) -> Server {
        Server { connects, ..Server::new(0, address.parse().unwrap()) }
    }

    /// What HAProxy says of servers: backend, name, address, `connect`.
    fn said(pid: u32, servers: &[(&str, &str, &str, u64)]) -> Kept {
        let mut kept = kept(pid, &[]);
        let mut builder = TableBuilder::new(&SERVER);
        for (id, (proxy, name, address, connect)) in (1..).zip(servers) {
            let row = builder.push(|_, column| match column.source {
                "iid" | "sid" => Field::Number(id),
                "pxname" => Field::Text(proxy.as_bytes()),
                "svname" => Field::Text(name.as_bytes()),
                "connect" => Field::Number(*connect),
                _ => Field::Absent,
            });
            row.unwrap();
            let (proxy, server) = ((*proxy).to_owned(), (*name).to_owned());
            kept.destinations.push(Destination { proxy, server, address: address.parse().unwrap() });
        }
        kept.tables[3] = Arc::new(builder.finish().0);
        kept
    }

    fn row(table: &Table, row: usize) -> (String, String, Option<u64>, Option<u64>) {
        let text = |source| {
            String::from_utf8_lossy(table.text(KERNEL_SERVER.place(source).unwrap(), row).unwrap()).into_owned()
        };
        let number = |source| table.number(KERNEL_SERVER.place(source).unwrap(), row);
        (text("proxy"), text("server"), number("attempts"), number("unattributed"))
    }

    #[test]
    fn one_address_has_all_its_names_and_a_foreign_one_has_none() {
        let mut servers = Servers::default();
        let all = [("b", "one", "10.0.0.1:80", 5), ("a", "one", "10.0.0.1:80", 6), ("a", "two", "10.0.0.2:80", 7)];
        let said = said(1, &all);
        let sample = [server("10.0.0.1:80", 3), server("10.0.0.2:80", 3), server("10.0.0.3:53", 1)];
        let table = servers.join(&sample, &[(0, Arc::new(said))], Duration::ZERO);
        assert_eq!(row(&table, 0), ("a,b".into(), "one".into(), Some(0), Some(0)));
        assert_eq!(row(&table, 1), ("a".into(), "two".into(), Some(0), Some(0)));
        assert_eq!(row(&table, 2), (String::new(), String::new(), None, None));
    }

    #[test]
    fn checks_are_what_haproxy_did_not_count() {
        let mut servers = Servers::default();
        let mut at = |pid, connect, connects| {
            let said = said(pid, &[("a", "one", "10.0.0.1:80", connect)]);
            let table = servers.join(&[server("10.0.0.1:80", connects)], &[(0, Arc::new(said))], Duration::ZERO);
            let (_, _, attempts, unattributed) = row(&table, 0);
            (attempts.unwrap(), unattributed.unwrap())
        };
        assert_eq!(at(1, 100, 40), (0, 0), "what was before is nobody's");
        assert_eq!(at(1, 110, 52), (10, 2));
        // Another process begins again, and nothing is lost.
        assert_eq!(at(2, 3, 57), (13, 4));
        assert_eq!(at(2, 3, 58), (13, 5));
    }
}
