//! The destinations of outgoing connections: reads their rows, and keeps the totals of those that are idle.
//!
//! A row stays in the kernel while it is used. When many have gathered there, those that have been idle for long move
//! here, so that the kernel's table never fills with servers of the past and no address counts backwards.

use std::collections::HashMap;

use lbstatd_ebpf_abi::{Address, MAX_SERVERS, Server as Row, failure};

use super::{
    Server,
    totals::{ends, histogram, namespace, socket_address},
};

/// Rows of the kernel from which on idle ones are moved.
const CROWDED: usize = MAX_SERVERS / 8;
/// Samples without any change after which a destination is idle. A program that runs while its row is moved could count
/// in vain; after so long, and with nothing under way, none does.
const IDLE: u64 = 60;
/// Destinations whose past totals are kept. A host that goes through more of them forgets the oldest that are not in
/// use.
const MAX_RETIRED: usize = 16_384;

/// Totals of the past, and what the rows were like when they last changed.
#[derive(Default)]
pub(super) struct Servers {
    /// The network namespace of this process.
    namespace: u32,
    retired: HashMap<Address, Retired>,
    /// The sample that first found a row as it still is, and a digest of it.
    changed: HashMap<Address, (u64, [u64; 6])>,
}

#[derive(Default)]
struct Retired {
    /// Large, and apart from what is looked through when something must be forgotten.
    row: Box<Row>,
    /// The sample at which a row was added last.
    pass: u64,
}

/// Totals by destination, and the rows that need not be kept any more.
pub(super) struct Sum {
    pub(super) servers: Vec<Server>,
    pub(super) retired: Vec<Address>,
}

impl Servers {
    pub(super) fn new(namespace: u32) -> Self {
        Self { namespace, ..Self::default() }
    }

    /// Adds up the rows as they stand after sample number `pass`.
    pub(super) fn sum(&mut self, pass: u64, mut rows: HashMap<Address, Row>) -> Sum {
        let crowded = rows.len() > CROWDED;
        let mut retired = Vec::new();
        self.changed.retain(|address, _| rows.contains_key(address));
        for (&address, row) in &rows {
            let now = digest(row);
            let (since, before) = self.changed.entry(address).or_insert((pass, now));
            if *before != now {
                (*since, *before) = (pass, now);
            }
            let idle = row.connections.open() == 0 && row.pending() == 0 && pass - *since >= IDLE;
            if crowded && idle {
                retired.push(address);
            }
        }
        for address in &retired {
            // A new row of the address can come to look the same, and has just been used.
            self.changed.remove(address);
            if let Some(row) = rows.remove(address) {
                self.retire(pass, *address, &row);
            }
        }
        self.forget(&rows);
        for (&address, past) in &self.retired {
            rows.entry(address).or_default().add(&past.row);
        }
        let mut servers: Vec<_> = rows.iter().map(|(address, row)| self.server(address, row)).collect();
        servers.sort_unstable_by_key(|server| (server.namespace, server.address));
        Sum { servers, retired }
    }

    fn retire(&mut self, pass: u64, address: Address, row: &Row) {
        let past = self.retired.entry(address).or_default();
        past.row.add(row);
        past.pass = pass;
    }

    /// Forgets what is too much; `rows` are those that the kernel still has.
    fn forget(&mut self, rows: &HashMap<Address, Row>) {
        let surplus = self.retired.len().saturating_sub(MAX_RETIRED);
        if surplus == 0 {
            return;
        }
        let rank = |(address, past): (&Address, &Retired)| (rows.contains_key(address), past.pass, *address);
        let mut ranks: Vec<_> = self.retired.iter().map(rank).collect();
        ranks.select_nth_unstable(surplus - 1);
        for (.., address) in &ranks[..surplus] {
            self.retired.remove(address);
        }
    }

    fn server(&self, address: &Address, row: &Row) -> Server {
        let connections = &row.connections;
        let [closed_by_peer, closed_by_us, resets_received, resets_sent, closed_timed_out] = ends(connections);
        Server {
            namespace: namespace(address, self.namespace),
            address: socket_address(address),
            connects: row.connects,
            established: connections.begun,
            open: connections.open(),
            refused: row.failed[failure::REFUSED],
            timed_out: row.failed[failure::TIMED_OUT],
            unreachable: row.failed[failure::UNREACHABLE],
            failed_otherwise: row.failed[failure::OTHERWISE],
            closed_by_peer,
            closed_by_us,
            resets_received,
            resets_sent,
            closed_timed_out,
            bytes_received: connections.received,
            bytes_acked: connections.acked,
            segments_received: connections.segments_received,
            segments_sent: connections.segments_sent,
            retransmits: connections.retransmits,
            connect: histogram(&row.connect, row.connect_sum),
            rtt: histogram(&connections.rtt, connections.rtt_sum),
            lifetime: histogram(&connections.lifetime, connections.lifetime_sum),
        }
    }
}

/// What changes whenever anything does.
fn digest(row: &Row) -> [u64; 6] {
    let connections = &row.connections;
    [
        row.connects,
        row.failed.iter().sum(),
        connections.begun,
        connections.ended.iter().sum(),
        connections.segments_received,
        connections.segments_sent,
    ]
}

#[cfg(test)]
mod tests {
    use lbstatd_ebpf_abi::Connections;

    use super::*;

    fn address(port: u16) -> Address {
        Address { namespace: 1, ip: [0, 0, 0xffff_u32.to_be(), 0x7f00_0001_u32.to_be()], port, reserved: 0 }
    }

    fn row(connects: u64, refused: u64, ended: u64) -> Row {
        let connections =
            Connections { begun: connects - refused, ended: [ended, 0, 0, 0, 0], ..Connections::default() };
        Row { connections, connects, failed: [refused, 0, 0, 0], ..Row::default() }
    }

    #[test]
    fn a_row_becomes_a_server() {
        let sum = Servers::new(1).sum(1, HashMap::from([(address(80), row(5, 2, 1)), (address(79), row(1, 1, 0))]));
        let [first, second] = &sum.servers[..] else { panic!("{:?}", sum.servers) };
        assert_eq!((first.address.port(), first.connects, first.refused, first.open), (79, 1, 1, 0));
        assert_eq!((second.namespace, second.established, second.refused, second.open), (0, 3, 2, 2));
        assert_eq!(second.closed_by_peer, 1);
    }

    #[test]
    fn idle_rows_are_moved_when_there_are_many_and_go_on_from_there() {
        let mut servers = Servers::new(1);
        let many = u16::try_from(CROWDED + 1).unwrap();
        let mut rows: HashMap<_, _> = (1..=many).map(|port| (address(port), row(3, 1, 2))).collect();
        rows.insert(address(1), row(3, 1, 1));
        rows.insert(address(2), row(3, 0, 2));
        for pass in 0..IDLE {
            let row = rows.get_mut(&address(3)).unwrap();
            *row = super::tests::row(row.connects + 1, row.failed[0] + 1, 2);
            assert_eq!(servers.sum(pass, rows.clone()).retired, []);
        }
        let mut sum = servers.sum(IDLE, rows.clone());
        sum.retired.sort_unstable();
        // One has an open connection, one a connection under way, one has just been used.
        assert_eq!(sum.retired, (4..=many).map(address).collect::<Vec<_>>());
        assert_eq!(sum.servers.len(), usize::from(many));
        // Each is used again, and looks as it did when it was moved.
        let again = servers.sum(IDLE + 1, rows.clone());
        assert_eq!(again.retired, []);
        let nine = again.servers.iter().find(|server| server.address.port() == 9).unwrap();
        assert_eq!((nine.connects, nine.established, nine.refused, nine.closed_by_peer), (6, 4, 2, 4));
    }

    #[test]
    fn the_past_is_bounded_and_what_is_in_use_is_not_forgotten() {
        let mut servers = Servers::new(1);
        for n in 0..u16::try_from(MAX_RETIRED + 10).unwrap() {
            servers.retire(u64::from(n), address(n), &row(1, 0, 1));
        }
        let sum = servers.sum(20_000, HashMap::from([(address(3), row(1, 0, 1))]));
        assert_eq!(servers.retired.len(), MAX_RETIRED);
        let kept = |port| servers.retired.contains_key(&address(port));
        assert_eq!([0, 3, 9, 10, 11].map(kept), [false, true, false, false, true]);
        assert_eq!(sum.servers.iter().find(|server| server.address.port() == 3).unwrap().connects, 2);
    }
}
