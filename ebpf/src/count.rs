//! The steps of counting a connection: each happens once, whichever program comes first.
//!
//! Several programs can see the same event, and the kernel skips a program that would interrupt itself on one CPU, so no
//! single hook is to be trusted with an event. What has been counted is kept in the socket itself: its flags are written
//! under the socket's lock only, its counters by compare-and-exchange (see [`settle`]).

use core::ptr;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use lbstatd_ebpf_abi::{
    CLOSED, Connections, ESTABLISHED, FIN_SENT, LIFETIME_SCALE, Listener, OUTGOING, PEER_FIRST, Server, Socket, end,
    failure,
};

use crate::{
    atomic::{add, exchange_if, observe, within},
    listening::note_backlogs,
    maps::{control, listener, server, server_or_insert, socket, socket_or_insert},
    sock::{CLOSE_WAIT, CLOSING, ESTABLISHED as STATE_ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, Tcp, has_sent_fin},
};

/// Notes what a change to this state says about who ended what.
#[inline(always)]
pub(crate) fn note_state(socket: &mut Socket, state: u32) {
    if has_sent_fin(state) {
        socket.flags |= FIN_SENT;
    }
    if state == CLOSE_WAIT || state == LAST_ACK {
        socket.flags |= PEER_FIRST;
    }
}

/// Notes what had been received when our process ended its half.
#[inline(always)]
pub(crate) fn note_fin(tcp: Tcp, socket: &mut Socket) {
    socket.data_segments_at_fin = tcp.data_segments_received();
    socket.received_at_fin = tcp.received_low();
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
    let mut fresh = outgoing();
    let Some(socket) = socket_or_insert(tcp.sk(), &mut fresh) else { return };
    // A socket that has been a listener or connection before starts anew.
    *socket = fresh;
    // SAFETY: see `add`; the row was found by look-up.
    unsafe { add(&raw mut (*row).connects, 1) };
}

#[inline(always)]
fn outgoing() -> Socket {
    Socket { flags: OUTGOING, since: now(), ..NEW_SOCKET }
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
    data_segments_at_fin: 0,
    received_at_fin: 0,
    reserved: 0,
};

/// Makes sure that nothing is counted for a socket that begins to connect for somebody else.
#[inline(always)]
pub(crate) fn forget(tcp: Tcp) {
    if let Some(socket) = socket(tcp.sk()) {
        socket.flags = ESTABLISHED | CLOSED;
    }
}

/// Counts a connection whose handshake is complete, unless that is done, and gives the counters it belongs to. `None`
/// if their row is not there (any more); then nothing is marked either, and it can be counted later.
#[inline(always)]
pub(crate) fn establish(tcp: Tcp, socket: &mut Socket) -> Option<*mut Connections> {
    if socket.flags & OUTGOING != 0 { establish_outgoing(tcp, socket) } else { establish_accepted(tcp, socket) }
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
fn establish_accepted(tcp: Tcp, socket: &mut Socket) -> Option<*mut Connections> {
    let row = listener(socket.listener)?;
    // SAFETY: a row found by look-up stays mapped for the program's life.
    let connections = unsafe { &raw mut (*row).connections };
    if socket.flags & ESTABLISHED == 0 {
        socket.flags |= ESTABLISHED;
        socket.since = now();
        note_backlogs(row, socket.listener);
        // The kernel passes on how often it sent the SYN-ACK again; that is counted for the listener.
        socket.retransmits = u64::from(tcp.retransmits());
        // SAFETY: see `add`; the row was found by look-up.
        unsafe {
            add(&raw mut (*connections).begun, 1);
            let rtt = tcp.rtt();
            if rtt != 0 {
                observe(&raw mut (*row).handshake, u64::from(rtt), 1);
            }
        }
    }
    Some(connections)
}

#[inline(always)]
fn establish_outgoing(tcp: Tcp, socket: &mut Socket) -> Option<*mut Connections> {
    let row: *mut Server = server(&tcp.remote())?;
    // SAFETY: a row found by look-up stays mapped for the program's life.
    let connections = unsafe { &raw mut (*row).connections };
    if socket.flags & ESTABLISHED == 0 {
        socket.flags |= ESTABLISHED;
        let now = now();
        // SAFETY: see `add`; the row was found by look-up.
        unsafe {
            add(&raw mut (*connections).begun, 1);
            observe(&raw mut (*row).connect, now.saturating_sub(socket.since) / 1000, 1);
        }
        socket.since = now;
    }
    Some(connections)
}

/// What has gone through a connection so far.
pub(crate) struct Traffic {
    received: u64,
    acked: u64,
    segments_received: u32,
    segments_sent: u32,
    retransmits: u32,
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
        }
    }

    /// Whether the marks say the same.
    #[inline(always)]
    pub(crate) fn is_counted(&self, socket: &Socket) -> bool {
        self.received == socket.received
            && self.acked == socket.acked
            && u64::from(self.segments_received) == socket.segments_received
            && u64::from(self.segments_sent) == socket.segments_sent
            && u64::from(self.retransmits) == socket.retransmits
    }

    /// The marks of a connection whose past is not to be counted.
    #[inline(always)]
    pub(crate) fn into_marks(self, socket: &mut Socket) {
        socket.received = self.received;
        socket.acked = self.acked;
        socket.segments_received = u64::from(self.segments_received);
        socket.segments_sent = u64::from(self.segments_sent);
        socket.retransmits = u64::from(self.retransmits);
    }
}

/// Adds what has gone through a connection since the last time.
///
/// The only step that is also taken without the socket's lock: for sockets of other namespaces, which a sample finds
/// among a process's files. There two programs can settle at once. Each marks what it takes by compare-and-exchange, so
/// one of them finds the other's mark and adds what is left.
#[inline(always)]
pub(crate) fn settle(tcp: Tcp, socket: *mut Socket, now: Traffic, row: *mut Connections) {
    let alone = tcp.is_near();
    // SAFETY: the storage and the row were found by look-up.
    unsafe {
        settle_one(&raw mut (*socket).received, now.received, &raw mut (*row).received, alone);
        settle_one(&raw mut (*socket).acked, now.acked, &raw mut (*row).acked, alone);
        let (received, sent) = (&raw mut (*row).segments_received, &raw mut (*row).segments_sent);
        settle_short(&raw mut (*socket).segments_received, now.segments_received, received, alone);
        settle_short(&raw mut (*socket).segments_sent, now.segments_sent, sent, alone);
        settle_short(&raw mut (*socket).retransmits, now.retransmits, &raw mut (*row).retransmits, alone);
    }
}

/// Adds what a listening socket has dropped since the last time.
#[inline(always)]
pub(crate) fn settle_drops(tcp: Tcp, socket: *mut Socket, row: *mut Listener) {
    // SAFETY: the storage and the row were found by look-up.
    unsafe { settle_short(&raw mut (*socket).drops, tcp.drops(), &raw mut (*row).drops, tcp.is_near()) };
}

/// # Safety
/// Both point into map values.
#[inline(always)]
unsafe fn settle_one(mark: *mut u64, current: u64, counter: *mut u64, alone: bool) {
    // There are two who settle, so the second try succeeds.
    for _ in 0..2 {
        // SAFETY: the caller's promise.
        let seen = unsafe { ptr::read_volatile(mark) };
        // SAFETY: as above.
        if current <= seen || unsafe { take(mark, seen, current, counter, current - seen, alone) } {
            return;
        }
    }
}

/// As [`settle_one`], for a kernel counter of 32 bits, which wraps.
///
/// # Safety
/// Both point into map values.
#[inline(always)]
unsafe fn settle_short(mark: *mut u64, current: u32, counter: *mut u64, alone: bool) {
    for _ in 0..2 {
        // SAFETY: the caller's promise.
        let seen = unsafe { ptr::read_volatile(mark) };
        #[expect(clippy::cast_possible_truncation, reason = "the mark holds 32 bits")]
        let fresh = current.wrapping_sub(seen as u32);
        if fresh == 0
            || fresh > u32::MAX / 2
            // SAFETY: as above.
            || unsafe { take(mark, seen, u64::from(current), counter, u64::from(fresh), alone) }
        {
            return;
        }
    }
}

/// Moves a mark, and adds what lies between. False if somebody else has moved it.
///
/// # Safety
/// Both point into map values; `alone` only under the lock of a socket that nobody visits without it.
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
    if let Some(row) = establish(tcp, socket) {
        settle(tcp, socket, Traffic::of(tcp, socket.flags), row);
        let rtt = tcp.rtt();
        let kind = within::<{ end::KINDS as i32 }>(kind_of_end(tcp, socket, old));
        // SAFETY: see `add`; the row was found by look-up.
        unsafe {
            add((&raw mut (*row).ended).cast::<u64>().add(kind), 1);
            if rtt != 0 {
                observe(&raw mut (*row).rtt, u64::from(rtt), 1);
            }
            if socket.since != 0 {
                observe(&raw mut (*row).lifetime, now().saturating_sub(socket.since) / 1000, LIFETIME_SCALE);
            }
        }
    }
    socket.flags |= CLOSED;
}

/// The state before CLOSE, as far as the flags tell, where the change was missed.
#[inline(always)]
pub(crate) fn last_state(socket: &Socket) -> u32 {
    if socket.flags & FIN_SENT == 0 {
        STATE_ESTABLISHED
    } else if socket.flags & PEER_FIRST != 0 {
        LAST_ACK
    } else {
        CLOSING
    }
}

/// What the state it comes from, and the error that the kernel sets before the change, say about a connection's end.
///
/// `tcp_reset` and `tcp_write_err` set `sk_err`, then `tcp_done` closes; `tcp_abort` sets ECONNABORTED. Without an error
/// it is the protocol that came to its end, or our process that cut it short (`tcp_close` with unread data,
/// `tcp_disconnect`), and then the reset goes out after the change.
#[inline(always)]
fn kind_of_end(tcp: Tcp, socket: &Socket, old: u32) -> usize {
    match tcp.error() {
        _ if (old == FIN_WAIT1 || old == FIN_WAIT2) && is_ended_by_data(tcp, socket) => end::RESET_SENT,
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
fn is_ended_by_data(tcp: Tcp, socket: &Socket) -> bool {
    tcp.is_dead()
        && tcp.data_segments_received() != socket.data_segments_at_fin
        && tcp.received_low() == socket.received_at_fin
}

/// Counts that an attempt to connect has failed.
#[inline(always)]
pub(crate) fn fail_to_connect(tcp: Tcp, socket: &mut Socket) {
    if let Some(row) = server(&tcp.remote()) {
        let kind = within::<{ failure::KINDS as i32 }>(kind_of_failure(tcp));
        // SAFETY: see `add`; the row was found by look-up.
        unsafe { add((&raw mut (*row).failed).cast::<u64>().add(kind), 1) };
    }
    socket.flags |= CLOSED;
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
