//! A sample's visit of connections, and the adoption of those that are older than the watch over their listener.

use lbstatd_ebpf_abi::{Address, CLOSED, Control, ESTABLISHED, Socket};

use crate::{
    atomic::add,
    count::{self, NEW_SOCKET, Traffic},
    maps::{adopter, listener, socket, socket_or_insert},
    sock::{ESTABLISHED as STATE_ESTABLISHED, MAPPED, Tcp},
};

/// A visit under the socket's lock.
#[inline(always)]
pub(crate) fn visit_connection(tcp: Tcp, state: u32, control: *mut Control) {
    let Some(socket) = socket(tcp.sk()) else {
        // SAFETY: the entry of an array map; user space writes it only between samples.
        if unsafe { (*control).adopt } != 0 {
            adopt(tcp, state);
        }
        return;
    };
    if socket.flags & CLOSED != 0 {
        return;
    }
    count::note_state(socket, state);
    let now = Traffic::of(tcp, socket.flags);
    // Of many thousands most have moved nothing since the last time: their row need not be looked for.
    if socket.flags & ESTABLISHED != 0 && now.is_counted(socket) {
        return;
    }
    if let Some(row) = count::established(tcp, socket) {
        count::settle(tcp, socket, now, row);
    }
}

/// A visit without the socket's lock, so that the connection can change or end meanwhile. What was read counts only if
/// neither side had sent a FIN by the time the reading was done: then no FIN can be among the bytes. What a connection
/// moves after a FIN is counted at its end.
#[inline(always)]
pub(crate) fn visit_unlocked(tcp: Tcp, state: u32, control: *mut Control) {
    let Some(socket) = socket(tcp.sk()) else {
        // SAFETY: the entry of an array map; user space writes it only between samples.
        if unsafe { (*control).adopt } != 0 {
            adopt(tcp, state);
        }
        return;
    };
    let flags = socket.flags;
    if flags & (ESTABLISHED | CLOSED) != ESTABLISHED {
        return;
    }
    let Some(row) = count::connections_of(tcp, socket) else { return };
    let now = Traffic::of(tcp, flags);
    if tcp.state() == STATE_ESTABLISHED && !tcp.is_done() {
        count::settle(tcp, socket, now, row);
    }
}

/// Takes on a connection that is older than the watch over its listener: open, not begun, and without what it has moved
/// so far.
#[inline(always)]
pub(crate) fn adopt(tcp: Tcp, state: u32) {
    let Some(cookie) = listener_of(tcp.local()) else { return };
    let Some(row) = listener(cookie) else { return };
    let mut fresh = Socket { listener: cookie, flags: ESTABLISHED, ..NEW_SOCKET };
    count::note_state(&mut fresh, state);
    Traffic::of(tcp, fresh.flags).mark(&mut fresh);
    if state != STATE_ESTABLISHED {
        count::note_fin(tcp);
    }
    if socket_or_insert(tcp.sk(), &mut fresh).is_some() {
        // SAFETY: see `add`; the row was found by look-up.
        unsafe { add(&raw mut (*row).connections.adopted, 1) };
    }
}

/// The listener that a connection with this local address must have come from: the most specific one.
#[inline(always)]
fn listener_of(mut address: Address) -> Option<u64> {
    if let Some(cookie) = adopter(&address) {
        return Some(cookie);
    }
    if address.ip[0] == 0 && address.ip[1] == 0 && address.ip[2] == MAPPED {
        address.ip[3] = 0;
        if let Some(cookie) = adopter(&address) {
            return Some(cookie);
        }
    }
    address.ip = [0; 4];
    adopter(&address)
}
