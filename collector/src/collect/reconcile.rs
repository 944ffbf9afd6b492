//! Each frontend's connections, as the kernel and as HAProxy count them.
//!
//! HAProxy is read first and the kernel right after it, so that what happens between the two looks like connections
//! that HAProxy has yet to accept: some of those of a millisecond or two. A frontend is compared only when both were
//! read in the round; until then its row stays as it was.
//!
//! HAProxy's counters begin again with every reload. What it accepted between the last reading before and its end, no
//! reading ever shows; while things settle after a reload, that is taken to be what the kernel completed and nobody
//! waits for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use lbstats::schema::{FRONTEND, KERNEL_FRONTEND};
use lbstats::{Field, Table, TableBuilder};

use super::listeners::{Key, Names};
use super::merge;
use super::socket::Kept;
use crate::haproxy::Bound;
use crate::kernel::Listener;

/// More addresses than the kernel's part ever remembers.
const MAX_REMEMBERED: usize = 1 << 16;

/// Comparisons after the first, or after a reload, within which the two counts are brought together.
const SETTLING: u32 = 10;

/// A counter of HAProxy over its restarts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counter {
    last: Option<(Option<u32>, u64)>,
}

/// Totals of the kernel by address, as they were last sampled; none before the first sample. The kernel's total goes on
/// where an address is used again, so that one that is gone is not forgotten.
#[derive(Default)]
pub(super) struct Growth(Option<HashMap<Key, u64>>);

/// What is kept of the frontends from one sample to the next.
#[derive(Default)]
pub(super) struct Frontends {
    /// What the listeners have accepted.
    accepted: Growth,
    /// HAProxy's `conn_tot`, by the place of its socket, process number and name.
    connections: HashMap<(usize, u32, String), Counter>,
    /// By name.
    balances: HashMap<String, Balance>,
    /// The readings that were compared last, by the place of their socket.
    compared: HashMap<usize, Arc<Kept>>,
}

/// Both counts of one frontend.
#[derive(Clone, Copy, Debug, Default)]
struct Balance {
    /// What the kernel completed, with those that waited when counting began.
    accepted: u64,
    connections: u64,
    /// Of `accepted`, what no reading of HAProxy ever showed; negative if the first reading came too early.
    unread: i64,
    /// What remains unexplained by the three.
    difference: i64,
    settling: u32,
    /// Whether what settles comes from a reload.
    reloaded: bool,
}

/// A frontend at one moment.
#[derive(Debug, Default)]
struct Seen {
    /// Lowest process number and identifier among those of the name.
    id: (u32, u32),
    /// How much `conn_tot` has grown; none if the process was not read anew.
    grown: Option<u64>,
    restarted: bool,
    uncounted: Option<&'static str>,
    listeners: u64,
    /// Of all its listeners.
    accepted: u64,
    backlog: u64,
}

impl Counter {
    /// How much it grew since the last call; 0 at the first. A counter of another process, or one that fell, began again
    /// at 0.
    pub(super) fn grow(&mut self, pid: Option<u32>, now: u64) -> u64 {
        let (same, before) = self.last.map_or((true, now), |(before_pid, before)| (before_pid == pid, before));
        self.last = Some((pid, now));
        if same && now >= before { now - before } else { now }
    }

    /// Whether the next call would find that it began again.
    fn restarts(&self, pid: Option<u32>, now: u64) -> bool {
        self.last.is_some_and(|(before_pid, before)| before_pid != pid || now < before)
    }
}

impl Growth {
    /// How much each total of a sample has grown since the last one, in order; 0 at the first. One that is new counted
    /// from nothing.
    pub(super) fn of(&mut self, totals: &[(Key, u64)]) -> Vec<u64> {
        let first = self.0.is_none();
        let last = self.0.get_or_insert_default();
        if last.len() > MAX_REMEMBERED {
            let there: HashSet<Key> = totals.iter().map(|(key, _)| *key).collect();
            last.retain(|key, _| there.contains(key));
        }
        let grown = |&(key, total): &(Key, u64)| {
            let before = last.insert(key, total).unwrap_or(0);
            if first { 0 } else { total.saturating_sub(before) }
        };
        totals.iter().map(grown).collect()
    }
}

impl Frontends {
    /// The rows after a sample; `said` is what each stats socket last said, by its place.
    pub(super) fn join(&mut self, sample: &[Listener], names: &Names<'_>, said: &[(usize, Arc<Kept>)]) -> Table {
        let mut seen = self.seen(said, names);
        self.count(sample, names, &mut seen);
        self.balances.retain(|proxy, _| seen.contains_key(&**proxy));
        let mut builder = TableBuilder::new(&KERNEL_FRONTEND);
        for (proxy, seen) in &seen {
            if seen.listeners > 0 {
                let first = !self.balances.contains_key(*proxy);
                let balance = self.balances.entry((*proxy).to_owned()).or_default();
                balance.take(first, seen);
            }
            push(&mut builder, proxy, seen, self.balances.get(*proxy).filter(|_| seen.listeners > 0));
        }
        self.compared = said.iter().cloned().collect();
        builder.finish().0
    }

    /// The frontends that HAProxy tells of, by name.
    fn seen<'a>(&mut self, said: &'a [(usize, Arc<Kept>)], names: &Names<'_>) -> BTreeMap<&'a str, Seen> {
        let [proxy, total] =
            ["pxname", "conn_tot"].map(|source| FRONTEND.place(source).expect("a column of frontends"));
        let mut seen: BTreeMap<&'a str, Seen> = BTreeMap::new();
        let mut before = std::mem::take(&mut self.connections);
        for (socket, kept) in said {
            let fresh = self.compared.get(socket).is_none_or(|compared| !Arc::ptr_eq(compared, kept));
            let table = &kept.tables[1];
            for row in 0..table.len() {
                let Some(name) = table.text(proxy, row).and_then(|name| str::from_utf8(name).ok()) else { continue };
                let id = (merge::number(*socket, kept), table.index(row).nth(1).unwrap_or_default());
                let entry =
                    seen.entry(name).or_insert(Seen { id, uncounted: uncounted(name, kept, names), ..Seen::default() });
                entry.id = entry.id.min(id);
                let key = (*socket, id.0, name.to_owned());
                let mut counter = before.remove(&key).unwrap_or_default();
                if let (true, Some(total)) = (fresh, table.number(total, row)) {
                    entry.restarted |= counter.restarts(kept.pid, total);
                    *entry.grown.get_or_insert(0) += counter.grow(kept.pid, total);
                }
                self.connections.insert(key, counter);
            }
        }
        seen
    }

    /// Adds to each frontend what its listeners have accepted since the last sample.
    fn count(&mut self, sample: &[Listener], names: &Names<'_>, seen: &mut BTreeMap<&str, Seen>) {
        let totals = sample.iter().map(|listener| ((listener.namespace, listener.address), listener.accepted));
        let grown = self.accepted.of(&totals.collect::<Vec<_>>());
        for (listener, grown) in sample.iter().zip(grown) {
            let Some(seen) = names.of(listener).and_then(|name| seen.get_mut(name)) else { continue };
            seen.listeners += 1;
            seen.backlog += listener.backlog;
            seen.accepted += grown;
        }
    }
}

impl Balance {
    fn take(&mut self, first: bool, seen: &Seen) {
        self.accepted += if first { seen.backlog } else { seen.accepted };
        let Some(grown) = seen.grown else { return };
        if first || seen.restarted {
            (self.settling, self.reloaded) = (SETTLING, !first);
        }
        self.connections += if first { 0 } else { grown };
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.difference = count(self.accepted) - count(self.connections) - self.unread;
        if self.settling > 0 && seen.uncounted.is_none() {
            self.settling -= 1;
            let beyond = self.difference - count(seen.backlog);
            // Early on after a reload, the old process may still accept some.
            let lost = self.reloaded && self.settling >= SETTLING / 2;
            if beyond < 0 || lost {
                self.unread += beyond;
                self.difference -= beyond;
            }
        }
    }
}

/// Why the kernel does not count all of a frontend's connections.
fn uncounted(proxy: &str, kept: &Kept, names: &Names<'_>) -> Option<&'static str> {
    let bound = |bound| kept.unnamed.iter().any(|unnamed| unnamed.proxy == proxy && unnamed.bound == bound);
    let mut listens = kept.listens.iter().filter(|listen| listen.proxy == proxy).peekable();
    if listens.peek().is_none() && !kept.unnamed.iter().any(|unnamed| unnamed.proxy == proxy) {
        return Some("HAProxy does not tell its addresses: `option socket-stats` and `level operator` are needed");
    }
    if listens.any(|listen| names.is_shared(listen.address)) {
        return Some("it shares an address with another frontend");
    }
    if bound(Bound::Quic) {
        return Some("it listens on QUIC, which is not TCP");
    }
    if bound(Bound::Unix) {
        return Some("it listens on a Unix-domain socket, which is not TCP");
    }
    bound(Bound::Other).then_some("HAProxy tells an address of it that is none of TCP")
}

fn push(builder: &mut TableBuilder, proxy: &str, seen: &Seen, balance: Option<&Balance>) {
    // One that HAProxy says listens on TCP, and no such socket is in the sample.
    let uncounted = seen.uncounted.or_else(|| {
        (seen.listeners == 0)
            .then_some("none of its addresses is listened on in a network namespace that the daemon sees")
    });
    let number = |number: Option<u64>| number.map_or(Field::Absent, Field::Number);
    let row = builder.push(|_, column| match column.source {
        "process" => Field::Number(seen.id.0.into()),
        "iid" => Field::Number(seen.id.1.into()),
        "proxy" => Field::Text(proxy.as_bytes()),
        "listeners" => Field::Number(seen.listeners),
        "accepted" => number(balance.map(|balance| balance.accepted)),
        "connections" => number(balance.map(|balance| balance.connections)),
        "unaccepted" => number(balance.map(|balance| u64::try_from(balance.difference).unwrap_or(0))),
        "untracked" => number(balance.map(|balance| u64::try_from(-balance.difference).unwrap_or(0))),
        "unread" => number(balance.map(|balance| u64::try_from(balance.unread).unwrap_or(0))),
        "uncounted" => uncounted.map_or(Field::Absent, |reason| Field::Text(reason.as_bytes())),
        other => unreachable!("the schema's column {other} of frontends has no value"),
    });
    row.expect("counters and names of a bounded answer fit their columns");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::socket::tests::kept;
    use crate::haproxy::{Listen, Unnamed};

    /// One frontend `www` on 127.0.0.1:80, followed over samples.
    #[derive(Default)]
    struct Bench(Frontends);

    impl Bench {
        /// accepted, connections, unaccepted, untracked, unread
        fn at(&mut self, pid: u32, total: u64, accepted: u64, backlog: u64) -> [u64; 5] {
            self.with(&said(pid, total), accepted, backlog)
        }

        fn with(&mut self, said: &Arc<Kept>, accepted: u64, backlog: u64) -> [u64; 5] {
            let mut listener = Listener::new(0, "127.0.0.1:80".parse().unwrap());
            (listener.accepted, listener.backlog) = (accepted, backlog);
            let said = [(0, said.clone())];
            let sample = [listener];
            let names = Names::new(&said[0].1.listens, &sample);
            let table = self.0.join(&sample, &names, &said);
            ["accepted", "connections", "unaccepted", "untracked", "unread"]
                .map(|source| table.number(KERNEL_FRONTEND.place(source).unwrap(), 0).unwrap())
        }
    }

    fn said(pid: u32, total: u64) -> Arc<Kept> {
        let mut kept = kept(pid, &[("www", total)]);
        kept.listens.push(Listen { proxy: "www".into(), address: "127.0.0.1:80".parse().unwrap() });
        Arc::new(kept)
    }

    #[test]
    fn the_difference_is_what_waits() {
        let mut bench = Bench::default();
        assert_eq!(bench.at(1, 1000, 70, 3), [3, 0, 3, 0, 0], "three wait from before");
        assert_eq!(bench.at(1, 1008, 75, 0), [8, 8, 0, 0, 0]);
        assert_eq!(bench.at(1, 1008, 85, 10), [18, 8, 10, 0, 0]);
        // Two went away before HAProxy took them.
        for _ in 0..20 {
            bench.at(1, 1016, 85, 0);
        }
        assert_eq!(bench.at(1, 1016, 85, 0), [18, 16, 2, 0, 0]);
    }

    #[test]
    fn a_first_reading_that_came_too_early_is_made_good() {
        let mut bench = Bench::default();
        // Five were accepted between HAProxy's reading and the kernel's.
        bench.at(1, 1000, 75, 0);
        assert_eq!(bench.at(1, 1005, 75, 0), [0, 5, 0, 0, 0]);
        assert_eq!(bench.at(1, 1006, 76, 0), [1, 6, 0, 0, 0]);
    }

    #[test]
    fn totals_survive_a_reload_and_what_nobody_read_is_said() {
        let mut bench = Bench::default();
        bench.at(1, 1000, 100, 0);
        assert_eq!(bench.at(1, 1010, 110, 0), [10, 10, 0, 0, 0]);
        // The old process accepted 4 more, the new one has accepted 6, and 1 waits.
        assert_eq!(bench.at(2, 6, 121, 1), [21, 16, 1, 0, 4]);
        assert_eq!(bench.at(2, 7, 121, 0), [21, 17, 0, 0, 4]);
        // One process number, one pid, and yet the counter fell: `clear counters all`.
        assert_eq!(bench.at(2, 1, 122, 0), [22, 18, 0, 0, 4]);
    }

    #[test]
    fn a_haproxy_that_does_not_answer_leaves_its_row() {
        let mut bench = Bench::default();
        let said = said(1, 1000);
        bench.with(&said, 100, 0);
        assert_eq!(bench.with(&said, 150, 50), [50, 0, 0, 0, 0]);
        assert_eq!(bench.at(1, 1020, 150, 30), [50, 20, 30, 0, 0]);
    }

    #[test]
    fn an_address_that_comes_back_goes_on() {
        let mut bench = Bench::default();
        bench.at(1, 1000, 100, 0);
        let away = [(0, said(1, 1000))];
        bench.0.join(&[], &Names::default(), &away);
        assert_eq!(bench.at(2, 3, 103, 0), [3, 3, 0, 0, 0]);
    }

    #[test]
    fn what_the_kernel_cannot_count_is_told_and_not_made_good() {
        let mut quic = Kept::clone(&said(1, 1000));
        quic.unnamed.push(Unnamed { proxy: "www".into(), bound: Bound::Quic });
        let mut bench = Bench::default();
        bench.with(&Arc::new(quic.clone()), 100, 0);
        quic.tables = kept(1, &[("www", 1007)]).tables;
        assert_eq!(bench.with(&Arc::new(quic), 102, 0), [2, 7, 0, 5, 0]);
    }

    #[test]
    fn every_frontend_says_why_it_is_not_counted() {
        let mut kept = kept(1, &[("hidden", 1), ("local", 1), ("gone", 1)]);
        kept.unnamed.push(Unnamed { proxy: "local".into(), bound: Bound::Unix });
        kept.listens.push(Listen { proxy: "gone".into(), address: "10.0.0.1:80".parse().unwrap() });
        let said = [(0, Arc::new(kept))];
        let names = Names::new(&said[0].1.listens, &[]);
        let table = Frontends::default().join(&[], &names, &said);
        let place = KERNEL_FRONTEND.place("uncounted").unwrap();
        let reasons: Vec<String> =
            (0..3).map(|row| String::from_utf8_lossy(table.text(place, row).unwrap()).into_owned()).collect();
        assert!(reasons[0].starts_with("HAProxy does not tell"), "{reasons:?}");
        assert!(reasons[1].contains("Unix-domain"), "{reasons:?}");
        assert!(reasons[2].starts_with("none of its addresses"), "{reasons:?}");
    }
}
