//! `iter/task`: which processes user space means. It knows HAProxy by the number that HAProxy gives itself, which is that
//! of HAProxy's own process namespace (a container's), and by the peer of the stats socket, which the kernel numbers in
//! user space's.
//!
//! `/proc` has these numbers as well, but hides other users' processes from a daemon that runs with few rights.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_get_current_task_btf};
use lbstatd_ebpf_abi::{ABSENT, Found};

use crate::{
    maps::{add_found, control, offset, owner_seen, wanted},
    sock::{peek, read},
};

/// The context of this iterator, `struct bpf_iter__task`: the verifier knows it by these offsets on every kernel.
#[repr(C)]
struct Context {
    meta: *const c_void,
    task: *const c_void,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn iter_task(ctx: *const Context) -> i32 {
    // SAFETY: the kernel calls the program with such a context.
    let task = unsafe { (*ctx).task };
    if task.is_null() || offset!(tgid) == ABSENT || offset!(pid) == ABSENT {
        return 0;
    }
    let tgid: u32 = read(task, offset!(tgid));
    // One thread stands for each process.
    if read::<u32>(task, offset!(pid)) != tgid {
        return 0;
    }
    if let (Some(seen), Some(control)) = (owner_seen(tgid), control()) {
        // SAFETY: both were found by look-up; one sample runs at a time.
        unsafe { *seen = (*control).pass };
    }
    if numbers_are_known()
        && let Some(found) = look_at(task)
    {
        add_found(tgid, &found);
    }
    0
}

#[inline(always)]
fn numbers_are_known() -> bool {
    offset!(parent) != ABSENT
        && offset!(leader) != ABSENT
        && offset!(thread_pid) != ABSENT
        && offset!(level) != ABSENT
        && offset!(numbers) != ABSENT
        && offset!(number) != ABSENT
        && offset!(number_namespace) != ABSENT
        && offset!(number_size) != ABSENT
}

#[inline(always)]
fn look_at(task: *const c_void) -> Option<Found> {
    let own = Number::innermost(pid_of(task))?;
    let peer = wanted(own.number)?;
    // SAFETY: the helper takes nothing and gives a task that lives while it runs.
    let me: *const c_void = unsafe { bpf_get_current_task_btf() }.cast_const().cast();
    let my_pid = pid_of(read(me, offset!(leader)));
    let my = Number::innermost(my_pid)?;
    let parent: *const c_void = read(task, offset!(parent));
    let is_peer = |task| peer != 0 && Number::within(pid_of(task), &my) == Some(peer);
    Some(Found {
        pid: own.number,
        master: if has_same_name(task, parent) { read(parent, offset!(tgid)) } else { 0 },
        by_peer: u32::from(is_peer(task) || is_peer(parent)),
        near: u32::from(own.namespace == my.namespace),
    })
}

#[inline(always)]
fn pid_of(task: *const c_void) -> *const c_void {
    read(task, offset!(thread_pid))
}

/// A process's number in one of its namespaces.
struct Number {
    level: u32,
    number: u32,
    namespace: u64,
}

impl Number {
    /// In its own namespace.
    #[inline(always)]
    fn innermost(pid: *const c_void) -> Option<Self> {
        let level: u32 = peek(pid, offset!(level))?;
        Self::at(pid, level)
    }

    #[inline(always)]
    fn at(pid: *const c_void, level: u32) -> Option<Self> {
        let entry = offset!(numbers).wrapping_add(level.wrapping_mul(offset!(number_size)));
        let number = peek(pid, entry.wrapping_add(offset!(number)))?;
        let namespace = peek(pid, entry.wrapping_add(offset!(number_namespace)))?;
        Some(Self { level, number, namespace })
    }

    /// In the namespace that another number is of; `None` if it cannot be seen there.
    #[inline(always)]
    fn within(pid: *const c_void, other: &Self) -> Option<u32> {
        let level: u32 = peek(pid, offset!(level))?;
        if level < other.level {
            return None;
        }
        let own = Self::at(pid, other.level)?;
        (own.namespace == other.namespace).then_some(own.number)
    }
}

#[inline(always)]
fn has_same_name(task: *const c_void, other: *const c_void) -> bool {
    if offset!(comm) == ABSENT {
        return false;
    }
    let name = |task| (peek::<u64>(task, offset!(comm)), peek::<u64>(task, offset!(comm).wrapping_add(8)));
    name(task) == name(other)
}
