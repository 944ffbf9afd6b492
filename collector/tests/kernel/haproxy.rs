//! The kernel's counters around a real HAProxy, at both of its sides.

use std::{
    fs,
    io::{Read, Write, stderr},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lbstatd::kernel::{Kernel, Listener, Process, Sample, Server};
use rustix::{net::sockopt, process::Signal};

use crate::namespaces::Namespace;
use crate::sockets::*;

#[path = "../haproxy/process.rs"]
mod process;

use process::{Folder, Haproxy, free_port, local};

/// Loads the programs, if HAProxy and `ss` are here: in the virtual machines of `cargo xtask vm` they are not.
fn kernel_and_programs() -> Option<Kernel> {
    let missing = ["/usr/sbin/haproxy", "/usr/bin/ss"].iter().find(|path| !std::path::Path::new(path).exists());
    if let Some(missing) = missing {
        stderr()
            .write_all(format!("\nSKIPPED kernel test with HAProxy: there is no {missing}\n\n").as_bytes())
            .unwrap();
        return None;
    }
    kernel()
}

const TCP: &str = "defaults\n  mode tcp\n  timeout client 60s\n  timeout server 60s\n  timeout connect 60s\n";

fn start(folder: &Folder, sections: &str) -> Haproxy {
    Haproxy::start(&folder.path("stats"), "admin", "", &format!("{TCP}{sections}"))
}

fn proxy(listen: SocketAddr, options: &str, server: SocketAddr) -> String {
    format!("listen www\n  bind {listen} {options}\n  server one {server}\n")
}

/// Samples until this is so.
fn wait<T>(kernel: &mut Kernel, process: Process, find: impl Fn(&Sample) -> Option<T>, is: impl Fn(&T) -> bool) -> T
where
    T: std::fmt::Debug,
{
    let started = Instant::now();
    loop {
        let now = find(&kernel.sample(&[process]).unwrap());
        match now {
            Some(now) if is(&now) => return now,
            _ => assert!(started.elapsed() < PATIENCE, "waited in vain, last: {now:?}"),
        }
        thread::yield_now();
    }
}

fn listener_at(address: SocketAddr) -> impl Fn(&Sample) -> Option<Listener> {
    move |sample| sample.listeners.iter().find(|l| l.owned && l.address == address).cloned()
}

fn server_at(address: SocketAddr) -> impl Fn(&Sample) -> Option<Server> {
    move |sample| sample.servers.iter().find(|s| s.address == address).cloned()
}

/// Answers each connection with half of what it sends, until the test ends.
fn answer_on(ip: Ipv4Addr) -> SocketAddr {
    let (listener, address) = listen_on(ip);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut request = Vec::new();
                if stream.read_to_end(&mut request).is_ok() {
                    let _ = stream.write_all(&vec![0; request.len() / 2]);
                }
            });
        }
    });
    address
}

#[test]
fn both_sides_of_a_proxy_are_exact_under_load() {
    const THREADS: usize = 4;
    const EACH: usize = 300;
    let Some(mut kernel) = kernel_and_programs() else { return };
    let (folder, listen, server) = (Folder::new(), local(free_port()), answer_on(Ipv4Addr::LOCALHOST));
    let haproxy = start(&folder, &proxy(listen, "", server));
    let process = haproxy.pid().into();
    wait(&mut kernel, process, listener_at(listen), |l| l.owned);
    let clients: Vec<_> = (0..THREADS)
        .map(|thread| {
            thread::spawn(move || (0..EACH).map(|n| request(listen, (thread * EACH + n) % 5000)).sum::<usize>())
        })
        .collect();
    let sent: usize = clients.into_iter().map(|thread| thread.join().unwrap()).sum();
    let answered: usize = (0..THREADS * EACH).map(|n| n % 5000 / 2).sum();
    let (total, sent, answered) = ((THREADS * EACH) as u64, sent as u64, answered as u64);
    let end = wait(&mut kernel, process, listener_at(listen), |l| l.accepted >= total && l.open == 0);
    assert_eq!(numbers(&end), (total, 0, sent, answered));
    // The client ends its half, HAProxy passes that on, the server answers and ends its own.
    assert_eq!((end.closed_by_peer, end.handshake.count(), end.lifetime.count()), (total, total, total));
    let end = wait(&mut kernel, process, server_at(server), |s| s.established >= total && s.open == 0);
    assert_eq!((end.connects, end.established), (total, total));
    // Each ends in one way. Once in thousands of them, on a busy machine, it was not the usual one.
    let otherwise = end.closed_by_peer + end.resets_received + end.resets_sent + end.closed_timed_out;
    assert_eq!(end.closed_by_us + otherwise, total, "{end:?}");
    assert!(otherwise * 100 <= total, "{end:?}");
    assert_eq!((end.bytes_acked, end.bytes_received), (sent, answered));
    assert_eq!((end.connect.count(), end.retransmits, end.refused), (total, 0, 0));
    let info = haproxy.says("show stat -1 1 -1");
    assert!(info.contains(&format!(",{sent},{answered},")), "{info}");
}

#[test]
fn segments_and_bytes_are_those_of_tcp_info() {
    let Some(mut kernel) = kernel_and_programs() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let mut pairs: Vec<_> = (0..10).map(|_| pair(&listener)).collect();
    for (n, (client, server)) in (1..).zip(&mut pairs) {
        for _ in 0..n {
            client.write_all(&[0; 3000]).unwrap();
            server.read_exact(&mut [0; 3000]).unwrap();
            server.write_all(&vec![0; 100_000]).unwrap();
            client.read_exact(&mut vec![0; 100_000]).unwrap();
        }
    }
    let me: Process = std::process::id().into();
    kernel.sample(&[me]).unwrap();
    // Delayed acknowledgements are out when nothing changes any more.
    let started = Instant::now();
    let (told, now) = loop {
        let before = tcp_info(address);
        let now = entry(&mut kernel, address);
        if before == tcp_info(address) && now.bytes_acked == 55 * 100_000 {
            break (before, now);
        }
        assert!(started.elapsed() < PATIENCE);
    };
    let counted = [now.segments_received, now.segments_sent, now.bytes_received, now.bytes_acked, now.retransmits];
    assert_eq!(counted, told);
}

/// Sums of `segs_in`, `segs_out`, `bytes_received`, `bytes_acked` and retransmits over the connections of a local port,
/// as `ss` reads them from the kernel's `tcp_info`.
fn tcp_info(address: SocketAddr) -> [u64; 5] {
    let filter = format!("( sport = :{} )", address.port());
    let output = Command::new("ss").args(["-Htin", "state", "established", &filter]).output().expect("iproute2");
    let text = String::from_utf8(output.stdout).unwrap();
    let sum = |key: &str| {
        let values = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix(':'));
        values.map(|value| value.rsplit('/').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    ["segs_in", "segs_out", "bytes_received", "bytes_acked", "retrans"].map(sum)
}

/// Stops every thread of it, and waits until they have stopped.
fn stop(haproxy: &Haproxy) {
    haproxy.signal(Signal::STOP);
    let is_stopped = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    let tasks = format!("/proc/{}/task", haproxy.pid());
    wait_until(|| fs::read_dir(&tasks).unwrap().all(|task| is_stopped(task.unwrap())));
}

#[test]
fn a_stopped_haproxy_fills_its_queue_and_the_spike_is_told_afterwards() {
    const LIMIT: usize = 5;
    let Some(mut kernel) = kernel_and_programs() else { return };
    let _alone = overflowing();
    let (folder, listen, server) = (Folder::new(), local(free_port()), answer_on(Ipv4Addr::LOCALHOST));
    let haproxy = start(&folder, &proxy(listen, &format!("backlog {LIMIT}"), server));
    let process = haproxy.pid().into();
    wait(&mut kernel, process, listener_at(listen), |l| l.owned && l.backlog_peak == 0);

    // A spike that nobody sees while it lasts.
    stop(&haproxy);
    let spike: Vec<_> = (0..=LIMIT).map(|_| TcpStream::connect(listen).unwrap()).collect();
    haproxy.signal(Signal::CONT);
    for mut client in spike {
        client.write_all(&[0; 10]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 5);
    }
    let now = listener_at(listen)(&kernel.sample(&[process]).unwrap()).unwrap();
    assert_eq!((now.backlog, now.backlog_peak, now.backlog_limit, now.drops), (0, LIMIT as u64 + 1, LIMIT as u64, 0));

    // A longer one: what finds no room is dropped.
    stop(&haproxy);
    let before = listen_drops();
    let fit: Vec<_> = (0..=LIMIT).map(|_| TcpStream::connect(listen).unwrap()).collect();
    let dropped: Vec<_> = (0..4).map(|_| start_to_connect(listen)).collect();
    let now = listener_at(listen)(&kernel.sample(&[process]).unwrap()).unwrap();
    assert_eq!((now.backlog, now.backlog_peak, now.accepted), (LIMIT as u64 + 1, LIMIT as u64 + 1, 12));
    assert!(now.drops >= 4 && now.drops <= listen_drops() - before, "{now:?}");
    assert!(now.overflows.is_none_or(|overflows| overflows == now.drops), "{now:?}");
    haproxy.signal(Signal::CONT);
    // Their SYNs come again a second later.
    let end = wait(&mut kernel, process, listener_at(listen), |l| l.accepted == 16 && l.backlog == 0);
    assert!(end.drops >= now.drops);
    drop((fit, dropped));
    let end = wait(&mut kernel, process, listener_at(listen), |l| l.open == 0);
    assert_eq!((end.accepted, end.closed_by_peer), (16, 16));
}

#[test]
fn servers_that_refuse_or_do_not_answer_are_counted_by_attempt() {
    let Some(mut kernel) = kernel_and_programs() else { return };
    let _alone = overflowing();
    let folder = Folder::new();
    let (refusing, silent) = (local(free_port()), local(free_port()));
    let nobody = local(free_port());
    let (full, full_address) = listen_with_backlog(0);
    let _filling = TcpStream::connect(full_address).unwrap();
    let haproxy = start(
        &folder,
        &format!(
            "{}listen silent\n  bind {silent}\n  timeout connect 300ms\n  retries 0\n  server two {full_address}\n",
            proxy(refusing, "", nobody).replace("  server", "  retries 2\n  server")
        ),
    );
    let process = haproxy.pid().into();
    wait(&mut kernel, process, listener_at(silent), |l| l.owned);
    for address in [refusing, silent] {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"x").unwrap();
        // HAProxy gives up, in order or with a reset.
        let _ = client.read(&mut [0]);
    }
    let now = wait(&mut kernel, process, server_at(nobody), |s| s.refused == 3);
    assert_eq!((now.connects, now.established, now.open), (3, 0, 0));
    let now = wait(&mut kernel, process, server_at(full_address), |s| s.timed_out == 1);
    assert_eq!((now.connects, now.established, now.refused, now.open), (1, 0, 0, 0));
    drop(full);
}

#[test]
fn a_syn_ack_that_nobody_acknowledges_goes_out_again_and_is_counted() {
    let Some(mut kernel) = kernel_and_programs() else { return };
    let (folder, listen, server) = (Folder::new(), local(free_port()), answer_on(Ipv4Addr::LOCALHOST));
    // The kernel takes no ACK without data, and asks for one by sending its SYN-ACK again.
    let haproxy = start(&folder, &proxy(listen, "defer-accept", server));
    let process = haproxy.pid().into();
    wait(&mut kernel, process, listener_at(listen), |l| l.owned);
    let mut client = TcpStream::connect(listen).unwrap();
    let now = wait(&mut kernel, process, listener_at(listen), |l| l.syn_backlog == 1);
    assert_eq!((now.accepted, now.syn_backlog_peak), (0, 1));
    let now = wait(&mut kernel, process, listener_at(listen), |l| l.synack_retransmits.is_some_and(|sent| sent >= 1));
    assert_eq!(now.retransmits, 0, "counted at the listener, not at the connection");
    client.write_all(&[0; 10]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 5);
    let now = wait(&mut kernel, process, listener_at(listen), |l| l.accepted == 1 && l.open == 0);
    assert_eq!((now.bytes_received, now.syn_backlog, now.retransmits), (10, 0, 0));
}

/// A HAProxy that `Haproxy::start` cannot start; dropping it kills it.
struct Other(Child);

impl Other {
    fn start(program: &mut Command, folder: &Folder, sections: &str) -> Self {
        let (config, socket) = (folder.path("other.cfg"), folder.path("other"));
        let stats = format!("global\n  stats socket {} level admin\n{TCP}{sections}", socket.display());
        fs::write(&config, stats).unwrap();
        let child = program.arg("-f").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let other = Self(child);
        wait_until(|| UnixStream::connect(&socket).is_ok());
        other
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Its workers and, in a process namespace, everything in it go with it.
        let _ = Command::new("pkill").args(["-TERM", "-P", &self.0.id().to_string()]).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the stats socket tells of the process behind it.
fn process_at(folder: &Folder) -> Option<Process> {
    let mut stream = UnixStream::connect(folder.path("other")).ok()?;
    let peer = sockopt::socket_peercred(&stream).unwrap().pid.as_raw_nonzero().get();
    stream.write_all(b"show info\n").ok()?;
    let mut info = String::new();
    stream.read_to_string(&mut info).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid: "))?.parse().unwrap();
    Some(Process { pid, peer: Some(peer.try_into().unwrap()) })
}

fn ask(address: SocketAddr) {
    assert_eq!(request(address, 100), 100);
}

#[test]
fn a_master_s_new_worker_is_counted_before_anybody_knows_it() {
    let Some(mut kernel) = kernel_and_programs() else { return };
    let (folder, listen, server) = (Folder::new(), local(free_port()), answer_on(Ipv4Addr::LOCALHOST));
    let mut command = Command::new("/usr/sbin/haproxy");
    let master = Other::start(command.args(["-W", "-db"]), &folder, &proxy(listen, "", server));
    let old = process_at(&folder).unwrap();
    wait(&mut kernel, old, listener_at(listen), |l| l.owned);
    ask(listen);
    let mut kept = TcpStream::connect(listen).unwrap();
    kept.write_all(&[0; 8]).unwrap();
    wait(&mut kernel, old, server_at(server), |s| s.established == 2 && s.bytes_acked == 108);
    let mut asked = None::<Instant>;
    wait_until(|| {
        // A master that is still starting does not hear the signal.
        if asked.is_none_or(|asked| asked.elapsed() > Duration::from_secs(3)) {
            Command::new("kill").args(["-USR2", &master.0.id().to_string()]).status().unwrap();
            asked = Some(Instant::now());
        }
        process_at(&folder).is_some_and(|new| new.pid != old.pid)
    });
    // The new worker connects, and the old one does with what it has left; nobody has asked for the new one yet.
    ask(listen);
    kept.shutdown(Shutdown::Write).unwrap();
    assert_eq!(kept.read_to_end(&mut Vec::new()).unwrap(), 4);
    let new = process_at(&folder).unwrap();
    let now = wait(&mut kernel, new, server_at(server), |s| s.established == 3 && s.open == 0);
    assert_eq!((now.connects, now.bytes_acked, now.bytes_received), (3, 208, 104));
    let now = wait(&mut kernel, new, listener_at(listen), |l| l.accepted == 3 && l.open == 0);
    assert_eq!(numbers(&now), (3, 0, 208, 104));
}

#[test]
fn a_haproxy_in_a_container_is_found_by_its_own_number() {
    let Some(mut kernel) = kernel_and_programs() else { return };
    let Some(namespace) = Namespace::new("container") else { return };
    let (folder, listen) = (Folder::new(), local(free_port()));
    let (listener, server) = namespace.enter(|| listen_on(Ipv4Addr::LOCALHOST));
    let server_thread = thread::spawn(move || (0..2).map(|_| serve(&listener)).sum::<usize>());
    let same_here = TcpListener::bind(listen).unwrap();
    let arguments =
        ["netns", "exec", &namespace.name, "unshare", "-p", "-f", "--kill-child", "/usr/sbin/haproxy", "-db"];
    let _container = Other::start(Command::new("ip").args(arguments), &folder, &proxy(listen, "", server));
    let process = process_at(&folder).unwrap();
    assert_ne!(Some(process.pid), process.peer, "{process:?}: its number here is another than its own");
    let now = wait(&mut kernel, process, listener_at(listen), |l| l.owned);
    assert_eq!((now.namespace, now.sockets), (namespace.inode, 1));
    namespace.enter(|| (0..2).for_each(|_| ask(listen)));
    let now = wait(&mut kernel, process, listener_at(listen), |l| l.accepted == 2 && l.open == 0);
    assert_eq!(numbers(&now), (2, 0, 200, 100));
    let now = wait(&mut kernel, process, server_at(server), |s| s.established == 2 && s.open == 0);
    assert_eq!((now.namespace, now.bytes_acked, now.bytes_received), (namespace.inode, 200, 100));
    let sample = kernel.sample(&[process]).unwrap();
    assert!(sample.listeners.iter().all(|l| !(l.owned && l.namespace == 0)), "nothing of this namespace is its own");
    server_thread.join().unwrap();
    drop(same_here);
}
