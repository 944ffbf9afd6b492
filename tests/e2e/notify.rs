//! Notifications, from a real HAProxy's troubles to a real snmptrapd.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use lbstatd_tests::{
    Backend, Connection, Haproxy, HaproxyConfig, Lbstatd, LbstatdConfig, Reply, Snmpd, Snmptrapd, Told, address,
    lbstatd_binary, run, wait_for, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::{NamedTempFile, TempDir};

use crate::exposition::Exposition;
use crate::skip;
use crate::zoo::DEFAULTS;

/// A server that takes connections until it dies.
struct Mortal {
    address: SocketAddr,
    dying: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Mortal {
    fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let dying = Arc::new(AtomicBool::new(false));
        let watched = dying.clone();
        let thread = std::thread::spawn(move || {
            while !watched.load(Ordering::Relaxed) {
                if listener.accept().is_err() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Self { address, dying, thread: Some(thread) }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.dying.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

const RULES: &str = "[notify]\nhold = \"300ms\"\nquiet = \"500ms\"\nflap-changes = 1000\n";

fn haproxy(sections: String) -> Haproxy {
    Haproxy::start(HaproxyConfig { sections, ..HaproxyConfig::default() }).unwrap()
}

/// The daemon with these receivers, once it has seen HAProxy.
fn lbstatd(haproxy: &Haproxy, receivers: &str) -> Lbstatd {
    let file = format!("{receivers}\n{RULES}");
    let lbstatd = Lbstatd::start(&LbstatdConfig { file, ..LbstatdConfig::new(haproxy.socket()) }).unwrap();
    lbstatd.wait_fresh().unwrap();
    lbstatd
}

const ID: &str = ".1.3.6.1.4.1.23263.2.1.0";
const MESSAGE: &str = ".1.3.6.1.4.1.23263.2.2.0";
const NAME: &str = ".1.3.6.1.4.1.23263.2.3.0";
const TRAP: &str = "OID: .1.3.6.1.4.1.23263.3.1002";

/// alTrapId and alTrapName of what was told.
fn events(snmptrapd: &Snmptrapd) -> anyhow::Result<Vec<String>> {
    let told = snmptrapd.told()?;
    let value = |told: &Told, name| told.value(name).unwrap_or_default().to_owned();
    let event = |told: &Told| {
        let (id, name) = (value(told, ID), value(told, NAME));
        format!("{} {}", id.trim_start_matches("INTEGER: "), name.trim_start_matches("STRING: ").trim_matches('"'))
    };
    Ok(told.iter().map(event).collect())
}

/// Waits until exactly these have been told, in this order.
fn becomes(snmptrapd: &Snmptrapd, expected: &[&str]) {
    let what = format!("{expected:?} to be told");
    wait_until(&what, || events(snmptrapd), |events| events.len() >= expected.len()).unwrap();
    assert_eq!(events(snmptrapd).unwrap(), expected, "{:?}", snmptrapd.told());
}

/// How the daemon says a receiver fares.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Face {
    up: f64,
    told: f64,
    varbinds: f64,
    refused: f64,
}

fn face(lbstatd: &Lbstatd, receiver: SocketAddr) -> anyhow::Result<Face> {
    let page = Exposition::of(lbstatd)?;
    let of = |metric: &str| {
        let series = format!("lbstatd_face_{metric}{{face=\"notifications\",target=\"{receiver}\"}}");
        page.get(&series).with_context(|| format!("no {series}"))
    };
    Ok(Face {
        up: of("up")?,
        told: of("requests_total")?,
        varbinds: of("varbinds_total")?,
        refused: of("refused_total")?,
    })
}

/// A server that can die, alone in one backend and with another that cannot in the other one; and a dead one.
fn sections(mortal: &Mortal) -> String {
    let (mortal, immortal) = (mortal.address, Backend::start(Reply::Http { body: 10 }).unwrap().address());
    let (www, nobody) = (address(), address());
    format!(
        "{DEFAULTS}
frontend www
    bind {www}
    default_backend pair
backend pair
    default-server check inter 50ms rise 2 fall 2
    server mortal {mortal}
    server immortal {immortal}
    server dead {nobody}
    server maintained {nobody} disabled
backend solo
    server mortal {mortal} track pair/mortal
"
    )
}

const DOWN: [&str; 3] = ["201 pair/mortal", "201 solo/mortal", "203 solo"];
const UP: [&str; 3] = ["211 pair/mortal", "211 solo/mortal", "213 solo"];

#[test]
fn servers_and_backends_that_go_and_come_are_told_of_and_nothing_else_is() {
    let mortal = Mortal::start(address());
    let mut haproxy = haproxy(sections(&mortal));
    let snmptrapd = Snmptrapd::start("authCommunity log secret-of-ours").unwrap();
    let to = snmptrapd.address();
    let lbstatd = lbstatd(&haproxy, &format!("[[trap]]\nto = \"{to}\"\ncommunity = \"secret-of-ours\""));

    let place = mortal.address;
    drop(mortal);
    becomes(&snmptrapd, &DOWN);
    let mortal = Mortal::start(place);
    becomes(&snmptrapd, &[DOWN, UP].concat());

    // A server in maintenance is not down; a reload, and a HAProxy that is gone for a while, change nothing. What comes
    // next is therefore the server's next death.
    haproxy.command("set server pair/immortal state maint").unwrap();
    let old = haproxy.reload().unwrap();
    lbstatd.wait_fresh().unwrap();
    drop(old);
    let up = format!("lbstatd_up{{source=\"haproxy\",target=\"{}\"}}", haproxy.socket().display());
    haproxy.kill().unwrap();
    let page = || Exposition::of(&lbstatd);
    wait_until("HAProxy to be missed", page, |page| page.get(&up) == Some(0.0)).unwrap();
    haproxy.restart().unwrap();
    wait_until("HAProxy to be back", page, |page| page.get(&up) == Some(1.0)).unwrap();
    let settled =
        || haproxy.command("show stat").map(|stat| stat.lines().filter(|line| line.contains(",L4OK,")).count());
    wait_until("the checks to be over", settled, |count| *count == 2).unwrap();
    drop(mortal);
    becomes(&snmptrapd, &[DOWN, UP, DOWN].concat());

    let told = snmptrapd.told().unwrap();
    for told in &told {
        assert_eq!(told.how, "TRAP2, SNMP v2c, community secret-of-ours");
        let names: Vec<&str> = told.varbinds.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [".1.3.6.1.2.1.1.3.0", ".1.3.6.1.6.3.1.1.4.1.0", ID, MESSAGE, NAME]);
        assert_eq!(told.value(".1.3.6.1.6.3.1.1.4.1.0"), Some(TRAP));
    }
    assert_eq!(told[0].value(MESSAGE), Some("STRING: \"Server pair/mortal is DOWN (L4CON)\""));
    assert_eq!(told[2].value(MESSAGE), Some("STRING: \"Backend solo is DOWN: no server available\""));
    let ticks = |told: &Told| told.value(".1.3.6.1.2.1.1.3.0").unwrap().parse::<u32>().unwrap();
    assert!(told.is_sorted_by_key(ticks) && ticks(&told[0]) > 0, "{told:?}");

    let expected = Face { up: 1.0, told: 9.0, varbinds: 45.0, refused: 0.0 };
    wait_until("the face to show it", || face(&lbstatd, to), |face| *face == expected).unwrap();
    assert!(!lbstatd.log().contains("secret-of-ours"), "the community is in the log");
}

#[test]
fn informs_and_version_1_say_the_same() {
    let mortal = Mortal::start(address());
    let haproxy = haproxy(sections(&mortal));
    let snmptrapd = || Snmptrapd::start("authCommunity log secret").unwrap();
    let (traps, informs) = (snmptrapd(), snmptrapd());
    let receivers = format!(
        "[[trap]]\nto = \"{}\"\nversion = \"v1\"\ncommunity = \"secret\"
         [[trap]]\nto = \"{}\"\ninform = true\ncommunity = \"secret\"",
        traps.address(),
        informs.address()
    );
    let lbstatd = lbstatd(&haproxy, &receivers);
    drop(mortal);
    becomes(&informs, &DOWN);
    assert!(informs.told().unwrap().iter().all(|told| told.how == "INFORM, SNMP v2c, community secret"));
    becomes(&traps, &DOWN);
    for told in traps.told().unwrap() {
        // 127.0.0.1 or the address that the kernel chose.
        assert!(told.how.starts_with("TRAP 127.") && told.how.ends_with(" .1.3.6.1.4.1.23263.3 6 .1002"), "{told:?}");
        assert_eq!(told.varbinds.len(), 3);
    }
    for (receiver, varbinds) in [(&traps, 9.0), (&informs, 15.0)] {
        let expected = Face { up: 1.0, told: 3.0, varbinds, refused: 0.0 };
        wait_until("the face to show it", || face(&lbstatd, receiver.address()), |face| *face == expected).unwrap();
    }
}

#[test]
fn a_receiver_that_is_gone_holds_up_nobody_and_gets_the_next_one() {
    let mortal = Mortal::start(address());
    let haproxy = haproxy(sections(&mortal));
    let mut deaf = Snmptrapd::start("authCommunity log secret").unwrap();
    let listening = Snmptrapd::start("authCommunity log secret").unwrap();
    let receivers = format!(
        "[[trap]]\nto = \"{}\"\ninform = true\ncommunity = \"secret\"\ntimeout = \"50ms\"\nretries = 1
         [[trap]]\nto = \"{}\"\ncommunity = \"secret\"",
        deaf.address(),
        listening.address()
    );
    let lbstatd = lbstatd(&haproxy, &receivers);
    deaf.kill().unwrap();
    let place = mortal.address;
    drop(mortal);
    becomes(&listening, &DOWN);
    let gone = Face { up: 0.0, told: 0.0, varbinds: 0.0, refused: 3.0 };
    wait_until("informs to be given up", || face(&lbstatd, deaf.address()), |face| *face == gone).unwrap();
    let page = Exposition::of(&lbstatd).unwrap();
    let mut reasons = page.family("lbstatd_face_error_info").map(|(labels, _)| labels);
    assert!(reasons.any(|reason| reason.contains("nobody listens for notifications at 127.")), "{page:?}");

    deaf.restart().unwrap();
    let _mortal = Mortal::start(place);
    becomes(&deaf, &UP);
    becomes(&listening, &[DOWN, UP].concat());
    let back = Face { up: 1.0, told: 3.0, varbinds: 15.0, refused: 3.0 };
    wait_until("the face to show it", || face(&lbstatd, deaf.address()), |face| *face == back).unwrap();
}

#[test]
fn a_frontend_that_fills_up_and_one_kind_that_is_off() {
    let (www, server) = (address(), Backend::start(Reply::Http { body: 10 }).unwrap().address());
    let haproxy = haproxy(format!(
        "{DEFAULTS}
frontend www
    bind {www}
    maxconn 5
    default_backend app
backend app
    server one {server}
"
    ));
    let snmptrapd = || Snmptrapd::start("authCommunity log public").unwrap();
    let (all, full) = (snmptrapd(), snmptrapd());
    let receiver = |to: SocketAddr| format!("[[trap]]\nto = \"{to}\"\ncommunity = \"public\"\n");
    let _all = lbstatd(&haproxy, &receiver(all.address()));
    let file = format!("{}{RULES}off = [\"frontendopen\"]", receiver(full.address()));
    let quiet = Lbstatd::start(&LbstatdConfig { file, ..LbstatdConfig::new(haproxy.socket()) }).unwrap();
    quiet.wait_fresh().unwrap();
    let mut connections: Vec<Connection> = (0..5).map(|_| Connection::open(www).unwrap()).collect();
    connections.iter_mut().for_each(|connection| assert_eq!(connection.request("/").unwrap(), 200));
    becomes(&all, &["202 www"]);
    becomes(&full, &["202 www"]);
    drop(connections);
    becomes(&all, &["202 www", "212 www"]);
    assert_eq!(all.told().unwrap()[0].value(MESSAGE), Some("STRING: \"Frontend www is full: 5 of 5 sessions\""));
    // The one that is told less has seen it, too.
    quiet.wait_fresh().unwrap();
    becomes(&full, &["202 www"]);
}

#[test]
fn connections_that_nobody_accepts_are_a_surge() {
    let (www, server) = (address(), Backend::start(Reply::Http { body: 10 }).unwrap().address());
    let haproxy = haproxy(format!(
        "{DEFAULTS}
frontend www
    bind {www} backlog 8
    default_backend app
backend app
    server one {server}
"
    ));
    let snmptrapd = Snmptrapd::start("authCommunity log public").unwrap();
    let file = format!("[[trap]]\nto = \"{}\"\ncommunity = \"public\"\n{RULES}", snmptrapd.address());
    let config = LbstatdConfig { file, ..LbstatdConfig::new(haproxy.socket()) };
    let Some(lbstatd) = skip::with_ebpf("connections_that_nobody_accepts_are_a_surge", config) else { return };
    let listener = format!("haproxy_kernel_accept_queue_limit{{address=\"{www}\",proxy=\"www\"}}");
    let page = || Exposition::of(&lbstatd);
    wait_until("the listener to be counted", page, |page| page.get(&listener).is_some()).unwrap();
    lbstatd.wait_fresh().unwrap();

    let frozen = haproxy.freeze().unwrap();
    // The queue takes one more than its limit; the rest is dropped.
    let connect = || TcpStream::connect_timeout(&www, Duration::from_millis(100)).ok();
    let connections: Vec<_> = std::iter::repeat_with(connect).take(12).collect();
    assert!(connections.iter().flatten().count() >= 8);
    becomes(&snmptrapd, &["414 www"]);
    drop(frozen);
    drop(connections);
    becomes(&snmptrapd, &["414 www", "404 www"]);
    let told = snmptrapd.told().unwrap();
    let message = told[0].value(MESSAGE).unwrap();
    assert!(message.contains(&format!("connections wait in the accept queue of {www}")), "{message}");
    wait_for("HAProxy to be well", || {
        ensure!(Connection::open(www)?.request("/")? == 200);
        Ok(())
    })
    .unwrap();
}

#[test]
fn version_3_says_the_same_and_a_wrong_passphrase_is_told_from_silence() {
    let mortal = Mortal::start(address());
    let haproxy = haproxy(sections(&mortal));
    let engine = Engine::new();
    engine.add("traps", &["--auth", "SHA-256"]);
    engine.add("informs", &["--auth", "SHA-512", "--informs", "any"]);
    let (auth, privacy) = PASSPHRASES;
    let snmptrapd = |id: &str, user: &str, hash: &str, auth: &str| {
        let user = format!("createUser {id} {user} {hash} \"{auth}\" AES \"{privacy}\"\nauthUser log {user} priv");
        Snmptrapd::start(&user).unwrap()
    };
    let traps = snmptrapd(&format!("-e {}", engine.id()), "traps", "SHA-256", auth);
    let mut informs = snmptrapd("", "informs", "SHA-512", auth);
    let stranger = snmptrapd("", "informs", "SHA-512", "another phrase");
    let receiver =
        |to: &Snmptrapd, more: &str| format!("[[trap]]\nto = \"{}\"\nversion = \"v3\"\n{more}\n", to.address());
    let receivers = receiver(&traps, "user = \"traps\"")
        + &receiver(&informs, "user = \"informs\"\ninform = true\ntimeout = \"500ms\"")
        + &receiver(&stranger, "user = \"informs\"\ninform = true\ntimeout = \"50ms\"\nretries = 0")
        + RULES;
    let state = engine.state.path().to_str().unwrap().to_owned();
    let flags = vec!["--state-dir".to_owned(), state];
    let lbstatd =
        Lbstatd::start(&LbstatdConfig { file: receivers, flags, ..LbstatdConfig::new(haproxy.socket()) }).unwrap();
    lbstatd.wait_fresh().unwrap();

    let place = mortal.address;
    drop(mortal);
    becomes(&traps, &DOWN);
    becomes(&informs, &DOWN);
    let how = |snmptrapd: &Snmptrapd| snmptrapd.told().unwrap().remove(0).how;
    assert_eq!(how(&traps), "TRAP2, SNMP v3, user traps, context ");
    assert_eq!(how(&informs), "INFORM, SNMP v3, user informs, context ");
    let refused = Face { up: 0.0, told: 0.0, varbinds: 0.0, refused: 3.0 };
    wait_until("the stranger to refuse", || face(&lbstatd, stranger.address()), |face| *face == refused).unwrap();
    let page = Exposition::of(&lbstatd).unwrap();
    let mut reasons = page.family("lbstatd_face_error_info").map(|(labels, _)| labels);
    assert!(reasons.any(|reason| reason.contains("another authentication key")), "{page:?}");

    // Back, it is the same engine with another boot.
    informs.kill().unwrap();
    informs.restart().unwrap();
    let _mortal = Mortal::start(place);
    becomes(&informs, &[DOWN, UP].concat());
    becomes(&traps, &[DOWN, UP].concat());
    let told = Face { up: 1.0, told: 6.0, varbinds: 30.0, refused: 0.0 };
    for receiver in [traps.address(), informs.address()] {
        wait_until("the face to show it", || face(&lbstatd, receiver), |face| *face == told).unwrap();
    }
}

const PASSPHRASES: (&str, &str) = ("an authentication phrase", "a privacy phrase");

/// The folder of lbstatd's SNMP engine, and the passphrases of its users.
struct Engine {
    state: TempDir,
    passphrases: NamedTempFile,
}

impl Engine {
    fn new() -> Self {
        let passphrases = NamedTempFile::new().unwrap();
        std::fs::write(passphrases.path(), format!("{}\n{}\n", PASSPHRASES.0, PASSPHRASES.1)).unwrap();
        Self { state: TempDir::with_prefix("lbstatd-state-").unwrap(), passphrases }
    }

    fn add(&self, name: &str, options: &[&str]) {
        self.user(|command| {
            command.args(["add", name, "--passphrase-file"]).arg(self.passphrases.path()).args(options)
        });
    }

    fn id(&self) -> String {
        let list = self.user(|command| command.arg("list"));
        list.lines().find_map(|line| line.strip_prefix("engine ID ")).unwrap().to_owned()
    }

    fn user(&self, configure: impl FnOnce(&mut Command) -> &mut Command) -> String {
        let output = run(lbstatd_binary().unwrap(), |command| {
            configure(command.arg("user")).arg("--state-dir").arg(self.state.path())
        });
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }
}

#[test]
fn snmpd_tells_its_own_receivers_through_agentx() {
    let mortal = Mortal::start(address());
    let haproxy = haproxy(sections(&mortal));
    let snmptrapd = Snmptrapd::start("authCommunity log of-snmpd").unwrap();
    let dir = TempDir::with_prefix("lbstatd-agentx-").unwrap();
    let master = dir.path().join("master").display().to_string();
    let informed = Snmptrapd::start("authCommunity log of-snmpd").unwrap();
    let sinks = format!("trap2sink {} of-snmpd\ninformsink {} of-snmpd\n", snmptrapd.address(), informed.address());
    let _snmpd = Snmpd::start_master_with(&master, &sinks).unwrap();
    let lbstatd = lbstatd(&haproxy, &format!("agentx = \"{master}\""));
    let up = format!("lbstatd_face_up{{face=\"agentx\",target=\"{master}\"}}");
    wait_until("the session with snmpd", || Exposition::of(&lbstatd), |page| page.get(&up) == Some(1.0)).unwrap();

    drop(mortal);
    // snmpd tells of its own start as well.
    let ours = |events: &Vec<String>| {
        let is_ours = |event: &&String| event.starts_with('2');
        events.iter().filter(is_ours).cloned().collect::<Vec<String>>()
    };
    for receiver in [&snmptrapd, &informed] {
        let told = wait_until("snmpd to tell", || events(receiver), |events| ours(events).len() >= 3).unwrap();
        assert_eq!(ours(&told), DOWN);
        let told = receiver.told().unwrap();
        let first = told.iter().find(|told| told.value(ID).is_some()).unwrap();
        assert_eq!(first.value(".1.3.6.1.6.3.1.1.4.1.0"), Some(TRAP));
        assert_eq!(first.value(MESSAGE), Some("STRING: \"Server pair/mortal is DOWN (L4CON)\""));
        let names: Vec<&str> = first.varbinds.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..5], [".1.3.6.1.2.1.1.3.0", ".1.3.6.1.6.3.1.1.4.1.0", ID, MESSAGE, NAME]);
    }
    let told = |page: &Exposition| page.get("lbstatd_face_requests_total{face=\"notifications\",target=\"agentx\"}");
    wait_until("the face to show it", || Exposition::of(&lbstatd), |page| told(page) == Some(3.0)).unwrap();
}

#[test]
fn a_test_goes_to_every_receiver_at_a_signal() {
    let mortal = Mortal::start(address());
    let haproxy = haproxy(sections(&mortal));
    let snmptrapd = || Snmptrapd::start("authCommunity log public").unwrap();
    let (file, flag) = (snmptrapd(), snmptrapd());
    let config = LbstatdConfig::new(haproxy.socket());
    let receivers = format!("[[trap]]\nto = \"{}\"\ncommunity = \"public\"\ninform = true", file.address());
    let by_file = Lbstatd::start(&LbstatdConfig { file: receivers, ..config.clone() }).unwrap();
    let flags = vec!["--trap".to_owned(), flag.address().to_string()];
    let by_flag = Lbstatd::start(&LbstatdConfig { flags, ..config }).unwrap();
    for (lbstatd, snmptrapd) in [(&by_file, &file), (&by_flag, &flag)] {
        kill_process(Pid::from_raw(lbstatd.id().cast_signed()).unwrap(), Signal::USR1).unwrap();
        let told = wait_until("the test to arrive", || snmptrapd.told(), |told| !told.is_empty()).unwrap();
        assert_eq!(told[0].value(".1.3.6.1.6.3.1.1.4.1.0"), Some("OID: .1.3.6.1.4.1.23263.3.1001"));
        assert_eq!(told[0].value(MESSAGE), Some("STRING: \"Test of the notifications of lbstatd\""));
        assert_eq!(told[0].varbinds.len(), 3);
    }
    let control = by_file.control();
    let checked = || {
        let arguments = ["check", "--control", control.to_str().unwrap(), "--ebpf", "off"];
        Ok(run(lbstatd_binary()?, |command| command.args(arguments))?.stdout)
    };
    let line = format!("ok     notifications go to {}: 1 so far, and 0 that nobody took", file.address());
    wait_until("`check` to show it", checked, |said| said.lines().any(|said| said == line)).unwrap();
}
