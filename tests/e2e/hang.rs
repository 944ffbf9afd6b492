//! snmpd never waits for HAProxy: every request is answered from memory while HAProxy is stopped, killed, silent, full
//! or gone; the last values stay until `--max-age`, the subtree is empty then, and values come back with HAProxy.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use lbstatd_tests::{Haproxy, Level, PassPersist, Snmpd, lbstatd_binary, wait_for};
use tempfile::TempDir;

use crate::reading::{ROOTS, arcs};
use crate::zoo;

/// What an answer may take; a busy machine may hold up one in a hundred.
const AT_ONCE: Duration = Duration::from_millis(10);
/// What even a busy machine does not need: a wait for HAProxy is as long as lbstatd's patience with it, 2 s.
const LATE: Duration = Duration::from_secs(1);
/// What `--max-age` is here, and less than that: the age counts from the last reading, which may lie an interval and
/// the machine's other work before the trouble.
const MAX_AGE: &str = "3s";
const KEPT: Duration = Duration::from_millis(1500);
/// Between questions, so that the processors are not busy with questions alone.
const PAUSE: Duration = Duration::from_millis(2);

#[test]
fn haproxy_is_frozen() {
    during("is frozen", |haproxy, _, act| {
        let frozen = haproxy.freeze().unwrap();
        act();
        drop(frozen);
    });
}

#[test]
fn haproxy_is_killed() {
    during("is killed", |haproxy, _, act| {
        haproxy.kill().unwrap();
        act();
        haproxy.restart().unwrap();
    });
}

#[test]
fn the_socket_is_silent() {
    during("accepts and says nothing", |_, link, act| {
        let dir = TempDir::with_prefix("lbstatd-silent-").unwrap();
        let path = dir.path().join("silent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || listener.incoming().flatten().collect::<Vec<_>>());
        instead_of_haproxy(link, &path, act);
    });
}

#[test]
fn the_queue_of_connections_is_full() {
    during("accepts nobody", |_, link, act| {
        let dir = TempDir::with_prefix("lbstatd-full-").unwrap();
        let path = dir.path().join("full.sock");
        let listener = UnixListener::bind(&path).unwrap();
        // A queue of none still takes one; who comes after that waits.
        rustix::net::listen(&listener, 0).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        instead_of_haproxy(link, &path, act);
    });
}

#[test]
fn the_file_of_the_socket_is_gone() {
    during("is not there", |_, link, act| instead_of_haproxy(link, Path::new("/nonexistent/stats.sock"), act));
}

#[test]
fn ping_is_answered_at_once_even_before_the_first_values() {
    let dir = TempDir::with_prefix("lbstatd-silent-").unwrap();
    let path = dir.path().join("silent.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let mut responder = Responder::start(&path);
    let mut times = Times::default();
    responder.ask("PING\n", 1);
    for _ in 0..100 {
        assert_eq!(times.of(|| responder.ask("PING\n", 1)), ["PONG"]);
    }
    // Before there is anything to show, one request waits for it, for half a second at most.
    assert_eq!(responder.ask(&format!("getnext\n{}\n", ROOTS[0]), 3), ["NONE"]);
    for _ in 0..100 {
        assert_eq!(times.of(|| responder.ask(&format!("getnext\n{}\n", ROOTS[0]), 3)), ["NONE"]);
    }
    times.check("says nothing from the start", "pass-persist", true);
}

/// Runs a pass-persist of our own and an snmpd with another, while `trouble` makes HAProxy unreachable, calls its last
/// argument, and mends it. The second argument is the path that lbstatd was given, a link to HAProxy's socket.
fn during(what: &str, trouble: impl FnOnce(&mut Haproxy, &Path, &mut dyn FnMut())) {
    let mut zoo = zoo::start(Level::User);
    let dir = TempDir::with_prefix("lbstatd-link-").unwrap();
    let link = dir.path().join("stats.sock");
    std::os::unix::fs::symlink(zoo.haproxy.socket(), &link).unwrap();
    let mut responder = Responder::start(&link);
    let snmpd = Snmpd::start(&PassPersist::both_roots(&command(&link).join(" "))).unwrap();
    let through_snmpd = || snmpd.client().bulk_walk(ROOTS[0]).unwrap().len();
    wait_for("values", || match (responder.name(), through_snmpd()) {
        (Some(_), rows) if rows > 0 => Ok(()),
        seen => anyhow::bail!("{seen:?}"),
    })
    .unwrap();

    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let uptimes = scope.spawn(|| poll_uptime(snmpd.address(), &over));
        let end = End(&over);
        let (mut answers, mut through) = (Times::default(), Times::default());
        trouble(&mut zoo.haproxy, &link, &mut || {
            let start = Instant::now();
            let mut rows = through_snmpd();
            assert!(rows > 0, "{what}: snmpd shows nothing any more");
            while answers.of(|| responder.name()).is_some() {
                assert_eq!(answers.of(|| responder.ask("PING\n", 1)), ["PONG"]);
                let next = answers.of(|| responder.ask(&format!("getnext\n{}\n", ROOTS[0]), 3));
                if next == ["NONE"] {
                    assert_eq!(responder.name(), None, "the subtree is empty in part");
                    break;
                }
                through.of(|| ask_snmpd(snmpd.address(), GET_NEXT, &arcs(ROOTS[0])));
                thread::sleep(PAUSE);
            }
            assert!(start.elapsed() > KEPT, "{what}: empty after {:?}", start.elapsed());
            wait_for("an empty subtree", || {
                assert_eq!(answers.of(|| responder.ask(&format!("getnext\n{}\n", ROOTS[0]), 3)), ["NONE"]);
                assert_eq!(answers.of(|| responder.ask("PING\n", 1)), ["PONG"]);
                rows = through_snmpd();
                anyhow::ensure!(rows == 0, "{rows} rows");
                Ok(())
            })
            .unwrap();
        });
        wait_for("values to be back", || match (answers.of(|| responder.name()), through_snmpd()) {
            (Some(_), rows) if rows > 0 => Ok(()),
            seen => anyhow::bail!("{seen:?}"),
        })
        .unwrap();
        drop(end);
        answers.check(what, "pass-persist", true);
        uptimes.join().unwrap().check(what, "sysUpTime", false);
        through.check(what, "lbStats through snmpd", false);
    });
}

/// Lets the path that lbstatd was given lead to this socket.
fn instead_of_haproxy(link: &Path, socket: &Path, act: &mut dyn FnMut()) {
    let haproxy = std::fs::read_link(link).unwrap();
    let point_to = |target: &Path| {
        let new = link.with_extension("new");
        std::os::unix::fs::symlink(target, &new).unwrap();
        std::fs::rename(new, link).unwrap();
    };
    point_to(socket);
    act();
    point_to(&haproxy);
}

/// How long requests took.
#[derive(Default)]
struct Times {
    longest: Duration,
    count: usize,
    /// Those that were not answered at once.
    slow: usize,
}

impl Times {
    fn of<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = act();
        let time = start.elapsed();
        self.longest = self.longest.max(time);
        self.count += 1;
        self.slow += usize::from(time > AT_ONCE);
        result
    }

    /// snmpd answers one request after the other, so that a question may wait for a walk's; a pass-persist is asked by
    /// nobody else.
    fn check(&self, what: &str, face: &str, alone: bool) {
        let Self { longest, count, slow } = self;
        report(&format!("HAProxy {what}: {face}: longest of {count} answers {longest:?}, {slow} above {AT_ONCE:?}"));
        assert!(*longest < LATE, "HAProxy {what}: {face} took {longest:?}");
        assert!(!alone || slow * 100 <= *count, "HAProxy {what}: {face}: {slow} of {count} took more than {AT_ONCE:?}");
    }
}

/// Past the test harness, which captures `eprintln`.
fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn command(socket: &Path) -> Vec<String> {
    let (binary, socket) = (lbstatd_binary().unwrap().display().to_string(), socket.display().to_string());
    let arguments = ["pass-persist", "--interval", "100ms", "--max-age", MAX_AGE, "--stats-socket"];
    let arguments = arguments.into_iter().map(str::to_owned);
    std::iter::once(binary).chain(arguments).chain([socket]).collect()
}

/// A pass-persist of our own, in snmpd's place; a thread reads its answers, so that one that never comes is noticed.
struct Responder {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Responder {
    fn start(socket: &Path) -> Self {
        let command = command(socket);
        let mut child =
            Command::new(&command[0]).args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, input, lines }
    }

    /// The lines of one answer: as many as that, unless the first says that there is none.
    fn ask(&mut self, request: &str, lines: usize) -> Vec<String> {
        self.input.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while answer.len() < lines {
            answer.push(self.lines.recv_timeout(Duration::from_secs(10)).expect("an answer within 10 s"));
            if answer == ["NONE"] {
                break;
            }
        }
        answer
    }

    /// A cell that is the same all the time.
    fn name(&mut self) -> Option<String> {
        let answer = self.ask(&format!("get\n{}.2.1.3.1.10\n", ROOTS[0]), 3);
        if answer == ["NONE"] {
            return None;
        }
        assert_eq!(answer[1..], ["string", "www"]);
        Some(answer[2].clone())
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn poll_uptime(agent: SocketAddr, over: &AtomicBool) -> Times {
    let mut times = Times::default();
    while !over.load(Ordering::Relaxed) {
        times.of(|| ask_snmpd(agent, GET, &[1, 3, 6, 1, 2, 1, 1, 3, 0]));
        thread::sleep(PAUSE);
    }
    times
}

/// Ends the polling, after a failure, too: the scope waits for its threads.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const GET: u8 = 0xa0;
const GET_NEXT: u8 = 0xa1;

/// One question in one datagram, and whatever comes back: a tool of net-snmp's takes longer to start than snmpd to
/// answer.
fn ask_snmpd(agent: SocketAddr, pdu: u8, oid: &[u32]) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.send_to(&question(pdu, oid), agent).unwrap();
    let length = socket.recv(&mut [0; 1500]).expect("snmpd answers within 10 s");
    assert!(length > 0);
}

/// An SNMPv2c message with one varbind without a value, in BER, shorter than 128 octets.
fn question(pdu: u8, oid: &[u32]) -> Vec<u8> {
    let mut octets = vec![u8::try_from(40 * oid[0] + oid[1]).unwrap()];
    for arc in &oid[2..] {
        let groups = (0..5).rev().map(|group| (arc >> (7 * group) & 0x7f).to_le_bytes()[0]).collect::<Vec<_>>();
        let first = groups.iter().position(|group| *group > 0).unwrap_or(4);
        octets.extend(groups[first..4].iter().map(|group| group | 0x80).chain([groups[4]]));
    }
    let field = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let varbind = field(0x30, &[field(0x06, &octets), field(0x05, &[])].concat());
    let number = |number| field(0x02, &[number]);
    let request = [number(1), number(0), number(0), field(0x30, &varbind)].concat();
    field(0x30, &[number(1), field(0x04, b"public"), field(pdu, &request)].concat())
}
