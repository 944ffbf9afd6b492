//! The kernel programs of lbstatd: exact counters per TCP listening socket, and per destination of HAProxy's own
//! connections.
//!
//! | program | runs | does |
//! |---|---|---|
//! | [`inet_sock_set_state`] | on each change of a TCP state | tags new listeners, counts connections and queues' peaks, settles at the end |
//! | [`tcp_destroy_sock`] | when a TCP socket is torn down | settles what the first one missed |
//! | [`tcp_retransmit_synack`] | when a SYN-ACK is sent again | counts that |
//! | [`iter_tcp`] | when user space takes a sample | visits every TCP socket: accept queues, drops, bytes of live connections |
//! | [`inet_csk_accept`] | when a process accepts | the wait in the accept queue, where fexit is allowed |
//! | [`iter_task`] | when user space looks for HAProxy | finds processes by their number in their own namespace |
//! | [`nothing`] | beside the first one, in benchmarks only | nothing |
//! | [`iter_task_file`] | when user space asks who owns a listener, and for other namespaces | visits the open files of chosen processes |
//!
//! Each listener carries its identity in socket storage that the kernel clones into every connection it accepts, so a
//! connection's listener is known without any look-up of addresses. Nothing runs per packet, and no measurement is sent
//! to user space: everything is added up in place, in one row per listener.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        unsafe_code,
        reason = "programs that read kernel structures and shared maps; each block says why it is sound"
    )
)]

#[cfg(target_arch = "bpf")]
mod adoption;
#[cfg(target_arch = "bpf")]
mod atomic;
#[cfg(target_arch = "bpf")]
mod count;
#[cfg(target_arch = "bpf")]
mod inet_csk_accept;
#[cfg(target_arch = "bpf")]
mod inet_sock_set_state;
#[cfg(target_arch = "bpf")]
mod iter_task;
#[cfg(target_arch = "bpf")]
mod iter_task_file;
#[cfg(target_arch = "bpf")]
mod iter_tcp;
#[cfg(target_arch = "bpf")]
mod listening;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod nothing;
#[cfg(target_arch = "bpf")]
mod owner;
#[cfg(target_arch = "bpf")]
mod sock;
#[cfg(target_arch = "bpf")]
mod tcp_destroy_sock;
#[cfg(target_arch = "bpf")]
mod tcp_retransmit_synack;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
// The kernel reads the licence from a section of this name; the helpers used here ask for a GPL-compatible one.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
