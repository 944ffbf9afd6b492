//! Map keys and values shared by the kernel programs and user space.
//!
//! Everything here is plain memory: `#[repr(C)]`, no hidden padding, sizes asserted, so that the two sides, built by
//! two compilers, agree on every byte.
#![cfg_attr(not(feature = "user"), no_std)]

/// Listeners that can be counted at the same time; more are refused and reported through [`Control::refused`].
pub const MAX_LISTENERS: usize = 8192;

/// Buckets of a histogram, the unbounded last one included.
pub const HISTOGRAM_BUCKETS: usize = 48;

/// The unit of lifetimes in histograms, in microseconds: bounds are this many times those of other histograms, from
/// 1 ms to 2.4 h.
pub const LIFETIME_SCALE: u64 = 64;

/// Upper bound of a bucket, inclusive: 16, 24, 32, 48, 64, 96 … The last bucket has none.
#[must_use]
pub const fn bound(bucket: usize) -> u64 {
    (if bucket.is_multiple_of(2) { 16 } else { 24 }) << (bucket / 2)
}

/// The bucket of a value.
#[must_use]
#[inline(always)]
pub const fn bucket(value: u64) -> usize {
    // One less makes the bounds inclusive: 17..=24 is 16..=23, whose two highest bits are 10, and 25..=32 has 11.
    let below = value.saturating_sub(1);
    if below < 16 {
        return 0;
    }
    let exponent = 63 - below.leading_zeros() as usize;
    let half = (below >> (exponent - 1) & 1) as usize;
    let bucket = 2 * (exponent - 4) + half + 1;
    if bucket < HISTOGRAM_BUCKETS { bucket } else { HISTOGRAM_BUCKETS - 1 }
}

/// A local TCP address as the kernel programs see it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address {
    /// An IPv6 address, or an IPv4 address in its mapped form (`::ffff:a.b.c.d`); each word as it lies in memory, that
    /// is in network byte order.
    pub ip: [u32; 4],
    /// The port, in host byte order.
    pub port: u16,
    /// Always 0.
    pub reserved: u16,
}

/// What each TCP socket carries: a listener its own identity, and, because the kernel copies it into every connection
/// it accepts, a connection the identity of its listener.
///
/// A listener keeps `flags`, `received` and `acked` at 0, so that each connection starts clean.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Socket {
    /// The socket cookie of the listener.
    pub listener: u64,
    /// Bytes received by this connection that its listener's [`Listener::received`] already holds.
    pub received: u64,
    /// Bytes acknowledged to this connection that its listener's [`Listener::acked`] already holds.
    pub acked: u64,
    /// Listeners only: the part of `sk_drops` that [`Listener::drops`] already holds.
    pub drops: u32,
    /// [`ESTABLISHED`], [`CLOSED`] and [`FIN_SENT`].
    pub flags: u32,
}

/// The connection has been counted in [`Listener::opened`].
pub const ESTABLISHED: u32 = 1;
/// The connection is over: counted in [`Listener::closed`] if it ever was established, and never looked at again.
pub const CLOSED: u32 = 2;
/// Our side has ended its half of the connection with a FIN, which `bytes_acked` counts once it is acknowledged.
pub const FIN_SENT: u32 = 4;

/// The counters of one listening socket. Every counter only grows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Listener {
    /// Connections whose handshake was completed while the listener was watched.
    pub accepted: u64,
    /// `accepted`, and the connections found open when the watch began.
    pub opened: u64,
    /// Connections of `opened` that are over.
    pub closed: u64,
    /// Bytes of payload received in order.
    pub received: u64,
    /// Bytes of payload the peers have acknowledged.
    pub acked: u64,
    /// Connection attempts and packets the listener dropped (`sk_drops`), chiefly by a full accept queue.
    pub drops: u64,
    /// [`Control::pass`] of the last sample that saw this socket listening; 0 before the first.
    pub pass: u64,
    /// Where it listens.
    pub address: Address,
    /// Connections in the accept queue, at that sample.
    pub backlog: u32,
    /// The accept queue's limit, at that sample.
    pub backlog_limit: u32,
    /// Process (thread group) found holding the socket; 0 while unknown.
    pub owner: u32,
    /// 1 once the socket has stopped listening.
    pub gone: u32,
    /// Always 0.
    pub reserved: u32,
}

/// The one entry of the control map. User space writes it between samples, the sample adds to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Control {
    /// Number of the sample, from 1.
    pub pass: u64,
    /// While not 0, a sample adopts connections that are older than the watch; set when one meets an unknown listener.
    pub adopt: u64,
    /// Listeners that found no room among [`MAX_LISTENERS`].
    pub refused: u64,
}

/// Where the running kernel keeps the fields that the programs read, in bytes from the start of the structure, found by
/// name in the kernel's BTF. [`ABSENT`] where this kernel lacks an optional one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Offsets {
    /// `sock_common.skc_family`, u16.
    pub family: u32,
    /// `sock_common.skc_state`, u8.
    pub state: u32,
    /// `sock_common.skc_num`, u16.
    pub port: u32,
    /// `sock_common.skc_rcv_saddr`, u32.
    pub ip4: u32,
    /// `sock_common.skc_v6_rcv_saddr`, 16 bytes; optional.
    pub ip6: u32,
    /// `sock_common.skc_flags`, unsigned long.
    pub flags: u32,
    /// `sock_common.skc_net.net`, pointer to `struct net`; optional.
    pub net: u32,
    /// `net.ns.inum`, u32; optional.
    pub net_inum: u32,
    /// `sock.sk_drops`, u32.
    pub drops: u32,
    /// `sock.sk_ack_backlog`, u32.
    pub backlog: u32,
    /// `sock.sk_max_ack_backlog`, u32.
    pub backlog_limit: u32,
    /// `tcp_sock.bytes_received`, u64.
    pub bytes_received: u32,
    /// `tcp_sock.bytes_acked`, u64.
    pub bytes_acked: u32,
    /// `tcp_sock.snd_una`, u32.
    pub snd_una: u32,
    /// `tcp_sock.write_seq`, u32.
    pub write_seq: u32,
    /// `tcp_sock.delivered`, u32.
    pub delivered: u32,
    /// `socket.sk`, pointer to `struct sock`; optional.
    pub socket_sk: u32,
    /// `task_struct.tgid`, u32; optional.
    pub tgid: u32,
    /// Not an offset: the bit of `SOCK_DONE` in `flags`.
    pub sock_done: u32,
    /// Not an offset: inode number of the network namespace to watch.
    pub namespace: u32,
}

/// The offset of a field that the running kernel lacks.
pub const ABSENT: u32 = u32::MAX;

const _: () = {
    assert!(size_of::<Address>() == 20);
    assert!(size_of::<Socket>() == 32);
    assert!(size_of::<Listener>() == 7 * 8 + 20 + 5 * 4);
    assert!(size_of::<Control>() == 24);
    assert!(size_of::<Offsets>() == 20 * 4);
};

#[cfg(feature = "user")]
mod pod {
    use super::{Address, Control, Listener, Offsets, Socket};

    macro_rules! pod {
        ($($name:ty)*) => {
            $(
                #[expect(unsafe_code, reason = "aya asks for this promise before it copies a type to and from the kernel")]
                // SAFETY: repr(C), integers only, valid for every bit pattern, and no padding (the sizes are asserted).
                unsafe impl aya::Pod for $name {}
            )*
        };
    }

    pod!(Address Control Listener Offsets Socket);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_between_the_bounds_of_its_bucket() {
        let bounds = (0..HISTOGRAM_BUCKETS - 1).map(bound);
        for value in bounds.flat_map(|bound| [bound - 1, bound, bound + 1]).chain([0, 1, u64::MAX]) {
            let bucket = bucket(value);
            assert!(bucket == 0 || bound(bucket - 1) < value, "{value} is in bucket {bucket}");
            assert!(bucket == HISTOGRAM_BUCKETS - 1 || value <= bound(bucket), "{value} is in bucket {bucket}");
        }
    }
}
