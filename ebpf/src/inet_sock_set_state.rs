//! `tp_btf/inet_sock_set_state`: every change of a TCP state, just before the socket takes it on.

use aya_ebpf::{cty::c_void, macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use lbstatd_ebpf_abi::{CLOSED, ESTABLISHED, OUTGOING, Socket};

use crate::{
    count, listening,
    maps::socket,
    owner,
    sock::{CLOSE, FIN_WAIT1, LISTEN, SYN_RECV, SYN_SENT, Tcp, is_connected},
};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    match new {
        // A connection's first state; there is nothing to count yet.
        SYN_RECV => {}
        LISTEN => {
            if let Some(tcp) = Tcp::new(sk) {
                listening::tag(tcp);
                debug!(&ctx, "port {} starts to listen", tcp.local().port);
            }
        }
        SYN_SENT => {
            if let Some(tcp) = Tcp::new(sk) {
                if owner::is_running() { count::begin_to_connect(tcp) } else { count::forget(tcp) }
            }
        }
        _ => {
            if let Some(socket) = socket(sk) {
                change(&ctx, sk, socket, old, new);
            }
        }
    }
    0
}

#[inline(always)]
fn change(ctx: &BtfTracePointContext, sk: *const c_void, socket: &mut Socket, old: u32, new: u32) {
    if socket.flags & CLOSED != 0 {
        return;
    }
    if is_connected(new) {
        count::note_state(socket, new);
        let begins = socket.flags & ESTABLISHED == 0;
        if (begins || new == FIN_WAIT1)
            && let Some(tcp) = Tcp::new(sk)
        {
            if begins {
                count::establish(tcp, socket);
            }
            if new == FIN_WAIT1 {
                count::note_fin(tcp, socket);
            }
        }
    } else if new == CLOSE {
        let Some(tcp) = Tcp::new(sk) else { return };
        if old == LISTEN {
            listening::retire(tcp, socket);
            debug!(ctx, "port {} stops listening", tcp.local().port);
        } else if is_connected(old) {
            count::note_state(socket, old);
            count::close(tcp, socket, old);
        } else if socket.flags & OUTGOING != 0 {
            count::fail_to_connect(tcp, socket);
        } else {
            // The handshake was never completed.
            socket.flags |= CLOSED;
        }
    }
}
