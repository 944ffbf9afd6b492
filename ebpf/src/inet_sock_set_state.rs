//! `tp_btf/inet_sock_set_state`: every change of a TCP state, just before the socket takes it on.

use aya_ebpf::{cty::c_void, macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use lbstatd_ebpf_abi::{CLOSED, ESTABLISHED, FIN_SENT, Socket};

use crate::{
    count,
    maps::socket,
    sock::{CLOSE, LISTEN, SYN_RECV, SYN_SENT, Tcp, has_sent_fin, is_connected},
};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    // A connection's first state; there is nothing to count yet.
    if new == SYN_RECV {
        return 0;
    }
    if new == LISTEN {
        if let Some(tcp) = Tcp::new(sk)
            && tcp.is_ours()
        {
            count::tag(tcp);
            debug!(&ctx, "port {} starts to listen", tcp.address().port);
        }
        return 0;
    }
    if let Some(socket) = socket(sk) {
        change(&ctx, sk, socket, old, new);
    }
    0
}

#[inline(always)]
fn change(ctx: &BtfTracePointContext, sk: *const c_void, socket: &mut Socket, old: u32, new: u32) {
    if new == SYN_SENT {
        // A former listener or connection that now connects out: no longer ours to count.
        socket.flags = ESTABLISHED | CLOSED;
    }
    if socket.flags & CLOSED != 0 {
        return;
    }
    if is_connected(new) {
        if has_sent_fin(new) {
            socket.flags |= FIN_SENT;
        }
        count::establish(socket);
    } else if new == CLOSE {
        let Some(tcp) = Tcp::new(sk) else { return };
        if old == LISTEN {
            count::retire(tcp, socket);
            debug!(ctx, "port {} stops listening", tcp.address().port);
        } else if is_connected(old) {
            if has_sent_fin(old) {
                socket.flags |= FIN_SENT;
            }
            count::close(tcp, socket);
        } else {
            // The handshake was never completed.
            socket.flags |= CLOSED;
        }
    }
}
