//! `iter/tcp`: the sample. User space reads the iterator to its end and the kernel shows it every TCP socket of the
//! network namespace, the listening ones first, each under its lock. Nothing is written to the reader: what is learnt
//! goes into the listeners' rows.

use aya_ebpf::cty::c_void;

use crate::{
    adoption::visit_connection,
    listening,
    maps::control,
    sock::{LISTEN, Tcp, is_connected},
};

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
        listening::visit(tcp, control);
    } else if is_connected(state) {
        visit_connection(tcp, state, control);
    }
    0
}
