//! `tp_btf/inet_sock_set_state`, for benchmarks only: what the kernel's measuring takes of a run by itself.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn nothing(_: BtfTracePointContext) -> i32 {
    0
}
