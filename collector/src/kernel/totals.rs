//! Adds up listeners' rows by address, and keeps the totals of listeners that are gone.
//!
//! A row lives in the kernel as long as its socket listens or a connection it accepted is open. After that its totals
//! move here, so that an address never counts backwards when a reload replaces its sockets, and the kernel's table
//! stays small.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use lbstatd_ebpf_abi::{Address, Listener as Row};

use super::Listener;

/// Addresses whose past totals are kept. A host that goes through more of them forgets the oldest.
const MAX_RETIRED: usize = 4096;

/// Totals of the past, and the rows about to become so.
#[derive(Default)]
pub(super) struct Totals {
    retired: HashMap<SocketAddr, Retired>,
    /// Rows that were over at the last sample, as they stood. Only a row that stands the same a full sample later is
    /// retired: by then the kernel has shown us every connection it could still have.
    over: HashMap<u64, [u64; 6]>,
}

/// Totals by address, and the rows that need not be kept any more.
pub(super) struct Sum {
    pub(super) listeners: Vec<Listener>,
    pub(super) retired: Vec<u64>,
}

#[derive(Default)]
struct Retired {
    accepted: u64,
    received: u64,
    acked: u64,
    drops: u64,
    owner: u32,
    pass: u64,
}

impl Totals {
    /// Adds up the rows as they stand after sample number `pass`.
    pub(super) fn sum(&mut self, pass: u64, rows: &BTreeMap<u64, Row>, pids: &[u32]) -> Sum {
        let mut listeners = BTreeMap::new();
        let mut retired = Vec::new();
        let mut over = HashMap::new();
        for (&cookie, row) in rows {
            let address = socket_address(&row.address);
            let listening = row.gone == 0 && row.pass == pass;
            if !listening && row.opened == row.closed {
                if self.over.get(&cookie) == Some(&counters(row)) {
                    self.retire(pass, address, row);
                    retired.push(cookie);
                    continue;
                }
                over.insert(cookie, counters(row));
            }
            add(listeners.entry(address).or_insert_with(|| Listener::new(0, address)), row, listening, pids);
        }
        self.over = over;
        for (&address, past) in &self.retired {
            let owned = pids.contains(&past.owner);
            if owned {
                listeners.entry(address).or_insert_with(|| Listener::new(0, address)).owned = true;
            }
            if let Some(listener) = listeners.get_mut(&address) {
                listener.accepted += past.accepted;
                listener.bytes_received += past.received;
                listener.bytes_acked += past.acked;
                listener.drops += past.drops;
            }
        }
        // A socket that listens without having been bound has no port until the kernel chooses one.
        let listeners = listeners.into_values().filter(|listener| listener.address.port() != 0).collect();
        Sum { listeners, retired }
    }

    fn retire(&mut self, pass: u64, address: SocketAddr, row: &Row) {
        if self.retired.len() >= MAX_RETIRED && !self.retired.contains_key(&address) {
            let oldest = self.retired.iter().min_by_key(|(_, past)| past.pass).map(|(&address, _)| address);
            oldest.map(|address| self.retired.remove(&address));
        }
        let past = self.retired.entry(address).or_default();
        past.accepted += row.accepted;
        past.received += row.received;
        past.acked += row.acked;
        past.drops += row.drops;
        past.pass = pass;
        if row.owner != 0 {
            past.owner = row.owner;
        }
    }
}

fn add(listener: &mut Listener, row: &Row, listening: bool, pids: &[u32]) {
    listener.owned |= pids.contains(&row.owner);
    listener.accepted += row.accepted;
    // The two are read one after the other while the kernel goes on counting.
    listener.open += row.opened.saturating_sub(row.closed);
    listener.bytes_received += row.received;
    listener.bytes_acked += row.acked;
    listener.drops += row.drops;
    if listening {
        listener.backlog += u64::from(row.backlog);
        listener.backlog_limit += u64::from(row.backlog_limit);
        listener.sockets += 1;
    }
}

fn counters(row: &Row) -> [u64; 6] {
    [row.accepted, row.opened, row.closed, row.received, row.acked, row.drops]
}

fn socket_address(address: &Address) -> SocketAddr {
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

    fn row(port: u16, pass: u64, accepted: u64, closed: u64) -> Row {
        Row {
            accepted,
            opened: accepted,
            closed,
            received: accepted * 10,
            acked: accepted * 100,
            drops: accepted,
            pass,
            address: Address { ip: [0, 0, 0xffff_u32.to_be(), 0x7f00_0001_u32.to_be()], port, reserved: 0 },
            backlog: 1,
            backlog_limit: 128,
            owner: HAPROXY,
            ..Row::default()
        }
    }

    fn rows<const N: usize>(rows: [(u64, Row); N]) -> BTreeMap<u64, Row> {
        BTreeMap::from(rows)
    }

    #[test]
    fn sockets_of_one_address_are_added_up() {
        let sum = Totals::default().sum(
            7,
            &rows([(1, row(80, 7, 5, 2)), (2, row(80, 7, 1, 1)), (3, row(81, 7, 9, 0))]),
            &[HAPROXY],
        );
        let [first, second] = &sum.listeners[..] else { panic!("{:?}", sum.listeners) };
        assert_eq!(first.address, "127.0.0.1:80".parse().unwrap());
        assert_eq!((first.accepted, first.open, first.bytes_received, first.bytes_acked), (6, 3, 60, 600));
        assert_eq!((first.backlog, first.backlog_limit, first.sockets, first.owned), (2, 256, 2, true));
        assert_eq!((second.accepted, second.open, second.sockets), (9, 9, 1));
        assert!(sum.retired.is_empty());
    }

    #[test]
    fn a_listener_that_is_over_is_retired_after_a_full_sample_and_never_forgotten() {
        let mut totals = Totals::default();
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
        let mut totals = Totals::default();
        for n in 1..5 {
            assert!(totals.sum(10 + n, &rows([(1, Row { gone: 1, ..row(80, 1, n, n) })]), &[]).retired.is_empty());
        }
    }

    #[test]
    fn the_past_is_bounded() {
        let mut totals = Totals::default();
        for n in 0..u16::try_from(MAX_RETIRED + 10).unwrap() {
            totals.retire(u64::from(n), SocketAddr::from(([127, 0, 0, 1], n)), &row(n, 1, 1, 1));
        }
        assert_eq!(totals.retired.len(), MAX_RETIRED);
        assert!(!totals.retired.contains_key(&SocketAddr::from(([127, 0, 0, 1], 9))));
    }
}
