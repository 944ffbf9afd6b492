//! Connections that this process makes, counted by destination.

use std::{
    collections::HashMap,
    env,
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::{Command, id},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use lbstatd::kernel::{Kernel, Server};
use lbstatd_ebpf_abi::MAX_SERVERS;

use crate::sockets::*;

fn entry(kernel: &mut Kernel, address: SocketAddr) -> Option<Server> {
    kernel.sample(&[id().into()]).unwrap().servers.into_iter().find(|server| server.address == address)
}

fn wait_for(kernel: &mut Kernel, address: SocketAddr, condition: impl Fn(&Server) -> bool) -> Server {
    let started = Instant::now();
    loop {
        let now = entry(kernel, address);
        match now {
            Some(now) if condition(&now) => return now,
            _ => assert!(started.elapsed() < PATIENCE, "waited in vain, last: {now:?}"),
        }
        thread::yield_now();
    }
}

/// Connects, established, open, bytes received, bytes acknowledged.
fn numbers(server: &Server) -> [u64; 5] {
    [server.connects, server.established, server.open, server.bytes_received, server.bytes_acked]
}

#[test]
fn connections_out_are_counted_by_destination_while_they_live_and_after() {
    let Some(mut kernel) = kernel() else { return };
    kernel.sample(&[id().into()]).unwrap();
    for ip in [std::net::IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let (listener, address) = listen_on(ip);
        for n in 1..=20_u64 {
            let (mut client, mut server) = pair(&listener);
            client.write_all(&[0; 700]).unwrap();
            server.read_exact(&mut [0; 700]).unwrap();
            server.write_all(&[0; 900]).unwrap();
            client.read_exact(&mut [0; 900]).unwrap();
            let now = wait_for(&mut kernel, address, |s| s.bytes_acked >= n * 700);
            assert_eq!(numbers(&now), [n, n, 1, n * 900, n * 700]);
            drop(client);
            assert_eq!(server.read(&mut [0]).unwrap(), 0);
            drop(server);
            let now = wait_for(&mut kernel, address, |s| s.open == 0);
            assert_eq!(numbers(&now), [n, n, 0, n * 900, n * 700]);
            assert_eq!((now.closed_by_us, now.connect.count(), now.rtt.count(), now.lifetime.count()), (n, n, n, n));
        }
    }
}

#[test]
fn connections_of_others_are_not_counted() {
    let Some(mut kernel) = kernel() else { return };
    kernel.sample(&[1.into()]).unwrap();
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    drop(pair(&listener));
    let servers = kernel.sample(&[1.into()]).unwrap().servers;
    assert!(servers.iter().all(|server| server.address != address), "{servers:?}");
}

#[test]
fn a_connection_that_fails_is_counted_by_why() {
    let Some(mut kernel) = kernel() else { return };
    kernel.sample(&[id().into()]).unwrap();
    // Refused.
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    drop(listener);
    for n in 1..=3 {
        TcpStream::connect(address).unwrap_err();
        let now = entry(&mut kernel, address).unwrap();
        assert_eq!((now.connects, now.established, now.refused, now.open), (n, 0, n, 0));
    }
    // Not answered: a full queue drops SYNs. We give up.
    let _alone = overflowing();
    let (_listener, address) = listen_with_backlog(0);
    let full = TcpStream::connect(address).unwrap();
    let waiting: Vec<_> = (0..3).map(|_| start_to_connect(address)).collect();
    let now = entry(&mut kernel, address).unwrap();
    assert_eq!((now.connects, now.established, now.timed_out), (4, 1, 0));
    drop(waiting);
    let now = entry(&mut kernel, address).unwrap();
    assert_eq!((now.connects, now.established, now.timed_out, now.open), (4, 1, 3, 1));
    drop(full);
}

#[test]
fn a_server_that_resets_is_told_from_one_that_closes() {
    let Some(mut kernel) = kernel() else { return };
    kernel.sample(&[id().into()]).unwrap();
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let (_client, server) = pair(&listener);
    reset(server);
    assert_eq!(wait_for(&mut kernel, address, |s| s.open == 0).resets_received, 1);
    let (client, server) = pair(&listener);
    drop(server);
    drop(client);
    assert_eq!(wait_for(&mut kernel, address, |s| s.open == 0).closed_by_peer, 1);
    let (client, _server) = pair(&listener);
    reset(client);
    let end = wait_for(&mut kernel, address, |s| s.open == 0);
    assert_eq!((end.resets_sent, end.resets_received, end.closed_by_peer, end.established), (1, 1, 1, 3));
}

#[test]
fn idle_destinations_make_room_and_more_than_the_table_holds_are_refused() {
    const ALONE: &str = "LBSTATD_TEST_ALONE";
    /// Enough for the idle ones to be moved out of the table.
    const OLD: usize = 1100;
    const AGAIN: usize = 10;
    const NEW: usize = MAX_SERVERS + 1000;
    if env::var_os(ALONE).is_none() {
        // Other tests of this process connect as well, and their own tables would be filled.
        let name = "servers::idle_destinations_make_room_and_more_than_the_table_holds_are_refused";
        let mut alone = Command::new(env::current_exe().unwrap());
        let status = alone.args(["--exact", name, "--nocapture"]).env(ALONE, "1").status().unwrap();
        assert!(status.success(), "see above");
        return;
    }
    let Some(mut kernel) = kernel() else { return };
    let mut seen = HashMap::new();
    // What is shown for each address, and whether some were refused; nothing ever falls or goes away.
    let mut sample = || {
        let (servers, said) = with_log(|| kernel.sample(&[id().into()]).unwrap().servers);
        for server in &servers {
            let now = (server.connects, server.refused);
            let before = seen.insert(server.address, now).unwrap_or_default();
            assert!(now.0 == now.1 && now >= before, "{before:?}, and then {server:?}");
        }
        assert_eq!(servers.len(), seen.len(), "some are shown no more");
        (seen.clone(), said.contains(&format!("more than {MAX_SERVERS} servers")))
    };
    sample();
    let old: Vec<_> = (0..OLD).map(connect_to_nobody).collect();
    let (first, _) = sample();
    assert!(first.len() == OLD && old.iter().all(|address| first[address] == (1, 1)));
    for _ in 0..IDLE {
        assert!(sample() == (first.clone(), false));
    }
    // They are past; who is used again goes on from where it was.
    (0..AGAIN).for_each(|n| _ = connect_to_nobody(n));
    let new: Vec<_> = (OLD..OLD + NEW).map(connect_to_nobody).collect();
    let (last, refused) = sample();
    assert!(old[..AGAIN].iter().all(|address| last[address] == (2, 2)));
    assert!(old[AGAIN..].iter().all(|address| last[address] == (1, 1)));
    let (counted, beyond) = new.split_at(MAX_SERVERS - AGAIN);
    assert!(counted.iter().all(|address| last[address] == (1, 1)));
    assert!(refused && beyond.iter().all(|address| !last.contains_key(address)));
    // The table stays full while nobody has been idle for long.
    connect_to_nobody(OLD + NEW);
    assert!(sample() == (last, true));
}

/// Samples without a change after which a destination is idle, as `docs/kernel.md` has it.
const IDLE: usize = 60;

/// Is refused at once by the n-th of many addresses.
fn connect_to_nobody(n: usize) -> SocketAddr {
    let ip = Ipv4Addr::from_bits(Ipv4Addr::new(127, 200, 0, 1).to_bits() + u32::try_from(n).unwrap());
    let address = SocketAddr::from((ip, 9));
    TcpStream::connect(address).expect_err("nobody listens there");
    address
}

/// Does something, and gives what it logged.
fn with_log<T>(work: impl FnOnce() -> T) -> (T, String) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let done = tracing::subscriber::with_default(subscriber, work);
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (done, said)
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
