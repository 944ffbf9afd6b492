//! Whether the running process is one of those that user space asks for.

use aya_ebpf::{
    cty::c_void,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_current_task_btf},
};
use lbstatd_ebpf_abi::ABSENT;

use crate::{
    maps::{is_owner, offset},
    sock::read,
};

/// The running process is an owner, or its parent is: a worker that a master has just started is not known to user
/// space yet.
#[inline(always)]
pub(crate) fn is_running() -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "the upper half is the thread group")]
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if is_owner(tgid) {
        return true;
    }
    if offset!(tgid) == ABSENT || offset!(parent) == ABSENT {
        return false;
    }
    // SAFETY: the helper takes nothing and gives a task that lives while it runs.
    let task: *const c_void = unsafe { bpf_get_current_task_btf() }.cast_const().cast();
    let parent: *const c_void = read(task, offset!(parent));
    is_owner(read(parent, offset!(tgid)))
}
