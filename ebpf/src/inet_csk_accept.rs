//! `fexit/inet_csk_accept`: the process takes a connection out of the accept queue.

use core::arch::asm;

use aya_ebpf::{EbpfContext as _, cty::c_void, macros::fexit, programs::FExitContext};
use lbstatd_ebpf_abi::{ESTABLISHED, OUTGOING};

use crate::{
    atomic::observe,
    count::now,
    maps::{listener, offset, socket},
};

#[fexit(function = "inet_csk_accept")]
fn inet_csk_accept(ctx: FExitContext) -> i32 {
    let context: *const c_void = ctx.as_ptr().cast_const();
    let arguments = offset!(accept_arguments);
    let sk: *const c_void;
    // The return value comes after the arguments: (sk, flags, err, kern) up to Linux 6.9, (sk, arg) from 6.10 on. The
    // verifier takes loads at a fixed place of the context only; the compiler would make one load of the two.
    // SAFETY: loads of the kernel's own value; the verifier checks that it is there, in the branch that is taken.
    unsafe {
        match arguments {
            2 => asm!("{sk} = *(u64 *)({context} + 16)", sk = out(reg) sk, context = in(reg) context),
            4 => asm!("{sk} = *(u64 *)({context} + 32)", sk = out(reg) sk, context = in(reg) context),
            _ => return 0,
        }
    }
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
        unsafe { observe(&raw mut (*row).accept_wait_sum, &raw mut (*row).accept_wait, wait, 1) };
    }
    0
}
