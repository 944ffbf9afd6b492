//! `tp_btf/tcp_destroy_sock`: the last moment of a TCP socket, for what the change to CLOSE left unsettled because the
//! kernel skipped that program.

use aya_ebpf::{cty::c_void, macros::btf_tracepoint, programs::BtfTracePointContext};
use lbstatd_ebpf_abi::{CLOSED, ESTABLISHED, OUTGOING};

use crate::{
    count, listening,
    maps::{cookie, socket},
    sock::Tcp,
};

#[btf_tracepoint(function = "tcp_destroy_sock")]
fn tcp_destroy_sock(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let Some(socket) = socket(sk) else { return 0 };
    if socket.flags & CLOSED != 0 {
        return 0;
    }
    let Some(tcp) = Tcp::new(sk) else { return 0 };
    if socket.flags & ESTABLISHED == 0 && socket.listener == cookie(sk) {
        listening::retire(tcp, socket);
    } else if socket.flags & ESTABLISHED != 0 || tcp.was_connected() {
        count::close(tcp, socket, count::last_state(tcp, socket));
    } else if socket.flags & OUTGOING != 0 {
        count::fail_to_connect(tcp, socket);
    }
    0
}
