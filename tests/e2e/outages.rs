//! HAProxy stops, freezes and comes back under the running daemon, and snmpd never waits for it.

use lbstatd_tests::{Answer, Lbstatd, LbstatdConfig, Level, SnmpValue, wait_until};
use rustix::process::Signal;

use crate::exposition::Exposition;
use crate::reading::{ROOTS, Reading};
use crate::walk::{alone, through, wait_for_rows};
use crate::zoo;

#[test]
fn the_last_snapshot_outlives_haproxy_with_its_age_and_the_reason() {
    let mut zoo = zoo::start(Level::Operator);
    zoo.traffic();
    let lbstatd = Lbstatd::start(&LbstatdConfig::new(zoo.haproxy.socket())).unwrap();
    let snmpd = through(&lbstatd);
    let rows = Reading::of(&zoo.haproxy).rows();
    wait_for_rows(&snmpd, ROOTS[0], rows);
    let socket = zoo.haproxy.socket();
    let labels = format!("{{source=\"haproxy\",target=\"{}\"}}", socket.display());
    let up = format!("lbstatd_up{labels}");
    let sessions = "haproxy_frontend_sessions_total{proxy=\"www\"}";
    let page = || Exposition::of(&lbstatd);
    lbstatd.wait_fresh().unwrap();
    let before = page().unwrap();
    assert_eq!(before.get(&up), Some(1.0));
    assert_eq!(before.get(sessions), Some(3.0));

    zoo.haproxy.kill().unwrap();
    let down = wait_until("the source to be down", page, |page| page.get(&up) == Some(0.0)).unwrap();
    assert_eq!(down.get(sessions), Some(3.0), "the last snapshot is gone");
    let reasons: Vec<&str> = down.family("lbstatd_source_error_info").map(|(labels, _)| labels).collect();
    assert!(reasons.iter().any(|reason| reason.contains(&socket.display().to_string())), "{reasons:?}");
    let age = format!("lbstatd_source_age_seconds{labels}");
    let then = down.get(&age).unwrap();
    wait_until("the age to grow", page, |page| page.get(&age).is_some_and(|now| now > then + 1.0)).unwrap();
    let errors = format!("lbstatd_collection_errors_total{labels}");
    assert!(page().unwrap().get(&errors).unwrap() >= 1.0);
    assert_eq!(snmpd.client().bulk_walk(ROOTS[0]).unwrap().len(), rows, "SNMP has lost the last snapshot");

    zoo.haproxy.restart().unwrap();
    let back = wait_until("the source to be up", page, |page| page.get(&up) == Some(1.0)).unwrap();
    assert_eq!(back.get(sessions), Some(0.0), "the new process has had no sessions");
    assert_eq!(back.family("lbstatd_source_error_info").filter(|(labels, _)| labels.contains("haproxy")).count(), 0);
    let id = zoo.haproxy.id();
    let pid = || Ok(snmpd.client().get(&[&format!("{}.1.1.6.1", ROOTS[1])])?.remove(0).answer);
    let expected = Answer::Value(SnmpValue::Integer(i64::from(id)));
    wait_until("SNMP to show the new process", pid, |answer| *answer == expected).unwrap();
}

#[test]
fn snmpd_answers_while_haproxy_is_frozen() {
    let zoo = zoo::start(Level::Operator);
    let lbstatd = Lbstatd::start(&LbstatdConfig::new(zoo.haproxy.socket())).unwrap();
    let rows = Reading::of(&zoo.haproxy).rows();
    let snmpds = [through(&lbstatd), alone(&zoo.haproxy.socket())];
    for snmpd in &snmpds {
        wait_for_rows(snmpd, ROOTS[0], rows);
    }
    let up = format!("lbstatd_up{{source=\"haproxy\",target=\"{}\"}}", zoo.haproxy.socket().display());
    let page = || Exposition::of(&lbstatd);

    let frozen = zoo.haproxy.freeze().unwrap();
    wait_until("the source to be down", page, |page| page.get(&up) == Some(0.0)).unwrap();
    // An snmpd that hangs would not answer the tools within their 10 s.
    for _ in 0..20 {
        for snmpd in &snmpds {
            snmpd.client().uptime().unwrap();
            assert_eq!(snmpd.client().bulk_walk(ROOTS[0]).unwrap().len(), rows);
        }
    }
    drop(frozen);
    wait_until("the source to be up", page, |page| page.get(&up) == Some(1.0)).unwrap();
}

#[test]
fn snmpd_answers_while_the_daemon_is_away() {
    let zoo = zoo::start(Level::Operator);
    let mut lbstatd = Lbstatd::start(&LbstatdConfig::new(zoo.haproxy.socket())).unwrap();
    let snmpd = through(&lbstatd);
    let rows = Reading::of(&zoo.haproxy).rows();
    wait_for_rows(&snmpd, ROOTS[0], rows);
    let uptime = format!("{}.1.1.8.1", ROOTS[0]);
    let seconds = || match &snmpd.client().get(&[&uptime])?.remove(0).answer {
        Answer::Value(SnmpValue::Integer(seconds)) => Ok(*seconds),
        other => anyhow::bail!("{other:?}"),
    };

    lbstatd.end_with(Signal::KILL).unwrap();
    let last = seconds().unwrap();
    for _ in 0..20 {
        snmpd.client().uptime().unwrap();
        assert_eq!(snmpd.client().bulk_walk(ROOTS[0]).unwrap().len(), rows);
    }
    assert_eq!(seconds().unwrap(), last, "values move without a daemon");
    lbstatd.start_again().unwrap();
    wait_until("the daemon's values again", seconds, |now| *now > last).unwrap();
}

#[test]
fn the_daemon_may_start_before_haproxy_and_snmpd_before_the_daemon() {
    let mut zoo = zoo::start(Level::Operator);
    zoo.haproxy.kill().unwrap();
    let socket = zoo.haproxy.socket();
    let _ = std::fs::remove_file(&socket);
    let lbstatd = Lbstatd::start(&LbstatdConfig::new(socket)).unwrap();
    let snmpd = through(&lbstatd);
    assert_eq!(snmpd.client().tool("snmpwalk", &["-On"], &[ROOTS[0]]).unwrap().stdout.lines().count(), 1);
    zoo.haproxy.restart().unwrap();
    wait_for_rows(&snmpd, ROOTS[0], Reading::of(&zoo.haproxy).rows());
}
