//! `iter/tcp`: the sample. User space reads the iterator to its end and the kernel shows it every TCP socket of the
//! network namespace, the listening ones first, each under its lock. Nothing is written to the reader: what is learnt
//! goes into the listeners' rows.

use aya_ebpf::cty::c_void;
use aya_log_ebpf::debug;
use lbstatd_ebpf_abi::{Address, CLOSED, Control, ESTABLISHED, FIN_SENT, Socket};

use crate::{
    count,
    maps::{add_adopter, adopter, control, listener, socket, socket_or_insert},
    sock::{LISTEN, MAPPED, Tcp, has_sent_fin, is_connected},
};

/// How many samples adopt older connections once an unknown listener was met: this one, and one more for connections
/// that were made while this one ran.
const ADOPTING_SAMPLES: u64 = 2;

/// The context of this iterator, `struct bpf_iter__tcp`: the verifier knows it by these offsets on every kernel.
#[repr(C)]
struct Context {
    meta: *const c_void,
    sk_common: *const c_void,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn iter_tcp(ctx: *const Context) -> i32 {
    // SAFETY: the kernel calls the program with such a context.
    let sk = unsafe { (*ctx).sk_common };
    if sk.is_null() {
        return 0;
    }
    let (Some(tcp), Some(control)) = (Tcp::new(sk), control()) else { return 0 };
    let state = tcp.state();
    if state == LISTEN {
        visit_listener(ctx, tcp, control);
    } else if is_connected(state) {
        visit_connection(tcp, state, control);
    }
    0
}

#[inline(always)]
fn visit_listener(ctx: *const Context, tcp: Tcp, control: *mut Control) {
    let known = socket(tcp.sk()).is_some_and(|socket| listener(socket.listener).is_some());
    let address = tcp.address();
    if !known && count::tag(tcp) {
        // SAFETY: the entry of an array map; user space writes it only between samples, and one sample runs at a time.
        unsafe { (*control).adopt = ADOPTING_SAMPLES };
        debug!(ctx, "port {} was listening already", address.port);
    }
    let Some(socket) = socket(tcp.sk()) else { return };
    let Some(row) = listener(socket.listener) else { return };
    // SAFETY: as above.
    let (pass, adopt) = unsafe { ((*control).pass, (*control).adopt) };
    if !known && adopt != 0 {
        add_adopter(&address, socket.listener);
    }
    count::settle_drops(tcp, socket, row);
    // SAFETY: a row found by look-up stays mapped for the program's life. These fields have one writer, the sample.
    unsafe {
        (*row).address = address;
        (*row).backlog = tcp.backlog();
        (*row).backlog_limit = tcp.backlog_limit();
        (*row).pass = pass;
        (*row).gone = 0;
    }
}

#[inline(always)]
fn visit_connection(tcp: Tcp, state: u32, control: *mut Control) {
    let socket = match socket(tcp.sk()) {
        Some(socket) => socket,
        None => {
            // SAFETY: the entry of an array map; user space writes it only between samples.
            if unsafe { (*control).adopt } != 0 {
                adopt(tcp, state);
            }
            return;
        }
    };
    if socket.flags & CLOSED != 0 {
        return;
    }
    if has_sent_fin(state) {
        socket.flags |= FIN_SENT;
    }
    if let Some(row) = count::establish(socket) {
        count::settle(tcp, socket, row);
    }
}

/// Takes on a connection that is older than the watch over its listener: open, not accepted, and without the bytes it
/// has moved so far.
#[inline(always)]
fn adopt(tcp: Tcp, state: u32) {
    let Some(cookie) = listener_of(tcp.address()) else { return };
    let Some(row) = listener(cookie) else { return };
    let fin_sent = has_sent_fin(state);
    let mut fresh = Socket {
        listener: cookie,
        received: tcp.received(),
        acked: tcp.acked(fin_sent),
        drops: 0,
        flags: if fin_sent { ESTABLISHED | FIN_SENT } else { ESTABLISHED },
    };
    if socket_or_insert(tcp.sk(), &mut fresh).is_some() {
        // SAFETY: see `count::add`; the row was found by look-up.
        unsafe { count::add(&raw mut (*row).opened, 1) };
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
