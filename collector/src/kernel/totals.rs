//! Adds up listeners' rows by address, and keeps the totals of listeners that are gone.
//!
//! A row lives in the kernel as long as its socket listens or a connection it accepted is open. After that its totals
//! move here, so that an address never counts backwards when a reload replaces its sockets, and the kernel's table
//! stays small. A host can have other programs that listen on a new port for each file or call: what they leave is
//! forgotten first.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use lbstatd_ebpf_abi::{Address, Buckets, Connections, Listener as Row, end};

use super::{Histogram, Listener};

/// Addresses whose past totals are kept. A host that goes through more of them forgets those where nobody listens any
/// more, and of them first those that were nobody's of the processes asked for, then the oldest.
const MAX_RETIRED: usize = 4096;

/// Totals of the past, and the rows about to become so.
#[derive(Default)]
pub(super) struct Totals {
    /// The network namespace of this process.
    namespace: u32,
    sees: Sees,
    retired: HashMap<Address, Retired>,
    /// Rows that were over at the last sample, and what they had counted. Only a row that has counted nothing more by a
    /// later sample that visits all connections is retired: by then the kernel has shown us every one it could still
    /// have. Where others come and go by the thousand, theirs need not wait for that.
    over: HashMap<u64, Digest>,
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
    /// Large, and apart from what is looked through when something must be forgotten.
    row: Box<Row>,
    owner: u32,
    /// The sample at which a row was added last.
    pass: u64,
}

/// What changes whenever a row counts anything.
type Digest = [u64; 9];

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

    /// Adds up the rows as they stand after sample number `pass`; `visited` says whether that visited all connections.
    pub(super) fn sum(&mut self, pass: u64, rows: &BTreeMap<u64, Row>, pids: &[u32], visited: bool) -> Sum {
        let mut retired = Vec::new();
        let mut over = HashMap::new();
        let mut stay: Vec<&Row> = Vec::with_capacity(rows.len());
        for (&cookie, row) in rows {
            if !self.is_listening(pass, row) && row.connections.open() == 0 {
                let counted = digest(row);
                if (visited || row.owner == 0) && self.over.get(&cookie) == Some(&counted) {
                    self.retire(pass, row);
                    retired.push(cookie);
                    continue;
                }
                over.insert(cookie, counted);
            }
            stay.push(row);
        }
        self.over = over;
        stay.sort_unstable_by_key(|row| row.address);
        self.forget(&stay);

        let mut sum = Sum { listeners: Vec::new(), full: Vec::new(), retired };
        for rows in stay.chunk_by(|one, next| one.address == next.address) {
            let address = &rows[0].address;
            let entry = self.entry(pass, rows, self.retired.get(address), pids);
            if entry.full && address.namespace == self.namespace {
                sum.full.push(socket_address(address));
            }
            // A socket that listens without having been bound has no port until the kernel chooses one.
            if address.port != 0 {
                sum.listeners.push(self.listener(address, &entry));
            }
        }
        // Where nobody listens, the past is shown to its owner only.
        for (address, past) in &self.retired {
            if pids.contains(&past.owner) && !has(&stay, address) {
                sum.listeners.push(self.listener(address, &self.entry(pass, &[], Some(past), pids)));
            }
        }
        sum.listeners.sort_unstable_by_key(|listener| (listener.namespace, listener.address));
        sum
    }

    /// A sample visits every socket of our own namespace.
    fn is_listening(&self, pass: u64, row: &Row) -> bool {
        row.gone == 0 && (row.pass == pass || row.address.namespace != self.namespace)
    }

    /// The rows of one address and its past.
    fn entry(&self, pass: u64, rows: &[&Row], past: Option<&Retired>, pids: &[u32]) -> Entry {
        let mut entry = Entry::default();
        for row in rows {
            let listening = self.is_listening(pass, row);
            entry.total.add(row);
            entry.owned |= pids.contains(&row.owner);
            entry.sockets += u32::from(listening);
            if listening && row.pass == pass {
                entry.add_queues(row);
            }
        }
        if let Some(past) = past {
            entry.owned |= pids.contains(&past.owner);
            entry.total.add(&past.row);
        }
        entry
    }

    fn retire(&mut self, pass: u64, row: &Row) {
        // Most sockets of programs that listen on a new port each time; a paused one of ours is kept to be shown.
        if row.owner == 0 && digest(row) == Digest::default() {
            return;
        }
        let past = self.retired.entry(row.address).or_default();
        past.row.add(row);
        past.pass = pass;
        if row.owner != 0 {
            past.owner = row.owner;
        }
    }

    /// Forgets what is too much; `stay` are the rows that stay, in order.
    fn forget(&mut self, stay: &[&Row]) {
        let surplus = self.retired.len().saturating_sub(MAX_RETIRED);
        if surplus == 0 {
            return;
        }
        let rank = |(address, past): (&Address, &Retired)| (has(stay, address), past.owner != 0, past.pass, *address);
        let mut ranks: Vec<_> = self.retired.iter().map(rank).collect();
        ranks.select_nth_unstable(surplus - 1);
        for (.., address) in &ranks[..surplus] {
            self.retired.remove(address);
        }
    }

    fn listener(&self, address: &Address, entry: &Entry) -> Listener {
        let row = &entry.total;
        let connections = &row.connections;
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
            synack_retransmits: self.sees.synack_retransmits.then_some(row.synack_retransmits),
            backlog: entry.backlog,
            backlog_limit: entry.backlog_limit,
            backlog_peak: entry.backlog_peak,
            syn_backlog: entry.syn_backlog,
            syn_backlog_peak: entry.syn_backlog_peak,
            drops: row.drops,
            overflows: None,
            handshake: histogram(&row.handshake, row.handshake_sum),
            rtt: histogram(&connections.rtt, connections.rtt_sum),
            lifetime: histogram(&connections.lifetime, connections.lifetime_sum),
            accept_wait: self.sees.accept_wait.then(|| histogram(&row.accept_wait, row.accept_wait_sum)),
        }
    }
}

/// Whether one of these rows, which are in order, is of the address.
fn has(rows: &[&Row], address: &Address) -> bool {
    rows.binary_search_by_key(address, |row| row.address).is_ok()
}

fn digest(row: &Row) -> Digest {
    let connections = &row.connections;
    [
        connections.begun,
        connections.adopted,
        connections.ended.iter().sum(),
        connections.received,
        connections.acked,
        connections.segments_received,
        connections.segments_sent,
        row.drops,
        row.synack_retransmits,
    ]
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

pub(super) fn histogram(buckets: &Buckets, sum: u64) -> Histogram {
    Histogram { buckets: buckets.0, sum }
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
        let sum = totals().sum(
            7,
            &rows([(1, row(80, 7, 5, 2)), (2, row(80, 7, 1, 1)), (3, row(81, 7, 9, 0))]),
            &[HAPROXY],
            true,
        );
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
            let sum = totals.sum(pass, &rows([(1, gone(4))]), &[], true);
            assert_eq!((accepted(&sum), sum.retired), (vec![(5, 1, 0)], vec![]));
        }
        let sum = totals.sum(9, &rows([(1, gone(5))]), &[], true);
        assert_eq!((accepted(&sum), sum.retired), (vec![(5, 0, 0)], vec![]));
        let sum = totals.sum(10, &rows([(1, gone(5))]), &[HAPROXY], true);
        assert_eq!((accepted(&sum), sum.retired), (vec![(5, 0, 0)], vec![1]));
        // Nobody listens: shown to its owner only.
        assert_eq!(accepted(&totals.sum(11, &rows([]), &[], true)), []);
        assert_eq!(accepted(&totals.sum(11, &rows([]), &[HAPROXY], true)), [(5, 0, 0)]);
        // The address is listened on again: it goes on from where it was.
        assert_eq!(accepted(&totals.sum(12, &rows([(2, row(80, 12, 1, 0))]), &[], true)), [(6, 1, 1)]);
    }

    #[test]
    fn a_row_is_not_retired_before_all_connections_were_visited() {
        let mut totals = totals();
        let ours = rows([(1, Row { gone: 1, ..row(80, 1, 5, 5) })]);
        let others = rows([(2, Row { gone: 1, owner: 0, ..row(81, 1, 5, 5) })]);
        for pass in 2..5 {
            assert_eq!(totals.sum(pass, &ours, &[HAPROXY], false).retired, [0; 0]);
        }
        assert_eq!(totals.sum(5, &ours, &[HAPROXY], true).retired, [1]);
        assert_eq!(totals.sum(6, &others, &[HAPROXY], false).retired, [0; 0]);
        assert_eq!(totals.sum(7, &others, &[HAPROXY], false).retired, [2]);
    }

    #[test]
    fn a_row_that_still_changes_is_not_retired() {
        let mut totals = totals();
        for n in 1..5 {
            assert!(
                totals.sum(10 + n, &rows([(1, Row { gone: 1, ..row(80, 1, n, n) })]), &[], true).retired.is_empty()
            );
        }
    }

    #[test]
    fn a_listener_of_another_namespace_is_there_until_the_kernel_says_it_is_gone() {
        let mut totals = totals();
        let mut far = row(80, 0, 5, 5);
        far.address.namespace = 7;
        for pass in 1..5 {
            let sum = totals.sum(pass, &rows([(1, far), (2, row(80, pass, 1, 1))]), &[], true);
            let seen: Vec<_> = sum.listeners.iter().map(|l| (l.namespace, l.accepted, l.sockets, l.backlog)).collect();
            assert_eq!((seen, sum.retired), (vec![(0, 1, 1, 1), (7, 5, 1, 0)], vec![]));
        }
        far.gone = 1;
        assert!(totals.sum(5, &rows([(1, far)]), &[], true).retired.is_empty());
        assert_eq!(totals.sum(6, &rows([(1, far)]), &[], true).retired, [1]);
    }

    #[test]
    fn the_past_is_bounded_and_what_is_still_needed_is_not_forgotten() {
        let mut totals = totals();
        // An address that HAProxy listens on since a reload, and one that it listened on once.
        totals.sum(
            1,
            &rows([(1, Row { gone: 1, ..row(1, 0, 5, 5) }), (2, Row { gone: 1, ..row(2, 0, 6, 6) })]),
            &[],
            true,
        );
        let pass = |totals: &mut Totals, pass: u64, foreign: BTreeMap<u64, Row>| {
            let mut rows = rows([(3, row(1, pass, 1, 0))]);
            if pass == 2 {
                rows.extend([(1, Row { gone: 1, ..row(1, 0, 5, 5) }), (2, Row { gone: 1, ..row(2, 0, 6, 6) })]);
            }
            rows.extend(foreign);
            let sum = totals.sum(pass, &rows, &[HAPROXY], true);
            sum.listeners.iter().filter(|l| l.owned).map(|l| (l.address.port(), l.accepted)).collect::<Vec<_>>()
        };
        assert_eq!(pass(&mut totals, 2, BTreeMap::new()), [(1, 6), (2, 6)]);
        // Others come and go on ports of their own, 1000 at a time.
        for n in 3..20 {
            let foreign = |n: u64| {
                (n * 1000..(n + 1) * 1000).map(|n| {
                    let port = u16::try_from(n).unwrap();
                    (n, Row { owner: 0, gone: 1, ..row(port, 0, 1, 1) })
                })
            };
            let now = foreign(n).chain(foreign(n - 1).filter(|_| n > 3)).collect();
            assert_eq!(pass(&mut totals, n, now), [(1, 6), (2, 6)]);
            assert_eq!(totals.retired.len(), MAX_RETIRED.min(2 + (usize::try_from(n).unwrap() - 3) * 1000));
        }
        let kept = |port| totals.retired.contains_key(&row(port, 0, 0, 0).address);
        assert_eq!([3000, 14_000, 15_000, 18_999].map(kept), [false, false, true, true]);
    }

    #[test]
    fn what_has_counted_nothing_for_nobody_leaves_nothing() {
        let mut totals = totals();
        for (port, owner, counted) in [(1, 0, 0), (2, 0, 1), (3, HAPROXY, 0)] {
            totals.retire(9, &Row { owner, ..row(port, 0, counted, counted) });
        }
        let mut kept: Vec<_> = totals.retired.keys().map(|address| address.port).collect();
        kept.sort_unstable();
        assert_eq!(kept, [2, 3]);
    }
}
