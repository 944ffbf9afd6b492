//! Map keys and values shared by the kernel programs and user space.
//!
//! Everything here is plain memory: `#[repr(C)]`, no hidden padding, sizes asserted, so that the two sides, built by
//! two compilers, agree on every byte.
#![cfg_attr(not(feature = "user"), no_std)]

mod histogram;
mod offsets;

pub use histogram::{Buckets, HISTOGRAM_BUCKETS, LIFETIME_SCALE, bound, bucket};
pub use offsets::{ABSENT, Offsets};

/// Listeners that can be counted at the same time; more are refused and reported through [`Control::refused`].
pub const MAX_LISTENERS: usize = 8192;

/// Processes whose sockets can be told from others' at the same time.
pub const MAX_OWNERS: usize = 1024;

/// Destinations that can be counted at the same time; more are refused and reported through [`Control::refused_servers`].
pub const MAX_SERVERS: usize = 8192;

/// Outgoing connections that can be counted at the same time, where user space asks for no other number; more are refused
/// and reported through [`Control::refused_outgoing`].
pub const MAX_OUTGOING: usize = 1 << 16;

/// Places for [`Fin`].
pub const FINS: usize = 1 << 16;

/// A TCP address as the kernel programs see it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Inode number of the network namespace; 0 where the kernel does not tell.
    pub namespace: u32,
    /// An IPv6 address, or an IPv4 address in its mapped form (`::ffff:a.b.c.d`); each word as it lies in memory, that
    /// is in network byte order.
    pub ip: [u32; 4],
    /// The port, in host byte order.
    pub port: u16,
    /// Always 0.
    pub reserved: u16,
}

/// What is known of a TCP socket. A listener carries its own identity, and, because the kernel copies it into every
/// connection it accepts, a connection the identity of its listener. An outgoing connection is known by its destination
/// instead.
///
/// The fields from `received` to `retransmits` are marks: how much of this connection its row holds already. A listener
/// keeps them and `flags` at 0, so that each connection starts clean. Those of an outgoing connection are combined with a
/// number of its own (`salt` in the kernel programs), because another one can come to lie in the same memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Socket {
    /// The socket cookie of the listener; 0 for an outgoing connection.
    pub listener: u64,
    /// When the connection was established, or, before that, when connecting began: nanoseconds of `CLOCK_MONOTONIC`;
    /// 0 for a connection older than the watch.
    pub since: u64,
    /// Of [`Connections::received`].
    pub received: u64,
    /// Of [`Connections::acked`].
    pub acked: u64,
    /// Of [`Connections::segments_received`]; 32 bits are used, which wrap as the kernel's counter does.
    pub segments_received: u64,
    /// Of [`Connections::segments_sent`], likewise.
    pub segments_sent: u64,
    /// Of [`Connections::retransmits`], likewise; begins with the SYN-ACKs that were sent again.
    pub retransmits: u64,
    /// Of [`Listener::drops`], likewise; listeners only.
    pub drops: u64,
    /// [`ESTABLISHED`], [`CLOSED`], [`FIN_SENT`], [`OUTGOING`] and [`PEER_FIRST`].
    pub flags: u32,
    /// Always 0.
    pub reserved: u32,
}

/// What a connection had received when our side, as the first, sent its FIN.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Fin {
    /// Address of its `struct sock`.
    pub socket: u64,
    /// Segments with data.
    pub data_segments: u32,
    /// Bytes, 32 bits of them.
    pub received: u32,
}

/// The connection has been counted as begun.
pub const ESTABLISHED: u32 = 1;
/// The connection is over: its end is counted if it ever was established, and it is never looked at again.
pub const CLOSED: u32 = 2;
/// Our side has ended its half of the connection with a FIN, which `bytes_acked` counts once it is acknowledged.
pub const FIN_SENT: u32 = 4;
/// The connection was made by one of the owners' processes.
pub const OUTGOING: u32 = 8;
/// The other side was the first to end its half.
pub const PEER_FIRST: u32 = 16;

/// How a connection ends: an index into [`Connections::ended`].
pub mod end {
    /// In order, the other side having sent the first FIN.
    pub const BY_PEER: usize = 0;
    /// In order, our side having sent the first FIN.
    pub const BY_US: usize = 1;
    /// By a reset received.
    pub const RESET_RECEIVED: usize = 2;
    /// By a reset sent.
    pub const RESET_SENT: usize = 3;
    /// The kernel gave up: no answer any more.
    pub const TIMED_OUT: usize = 4;
    /// How many there are.
    pub const KINDS: usize = 5;
}

/// How an attempt to connect fails: an index into [`Server::failed`].
pub mod failure {
    /// Refused with a reset.
    pub const REFUSED: usize = 0;
    /// Nobody answered before the kernel or the process gave up.
    pub const TIMED_OUT: usize = 1;
    /// No way to the host or network.
    pub const UNREACHABLE: usize = 2;
    /// Anything else.
    pub const OTHERWISE: usize = 3;
    /// How many there are.
    pub const KINDS: usize = 4;
}

/// Counters begin each row, those of every connection first: a connection that comes and goes touches two cache lines of
/// them, and one of each histogram.
const _: () = {
    assert!(core::mem::offset_of!(Listener, connections) + core::mem::offset_of!(Connections, retransmits) == 128);
};

/// The counters of connections, incoming or outgoing. Every one only grows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Connections whose handshake was completed while it was watched.
    pub begun: u64,
    /// Bytes of payload received in order.
    pub received: u64,
    /// Bytes of payload the peers have acknowledged.
    pub acked: u64,
    /// Segments received.
    pub segments_received: u64,
    /// Segments sent.
    pub segments_sent: u64,
    /// Sum of `rtt`, in microseconds.
    pub rtt_sum: u64,
    /// Sum of `lifetime`, in microseconds.
    pub lifetime_sum: u64,
    /// Connections of `begun` and `adopted` that are over, by how they ended: see [`end`].
    pub ended: [u64; end::KINDS],
    /// Segments sent again.
    pub retransmits: u64,
    /// Connections found open when the watch began.
    pub adopted: u64,
    /// Smoothed round-trip times at the end of connections.
    pub rtt: Buckets,
    /// Lifetimes; their bucket is that of the [`LIFETIME_SCALE`]th part.
    pub lifetime: Buckets,
}

/// The counters of one listening socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Address of its `struct sock` while it listens, else 0. The programs check what lies there before they trust it.
    pub socket: u64,
    /// The most connections in the accept queue since the last sample; that one takes it out.
    pub backlog_high: u64,
    /// The most handshakes under way since the last sample; that one takes it out.
    pub syn_backlog_high: u64,
    /// Sum of `handshake`, in microseconds.
    pub handshake_sum: u64,
    /// Connections it accepted.
    pub connections: Connections,
    /// Round-trip times of handshakes.
    pub handshake: Buckets,
    /// Time that connections waited in the accept queue.
    pub accept_wait: Buckets,
    /// Sum of `accept_wait`, in microseconds.
    pub accept_wait_sum: u64,
    /// SYN-ACKs sent again.
    pub synack_retransmits: u64,
    /// Connection attempts and packets the listener dropped (`sk_drops`), chiefly by a full accept queue.
    pub drops: u64,
    /// [`Control::pass`] of the last sample that saw this socket listening; 0 before the first.
    pub pass: u64,
    /// Where it listens.
    pub address: Address,
    /// Connections in the accept queue, at the last sample.
    pub backlog: u32,
    /// The accept queue's limit, at that sample.
    pub backlog_limit: u32,
    /// The most connections in the accept queue, between that sample and the one before.
    pub backlog_peak: u32,
    /// Handshakes under way, at that sample.
    pub syn_backlog: u32,
    /// The most handshakes under way, between that sample and the one before.
    pub syn_backlog_peak: u32,
    /// Process (thread group) found holding the socket; 0 while unknown.
    pub owner: u32,
    /// 1 once the socket has stopped listening.
    pub gone: u32,
    /// Always 0.
    pub reserved: u32,
}

/// The counters of one destination of outgoing connections.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Connections made.
    pub connections: Connections,
    /// Time from SYN to SYN-ACK, of attempts that succeeded.
    pub connect: Buckets,
    /// Sum of `connect`, in microseconds.
    pub connect_sum: u64,
    /// Attempts to connect.
    pub connects: u64,
    /// Attempts that failed, by how: see [`failure`].
    pub failed: [u64; failure::KINDS],
}

impl Connections {
    /// Connections open now. The counters are read one after the other while the kernel goes on counting, so a
    /// difference below 0 counts as 0.
    #[must_use]
    pub fn open(&self) -> u64 {
        (self.begun + self.adopted).saturating_sub(self.ended.iter().sum())
    }

    /// Adds other ones.
    pub fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.adopted += other.adopted;
        for (ended, more) in self.ended.iter_mut().zip(other.ended) {
            *ended += more;
        }
        self.received += other.received;
        self.acked += other.acked;
        self.segments_received += other.segments_received;
        self.segments_sent += other.segments_sent;
        self.retransmits += other.retransmits;
        self.rtt_sum += other.rtt_sum;
        self.rtt.add(&other.rtt);
        self.lifetime_sum += other.lifetime_sum;
        self.lifetime.add(&other.lifetime);
    }
}

impl Listener {
    /// Adds the counters of another one.
    pub fn add(&mut self, other: &Self) {
        self.connections.add(&other.connections);
        self.handshake_sum += other.handshake_sum;
        self.handshake.add(&other.handshake);
        self.accept_wait_sum += other.accept_wait_sum;
        self.accept_wait.add(&other.accept_wait);
        self.synack_retransmits += other.synack_retransmits;
        self.drops += other.drops;
    }
}

impl Server {
    /// Attempts under way.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.connects.saturating_sub(self.connections.begun + self.failed.iter().sum::<u64>())
    }

    /// Adds the counters of another one.
    pub fn add(&mut self, other: &Self) {
        self.connections.add(&other.connections);
        self.connect_sum += other.connect_sum;
        self.connect.add(&other.connect);
        self.connects += other.connects;
        for (failed, more) in self.failed.iter_mut().zip(other.failed) {
            *failed += more;
        }
    }
}

/// A process (thread group) that may be the one user space means by a number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its number in its own process namespace: the one user space asked for.
    pub pid: u32,
    /// Its parent, if that runs a program of the same name: the master of a worker. As the programs number processes; else 0.
    pub master: u32,
    /// 1 if it or its parent is the process that user space knows as the peer of its socket.
    pub by_peer: u32,
    /// 1 if its process namespace is that of user space.
    pub near: u32,
}

/// The one entry of the control map. User space writes it between samples, the sample adds to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Control {
    /// Number of the sample, from 1.
    pub pass: u64,
    /// While not 0, a sample adopts connections that are older than the watch; set when one meets an unknown listener.
    pub adopt: u64,
    /// 1 for a sample that visits no connections.
    pub listeners_only: u64,
    /// Listeners that found no room among [`MAX_LISTENERS`].
    pub refused: u64,
    /// Destinations that found no room among [`MAX_SERVERS`], once for each connection.
    pub refused_servers: u64,
    /// Outgoing connections that found no room.
    pub refused_outgoing: u64,
}

const _: () = {
    assert!(size_of::<Address>() == 24);
    assert!(size_of::<Socket>() == 72);
    assert!(size_of::<Connections>() == (9 + end::KINDS) * 8 + 2 * size_of::<Buckets>());
    assert!(size_of::<Listener>() == size_of::<Connections>() + 2 * size_of::<Buckets>() + 8 * 8 + 24 + 7 * 4 + 4);
    assert!(size_of::<Server>() == size_of::<Connections>() + size_of::<Buckets>() + (2 + failure::KINDS) * 8);
    assert!(size_of::<Control>() == 48);
    assert!(size_of::<Fin>() == 16);
    assert!(size_of::<Found>() == 16);
    assert!(size_of::<Offsets>() == 43 * 4);
};

#[cfg(feature = "user")]
mod pod {
    use super::{Address, Control, Found, Listener, Offsets, Server, Socket};

    macro_rules! pod {
        ($($name:ty)*) => {
            $(
                #[expect(unsafe_code, reason = "aya asks for this promise before it copies a type to and from the kernel")]
                // SAFETY: repr(C), integers only, valid for every bit pattern, and no padding (the sizes are asserted).
                unsafe impl aya::Pod for $name {}
            )*
        };
    }

    pod!(Address Control Found Listener Offsets Server Socket);
}
