//! Which rights the programs need: an ordinary user with two capabilities, and none of them once they are loaded.

use std::{net::Ipv4Addr, thread};

use lbstatd::{
    kernel::{Kernel, KernelError},
    privileges::keep_what_samples_need,
};
use rustix::{
    fs::{Gid, Uid},
    process::geteuid,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities, set_no_new_privs,
        set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

use crate::sockets::*;

/// The user nobody.
const NOBODY: u32 = 65_534;

/// Does this as an ordinary user with these capabilities, in a thread: to the kernel, each has its own.
fn as_nobody<T: Send>(held: CapabilitySet, work: impl FnOnce() -> T + Send) -> T {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    let work = || {
        set_no_new_privs(true).unwrap();
        set_keep_capabilities(true).unwrap();
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(group, group, group).unwrap();
        set_thread_res_uid(user, user, user).unwrap();
        let sets = CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() };
        set_capabilities(None, sets).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

#[test]
fn two_capabilities_are_enough_for_an_ordinary_user() {
    let Some(of_root) = kernel() else { return };
    if !geteuid().is_root() {
        return;
    }
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    as_nobody(CapabilitySet::BPF | CapabilitySet::PERFMON, || {
        let mut kernel = Kernel::load().unwrap();
        assert_eq!(kernel.hooks(), of_root.hooks());
        exchange(&listener, 10);
        assert_eq!(numbers(&wait_for(&mut kernel, address, |l| l.open == 0)), (1, 0, 10, 0));
        let kept = keep_what_samples_need(|| kernel.sample(&[]).map(drop)).unwrap();
        assert_eq!(capabilities(None).unwrap().permitted.is_empty(), !kept);
        exchange(&listener, 20);
        assert_eq!(numbers(&wait_for(&mut kernel, address, |l| l.open == 0)), (2, 0, 30, 0));
    });
}

#[test]
fn one_of_the_two_is_not_enough() {
    if kernel().is_none() || !geteuid().is_root() {
        return;
    }
    let all_others = (CapabilitySet::all() - CapabilitySet::SYS_ADMIN) & capabilities(None).unwrap().permitted;
    for missing in [CapabilitySet::BPF, CapabilitySet::PERFMON] {
        let error = as_nobody(all_others - missing, || Kernel::load().err());
        assert!(matches!(error, Some(KernelError::NotPermitted { .. })), "without {missing:?}: {error:?}");
    }
}
