//! How the daemon ends, and that nothing is left of it.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use lbstatd_tests::{Lbstatd, LbstatdConfig, Level, Process, lbstatd_binary, wait_for};
use rustix::process::Signal;
use tempfile::TempDir;

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
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let zoo = zoo::start(Level::Operator);
    let dir = TempDir::with_prefix("lbstatd-notify-").unwrap();
    let path = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let heard = || {
        let mut message = [0; 256];
        let length = systemd.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).trim_end().to_owned()
    };
    let mut lbstatd = Process::start(lbstatd_binary().unwrap(), dir.path().join("log"), |command| {
        command
            .args(["run", "--ebpf", "off", "--stats-socket"])
            .arg(zoo.haproxy.socket())
            .arg("--control")
            .arg(dir.path().join("control.sock"))
            .env("NOTIFY_SOCKET", &path)
    })
    .unwrap();
    assert_eq!(heard(), "READY=1");
    assert_eq!(lbstatd.end_with(Signal::TERM).unwrap().code(), Some(0));
    assert_eq!(heard(), "STOPPING=1");
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
