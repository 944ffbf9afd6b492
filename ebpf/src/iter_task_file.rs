//! `iter/task_file`: who holds a listener, and the sockets of other network namespaces, which the sample's own iterator
//! does not see. User space reads the iterator to its end and the kernel shows it the open files of every process; those
//! of the processes asked for are followed to their sockets.
//!
//! This needs no more rights than the other programs, whereas reading `/proc/PID/fd` of another user's process does.

use aya_ebpf::{cty::c_void, helpers::bpf_sock_from_file};
use lbstatd_ebpf_abi::ABSENT;

use crate::{
    adoption::visit_unlocked,
    listening,
    maps::{control, is_owner, listener, offset, socket},
    sock::{LISTEN, Tcp, is_connected, read},
};

/// The context of this iterator, `struct bpf_iter__task_file`: the verifier knows it by these offsets on every kernel.
#[repr(C)]
struct Context {
    meta: *const c_void,
    task: *const c_void,
    fd: u64,
    file: *const c_void,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_task_file(ctx: *const Context) -> i32 {
    // SAFETY: the kernel calls the program with such a context.
    let (task, file) = unsafe { ((*ctx).task, (*ctx).file) };
    if task.is_null() || file.is_null() || offset!(tgid) == ABSENT || offset!(socket_sk) == ABSENT {
        return 0;
    }
    let tgid: u32 = read(task, offset!(tgid));
    if is_owner(tgid) {
        visit(file, tgid);
    }
    0
}

#[inline(always)]
fn visit(file: *const c_void, tgid: u32) {
    // SAFETY: the file is one the verifier has typed.
    let file_socket: *const c_void = unsafe { bpf_sock_from_file(file.cast_mut().cast()) }.cast_const().cast();
    if file_socket.is_null() {
        return;
    }
    let sk: *const c_void = read(file_socket, offset!(socket_sk));
    if sk.is_null() {
        return;
    }
    let (Some(tcp), Some(control)) = (Tcp::new(sk), control()) else { return };
    let state = tcp.state();
    if state == LISTEN {
        if !tcp.is_near() {
            listening::visit(tcp, control);
        }
        note_owner(tcp, tgid);
    } else if is_connected(state) && !tcp.is_near() {
        visit_unlocked(tcp, state, control);
    }
}

#[inline(always)]
fn note_owner(tcp: Tcp, tgid: u32) {
    let Some(socket) = socket(tcp.sk()) else { return };
    if let Some(row) = listener(socket.listener) {
        // SAFETY: a row found by look-up stays mapped for the program's life. This field has one writer.
        unsafe { (*row).owner = tgid };
    }
}
