//! `iter/tcp`: the sample. User space reads the iterator to its end and the kernel shows it every TCP socket of the
//! network namespace, the listening ones first, each under its lock. Nothing is written to the reader: what is learnt
//! goes into the listeners' rows.
//!
//! To visit connections takes the longer the more there are, those in TIME_WAIT included, of which a busy host has a
//! hundred thousand. A sample can be without: it ends at the first one.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_seq_write};

use crate::{
    adoption::visit_connection,
    listening,
    maps::{Much, control, much, offset},
    sock::{LISTEN, Tcp, is_connected, read},
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
    let Some(control) = control() else { return 0 };
    // SAFETY: the entry of an array map; user space writes it only between samples.
    if unsafe { (*control).listeners_only } != 0 && u32::from(read::<u8>(sk, offset!(state))) != LISTEN {
        // SAFETY: as above.
        end(unsafe { (*ctx).meta });
        return 0;
    }
    let Some(tcp) = Tcp::new(sk) else { return 0 };
    let state = tcp.state();
    if state == LISTEN {
        listening::visit(tcp, control);
    } else if is_connected(state) {
        visit_connection(tcp, state, control);
    }
    0
}

/// Ends the iteration: the kernel does that, with E2BIG, when a program prints more of one object than its buffer holds
/// (`bpf_seq_read`). The buffer has 8 pages: one attempt to print as much is enough where a page is 4 KiB, and 8 are where it
/// is 64.
#[inline(always)]
fn end(meta: *const c_void) {
    let Some(much) = much() else { return };
    // `struct bpf_iter_meta` begins with it.
    let seq: *mut c_void = read(meta, 0);
    for _ in 0..8 {
        // SAFETY: the kernel's own file, and the entry of an array map.
        if unsafe { bpf_seq_write(seq.cast(), much.cast(), size_of::<Much>() as u32) } != 0 {
            return;
        }
    }
}
