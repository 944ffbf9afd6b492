//! What a sample of the kernel says: plain numbers, per listening address and per server.

use std::net::SocketAddr;

use super::ProgramRuns;

pub use lbstatd_ebpf_abi::{HISTOGRAM_BUCKETS, LIFETIME_SCALE};

/// Everything the kernel counts, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Every TCP listener of the host, in order of namespace and address.
    pub listeners: Vec<Listener>,
    /// Every destination that the processes asked for have connected to, in order of namespace and address.
    pub servers: Vec<Server>,
    /// How often each program has run.
    pub programs: Vec<ProgramRuns>,
}

/// What the kernel counts for one local address of one network namespace, all sockets that listen there taken together
/// (`SO_REUSEPORT`), and those that did so before (a reload). Counters only grow while this process runs.
///
/// Each connection that ends is counted once, by how it ended: `accepted` (and what was open before the watch) is the
/// sum of `open`, `closed_by_peer`, `closed_by_us`, `resets_received`, `resets_sent` and `timed_out`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Inode number of the network namespace; 0 for that of this process.
    pub namespace: u32,
    /// The address that is listened on; an IPv4-mapped one as IPv4.
    pub address: SocketAddr,
    /// Whether it belongs to one of the processes asked for.
    pub owned: bool,
    /// How many sockets listen on the address now; 0 for one of an asked process that is closed or paused.
    pub sockets: u32,
    /// Connections whose handshake was completed, whether or not the process has taken them from the accept queue.
    pub accepted: u64,
    /// Connections open now, those in the accept queue included.
    pub open: u64,
    /// Connections that ended in order, the client having sent the first FIN.
    pub closed_by_peer: u64,
    /// Connections that ended in order, our side having sent the first FIN.
    pub closed_by_us: u64,
    /// Connections that a reset of the client ended.
    pub resets_received: u64,
    /// Connections that our side ended with a reset.
    pub resets_sent: u64,
    /// Connections that the kernel gave up, because the client no longer answered.
    pub timed_out: u64,
    /// Bytes of payload received in order.
    pub bytes_received: u64,
    /// Bytes of payload sent and acknowledged by the peer.
    pub bytes_acked: u64,
    /// Segments received (`tcp_sock.segs_in`).
    pub segments_received: u64,
    /// Segments sent (`tcp_sock.segs_out`), retransmitted ones included.
    pub segments_sent: u64,
    /// Segments sent again on established connections (`tcp_sock.total_retrans`).
    pub retransmits: u64,
    /// SYN-ACKs sent again; `None` where the kernel does not let it be seen.
    pub synack_retransmits: Option<u64>,
    /// Connections in the accept queue now (`sk_ack_backlog`).
    pub backlog: u64,
    /// The accept queue's limit (`sk_max_ack_backlog`), of all sockets together.
    pub backlog_limit: u64,
    /// The most connections that were in the accept queue at once since the last sample; sockets that share the address
    /// are added up, whether or not their peaks fell together.
    pub backlog_peak: u64,
    /// Handshakes under way now (`icsk_accept_queue.qlen`).
    pub syn_backlog: u64,
    /// The most handshakes that were under way at once since the last sample, as `backlog_peak`.
    pub syn_backlog_peak: u64,
    /// Connection attempts and packets that the listener dropped (`sk_drops`): overflows of the accept queue count here.
    pub drops: u64,
    /// Those of `drops` that a full accept queue caused; `None` where it cannot be told.
    pub overflows: Option<u64>,
    /// Round-trip time of the handshake: SYN-ACK to ACK.
    pub handshake: Histogram,
    /// Smoothed round-trip time of connections, as they ended.
    pub rtt: Histogram,
    /// How long connections lived, from the end of the handshake on; the bounds of its buckets are
    /// [`LIFETIME_SCALE`] times the usual ones.
    pub lifetime: Histogram,
    /// How long connections waited in the accept queue; `None` where the kernel does not let it be seen.
    pub accept_wait: Option<Histogram>,
}

/// What the kernel counts for one destination that HAProxy's processes have connected to from one network namespace.
/// Counters only grow while this process runs.
///
/// `connects` is the sum of `established`, of `refused`, `timed_out`, `unreachable` and `failed_otherwise`, and of the
/// attempts under way; `established` that of `open` and of the kinds of end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Inode number of the network namespace; 0 for that of this process.
    pub namespace: u32,
    /// The address connected to; an IPv4-mapped one as IPv4.
    pub address: SocketAddr,
    /// Connections tried.
    pub connects: u64,
    /// Connections whose handshake was completed.
    pub established: u64,
    /// Connections open now.
    pub open: u64,
    /// Attempts that the server's host refused with a reset.
    pub refused: u64,
    /// Attempts that nobody answered.
    pub timed_out: u64,
    /// Attempts that found no way to the host or network.
    pub unreachable: u64,
    /// Attempts that failed for another reason.
    pub failed_otherwise: u64,
    /// Connections that ended in order, the server having sent the first FIN.
    pub closed_by_peer: u64,
    /// Connections that ended in order, our side having sent the first FIN.
    pub closed_by_us: u64,
    /// Connections that a reset of the server ended.
    pub resets_received: u64,
    /// Connections that our side ended with a reset.
    pub resets_sent: u64,
    /// Connections that the kernel gave up, because the server no longer answered.
    pub closed_timed_out: u64,
    /// Bytes of payload received in order.
    pub bytes_received: u64,
    /// Bytes of payload sent and acknowledged by the server.
    pub bytes_acked: u64,
    /// Segments received (`tcp_sock.segs_in`).
    pub segments_received: u64,
    /// Segments sent (`tcp_sock.segs_out`), retransmitted ones included.
    pub segments_sent: u64,
    /// Segments sent again, SYNs included (`tcp_sock.total_retrans`).
    pub retransmits: u64,
    /// How long it took to connect: SYN to SYN-ACK, of the attempts that succeeded.
    pub connect: Histogram,
    /// Smoothed round-trip time of connections, as they ended.
    pub rtt: Histogram,
    /// How long connections lived; buckets as those of [`Listener::lifetime`].
    pub lifetime: Histogram,
}

/// A log-linear histogram of durations: two buckets an octave.
///
/// `buckets[i]` counts the values above the bound of `i - 1`, up to and including that of `i`; the last bucket has no
/// upper bound. The number of values is the sum of the buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Values per bucket, not accumulated.
    pub buckets: [u64; HISTOGRAM_BUCKETS],
    /// Sum of all values, in microseconds.
    pub sum: u64,
}

impl Listener {
    /// A listener of which nothing has been counted.
    #[must_use]
    pub fn new(namespace: u32, address: SocketAddr) -> Self {
        Self {
            namespace,
            address,
            owned: false,
            sockets: 0,
            accepted: 0,
            open: 0,
            closed_by_peer: 0,
            closed_by_us: 0,
            resets_received: 0,
            resets_sent: 0,
            timed_out: 0,
            bytes_received: 0,
            bytes_acked: 0,
            segments_received: 0,
            segments_sent: 0,
            retransmits: 0,
            synack_retransmits: None,
            backlog: 0,
            backlog_limit: 0,
            backlog_peak: 0,
            syn_backlog: 0,
            syn_backlog_peak: 0,
            drops: 0,
            overflows: None,
            handshake: Histogram::default(),
            rtt: Histogram::default(),
            lifetime: Histogram::default(),
            accept_wait: None,
        }
    }
}

impl Server {
    /// A destination of which nothing has been counted.
    #[must_use]
    pub fn new(namespace: u32, address: SocketAddr) -> Self {
        Self {
            namespace,
            address,
            connects: 0,
            established: 0,
            open: 0,
            refused: 0,
            timed_out: 0,
            unreachable: 0,
            failed_otherwise: 0,
            closed_by_peer: 0,
            closed_by_us: 0,
            resets_received: 0,
            resets_sent: 0,
            closed_timed_out: 0,
            bytes_received: 0,
            bytes_acked: 0,
            segments_received: 0,
            segments_sent: 0,
            retransmits: 0,
            connect: Histogram::default(),
            rtt: Histogram::default(),
            lifetime: Histogram::default(),
        }
    }
}

impl Histogram {
    /// Upper bound of a bucket in microseconds, inclusive: 16, 24, 32, 48, 64, 96 … 134,217,728; `None` for the last
    /// bucket and beyond. [`Listener::lifetime`] and [`Server::lifetime`] have [`LIFETIME_SCALE`] times these.
    #[must_use]
    pub fn bound(bucket: usize) -> Option<u64> {
        (bucket < HISTOGRAM_BUCKETS - 1).then(|| lbstatd_ebpf_abi::bound(bucket))
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; HISTOGRAM_BUCKETS], sum: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_grow_by_two_buckets_an_octave() {
        let bounds: Vec<_> = (0..HISTOGRAM_BUCKETS + 1).map_while(Histogram::bound).collect();
        assert_eq!(bounds[..8], [16, 24, 32, 48, 64, 96, 128, 192]);
        assert_eq!((bounds.len(), bounds.last()), (47, Some(&(1 << 27))));
    }
}
