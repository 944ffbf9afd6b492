//! How the daemon ends, and that nothing is left of it.

use std::path::Path;

use lbstatd_tests::{Lbstatd, LbstatdConfig, Level, wait_for};
use rustix::process::Signal;

use crate::walk::through;
use crate::zoo;

#[test]
fn a_signal_ends_it_at_once_and_its_socket_goes_with_it() {
    let zoo = zoo::start(Level::Operator);
    for signal in [Signal::TERM, Signal::INT] {
        let config = LbstatdConfig { ebpf: "auto", interval: "1h", ..LbstatdConfig::new(zoo.haproxy.socket()) };
        let mut lbstatd = Lbstatd::start(&config).unwrap();
        assert!(lbstatd.control().exists());
        let status = lbstatd.end_with(signal).unwrap();
        assert_eq!(status.code(), Some(0), "after {signal:?}: {}", lbstatd.log());
        assert!(!lbstatd.control().exists(), "the control socket is left after {signal:?}");
    }
}

#[test]
fn a_signal_ends_it_while_haproxy_hangs() {
    let zoo = zoo::start(Level::Operator);
    let mut lbstatd = Lbstatd::start(&LbstatdConfig::new(zoo.haproxy.socket())).unwrap();
    let _frozen = zoo.haproxy.freeze().unwrap();
    let status = lbstatd.end_with(Signal::TERM).unwrap();
    assert_eq!(status.code(), Some(0), "{}", lbstatd.log());
}

#[test]
fn a_socket_that_a_killed_daemon_left_is_taken_over() {
    let zoo = zoo::start(Level::Operator);
    let mut first = Lbstatd::start(&LbstatdConfig::new(zoo.haproxy.socket())).unwrap();
    first.end_with(Signal::KILL).unwrap();
    assert!(first.control().exists());
    first.start_again().unwrap();
    assert_eq!(first.end_with(Signal::TERM).unwrap().code(), Some(0));
}

#[test]
fn pass_persist_goes_with_snmpd() {
    let zoo = zoo::start(Level::Operator);
    let lbstatd = Lbstatd::start(&LbstatdConfig::new(zoo.haproxy.socket())).unwrap();
    for signal in [Signal::TERM, Signal::KILL] {
        let mut snmpd = through(&lbstatd);
        snmpd.client().bulk_walk(crate::reading::ROOTS[0]).unwrap();
        let children = children_of(snmpd.id());
        assert!(!children.is_empty(), "snmpd has started nothing");
        snmpd.end_with(signal).unwrap();
        wait_for("snmpd's children to end", || {
            let left: Vec<&u32> = children.iter().filter(|id| Path::new(&format!("/proc/{id}")).exists()).collect();
            anyhow::ensure!(left.is_empty(), "left after {signal:?}: {left:?}");
            Ok(())
        })
        .unwrap();
    }
}

fn children_of(id: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    list.split_whitespace().map(|child| child.parse().unwrap()).collect()
}
