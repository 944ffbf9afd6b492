//! Reads the fields of kernel sockets, at the offsets that user space found in the kernel's BTF.
//!
//! Every pointer here is one the verifier has typed, and it checks each access against that type; nothing is guessed.

use core::ptr;

use aya_ebpf::{
    cty::c_void,
    helpers::{bpf_probe_read_kernel, bpf_skc_to_tcp_sock},
};
use lbstatd_ebpf_abi::{ABSENT, Address, FIN_SENT, OUTGOING};

use crate::maps::offset;

// The numbers of enum tcp_state, include/net/tcp_states.h, which user space can also see (`ss`, /proc/net/tcp).
pub(crate) const ESTABLISHED: u32 = 1;
pub(crate) const SYN_SENT: u32 = 2;
pub(crate) const FIN_WAIT1: u32 = 4;
pub(crate) const FIN_WAIT2: u32 = 5;
pub(crate) const CLOSE: u32 = 7;
pub(crate) const CLOSE_WAIT: u32 = 8;
pub(crate) const LAST_ACK: u32 = 9;
pub(crate) const LISTEN: u32 = 10;
pub(crate) const CLOSING: u32 = 11;

/// Whether the handshake of a socket in this state is complete and the connection not over.
#[inline(always)]
pub(crate) fn is_connected(state: u32) -> bool {
    matches!(state, ESTABLISHED | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT | LAST_ACK | CLOSING)
}

/// Whether a socket in this state has sent its FIN.
#[inline(always)]
pub(crate) fn has_sent_fin(state: u32) -> bool {
    matches!(state, FIN_WAIT1 | FIN_WAIT2 | LAST_ACK | CLOSING)
}

/// A full TCP socket: no request or time-wait socket, no other protocol.
#[derive(Clone, Copy)]
pub(crate) struct Tcp(*const c_void);

impl Tcp {
    #[inline(always)]
    pub(crate) fn new(sk: *const c_void) -> Option<Self> {
        // SAFETY: the helper takes any socket pointer that the verifier has typed, NULL included.
        let tcp: *const c_void = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) }.cast_const().cast();
        (!tcp.is_null()).then_some(Self(tcp))
    }

    /// The same socket, for helpers and storage.
    #[inline(always)]
    pub(crate) fn sk(self) -> *const c_void {
        self.0
    }

    #[inline(always)]
    pub(crate) fn state(self) -> u32 {
        u32::from(read::<u8>(self.0, offset!(state)))
    }

    /// The local address.
    #[inline(always)]
    pub(crate) fn local(self) -> Address {
        let port = read(self.0, offset!(port));
        Address { namespace: self.namespace(), ip: self.ip(offset!(ip4), offset!(ip6)), port, reserved: 0 }
    }

    /// The address of the other side.
    #[inline(always)]
    pub(crate) fn remote(self) -> Address {
        let port = u16::from_be(read(self.0, offset!(remote_port)));
        let ip = self.ip(offset!(remote_ip4), offset!(remote_ip6));
        Address { namespace: self.namespace(), ip, port, reserved: 0 }
    }

    #[inline(always)]
    fn ip(self, ip4: u32, ip6: u32) -> [u32; 4] {
        const AF_INET6: u16 = 10;
        if ip6 != ABSENT && read::<u16>(self.0, offset!(family)) == AF_INET6 {
            [
                read(self.0, ip6),
                read(self.0, ip6.wrapping_add(4)),
                read(self.0, ip6.wrapping_add(8)),
                read(self.0, ip6.wrapping_add(12)),
            ]
        } else {
            [0, 0, MAPPED, read(self.0, ip4)]
        }
    }

    /// The network namespace, as far as this kernel tells them apart.
    #[inline(always)]
    pub(crate) fn namespace(self) -> u32 {
        if offset!(net) == ABSENT || offset!(net_inum) == ABSENT {
            return offset!(namespace);
        }
        let net: *const c_void = read(self.0, offset!(net));
        read(net, offset!(net_inum))
    }

    /// Whether it is in user space's own network namespace, where the sample visits every socket.
    #[inline(always)]
    pub(crate) fn is_near(self) -> bool {
        self.namespace() == offset!(namespace)
    }

    #[inline(always)]
    pub(crate) fn drops(self) -> u32 {
        read(self.0, offset!(drops))
    }

    #[inline(always)]
    pub(crate) fn backlog(self) -> u32 {
        read(self.0, offset!(backlog))
    }

    #[inline(always)]
    pub(crate) fn backlog_limit(self) -> u32 {
        read(self.0, offset!(backlog_limit))
    }

    /// Handshakes under way.
    #[inline(always)]
    pub(crate) fn syn_backlog(self) -> u32 {
        read(self.0, offset!(syn_backlog))
    }

    /// The error that the next system call on the socket will report.
    #[inline(always)]
    pub(crate) fn error(self) -> u32 {
        read(self.0, offset!(error))
    }

    /// Whether no process holds it any more.
    #[inline(always)]
    pub(crate) fn is_dead(self) -> bool {
        self.flag(offset!(sock_dead))
    }

    /// Whether the other side has sent its FIN.
    #[inline(always)]
    pub(crate) fn is_done(self) -> bool {
        self.flag(offset!(sock_done))
    }

    #[inline(always)]
    fn flag(self, bit: u32) -> bool {
        (read::<u64>(self.0, offset!(flags)) >> (bit & 63)) & 1 == 1
    }

    /// Smoothed round-trip time in microseconds; 0 while none was measured.
    #[inline(always)]
    pub(crate) fn rtt(self) -> u32 {
        read::<u32>(self.0, offset!(srtt)) >> 3
    }

    #[inline(always)]
    pub(crate) fn segments_received(self) -> u32 {
        read(self.0, offset!(segments_in))
    }

    #[inline(always)]
    pub(crate) fn data_segments_received(self) -> u32 {
        read(self.0, offset!(data_segments_in))
    }

    /// The lower half of the kernel's `bytes_received`, a FIN included.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is asked for")]
    pub(crate) fn received_low(self) -> u32 {
        read::<u64>(self.0, offset!(bytes_received)) as u32
    }

    #[inline(always)]
    pub(crate) fn segments_sent(self) -> u32 {
        read(self.0, offset!(segments_out))
    }

    #[inline(always)]
    pub(crate) fn retransmits(self) -> u32 {
        read(self.0, offset!(retransmits))
    }

    /// Whether the handshake was ever completed: the kernel counts the SYN-ACK as delivered just then.
    #[inline(always)]
    pub(crate) fn was_connected(self) -> bool {
        read::<u32>(self.0, offset!(delivered)) != 0
    }

    /// Payload received. The kernel's `bytes_received` counts the peer's FIN, which takes one sequence number;
    /// `tcp_fin` sets `SOCK_DONE` together with that.
    #[inline(always)]
    pub(crate) fn received(self) -> u64 {
        read::<u64>(self.0, offset!(bytes_received)).saturating_sub(u64::from(self.is_done()))
    }

    /// Whether the peer has acknowledged all that was ever sent, a FIN included.
    #[inline(always)]
    pub(crate) fn is_all_acked(self) -> bool {
        read::<u32>(self.0, offset!(snd_una)) == read::<u32>(self.0, offset!(write_seq))
    }

    /// Payload the peer has acknowledged. The kernel's `bytes_acked` counts our FIN once it is acknowledged, and the
    /// FIN is the last thing that is ever sent; on the side that connects it counts the SYN as well.
    #[inline(always)]
    pub(crate) fn acked(self, flags: u32) -> u64 {
        let fin = u64::from(flags & FIN_SENT != 0 && self.is_all_acked());
        let syn = u64::from(flags & OUTGOING != 0);
        read::<u64>(self.0, offset!(bytes_acked)).saturating_sub(fin + syn)
    }
}

/// The third word of an IPv4-mapped IPv6 address.
pub(crate) const MAPPED: u32 = 0xffff_u32.to_be();

/// Reads a field of a kernel structure.
#[inline(always)]
pub(crate) fn read<T: Copy>(structure: *const c_void, offset: u32) -> T {
    // SAFETY: the verifier refuses the program unless the structure has a readable field there, and the kernel turns a
    // read through a stale pointer into zero.
    unsafe { ptr::read_volatile(structure.byte_add(offset as usize).cast()) }
}

/// Reads a field through an address that the verifier knows nothing of.
#[inline(always)]
pub(crate) fn peek<T>(structure: *const c_void, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address; any bits are a value of the integers asked for.
    unsafe { bpf_probe_read_kernel(structure.byte_add(offset as usize).cast()) }.ok()
}
