//! lbStats through AgentX: the real snmpd as master, over a Unix socket and over TCP, and what becomes of it when that
//! stops, dies, comes back, or is no master at all.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lbstatd_tests::{
    Answer, Lbstatd, LbstatdConfig, Level, MONITOR, Snmpd, Varbind, address, lbstatd_binary, run, wait_until,
};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::exposition::Exposition;
use crate::reading::{ROOTS, Reading, arcs};
use crate::walk::wait_for_rows;
use crate::zoo::{self, Zoo};

/// The root of LBSTATD-MIB.
const OWN_ROOT: &str = ".1.3.6.1.4.1.8072.9999.9999.4300";
/// Time from when snmpd answers again to when it has lbStats again.
const BACK: Duration = Duration::from_secs(2);
/// How much longer it may take once in ten times, on a machine that is busy.
const BUSY: u32 = 5;
/// Restarts of snmpd; `LBSTATD_AGENTX_RESTARTS` says another number.
const RESTARTS: usize = 50;

/// HAProxy, and a folder for the master's socket.
struct Bed {
    zoo: Zoo,
    dir: TempDir,
}

impl Bed {
    fn new() -> Self {
        Self { zoo: zoo::start(Level::Operator), dir: TempDir::with_prefix("lbstatd-agentx-").unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("master")
    }

    fn lbstatd(&self, master: &str, interval: &'static str) -> Lbstatd {
        let flags = vec!["--agentx".to_owned(), master.to_owned()];
        let config = LbstatdConfig { interval, flags, ..LbstatdConfig::new(self.zoo.haproxy.socket()) };
        Lbstatd::start(&config).unwrap()
    }

    fn rows(&self) -> usize {
        Reading::of(&self.zoo.haproxy).rows()
    }
}

/// A metric of the daemon's face towards this master.
fn face(page: &Exposition, metric: &str, master: &str) -> Option<f64> {
    page.get(&format!("lbstatd_face_{metric}{{face=\"agentx\",target=\"{master}\"}}"))
}

fn wait_up(lbstatd: &Lbstatd, master: &str, up: f64) -> Exposition {
    let what = format!("the face to be {}", if up > 0.0 { "up" } else { "down" });
    wait_until(&what, || Exposition::of(lbstatd), |page| face(page, "up", master) == Some(up)).unwrap()
}

/// The reason that the face gives for not working.
fn wait_reason(lbstatd: &Lbstatd, master: &str, reason: &str) {
    let labels = |page: &Exposition| -> Vec<String> {
        let family = page.family("lbstatd_face_error_info");
        family.map(|(labels, _)| labels.to_owned()).filter(|labels| labels.contains(master)).collect()
    };
    let observe = || Exposition::of(lbstatd).map(|page| labels(&page));
    wait_until(reason, observe, |labels| labels.iter().any(|label| label.contains(reason))).unwrap();
}

#[test]
fn the_walk_is_that_of_dump_over_a_unix_socket_and_over_tcp() {
    let bed = Bed::new();
    bed.zoo.traffic();
    for master in [bed.socket().display().to_string(), format!("tcp:{}", address())] {
        let snmpd = Snmpd::start_master(&master).unwrap();
        // One generation for everything that follows.
        let lbstatd = bed.lbstatd(&master, "1h");
        let client = snmpd.client();
        let walks = ROOTS.map(|root| wait_for_rows(&snmpd, root, bed.rows()));
        for (root, walk) in ROOTS.into_iter().zip(&walks) {
            assert_eq!(&client.walk(root).unwrap(), walk, "snmpwalk and snmpbulkwalk differ");
        }
        let roots = [OWN_ROOT, ROOTS[0], ROOTS[1]];
        let printed = roots.map(|root| client.tool("snmpwalk", &["-On"], &[root]).unwrap().stdout).concat();
        // What a subtree ends with, or says when it is empty.
        let over = |line: &str| line.contains(" = No more variables left") || line.contains(" = No Such Object");
        let printed: String = printed.split_inclusive('\n').filter(|line| !over(line)).collect();
        let dump = run(lbstatd_binary().unwrap(), |command| {
            command.args(["dump", "--format", "snmp", "--control"]).arg(lbstatd.control())
        })
        .unwrap();
        assert!(dump.stdout == printed, "over {master}, dump and snmpwalk differ");
        check_gets(&snmpd, &walks[0]);
        check_many_columns(&snmpd, &walks[0]);
        check_sets_and_contexts(&snmpd);
        assert_eq!(lbstatd.log().lines().filter(|line| line.contains("AgentX")).count(), 1, "{}", lbstatd.log());
    }
}

/// Single cells, cells that are not there, and what follows odd places.
fn check_gets(snmpd: &Snmpd, walk: &[Varbind]) {
    let (client, root) = (snmpd.client(), ROOTS[0]);
    let some: Vec<&Varbind> = walk.iter().step_by(7).collect();
    let names: Vec<String> = some.iter().map(|varbind| varbind.dotted()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let got: Vec<Varbind> = names.chunks(40).flat_map(|names| client.get(names).unwrap()).collect();
    assert!(got.iter().eq(some.iter().copied()), "get differs from the walk");
    for place in ["", "2.1.3.1.9", "2.1.3.1.9.5", "2.1.13.1.4294967295", "3.1.1", "4.1.27.1", "4.1.27.1.9.9.0", "4"] {
        let place = format!("{root}.{place}").trim_end_matches('.').to_owned();
        let follows = walk.iter().find(|varbind| varbind.oid > arcs(&place)).unwrap();
        assert_eq!(client.get_next(&[&place]).unwrap(), std::slice::from_ref(follows));
    }
    let miss = |place: &str| client.get(&[&format!("{root}.{place}")]).unwrap().remove(0).answer;
    for place in ["1.1.1.2", "2.1.3.1", "2.1.3.1.10.0", "4.1.1.1.9.2147483648"] {
        assert_eq!(miss(place), Answer::NoSuchInstance, "{place}");
    }
    for place in ["1.1.52.1", "5", "1", "2.2.3.1.10"] {
        assert_eq!(miss(place), Answer::NoSuchObject, "{place}");
    }
}

/// One GetBulk for several columns, which snmpd makes into GetNexts with as many ranges.
fn check_many_columns(snmpd: &Snmpd, walk: &[Varbind]) {
    let columns: Vec<String> = (1..=27).map(|column| format!("{}.4.1.{column}", ROOTS[0])).collect();
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    let next = snmpd.client().get_next(&names).unwrap();
    let servers: Vec<&Varbind> =
        names.iter().map(|name| walk.iter().find(|varbind| varbind.oid.starts_with(&arcs(name))).unwrap()).collect();
    assert!(next.iter().eq(servers.iter().copied()), "{next:?}");

    let bulk = snmpd.client().tool("snmpbulkget", &["-On", "-Cn0", "-Cr3"], &names).unwrap();
    let first: Vec<String> =
        bulk.stdout.lines().filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect();
    let expected: Vec<String> = (0..3)
        .flat_map(|row| {
            let cell = move |name: &&str| walk.iter().filter(|cell| cell.oid.starts_with(&arcs(name))).nth(row);
            names.iter().filter_map(cell).map(|cell| cell.dotted()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(first, expected[..first.len()]);
    // snmpd leaves out what does not fit into a datagram.
    assert!(first.len() > 27, "{first:?}");
}

/// Nothing can be set, and nothing is in a context of another name.
fn check_sets_and_contexts(snmpd: &Snmpd) {
    let client = snmpd.client();
    for root in ROOTS {
        for (name, value) in [("2.1.3.1.10", "other"), ("2.1.3.1.99999", "new")] {
            let set = client.tool("snmpset", &["-On"], &[&format!("{root}.{name}"), "s", value]).unwrap();
            assert!(!set.status.success() && set.stderr.contains("notWritable"), "{set:?}");
        }
    }
    let name = format!("{}.2.1.3.1.10", ROOTS[0]);
    let answer = client.get(&[&name]).unwrap().remove(0).answer;
    assert_eq!(answer, Answer::Value(lbstatd_tests::SnmpValue::OctetString(b"www".to_vec())));
    let in_context = |context: &str, patience: &str| {
        let options = [&["-On", "-t", patience][..], &MONITOR, &["-n", context]].concat();
        client.tool("snmpget", &options, &[&name]).unwrap()
    };
    assert!(in_context("", "10").stdout.contains("\"www\""));
    // snmpd drops what is for a context that nobody has registered.
    let other = in_context("other", "1");
    assert!(!other.status.success() && other.stdout.is_empty(), "{other:?}");
}

#[test]
fn snmpd_may_die_and_come_back_as_often_as_it_likes() {
    let bed = Bed::new();
    let master = bed.socket().display().to_string();
    let mut snmpd = Snmpd::start_master(&master).unwrap();
    let lbstatd = bed.lbstatd(&master, "100ms");
    let rows = bed.rows();
    wait_for_rows(&snmpd, ROOTS[0], rows);
    let restarts = std::env::var("LBSTATD_AGENTX_RESTARTS").map_or(RESTARTS, |number| number.parse().unwrap());
    let (over, walks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let manager = snmpd.client().clone();
    let mut times = Vec::new();
    let mut before = None;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // It fails while there is no snmpd, and waits for no answer then.
                let walked = manager.tool("snmpbulkwalk", &["-On", "-Cr50", "-t", "0.2"], &[ROOTS[0]]).unwrap();
                walks.fetch_add(usize::from(walked.status.success()), Ordering::Relaxed);
            }
        });
        for restart in 0..restarts {
            let _over = (restart + 1 == restarts).then(|| Over(&over));
            let walked = walks.load(Ordering::Relaxed);
            wait_until("a walk", || Ok(walks.load(Ordering::Relaxed)), |walks| *walks > walked).unwrap();
            snmpd.end_with([Signal::KILL, Signal::TERM][restart % 2]).unwrap();
            snmpd.start_again().unwrap();
            let start = Instant::now();
            wait_for_rows(&snmpd, ROOTS[1], rows);
            times.push(start.elapsed());
            // Once everything has been used.
            if restart == 2 {
                before = Some(footprint(lbstatd.id()));
            }
        }
    });
    times.sort_unstable();
    let longest = times.last().unwrap();
    let report =
        format!("AgentX: {restarts} restarts of snmpd: longest time to lbStats again {longest:?}, all {times:?}");
    let _ = writeln!(std::io::stderr(), "{report}");
    assert!(times[times.len() * 9 / 10] < BACK && *longest < BUSY * BACK, "{report}");
    let ((fds, memory), (fds_now, memory_now)) = (before.unwrap(), footprint(lbstatd.id()));
    let _ = writeln!(std::io::stderr(), "AgentX: {fds} to {fds_now} open files, {memory} to {memory_now} kB");
    assert!(fds_now <= fds, "{fds} files were open, now {fds_now}");
    assert!(memory_now < memory + 4096, "{memory} kB were resident, now {memory_now}");
    let page = wait_up(&lbstatd, &master, 1.0);
    #[expect(clippy::cast_precision_loss, reason = "a handful of restarts")]
    let sessions = restarts as f64 + 1.0;
    assert_eq!(face(&page, "connects_total", &master), Some(sessions));
}

/// Ends the walks, after a failure, too: the scope waits for its threads.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Open files, and resident memory in kB.
fn footprint(pid: u32) -> (usize, u64) {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (files, memory.trim().trim_end_matches(" kB").parse().unwrap())
}

#[test]
fn a_master_that_is_stopped_keeps_its_session_and_nobody_else_waits() {
    let bed = Bed::new();
    let master = bed.socket().display().to_string();
    let snmpd = Snmpd::start_master(&master).unwrap();
    let lbstatd = bed.lbstatd(&master, "100ms");
    wait_for_rows(&snmpd, ROOTS[0], bed.rows());
    wait_up(&lbstatd, &master, 1.0);
    snmpd.signal(Signal::STOP).unwrap();
    wait_reason(&lbstatd, &master, "no sign of life");
    assert_eq!(face(&Exposition::of(&lbstatd).unwrap(), "up", &master), Some(0.0));
    lbstatd.wait_fresh().unwrap();
    snmpd.signal(Signal::CONT).unwrap();
    let page = wait_up(&lbstatd, &master, 1.0);
    assert_eq!(face(&page, "connects_total", &master), Some(1.0), "it was the same session all the time");
    wait_for_rows(&snmpd, ROOTS[0], bed.rows());
}

#[test]
fn the_masters_socket_may_be_replaced_and_two_masters_serve_one_after_the_other() {
    let bed = Bed::new();
    let master = bed.socket().display().to_string();
    let mut first = Snmpd::start_master(&master).unwrap();
    let lbstatd = bed.lbstatd(&master, "100ms");
    wait_for_rows(&first, ROOTS[0], bed.rows());
    // The file is another socket from here on; the session with the first lives.
    let second = Snmpd::start_master(&master).unwrap();
    lbstatd.wait_fresh().unwrap();
    assert_eq!(first.client().bulk_walk(ROOTS[0]).unwrap().len(), bed.rows());
    assert_eq!(second.client().bulk_walk(ROOTS[0]).unwrap().len(), 0);
    // One that ends in good order would remove the file, which is the second's by now.
    first.end_with(Signal::KILL).unwrap();
    let start = Instant::now();
    wait_for_rows(&second, ROOTS[0], bed.rows());
    assert!(start.elapsed() < BACK, "{:?}", start.elapsed());
}

#[test]
fn a_subtree_that_somebody_else_has_is_said_and_taken_when_it_is_free() {
    let bed = Bed::new();
    let master = bed.socket().display().to_string();
    let snmpd = Snmpd::start_master(&master).unwrap();
    let mut first = bed.lbstatd(&master, "100ms");
    wait_up(&first, &master, 1.0);
    let second = bed.lbstatd(&master, "100ms");
    wait_reason(&second, &master, "from somebody else");
    wait_for_rows(&snmpd, ROOTS[0], bed.rows());
    // It says goodbye, so that there is never a time with two or none.
    first.end_with(Signal::TERM).unwrap();
    assert!(first.log().contains("AgentX: closed the session"), "{}", first.log());
    let start = Instant::now();
    wait_up(&second, &master, 1.0);
    wait_for_rows(&snmpd, ROOTS[1], bed.rows());
    assert!(start.elapsed() < BACK, "{:?}", start.elapsed());
}

#[test]
fn a_hostile_master_does_no_harm_and_a_good_one_is_taken_at_once() {
    let bed = Bed::new();
    let path = bed.socket();
    let master = path.display().to_string();
    let lbstatd = bed.lbstatd(&master, "100ms");
    wait_reason(&lbstatd, &master, "is snmpd running");
    let check = run(lbstatd_binary().unwrap(), |command| {
        let command = command.arg("check").args(["--agentx", &master, "--ebpf", "off", "--control"]);
        command.arg(lbstatd.control()).arg("--stats-socket").arg(bed.zoo.haproxy.socket())
    })
    .unwrap();
    let said = |line: &str| line.starts_with("WRONG") && line.contains(&master) && line.contains("master agentx");
    assert!(check.status.code() == Some(1) && check.stdout.lines().any(said), "{check:?}");

    for (hostility, reason) in HOSTILITIES {
        let before = footprint(lbstatd.id());
        let _ = std::fs::remove_file(&path);
        hostile(&path, hostility, || {
            wait_reason(&lbstatd, &master, reason);
            lbstatd.wait_fresh().unwrap();
        });
        let now = footprint(lbstatd.id());
        assert!(now.0 <= before.0 + 1 && now.1 < before.1 + 8192, "{reason}: {before:?} and now {now:?}");
    }
    let _ = std::fs::remove_file(&path);
    let snmpd = Snmpd::start_master(&master).unwrap();
    let start = Instant::now();
    wait_for_rows(&snmpd, ROOTS[0], bed.rows());
    assert!(start.elapsed() < BACK, "{:?}", start.elapsed());
}

type Hostility = fn(UnixStream);

/// What a hostile master does with a connection, and what the face says of it.
const HOSTILITIES: [(Hostility, &str); 6] = [
    (|_| {}, "closed the connection"),
    (|mut stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n\r\n")), "speaks version 72"),
    (
        |mut stream| drop(stream.write_all(&[&[1, 5, 0x10, 0][..], &[0xff; 16]].concat())),
        "announced a PDU of 4294967295",
    ),
    // The connection stays open, and never says anything.
    (|mut stream| drop(stream.read_to_end(&mut Vec::new())), "did not open a session"),
    // A response to the Open that says no: openFailed.
    (|mut stream| drop(stream.write_all(&response(256))), "refused the session: openFailed"),
    // The session opens, and what comes then is never read: its answers fill the socket.
    (flood, "did not take what was sent"),
];

/// Accepts connections at this path and treats each so, until `act` has ended.
fn hostile(path: &Path, treat: Hostility, act: impl FnOnce()) {
    let listener = UnixListener::bind(path).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let accepting = &over;
        scope.spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.load(Ordering::Relaxed) {
                    break;
                }
                stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
                treat(stream);
            }
        });
        {
            let _over = Over(&over);
            act();
        }
        let _ = UnixStream::connect(path);
    });
}

/// A Response to packet 0, in network byte order, of session 1.
fn response(error: u16) -> Vec<u8> {
    let [high, low] = error.to_be_bytes();
    let header = [1, 18, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8];
    [&header[..], &[0, 0, 0, 0, high, low, 0, 0]].concat()
}

fn flood(mut stream: UnixStream) {
    let _ = stream.write_all(&response(0));
    // A GetNext from the very beginning.
    let header = [1, 6, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 8];
    let request = [&header[..], &[0; 8]].concat().repeat(1000);
    while stream.write_all(&request).is_ok() {}
}
