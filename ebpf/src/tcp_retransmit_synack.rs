//! `tp_btf/tcp_retransmit_synack`: a listener sends a SYN-ACK again, because no ACK came.

use aya_ebpf::{cty::c_void, macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    atomic::{add, raise},
    maps::{listener, socket},
    sock::{LISTEN, Tcp},
};

#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn tcp_retransmit_synack(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    // With TCP Fast Open it is the connection, which carries the same identity.
    let Some(socket) = socket(sk) else { return 0 };
    let Some(row) = listener(socket.listener) else { return 0 };
    // SAFETY: see `add` and `raise`; the row was found by look-up.
    unsafe {
        add(&raw mut (*row).synack_retransmits, 1);
        if let Some(tcp) = Tcp::new(sk)
            && tcp.state() == LISTEN
        {
            raise(&raw mut (*row).syn_backlog_high, u64::from(tcp.syn_backlog()));
        }
    }
    0
}
