//! `tp_btf/inet_sock_set_state`: every change of a TCP state, just before the socket takes it on.

use aya_ebpf::{cty::c_void, macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use lbstatd_ebpf_abi::{CLOSED, ESTABLISHED, OUTGOING, Socket};

use crate::{
    count, listening,
    maps::socket,
    owner,
    sock::{CLOSE, ESTABLISHED as STATE_ESTABLISHED, FIN_WAIT1, LISTEN, SYN_SENT, Tcp, is_connected},
};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    match new {
        STATE_ESTABLISHED => {
            if let Some(socket) = socket(sk)
                && socket.flags & (ESTABLISHED | CLOSED) == 0
                && let Some(tcp) = Tcp::new(sk)
            {
                count::establish(tcp, socket);
            }
        }
        FIN_WAIT1 => {
            if let Some(tcp) = Tcp::new(sk) {
                count::note_fin(tcp);
            }
        }
        CLOSE => {
            if let Some(socket) = socket(sk)
                && socket.flags & CLOSED == 0
                && let Some(tcp) = Tcp::new(sk)
            {
                close(&ctx, tcp, socket, old);
            }
        }
        SYN_SENT => {
            if let Some(tcp) = Tcp::new(sk) {
                if owner::is_running() { count::begin_to_connect(tcp) } else { count::forget(tcp) }
            }
        }
        LISTEN => {
            if let Some(tcp) = Tcp::new(sk) {
                listening::tag(tcp);
                debug!(&ctx, "port {} starts to listen", tcp.local().port);
            }
        }
        // Of the others the next one, or a sample, tells as much.
        _ => {}
    }
    0
}

#[inline(always)]
fn close(ctx: &BtfTracePointContext, tcp: Tcp, socket: &mut Socket, old: u32) {
    if old == LISTEN {
        listening::retire(tcp, socket);
        debug!(ctx, "port {} stops listening", tcp.local().port);
    } else if is_connected(old) {
        count::close(tcp, socket, old);
    } else if socket.flags & OUTGOING != 0 {
        count::fail_to_connect(tcp, socket);
    } else {
        // The handshake was never completed.
        socket.flags |= CLOSED;
    }
}
