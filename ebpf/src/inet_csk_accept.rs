//! `fexit/inet_csk_accept`: the process takes a connection out of the accept queue.

use aya_ebpf::{cty::c_void, macros::fexit, programs::FExitContext};
use lbstatd_ebpf_abi::{ESTABLISHED, OUTGOING};

use crate::{
    atomic::observe,
    count::now,
    maps::{listener, offset, socket},
};

#[fexit(function = "inet_csk_accept")]
fn inet_csk_accept(ctx: FExitContext) -> i32 {
    // The return value comes after the arguments: (sk, flags, err, kern) up to Linux 6.9, (sk, arg) from 6.10 on.
    let sk: *const c_void = match offset!(accept_arguments) {
        2 => ctx.arg(2),
        4 => ctx.arg(4),
        _ => return 0,
    };
    if sk.is_null() {
        return 0;
    }
    let Some(socket) = socket(sk) else { return 0 };
    if socket.flags & (ESTABLISHED | OUTGOING) != ESTABLISHED || socket.since == 0 {
        return 0;
    }
    if let Some(row) = listener(socket.listener) {
        let wait = now().saturating_sub(socket.since) / 1000;
        // SAFETY: see `observe`; the row was found by look-up.
        unsafe { observe(&raw mut (*row).accept_wait, wait, 1) };
    }
    0
}
