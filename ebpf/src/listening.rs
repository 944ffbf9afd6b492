//! What happens to listening sockets: they become known, their queues are looked at, they end.

use aya_ebpf::cty::c_void;
use lbstatd_ebpf_abi::{Control, Listener, Socket};

use crate::{
    atomic::{add, exchange, raise},
    count::{self, NEW_SOCKET},
    maps::{add_adopter, control, cookie, listener, listener_or_insert, offset, socket, socket_or_insert},
    sock::{LISTEN, Tcp, peek},
};

/// How many samples adopt older connections once an unknown listener was met: this one, and one more for connections
/// that were made while this one ran.
const ADOPTING_SAMPLES: u64 = 2;

/// Makes a listening socket known, with a row of its own. True if it was not known before.
#[inline(always)]
pub(crate) fn tag(tcp: Tcp) -> bool {
    let cookie = cookie(tcp.sk());
    let mut fresh = Socket { listener: cookie, drops: u64::from(tcp.drops()), ..NEW_SOCKET };
    let Some(row) = listener_or_insert(cookie) else {
        if let Some(control) = control() {
            // SAFETY: the entry of an array map, valid for the program's life; changed atomically.
            unsafe { add(&raw mut (*control).refused, 1) };
        }
        return false;
    };
    // SAFETY: a row found by look-up stays mapped for the program's life; user space tolerates either value.
    unsafe {
        (*row).address = tcp.local();
        (*row).socket = tcp.sk() as u64;
        (*row).gone = 0;
    }
    let Some(socket) = socket_or_insert(tcp.sk(), &mut fresh) else { return false };
    if socket.listener == cookie {
        // Either just made, or a listener that paused and listens again.
        return true;
    }
    // Once a connection of another listener, now a listener itself.
    *socket = fresh;
    true
}

/// A sample's visit.
#[inline(always)]
pub(crate) fn visit(tcp: Tcp, control: *mut Control) {
    let known = socket(tcp.sk()).is_some_and(|socket| listener(socket.listener).is_some());
    if !known && tag(tcp) {
        // SAFETY: the entry of an array map; user space writes it only between samples, and one sample runs at a time.
        unsafe { (*control).adopt = ADOPTING_SAMPLES };
    }
    let Some(socket) = socket(tcp.sk()) else { return };
    let Some(row) = listener(socket.listener) else { return };
    // SAFETY: as above.
    let (pass, adopt) = unsafe { ((*control).pass, (*control).adopt) };
    let address = tcp.local();
    if !known && adopt != 0 {
        add_adopter(&address, socket.listener);
    }
    count::settle_drops(tcp, socket, row);
    let (backlog, syn_backlog) = (tcp.backlog(), tcp.syn_backlog());
    // SAFETY: a row found by look-up stays mapped for the program's life. These fields have one writer, the sample; the
    // highs, which have several, are exchanged atomically.
    unsafe {
        let high = take(&raw mut (*row).backlog_high, backlog);
        let syn_high = take(&raw mut (*row).syn_backlog_high, syn_backlog);
        // Should a sample meet a socket twice, the second visit must not forget what the first took out.
        let again = (*row).pass == pass;
        (*row).backlog_peak = if again { high.max((*row).backlog_peak) } else { high };
        (*row).syn_backlog_peak = if again { syn_high.max((*row).syn_backlog_peak) } else { syn_high };
        (*row).address = address;
        (*row).socket = tcp.sk() as u64;
        (*row).backlog = backlog;
        (*row).syn_backlog = syn_backlog;
        (*row).backlog_limit = tcp.backlog_limit();
        (*row).pass = pass;
        (*row).gone = 0;
        // In another namespace the visit holds no lock: the socket may have stopped listening meanwhile.
        if tcp.state() != LISTEN {
            (*row).socket = 0;
            (*row).gone = 1;
        }
    }
}

/// Takes out the highest value since the last time; what is now is the first of the next.
///
/// # Safety
/// As [`add`].
#[inline(always)]
unsafe fn take(high: *mut u64, now: u32) -> u32 {
    // SAFETY: the caller's promise.
    let taken = unsafe { exchange(high, u64::from(now)) };
    #[expect(clippy::cast_possible_truncation, reason = "only values of 32 bits are ever stored")]
    let taken = taken as u32;
    taken.max(now)
}

/// Marks the end of a listening socket.
#[inline(always)]
pub(crate) fn retire(tcp: Tcp, socket: &mut Socket) {
    if let Some(row) = listener(socket.listener) {
        count::settle_drops(tcp, socket, row);
        // SAFETY: a row found by look-up stays mapped for the program's life; user space tolerates either value.
        unsafe {
            (*row).socket = 0;
            (*row).gone = 1;
        }
    }
}

/// Looks at the listener's queues when a connection of it is established: the kernel has put the connection into the
/// accept queue just before, so what stands there now includes it.
///
/// The listener itself is not at hand here, only its address. It may be gone and its memory be another socket's by now,
/// therefore its cookie, which is never used twice, is checked before what was read counts.
#[inline(always)]
pub(crate) fn note_backlogs(row: *mut Listener, cookie: u64) {
    // SAFETY: a row found by look-up stays mapped for the program's life.
    let (sk, backlog_high, syn_backlog_high) =
        unsafe { ((*row).socket as *const c_void, (*row).backlog_high, (*row).syn_backlog_high) };
    if sk.is_null() {
        return;
    }
    let backlog = u64::from(peek::<u32>(sk, offset!(backlog)).unwrap_or(0));
    // The one just completed has left this queue.
    let syn_backlog = u64::from(peek::<u32>(sk, offset!(syn_backlog)).unwrap_or(0)) + 1;
    let is_new = backlog > backlog_high || syn_backlog > syn_backlog_high;
    if is_new && peek::<u64>(sk, offset!(cookie)) == Some(cookie) {
        // SAFETY: see `raise`.
        unsafe {
            raise(&raw mut (*row).backlog_high, backlog);
            raise(&raw mut (*row).syn_backlog_high, syn_backlog);
        }
    }
}
