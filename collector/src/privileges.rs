//! What the daemon may do, and how it gives up what it no longer needs.
//!
//! | thread | has | until | and then |
//! |---|---|---|---|
//! | the first one | all it was started with | the sockets are bound and the kernel's thread is started | nothing |
//! | tokio's | nothing: they come later, and threads inherit | | |
//! | the kernel's | all it was started with | the eBPF programs are loaded and attached | nothing; before Linux 5.19 CAP_BPF and CAP_PERFMON, see [`keep_what_samples_need`] |
//!
//! "Nothing" is CAP_DAC_OVERRIDE for root. HAProxy's stats sockets often belong to HAProxy's account and are closed to
//! everybody else; a root without that capability is everybody else, and could not open them again after a reload. An
//! account of its own in HAProxy's group, as systemd's unit has it, needs none.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

/// What loading the programs needs, and reading their maps before Linux 5.19.
const BPF: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

/// Gives up, for the calling thread and those it starts from now on, everything but what serving needs, and for ever.
///
/// # Errors
/// The kernel's, or that of a filter of system calls; then nothing is given up.
pub fn keep_what_serving_needs() -> io::Result<()> {
    // Nothing is ever executed, so that this changes nothing, unless somebody finds a way to make us.
    set_no_new_privs(true)?;
    keep(serving())
}

/// Gives up, for the calling thread, everything but what samples of the kernel need, and for ever.
///
/// From Linux 5.19 on, who has a map's descriptor may use it. Older kernels ask for CAP_BPF at every use, unless
/// kernel.unprivileged_bpf_disabled is 0; so `sample` is tried without the capabilities, and they come back if it fails
/// then and not with them. True if they had to come back.
///
/// # Errors
/// As for [`keep_what_serving_needs`].
pub fn keep_what_samples_need<E>(mut sample: impl FnMut() -> Result<(), E>) -> io::Result<bool> {
    let before = capabilities(None)?;
    set_capabilities(None, CapabilitySets { effective: serving() & before.permitted, ..before })?;
    if sample().is_ok() {
        keep(serving())?;
        return Ok(false);
    }
    set_capabilities(None, before)?;
    // Whatever fails with them as well is not theirs to mend.
    let needed = sample().is_ok();
    keep(if needed { serving() | BPF } else { serving() })?;
    Ok(needed)
}

fn serving() -> CapabilitySet {
    if geteuid().is_root() { CapabilitySet::DAC_OVERRIDE } else { CapabilitySet::empty() }
}

fn keep(wanted: CapabilitySet) -> io::Result<()> {
    let left = capabilities(None)?.permitted & wanted;
    // What is neither permitted nor inheritable leaves the ambient set as well (capabilities(7)).
    set_capabilities(None, CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() })?;
    Ok(())
}

/// The effective capabilities of each thread of a process, in one line: `none`, or as
/// `none; lbstatd-kernel CAP_PERFMON CAP_BPF`, the first for all threads that are not named.
///
/// # Errors
/// When there is no such process, or /proc does not show it.
pub fn describe(process: u32) -> io::Result<String> {
    let mut threads = BTreeMap::<u64, Vec<String>>::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let (name, effective) =
            parse(&status).ok_or_else(|| io::Error::other("an unknown form of /proc/PID/status"))?;
        threads.entry(effective).or_default().push(name.to_owned());
    }
    let most = threads.iter().max_by_key(|(_, names)| names.len()).map_or(0, |(set, _)| *set);
    let mut line = names(most);
    for (set, threads) in threads.iter().filter(|(set, _)| **set != most) {
        let _ = write!(line, "; {} {}", threads.join(", "), names(*set));
    }
    Ok(line)
}

/// The name of a thread and its effective capabilities, from its `status` (proc_pid_status(5)).
fn parse(status: &str) -> Option<(&str, u64)> {
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some((field("Name:")?, u64::from_str_radix(field("CapEff:")?, 16).ok()?))
}

fn names(set: u64) -> String {
    let set = CapabilitySet::from_bits_retain(set);
    if set.is_empty() {
        return "none".to_owned();
    }
    let known: Vec<String> = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    // Root's are nearly all that there are.
    if known.len() > 8 { format!("{} capabilities", known.len()) } else { known.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_status_is_read_by_name() {
        let status = "Name:\tlbstatd-kernel\nUmask:\t0022\nCapPrm:\t000000c000000000\nCapEff:\t000000c000000000\n";
        let (name, effective) = parse(status).unwrap();
        assert_eq!((name, names(effective).as_str()), ("lbstatd-kernel", "CAP_PERFMON CAP_BPF"));
        assert_eq!(names(0), "none");
        assert_eq!(names(0x1ff_ffff_ffff), "41 capabilities");
        assert!(parse("Name:\tx\nCapEff:\tmany\n").is_none() && parse("").is_none());
    }

    #[test]
    fn a_thread_gives_up_what_it_has_and_keeps_it_where_samples_fail_without() {
        std::thread::spawn(|| {
            let had = capabilities(None).unwrap().permitted;
            let without = || if capabilities(None).unwrap().effective.intersects(BPF) { Ok(()) } else { Err(()) };
            assert_eq!(keep_what_samples_need(without).unwrap(), had.intersects(BPF));
            assert_eq!(capabilities(None).unwrap().permitted, had & (serving() | BPF));
            assert!(!keep_what_samples_need(|| Ok::<(), ()>(())).unwrap());
            assert_eq!(capabilities(None).unwrap().permitted, had & serving());
            keep_what_serving_needs().unwrap();
            assert_eq!(capabilities(None).unwrap().effective, had & serving());
        })
        .join()
        .unwrap();
        assert!(describe(std::process::id()).is_ok());
    }
}
