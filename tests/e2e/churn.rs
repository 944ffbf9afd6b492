//! A daemon that watches a load balancer whose connections, listeners, servers and processes come and go.

use std::time::Duration;

use lbstatd_tests::{LbstatdConfig, Shaken, wait_until};

use crate::exposition::Exposition;
use crate::skip;

#[test]
fn nothing_is_counted_twice_or_leaks_while_everything_comes_and_goes() {
    let mut shaken = Shaken::start().unwrap();
    let config = LbstatdConfig::new(shaken.haproxy.socket());
    let Some(lbstatd) = skip::with_ebpf("nothing_is_counted_twice_or_leaks", config) else { return };
    let accepted = format!("haproxy_kernel_connections_accepted_total{{address=\"{}\",proxy=\"www\"}}", shaken.listen);
    let accepted = || Ok(Exposition::of(&lbstatd)?.get(&accepted));
    wait_until("the frontend to be counted", accepted, Option::is_some).unwrap();

    // What the daemon opens once, it has opened by then.
    let mut churn = shaken.shake(Duration::from_secs(4)).unwrap();
    let before = files_and_memory(lbstatd.id());
    churn += shaken.shake(Duration::from_secs(8)).unwrap();
    let after = files_and_memory(lbstatd.id());

    // A connection that was lost while one process of HAProxy handed over to the next was accepted, or was not.
    let bounds = churn.answered as f64..=(churn.answered + churn.lost) as f64;
    let exact = |counted: &Option<f64>| counted.is_some_and(|counted| bounds.contains(&counted));
    wait_until(&format!("the kernel's count of {churn:?}"), accepted, exact).unwrap();
    assert!(churn.answered > 1000 && churn.lost * 100 < churn.answered, "{churn:?}");
    assert!(churn.servers > 100 && churn.reloads >= 6, "{churn:?}");
    // Two more for a connection to a stats socket and one to the control socket or Prometheus.
    assert!(after.0 <= before.0 + 2, "files: {before:?}, then {after:?}");
    // The past of listeners and servers that are gone is remembered, up to a bound: `cargo xtask bench churn` reaches it.
    assert!(after.1 < before.1 + 16.0, "MB of memory: {before:?}, then {after:?}");
    assert!(!lbstatd.log().contains("not counted"), "{}", lbstatd.log());
}

/// How many files the process has open, and its memory in MB.
fn files_and_memory(process: u32) -> (usize, f64) {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")).unwrap();
    (files, memory.parse::<f64>().unwrap() / 1e3)
}
