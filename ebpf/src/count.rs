//! The steps of counting a connection: each happens once, whichever program comes first.
//!
//! Several programs can see the same event, and the kernel skips a program that would interrupt itself on one CPU, so no
//! single hook is to be trusted with an event. What has been counted is kept with the socket: its flags are written under
//! the socket's lock only, its marks by compare-and-exchange where that is not held (see [`settle`]).

use core::ptr;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use lbstatd_ebpf_abi::{
    CLOSED, Connections, ESTABLISHED, FIN_SENT, Fin, LIFETIME_SCALE, Listener, OUTGOING, PEER_FIRST, Socket, end,
    failure,
};

use crate::{
    atomic::{add, exchange_if, observe, within},
    listening::note_backlogs,
    maps::{control, fin, hash, listener, remove_outgoing, server, server_or_insert, set_outgoing, socket},
    sock::{CLOSE_WAIT, CLOSING, ESTABLISHED as STATE_ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, Tcp, has_sent_fin},
};

/// Notes what this state says about who ended what.
#[inline(always)]
pub(crate) fn note_state(socket: &mut Socket, state: u32) {
    if has_sent_fin(state) {
        socket.flags |= FIN_SENT;
    }
    if state == CLOSE_WAIT || state == LAST_ACK {
        socket.flags |= PEER_FIRST;
    }
}

/// Notes what had been received when our process ended its half first.
#[inline(always)]
pub(crate) fn note_fin(tcp: Tcp) {
    let note =
        Fin { socket: tcp.sk() as u64, data_segments: tcp.data_segments_received(), received: tcp.received_low() };
    if let Some(fin) = fin(tcp.sk()) {
        // SAFETY: the entry of an array map, valid for the program's life. Two who write it at once leave a mixture, which
        // is one socket's address with what another had received: no worse than the one being overwritten by the other.
        unsafe { *fin = note };
    }
}

/// Counts that one of the owners' processes begins to connect.
#[inline(always)]
pub(crate) fn begin_to_connect(tcp: Tcp) {
    let Some(row) = server_or_insert(&tcp.remote()) else {
        if let Some(control) = control() {
            // SAFETY: the entry of an array map, valid for the program's life; changed atomically.
            unsafe { add(&raw mut (*control).refused_servers, 1) };
        }
        return;
    };
    let mark = salt(tcp, OUTGOING);
    let fresh = Socket {
        flags: OUTGOING,
        since: now(),
        received: mark,
        acked: mark,
        segments_received: mark,
        segments_sent: mark,
        retransmits: mark,
        ..NEW_SOCKET
    };
    if set_outgoing(tcp.sk(), &fresh) {
        // SAFETY: see `add`; the row was found by look-up.
        unsafe { add(&raw mut (*row).connects, 1) };
    }
}

pub(crate) const NEW_SOCKET: Socket = Socket {
    listener: 0,
    since: 0,
    received: 0,
    acked: 0,
    segments_received: 0,
    segments_sent: 0,
    retransmits: 0,
    drops: 0,
    flags: 0,
    reserved: 0,
};

/// Makes sure that nothing is counted for a socket that begins to connect for somebody else.
#[inline(always)]
pub(crate) fn forget(tcp: Tcp) {
    if let Some(socket) = socket(tcp.sk()) {
        socket.flags |= ESTABLISHED;
        finish(tcp, socket);
    }
}

/// Marks the end of a connection.
#[inline(always)]
fn finish(tcp: Tcp, socket: &mut Socket) {
    socket.flags |= CLOSED;
    if socket.flags & OUTGOING != 0 {
        remove_outgoing(tcp.sk());
    }
}

/// What the marks of a connection are combined with by exclusive or. Memory of outgoing connections is used again at once:
/// for them it is a number that another connection has in one of 65,536 cases, above the 48 bits that bytes need.
#[inline(always)]
fn salt(tcp: Tcp, flags: u32) -> u64 {
    if flags & OUTGOING == 0 {
        return 0;
    }
    u64::from(hash(tcp.sk()) >> 16) << 48
}

/// Counts a connection whose handshake is complete. Nothing is marked if its row is not there (any more): then it can be
/// counted later.
///
/// A function of its own in the programs as well: what each connection does once need not stand in them twice.
#[inline(never)]
pub(crate) fn establish(tcp: Tcp, socket: &mut Socket) {
    if socket.flags & OUTGOING != 0 { establish_outgoing(tcp, socket) } else { establish_accepted(tcp, socket) }
}

/// The counters that a connection belongs to, once it is counted as established itself.
#[inline(always)]
pub(crate) fn established(tcp: Tcp, socket: &mut Socket) -> Option<*mut Connections> {
    if socket.flags & ESTABLISHED == 0 {
        establish(tcp, socket);
        if socket.flags & ESTABLISHED == 0 {
            return None;
        }
    }
    connections_of(tcp, socket)
}

/// The counters that an established connection belongs to.
#[inline(always)]
pub(crate) fn connections_of(tcp: Tcp, socket: &Socket) -> Option<*mut Connections> {
    // SAFETY: a row found by look-up stays mapped for the program's life.
    unsafe {
        if socket.flags & OUTGOING != 0 {
            server(&tcp.remote()).map(|row| &raw mut (*row).connections)
        } else {
            listener(socket.listener).map(|row| &raw mut (*row).connections)
        }
    }
}

#[inline(always)]
fn establish_accepted(tcp: Tcp, socket: &mut Socket) {
    let Some(row) = listener(socket.listener) else { return };
    socket.flags |= ESTABLISHED;
    socket.since = now();
    note_backlogs(row, socket.listener);
    // The kernel passes on how often it sent the SYN-ACK again; that is counted for the listener.
    socket.retransmits = u64::from(tcp.retransmits());
    let rtt = tcp.rtt();
    // SAFETY: see `add`; the row was found by look-up.
    unsafe {
        add(&raw mut (*row).connections.begun, 1);
        if rtt != 0 {
            observe(&raw mut (*row).handshake_sum, &raw mut (*row).handshake, u64::from(rtt), 1);
        }
    }
}

#[inline(always)]
fn establish_outgoing(tcp: Tcp, socket: &mut Socket) {
    let Some(row) = server(&tcp.remote()) else { return };
    socket.flags |= ESTABLISHED;
    let now = now();
    let wait = now.saturating_sub(socket.since) / 1000;
    socket.since = now;
    // SAFETY: see `add`; the row was found by look-up.
    unsafe {
        add(&raw mut (*row).connections.begun, 1);
        observe(&raw mut (*row).connect_sum, &raw mut (*row).connect, wait, 1);
    }
}

/// What has gone through a connection so far.
pub(crate) struct Traffic {
    received: u64,
    acked: u64,
    segments_received: u32,
    segments_sent: u32,
    retransmits: u32,
    salt: u64,
}

impl Traffic {
    #[inline(always)]
    pub(crate) fn of(tcp: Tcp, flags: u32) -> Self {
        Self {
            received: tcp.received(),
            acked: tcp.acked(flags),
            segments_received: tcp.segments_received(),
            segments_sent: tcp.segments_sent(),
            retransmits: tcp.retransmits(),
            salt: salt(tcp, flags),
        }
    }

    /// The marks of a connection of which all this is counted, or not to be counted.
    #[inline(always)]
    fn marks(&self) -> [u64; 5] {
        [
            self.salt ^ self.received,
            self.salt ^ self.acked,
            self.salt ^ u64::from(self.segments_received),
            self.salt ^ u64::from(self.segments_sent),
            self.salt ^ u64::from(self.retransmits),
        ]
    }

    /// Whether the marks say the same.
    #[inline(always)]
    pub(crate) fn is_counted(&self, socket: &Socket) -> bool {
        let [received, acked, segments_received, segments_sent, retransmits] = self.marks();
        received == socket.received
            && acked == socket.acked
            && segments_received == socket.segments_received
            && segments_sent == socket.segments_sent
            && retransmits == socket.retransmits
    }

    /// Sets the marks of a connection whose past is not to be counted.
    #[inline(always)]
    pub(crate) fn mark(&self, socket: &mut Socket) {
        [socket.received, socket.acked, socket.segments_received, socket.segments_sent, socket.retransmits] =
            self.marks();
    }
}

/// Adds what has gone through a connection since the last time.
///
/// The only step that is also taken without the socket's lock: for sockets of other namespaces, which a sample finds
/// among a process's files. There two programs can settle at once. Each marks what it takes by compare-and-exchange, so
/// one of them finds the other's mark and adds what is left. An outgoing connection can even end meanwhile, and its memory
/// become another's: then the marks make no sense with this one's salt, and nothing is added.
#[inline(always)]
pub(crate) fn settle(tcp: Tcp, socket: *mut Socket, now: Traffic, row: *mut Connections) {
    let (alone, salt) = (tcp.is_near(), now.salt);
    // SAFETY: the entry and the row were found by look-up.
    unsafe {
        settle_one(&raw mut (*socket).received, salt, now.received, &raw mut (*row).received, alone);
        settle_one(&raw mut (*socket).acked, salt, now.acked, &raw mut (*row).acked, alone);
        let (received, sent) = (&raw mut (*row).segments_received, &raw mut (*row).segments_sent);
        settle_short(&raw mut (*socket).segments_received, salt, now.segments_received, received, alone);
        settle_short(&raw mut (*socket).segments_sent, salt, now.segments_sent, sent, alone);
        settle_short(&raw mut (*socket).retransmits, salt, now.retransmits, &raw mut (*row).retransmits, alone);
    }
}

/// Adds what a listening socket has dropped since the last time.
#[inline(always)]
pub(crate) fn settle_drops(tcp: Tcp, socket: *mut Socket, row: *mut Listener) {
    // SAFETY: the storage and the row were found by look-up.
    unsafe { settle_short(&raw mut (*socket).drops, 0, tcp.drops(), &raw mut (*row).drops, tcp.is_near()) };
}

/// # Safety
/// Both point into map values; `alone` only under the lock of a socket that nobody visits without it.
#[inline(always)]
unsafe fn settle_one(mark: *mut u64, salt: u64, current: u64, counter: *mut u64, alone: bool) {
    // There are two who settle, so the second try succeeds.
    for _ in 0..2 {
        // SAFETY: the caller's promise.
        let seen = unsafe { ptr::read_volatile(mark) };
        let fresh = current.wrapping_sub(seen ^ salt);
        if fresh == 0 || fresh > u64::MAX / 2 {
            return;
        }
        // SAFETY: as above.
        if unsafe { take(mark, seen, current ^ salt, counter, fresh, alone) } {
            return;
        }
    }
}

/// As [`settle_one`], for a kernel counter of 32 bits, which wraps.
///
/// # Safety
/// As [`settle_one`].
#[inline(always)]
unsafe fn settle_short(mark: *mut u64, salt: u64, current: u32, counter: *mut u64, alone: bool) {
    for _ in 0..2 {
        // SAFETY: the caller's promise.
        let seen = unsafe { ptr::read_volatile(mark) };
        #[expect(clippy::cast_possible_truncation, reason = "the upper half is looked at apart")]
        let fresh = current.wrapping_sub(seen as u32);
        if (seen ^ salt) >> 32 != 0 || fresh == 0 || fresh > u32::MAX / 2 {
            return;
        }
        // SAFETY: as above.
        if unsafe { take(mark, seen, u64::from(current) ^ salt, counter, u64::from(fresh), alone) } {
            return;
        }
    }
}

/// Moves a mark, and adds what lies between. False if somebody else has moved it.
///
/// # Safety
/// As [`settle_one`].
#[inline(always)]
unsafe fn take(mark: *mut u64, seen: u64, current: u64, counter: *mut u64, fresh: u64, alone: bool) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if alone {
            ptr::write_volatile(mark, current);
        } else if !exchange_if(mark, seen, current) {
            return false;
        }
        add(counter, fresh);
    }
    true
}

/// Counts the end of an established connection that was in the state `old` until now.
#[inline(always)]
pub(crate) fn close(tcp: Tcp, socket: &mut Socket, old: u32) {
    note_state(socket, old);
    if let Some(row) = established(tcp, socket) {
        settle(tcp, socket, Traffic::of(tcp, socket.flags), row);
        let rtt = tcp.rtt();
        let kind = within::<{ end::KINDS as i32 }>(kind_of_end(tcp, old));
        // SAFETY: see `add`; the row was found by look-up.
        unsafe {
            add((&raw mut (*row).ended).cast::<u64>().add(kind), 1);
            if rtt != 0 {
                observe(&raw mut (*row).rtt_sum, &raw mut (*row).rtt, u64::from(rtt), 1);
            }
            if socket.since != 0 {
                let lifetime = now().saturating_sub(socket.since) / 1000;
                observe(&raw mut (*row).lifetime_sum, &raw mut (*row).lifetime, lifetime, LIFETIME_SCALE);
            }
        }
    }
    finish(tcp, socket);
}

/// The state before CLOSE, where that change was missed: as the last sample left it, or the likeliest.
#[inline(always)]
pub(crate) fn last_state(tcp: Tcp, socket: &Socket) -> u32 {
    if socket.flags & FIN_SENT != 0 {
        if socket.flags & PEER_FIRST != 0 { LAST_ACK } else { CLOSING }
    } else if tcp.error() == 0 && tcp.is_done() && tcp.is_all_acked() {
        LAST_ACK
    } else {
        STATE_ESTABLISHED
    }
}

/// What the state it comes from, and the error that the kernel sets before the change, say about a connection's end.
///
/// `tcp_reset` and `tcp_write_err` set `sk_err`, then `tcp_done` closes; `tcp_abort` sets ECONNABORTED. Without an error
/// it is the protocol that came to its end, or our process that cut it short (`tcp_close` with unread data,
/// `tcp_disconnect`), and then the reset goes out after the change.
#[inline(always)]
fn kind_of_end(tcp: Tcp, old: u32) -> usize {
    match tcp.error() {
        _ if (old == FIN_WAIT1 || old == FIN_WAIT2) && is_ended_by_data(tcp) => end::RESET_SENT,
        0 => match old {
            LAST_ACK => end::BY_PEER,
            CLOSING => end::BY_US,
            // Into TIME_WAIT when the FIN has come, or nobody is left to wait for it.
            FIN_WAIT2 if tcp.is_done() || tcp.is_dead() => end::BY_US,
            _ => end::RESET_SENT,
        },
        EPIPE | ECONNRESET => end::RESET_RECEIVED,
        ECONNABORTED => end::RESET_SENT,
        // ETIMEDOUT, or why the network could not deliver meanwhile.
        _ => end::TIMED_OUT,
    }
}

/// Whether data came after our process had closed, which the kernel answers with a reset (RFC 9293, 3.6.1): it calls the
/// same functions as for a reset received, or `tcp_done` alone. Such a segment counts as received, its bytes do not.
#[inline(always)]
fn is_ended_by_data(tcp: Tcp) -> bool {
    // In order, with the peer's FIN, most connections end; for them that memory is not touched.
    if tcp.is_done() || !tcp.is_dead() {
        return false;
    }
    let Some(fin) = fin(tcp.sk()) else { return false };
    // SAFETY: the entry of an array map, valid for the program's life.
    let Fin { socket, data_segments, received } = unsafe { *fin };
    socket == tcp.sk() as u64 && tcp.data_segments_received() != data_segments && tcp.received_low() == received
}

/// Counts that an attempt to connect has failed.
#[inline(always)]
pub(crate) fn fail_to_connect(tcp: Tcp, socket: &mut Socket) {
    if let Some(row) = server(&tcp.remote()) {
        let kind = within::<{ failure::KINDS as i32 }>(kind_of_failure(tcp));
        // SAFETY: see `add`; the row was found by look-up.
        unsafe { add((&raw mut (*row).failed).cast::<u64>().add(kind), 1) };
    }
    finish(tcp, socket);
}

#[inline(always)]
fn kind_of_failure(tcp: Tcp) -> usize {
    match tcp.error() {
        ECONNREFUSED => failure::REFUSED,
        ETIMEDOUT => failure::TIMED_OUT,
        ENETUNREACH | EHOSTUNREACH => failure::UNREACHABLE,
        // The process closed it while it waited for an answer: it has a time limit of its own.
        0 if tcp.segments_sent() != 0 => failure::TIMED_OUT,
        _ => failure::OTHERWISE,
    }
}

const EPIPE: u32 = 32;
const ENETUNREACH: u32 = 101;
const ECONNABORTED: u32 = 103;
const ECONNRESET: u32 = 104;
const ETIMEDOUT: u32 = 110;
const ECONNREFUSED: u32 = 111;
const EHOSTUNREACH: u32 = 113;

#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_ktime_get_ns() }
}
