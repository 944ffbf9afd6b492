//! The steps of counting: each happens once per connection, whichever program comes first.
//!
//! Several programs can see the same event, and the kernel skips a program that would interrupt itself on one CPU, so no
//! single hook is to be trusted with an event. What has been counted is kept in the socket itself, under its lock.

use core::arch::asm;

use lbstatd_ebpf_abi::{CLOSED, ESTABLISHED, FIN_SENT, Listener, Socket};

use crate::{
    maps::{control, cookie, listener, listener_or_insert, socket_or_insert},
    sock::Tcp,
};

/// Makes a listening socket known, with a row of its own. True if it was not known before.
#[inline(always)]
pub(crate) fn tag(tcp: Tcp) -> bool {
    let cookie = cookie(tcp.sk());
    let mut fresh = Socket { listener: cookie, received: 0, acked: 0, drops: tcp.drops(), flags: 0 };
    let Some(row) = listener_or_insert(cookie, &tcp.address()) else {
        if let Some(control) = control() {
            // SAFETY: the entry of an array map, valid for the program's life; changed atomically.
            unsafe { add(&raw mut (*control).refused, 1) };
        }
        return false;
    };
    // SAFETY: a row found by look-up stays mapped for the program's life; user space tolerates either value.
    unsafe { (*row).gone = 0 };
    let Some(socket) = socket_or_insert(tcp.sk(), &mut fresh) else { return false };
    if socket.listener == cookie {
        // Either just made, or a listener that paused and listens again.
        return true;
    }
    // Once a connection of another listener, now a listener itself.
    *socket = fresh;
    true
}

/// Adds what a listening socket has dropped since the last time.
#[inline(always)]
pub(crate) fn settle_drops(tcp: Tcp, socket: &mut Socket, row: *mut Listener) {
    let drops = tcp.drops();
    let fresh = drops.wrapping_sub(socket.drops);
    if fresh != 0 {
        socket.drops = drops;
        // SAFETY: see `add`; the row was found by look-up.
        unsafe { add(&raw mut (*row).drops, u64::from(fresh)) };
    }
}

/// Marks the end of a listening socket.
#[inline(always)]
pub(crate) fn retire(tcp: Tcp, socket: &mut Socket) {
    if let Some(row) = listener(socket.listener) {
        settle_drops(tcp, socket, row);
        // SAFETY: a row found by look-up stays mapped for the program's life; user space tolerates either value.
        unsafe { (*row).gone = 1 };
    }
}

/// Counts a connection whose handshake is complete, unless that is done. `None` if its listener has no row (any more);
/// then nothing is marked either, and it can be counted later.
#[inline(always)]
pub(crate) fn establish(socket: &mut Socket) -> Option<*mut Listener> {
    let row = listener(socket.listener)?;
    if socket.flags & ESTABLISHED == 0 {
        socket.flags |= ESTABLISHED;
        // SAFETY: see `add`; the row was found by look-up.
        unsafe {
            add(&raw mut (*row).accepted, 1);
            add(&raw mut (*row).opened, 1);
        }
    }
    Some(row)
}

/// Adds the bytes that have gone through a connection since the last time.
#[inline(always)]
pub(crate) fn settle(tcp: Tcp, socket: &mut Socket, row: *mut Listener) {
    let received = tcp.received();
    if received > socket.received {
        // SAFETY: see `add`; the row was found by look-up.
        unsafe { add(&raw mut (*row).received, received - socket.received) };
        socket.received = received;
    }
    let acked = tcp.acked(socket.flags & FIN_SENT != 0);
    if acked > socket.acked {
        // SAFETY: as above.
        unsafe { add(&raw mut (*row).acked, acked - socket.acked) };
        socket.acked = acked;
    }
}

/// Counts the end of an established connection.
#[inline(always)]
pub(crate) fn close(tcp: Tcp, socket: &mut Socket) {
    if let Some(row) = establish(socket) {
        settle(tcp, socket, row);
        // SAFETY: see `add`; the row was found by look-up.
        unsafe { add(&raw mut (*row).closed, 1) };
    }
    socket.flags |= CLOSED;
}

/// Adds to a counter that programs on other CPUs add to as well.
///
/// # Safety
/// `counter` points into a map value.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64, n: u64) {
    // SAFETY: the caller's promise; map values are aligned to 8 and outlive the program's run. `AtomicU64` has no
    // `fetch_add` on this target, the instruction exists in every kernel.
    unsafe { asm!("lock *(u64 *)({counter} + 0) += {n}", counter = in(reg) counter, n = in(reg) n) };
}
