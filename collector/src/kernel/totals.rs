//! Adds up listeners' rows by address, and keeps the totals of listeners that are gone.
//!
//! A row lives in the kernel as long as its socket listens or a connection it accepted is open. After that its totals
//! move here, so that an address never counts backwards when a reload replaces its sockets, and the kernel's table
//! stays small.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use lbstatd_ebpf_abi::{Address, Connections, Listener as Row, end};

use super::{Histogram, Listener};

/// Addresses whose past totals are kept. A host that goes through more of them forgets the oldest.
const MAX_RETIRED: usize = 4096;

/// Totals of the past, and the rows about to become so.
#[derive(Default)]
pub(super) struct Totals {
    /// The network namespace of this process.
    namespace: u32,
    sees: Sees,
    retired: HashMap<Address, Retired>,
    /// Rows that were over at the last sample, as they stood. Only a row that stands the same a full sample later is
    /// retired: by then the kernel has shown us every connection it could still have.
    over: HashMap<u64, Row>,
}

/// What the kernel shows beyond the least.
#[derive(Clone, Copy, Default)]
pub(super) struct Sees {
    /// How long connections wait to be accepted.
    pub(super) accept_wait: bool,
    /// SYN-ACKs that are sent again.
    pub(super) synack_retransmits: bool,
}

/// Totals by address, and the rows that need not be kept any more.
pub(super) struct Sum {
    pub(super) listeners: Vec<Listener>,
    /// Addresses of our own namespace where a socket's accept queue has been full since the last sample.
    pub(super) full: Vec<SocketAddr>,
    pub(super) retired: Vec<u64>,
}

#[derive(Default)]
struct Retired {
    row: Row,
    owner: u32,
    pass: u64,
}

/// The rows of one address.
#[derive(Default)]
struct Entry {
    /// The sum of their counters.
    total: Row,
    owned: bool,
    sockets: u32,
    backlog: u64,
    backlog_limit: u64,
    backlog_peak: u64,
    syn_backlog: u64,
    syn_backlog_peak: u64,
    /// Whether a queue has been full: the kernel lets it hold one connection more than its limit.
    full: bool,
}

impl Totals {
    pub(super) fn new(namespace: u32, sees: Sees) -> Self {
        Self { namespace, sees, ..Self::default() }
    }

    /// Adds up the rows as they stand after sample number `pass`.
    pub(super) fn sum(&mut self, pass: u64, rows: &BTreeMap<u64, Row>, pids: &[u32]) -> Sum {
        let mut entries: HashMap<Address, Entry> = HashMap::new();
        let mut retired = Vec::new();
        let mut over = HashMap::new();
        for (&cookie, row) in rows {
            // A sample visits every socket of our own namespace.
            let seen = row.pass == pass;
            let listening = row.gone == 0 && (seen || row.address.namespace != self.namespace);
            if !listening && row.connections.open() == 0 {
                if self.over.get(&cookie) == Some(row) {
                    self.retire(pass, row);
                    retired.push(cookie);
                    continue;
                }
                over.insert(cookie, *row);
            }
            let entry = entries.entry(row.address).or_default();
            entry.total.add(row);
            entry.owned |= pids.contains(&row.owner);
            entry.sockets += u32::from(listening);
            if listening && seen {
                entry.add_queues(row);
            }
        }
        self.over = over;
        for (&address, past) in &self.retired {
            let owned = pids.contains(&past.owner);
            if owned || entries.contains_key(&address) {
                let entry = entries.entry(address).or_default();
                entry.owned |= owned;
                entry.total.add(&past.row);
            }
        }
        let is_full = |(address, entry): &(&Address, &Entry)| entry.full && address.namespace == self.namespace;
        let full = entries.iter().filter(is_full).map(|(address, _)| socket_address(address)).collect();
        let mut listeners: Vec<_> = entries
            .into_iter()
            // A socket that listens without having been bound has no port until the kernel chooses one.
            .filter(|(address, _)| address.port != 0)
            .map(|(address, entry)| self.listener(&address, &entry))
            .collect();
        listeners.sort_unstable_by_key(|listener| (listener.namespace, listener.address));
        Sum { listeners, full, retired }
    }

    fn retire(&mut self, pass: u64, row: &Row) {
        if self.retired.len() >= MAX_RETIRED && !self.retired.contains_key(&row.address) {
            let oldest = self.retired.iter().min_by_key(|(_, past)| past.pass).map(|(&address, _)| address);
            oldest.map(|address| self.retired.remove(&address));
        }
        let past = self.retired.entry(row.address).or_default();
        past.row.add(row);
        past.pass = pass;
        if row.owner != 0 {
            past.owner = row.owner;
        }
    }

    fn listener(&self, address: &Address, entry: &Entry) -> Listener {
        let Row { connections, handshake, accept_wait, .. } = &entry.total;
        let [closed_by_peer, closed_by_us, resets_received, resets_sent, timed_out] = ends(connections);
        Listener {
            namespace: namespace(address, self.namespace),
            address: socket_address(address),
            owned: entry.owned,
            sockets: entry.sockets,
            accepted: connections.begun,
            open: connections.open(),
            closed_by_peer,
            closed_by_us,
            resets_received,
            resets_sent,
            timed_out,
            bytes_received: connections.received,
            bytes_acked: connections.acked,
            segments_received: connections.segments_received,
            segments_sent: connections.segments_sent,
            retransmits: connections.retransmits,
            synack_retransmits: self.sees.synack_retransmits.then_some(entry.total.synack_retransmits),
            backlog: entry.backlog,
            backlog_limit: entry.backlog_limit,
            backlog_peak: entry.backlog_peak,
            syn_backlog: entry.syn_backlog,
            syn_backlog_peak: entry.syn_backlog_peak,
            drops: entry.total.drops,
            overflows: None,
            handshake: handshake.into(),
            rtt: (&connections.rtt).into(),
            lifetime: (&connections.lifetime).into(),
            accept_wait: self.sees.accept_wait.then(|| accept_wait.into()),
        }
    }
}

impl Entry {
    fn add_queues(&mut self, row: &Row) {
        self.backlog += u64::from(row.backlog);
        self.backlog_limit += u64::from(row.backlog_limit);
        self.backlog_peak += u64::from(row.backlog_peak);
        self.syn_backlog += u64::from(row.syn_backlog);
        self.syn_backlog_peak += u64::from(row.syn_backlog_peak);
        self.full |= row.backlog_peak > row.backlog_limit;
    }
}

impl From<&lbstatd_ebpf_abi::Histogram> for Histogram {
    fn from(histogram: &lbstatd_ebpf_abi::Histogram) -> Self {
        Self { buckets: histogram.buckets, sum: histogram.sum }
    }
}

/// Connections by how they ended: by the peer, by us, reset received, reset sent, timed out.
pub(super) fn ends(connections: &Connections) -> [u64; end::KINDS] {
    let of = |kind: usize| connections.ended[kind];
    [of(end::BY_PEER), of(end::BY_US), of(end::RESET_RECEIVED), of(end::RESET_SENT), of(end::TIMED_OUT)]
}

/// The namespace as samples show it.
pub(super) fn namespace(address: &Address, own: u32) -> u32 {
    if address.namespace == own { 0 } else { address.namespace }
}

pub(super) fn socket_address(address: &Address) -> SocketAddr {
    let mut bytes = [0; 16];
    for (to, word) in bytes.chunks_exact_mut(4).zip(address.ip) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical(), address.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HAPROXY: u32 = 42;
    const HERE: u32 = 4_026_531_840;

    fn row(port: u16, pass: u64, accepted: u64, closed: u64) -> Row {
        let connections = Connections {
            begun: accepted,
            ended: [closed, 0, 0, 0, 0],
            received: accepted * 10,
            acked: accepted * 100,
            ..Connections::default()
        };
        Row {
            connections,
            drops: accepted,
            pass,
            address: Address {
                namespace: HERE,
                ip: [0, 0, 0xffff_u32.to_be(), 0x7f00_0001_u32.to_be()],
                port,
                reserved: 0,
            },
            backlog: 1,
            backlog_limit: 128,
            backlog_peak: 3,
            owner: HAPROXY,
            ..Row::default()
        }
    }

    fn rows<const N: usize>(rows: [(u64, Row); N]) -> BTreeMap<u64, Row> {
        BTreeMap::from(rows)
    }

    fn totals() -> Totals {
        Totals::new(HERE, Sees::default())
    }

    #[test]
    fn sockets_of_one_address_are_added_up() {
        let sum =
            totals().sum(7, &rows([(1, row(80, 7, 5, 2)), (2, row(80, 7, 1, 1)), (3, row(81, 7, 9, 0))]), &[HAPROXY]);
        let [first, second] = &sum.listeners[..] else { panic!("{:?}", sum.listeners) };
        assert_eq!((first.namespace, first.address), (0, "127.0.0.1:80".parse().unwrap()));
        assert_eq!((first.accepted, first.open, first.bytes_received, first.bytes_acked), (6, 3, 60, 600));
        assert_eq!((first.backlog, first.backlog_limit, first.backlog_peak), (2, 256, 6));
        assert_eq!((first.closed_by_peer, first.sockets, first.owned), (3, 2, true));
        assert_eq!((second.accepted, second.open, second.sockets), (9, 9, 1));
        assert!(sum.retired.is_empty());
    }

    #[test]
    fn a_listener_that_is_over_is_retired_after_a_full_sample_and_never_forgotten() {
        let mut totals = totals();
        let gone = |closed| Row { gone: 1, ..row(80, 1, 5, closed) };
        let accepted = |sum: &Sum| sum.listeners.iter().map(|l| (l.accepted, l.open, l.sockets)).collect::<Vec<_>>();
        // One connection outlives the socket: the row stays, however long.
        for pass in 2..9 {
            let sum = totals.sum(pass, &rows([(1, gone(4))]), &[]);
            assert_eq!((accepted(&sum), sum.retired), (vec![(5, 1, 0)], vec![]));
        }
        let sum = totals.sum(9, &rows([(1, gone(5))]), &[]);
        assert_eq!((accepted(&sum), sum.retired), (vec![(5, 0, 0)], vec![]));
        let sum = totals.sum(10, &rows([(1, gone(5))]), &[HAPROXY]);
        assert_eq!((accepted(&sum), sum.retired), (vec![(5, 0, 0)], vec![1]));
        // Nobody listens: shown to its owner only.
        assert_eq!(accepted(&totals.sum(11, &rows([]), &[])), []);
        assert_eq!(accepted(&totals.sum(11, &rows([]), &[HAPROXY])), [(5, 0, 0)]);
        // The address is listened on again: it goes on from where it was.
        assert_eq!(accepted(&totals.sum(12, &rows([(2, row(80, 12, 1, 0))]), &[])), [(6, 1, 1)]);
    }

    #[test]
    fn a_row_that_still_changes_is_not_retired() {
        let mut totals = totals();
        for n in 1..5 {
            assert!(totals.sum(10 + n, &rows([(1, Row { gone: 1, ..row(80, 1, n, n) })]), &[]).retired.is_empty());
        }
    }

    #[test]
    fn a_listener_of_another_namespace_is_there_until_the_kernel_says_it_is_gone() {
        let mut totals = totals();
        let mut far = row(80, 0, 5, 5);
        far.address.namespace = 7;
        for pass in 1..5 {
            let sum = totals.sum(pass, &rows([(1, far), (2, row(80, pass, 1, 1))]), &[]);
            let seen: Vec<_> = sum.listeners.iter().map(|l| (l.namespace, l.accepted, l.sockets, l.backlog)).collect();
            assert_eq!((seen, sum.retired), (vec![(0, 1, 1, 1), (7, 5, 1, 0)], vec![]));
        }
        far.gone = 1;
        assert!(totals.sum(5, &rows([(1, far)]), &[]).retired.is_empty());
        assert_eq!(totals.sum(6, &rows([(1, far)]), &[]).retired, [1]);
    }

    #[test]
    fn the_past_is_bounded() {
        let mut totals = totals();
        for n in 0..u16::try_from(MAX_RETIRED + 10).unwrap() {
            totals.retire(u64::from(n), &row(n, 1, 1, 1));
        }
        assert_eq!(totals.retired.len(), MAX_RETIRED);
        assert!(!totals.retired.contains_key(&row(9, 1, 1, 1).address));
    }
}
