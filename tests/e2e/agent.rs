//! The daemon's own SNMP agent, asked by net-snmp's tools, pysnmp and async-snmp.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::ensure;
use lbstatd_tests::{
    Answer, Lbstatd, LbstatdConfig, Level, Output, Snmp, SnmpValue, Varbind, address, lbstatd_binary, run, wait_for,
};

use crate::managers::walk_with_pysnmp;
use crate::reading::{ROOTS, Reading, arcs};
use crate::skip::skipped;
use crate::walk::dump_of;
use crate::zoo::{self, Zoo};

const SYSTEM: &str = ".1.3.6.1.2.1.1";
const SNMP: &str = ".1.3.6.1.2.1.11";
/// Of one generation for as long as a test takes.
const STILL: &str = "1h";

/// A daemon that reads this HAProxy once and answers at an address of its own, and a manager of it.
fn agent(zoo: &Zoo, more: &[&str]) -> (Lbstatd, Snmp) {
    let address = address();
    let (lbstatd, at) = agent_at(zoo, address, &[&["--community", "public"], more].concat());
    (lbstatd, Snmp::new(at).unwrap())
}

fn agent_at(zoo: &Zoo, address: SocketAddr, more: &[&str]) -> (Lbstatd, SocketAddr) {
    let listen = address.to_string();
    let flags = [&["--snmp-listen", listen.as_str()], more].concat().into_iter().map(str::to_owned).collect();
    let config = LbstatdConfig { interval: STILL, flags, ..LbstatdConfig::new(zoo.haproxy.socket()) };
    (Lbstatd::start(&config).unwrap(), address)
}

/// The values of one line each of a group of scalars.
fn scalar(snmp: &Snmp, oid: &str) -> SnmpValue {
    match snmp.get(&[oid]).unwrap().remove(0).answer {
        Answer::Value(value) => value,
        other => panic!("{oid}: {other:?}"),
    }
}

fn counter(snmp: &Snmp, arc: u32) -> u64 {
    match scalar(snmp, &format!("{SNMP}.{arc}.0")) {
        SnmpValue::Counter32(number) => number,
        other => panic!("{arc}: {other:?}"),
    }
}

#[test]
fn every_manager_walks_what_dump_prints() {
    let zoo = zoo::start(Level::User);
    zoo.traffic();
    let (lbstatd, snmp) = agent(&zoo, &[]);
    let dump = dump_of(&lbstatd);
    let walk_with = |tool: &str, options: &[&str]| {
        let options = [&["-On"], options].concat();
        let walks = succeeded(snmp.tool(tool, &options, &[".1.3.6.1.4.1"]).unwrap());
        let ends = |line: &str| line.contains("No more variables") || line == "End of MIB";
        walks.lines().filter(|line| !ends(line)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(walk_with("snmpwalk", &[]), dump);
    for repetitions in ["-Cr1", "-Cr7", "-Cr50", "-Cr10000"] {
        assert_eq!(walk_with("snmpbulkwalk", &[repetitions]), dump, "{repetitions}");
    }
    // Version 1 has no Counter64, so those columns are not there at all.
    let without: Vec<_> = dump.iter().filter(|line| !line.contains(" = Counter64: ")).cloned().collect();
    assert_eq!(walk_with("snmpwalk", &["-v1"]), without);
    assert!(without.len() < dump.len());

    let walk = snmp.bulk_walk(ROOTS[0]).unwrap();
    let names: Vec<String> = walk.iter().map(Varbind::dotted).collect();
    for (names, there) in names.chunks(40).zip(walk.chunks(40)) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(snmp.get(&names).unwrap(), there);
    }
    walk_with_pysnmp(snmp.address(), &[], &walk);
    with_async_snmp(&snmp, &walk);
}

/// A client that shares no code with what answers it.
fn with_async_snmp(snmp: &Snmp, walk: &[Varbind]) {
    use async_snmp::{Auth, Client, Oid};
    let address = (snmp.address().ip().to_string(), snmp.address().port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let walked = runtime.block_on(async {
        let client = Client::builder(address, Auth::v2c("public")).connect().await.unwrap();
        client.bulk_walk(Oid::from_slice(&arcs(ROOTS[0])), 50).unwrap().collect().await.unwrap()
    });
    assert_eq!(walked.len(), walk.len());
    for (theirs, ours) in walked.iter().zip(walk) {
        assert_eq!(theirs.oid.arcs(), ours.oid);
        let Answer::Value(value) = &ours.answer else { panic!("{ours:?}") };
        let value = match value {
            SnmpValue::Integer(number) => async_snmp::Value::Integer(i32::try_from(*number).unwrap()),
            SnmpValue::Counter32(number) => async_snmp::Value::Counter32(u32::try_from(*number).unwrap()),
            SnmpValue::Counter64(number) => async_snmp::Value::Counter64(*number),
            SnmpValue::OctetString(octets) => async_snmp::Value::OctetString(octets.clone().into()),
            SnmpValue::Other(text) => panic!("{text}"),
        };
        assert_eq!(theirs.value, value, "{}", theirs.oid);
    }
}

#[test]
fn the_groups_that_managers_expect_are_there_and_in_order() {
    let zoo = zoo::start(Level::User);
    let (_lbstatd, snmp) =
        agent(&zoo, &["--sys-contact", "ops@example.net", "--sys-location", "rack 7", "--sys-name", "lb1"]);
    let text = |oid: &str| match scalar(&snmp, &format!("{SYSTEM}.{oid}")) {
        SnmpValue::OctetString(octets) => String::from_utf8(octets).unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(text("1.0").starts_with("lbstatd "), "{}", text("1.0"));
    assert_eq!([text("4.0"), text("5.0"), text("6.0")], ["ops@example.net", "lb1", "rack 7"]);
    let before = snmp.uptime().unwrap();
    wait_for("sysUpTime to go on", || {
        ensure!(snmp.uptime()? > before);
        Ok(())
    })
    .unwrap();

    let walk = snmp.bulk_walk(".1.3").unwrap();
    assert!(walk.is_sorted_by(|one, next| one.oid < next.oid));
    assert_eq!(walk, snmp_without_counters(snmp.walk(".1.3").unwrap(), &walk));
    let below = |root: &str| walk.iter().filter(|varbind| varbind.oid.starts_with(&arcs(root))).count();
    assert_eq!(ROOTS.map(below), [Reading::of(&zoo.haproxy).rows(); 2]);
    assert_eq!((below(SYSTEM), below(SNMP)), (8 + 3 * 3, 16));
    let [first, .., last] = &walk[..] else { panic!("an empty walk") };
    assert_eq!(first.dotted(), format!("{SYSTEM}.1.0"));
    assert!(last.oid > arcs(ROOTS[1]));
}

/// The same walk with the values of another one for what moves meanwhile.
fn snmp_without_counters(walk: Vec<Varbind>, other: &[Varbind]) -> Vec<Varbind> {
    let moves = |oid: &[u32]| oid.starts_with(&arcs(SNMP)) || oid == arcs(&format!("{SYSTEM}.3.0"));
    let steady = |(varbind, other): (Varbind, &Varbind)| if moves(&varbind.oid) { other.clone() } else { varbind };
    walk.into_iter().zip(other).map(steady).collect()
}

#[test]
fn nothing_can_be_set() {
    let zoo = zoo::start(Level::User);
    let (_lbstatd, snmp) = agent(&zoo, &[]);
    let location = format!("{SYSTEM}.6.0");
    for (version, reason) in [("-v2c", "notWritable"), ("-v1", "noSuchName")] {
        let set = snmp.tool("snmpset", &[version], &[&location, "s", "elsewhere"]).unwrap();
        assert!(!set.status.success() && set.stderr.contains(reason), "{set:?}");
    }
    assert_eq!(scalar(&snmp, &location), SnmpValue::OctetString(Vec::new()));
    assert_eq!((counter(&snmp, 17), counter(&snmp, 5)), (2, 2));
}

#[test]
fn strangers_get_no_answer_and_are_counted() {
    let zoo = zoo::start(Level::User);
    let (lbstatd, snmp) = agent(&zoo, &[]);
    let name = format!("{SYSTEM}.5.0");
    let silent = |options: &[&str]| {
        let output = snmp.tool("snmpget", &[&["-t", "0.3"], options].concat(), &[&name]).unwrap();
        assert!(!output.status.success() && output.stderr.contains("Timeout"), "{output:?}");
    };
    silent(&["-c", "private"]);
    silent(&["-v1", "-c", "Public"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let garbage: [&[u8]; 3] = [b"", b"\x30\x80\x02\x01\x01\x00\x00", b"hello"];
    let version_4: &[u8] = b"\x30\x03\x02\x01\x04";
    for octets in garbage.into_iter().chain([version_4]) {
        socket.send_to(octets, snmp.address()).unwrap();
    }
    wait_for("all of them to be counted", || {
        let counters = [counter(&snmp, 4), counter(&snmp, 6), counter(&snmp, 3)];
        ensure!(counters == [2, 3, 1], "{counters:?}");
        Ok(())
    })
    .unwrap();
    let (packets, sent) = (counter(&snmp, 1), counter(&snmp, 2));
    assert_eq!(packets - sent, 2 + 3 + 1);
    assert!(!lbstatd.log().contains("private"));
}

#[test]
fn without_a_community_nobody_is_answered() {
    let zoo = zoo::start(Level::User);
    let (lbstatd, at) = agent_at(&zoo, address(), &[]);
    let snmp = Snmp::new(at).unwrap();
    let output = snmp.tool("snmpget", &["-t", "0.3"], &[&format!("{SYSTEM}.5.0")]).unwrap();
    assert!(output.stderr.contains("Timeout"), "{output:?}");
    assert!(lbstatd.log().contains("nobody is answered over SNMP"), "{}", lbstatd.log());
}

#[test]
fn only_networks_that_may_are_answered() {
    let zoo = zoo::start(Level::User);
    let name = format!("{SYSTEM}.5.0");
    for (networks, answered) in [
        (&["--snmp-from", "10.0.0.0/8"][..], false),
        (&["--snmp-from", "10.0.0.0/8", "--snmp-from", "127.0.0.1"], true),
    ] {
        let (_lbstatd, snmp) = agent(&zoo, networks);
        let output = snmp.tool("snmpget", &["-t", "0.5"], &[&name]).unwrap();
        assert_eq!(output.status.success(), answered, "{networks:?}: {output:?}");
    }
}

#[test]
fn a_view_shows_its_subtrees_only() {
    let zoo = zoo::start(Level::User);
    let names = format!("{}.2.1.3", ROOTS[1]);
    let (_lbstatd, snmp) = agent(&zoo, &["--snmp-view", SYSTEM, "--snmp-view", &names]);
    let walk = snmp.bulk_walk(".1").unwrap();
    assert_eq!(walk, snmp_without_counters(snmp.walk(".1").unwrap(), &walk));
    let seen = |root: &str| walk.iter().filter(|varbind| varbind.oid.starts_with(&arcs(root))).count();
    // Three frontends are shown by HAProxy: www, odd.name, and both.
    assert_eq!((seen(SYSTEM), seen(&names), walk.len()), (17, 3, 20));
    let hidden = snmp.get(&[&format!("{}.2.1.3.1.10", ROOTS[0]), &format!("{SNMP}.1.0")]).unwrap();
    assert!(hidden.iter().all(|varbind| varbind.answer == Answer::NoSuchObject), "{hidden:?}");
}

#[test]
fn what_does_not_fit_is_cut_or_too_big() {
    let zoo = zoo::start(Level::User);
    let (lbstatd, snmp) = agent(&zoo, &["--snmp-max-size", "484"]);
    let walk = snmp.bulk_walk(ROOTS[0]).unwrap();
    assert_eq!(walk.len(), Reading::of(&zoo.haproxy).rows());
    let names: Vec<String> = walk.iter().take(40).map(Varbind::dotted).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let output = snmp.tool("snmpget", &[], &names).unwrap();
    assert!(output.stderr.contains("tooBig"), "{output:?}");
    assert!(counter(&snmp, 20) >= 1);
    // It takes a datagram larger than any of ours, and a manager of a larger size gets everything at once.
    let varbinds = |lbstatd: &Lbstatd| lbstatd.metrics().map(|page| page.contains("lbstatd_face")).unwrap_or_default();
    assert!(varbinds(&lbstatd));
    let (_large, snmp) = agent(&zoo, &["--snmp-max-size", "65507"]);
    let before = counter(&snmp, 28);
    let output = succeeded(snmp.tool("snmpbulkget", &["-On", "-Cr2000"], &[ROOTS[0]]).unwrap());
    assert!(output.lines().count() > 400, "{output}");
    assert_eq!(counter(&snmp, 28) - before, 2);
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    let zoo = zoo::start(Level::User);
    let port = address().port();
    let everywhere = SocketAddr::from(([0, 0, 0, 0], port));
    let more = format!("[::]:{port}");
    let (lbstatd, _) =
        agent_at(&zoo, everywhere, &["--snmp-listen", &more, "--community", "public", "--snmp-workers", "3"]);
    // A manager drops an answer from another address than the one it asked.
    for asked in ["127.0.0.1", "127.0.0.77", "127.200.3.4"] {
        let snmp = Snmp::new(SocketAddr::new(asked.parse().unwrap(), port)).unwrap();
        assert_eq!(snmp.bulk_walk(ROOTS[0]).unwrap().len(), Reading::of(&zoo.haproxy).rows(), "{asked}");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect((asked, port)).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        // A GetNext of 1.3, version 2c, community public.
        let question = b"\x30\x20\x02\x01\x01\x04\x06public\xa1\x13\x02\x01\x07\x02\x01\x00\x02\x01\x00\x30\x08\x30\x06\x06\x02\x2b\x06\x05\x00";
        let question = [&question[..1], &[u8::try_from(question.len() - 2).unwrap()], &question[2..]].concat();
        socket.send(&question).unwrap();
        assert!(socket.recv(&mut [0; 2000]).unwrap() > 40, "{asked}");
    }
    let loopback = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return skipped("IPv6", "there is no ::1 here");
    }
    let snmp = Snmp::new(loopback).unwrap();
    assert_eq!(snmp.bulk_walk(ROOTS[0]).unwrap().len(), Reading::of(&zoo.haproxy).rows());
    let faces = lbstatd.metrics().unwrap();
    assert!(faces.contains(&format!("[::]:{port}")), "{faces}");
}

#[test]
fn an_address_in_use_is_told_in_one_line() {
    let zoo = zoo::start(Level::User);
    let (_lbstatd, snmp) = agent(&zoo, &[]);
    let taken = snmp.address().to_string();
    let dir = tempfile::TempDir::with_prefix("lbstatd-agent-").unwrap();
    let output = run(lbstatd_binary().unwrap(), |command| {
        command.args(["run", "--ebpf", "off", "--snmp-listen", &taken, "--control"]).arg(dir.path().join("c.sock"))
    })
    .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains(&taken) && output.stderr.contains("in use"), "{}", output.stderr);
    assert_eq!(output.stderr.trim_end().lines().count(), 1, "{}", output.stderr);
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    output.stdout
}
