//! The kernel's counters against what real sockets did: each test makes connections over loopback and compares with what
//! the two ends saw themselves. Needs the right to use BPF (root); without it every test says so and passes.

#![expect(clippy::unwrap_used, reason = "a test may end at any unexpected error")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use lbstatd::kernel::{HookState, Kernel, Process};
use rustix::net::{connect_unspec, listen};

mod ends;
mod haproxy;
mod namespaces;
mod queues;
mod rights;
mod servers;
mod sockets;

use sockets::*;

#[test]
fn every_hook_works_here_or_says_why_not() {
    let Some(kernel) = kernel() else { return };
    let names: Vec<_> = kernel.hooks().iter().map(|hook| hook.name).collect();
    let expected = [
        "inet_sock_set_state",
        "tcp_destroy_sock",
        "tcp_retransmit_synack",
        "inet_csk_accept",
        "iter_tcp",
        "iter_task",
        "iter_task_file",
    ];
    assert_eq!(names, expected);
    let mut unloaded = 0;
    for hook in kernel.hooks() {
        match &hook.state {
            HookState::Healthy => {}
            HookState::Unsupported(reason) | HookState::Failed(reason) => {
                unloaded += 1;
                eprintln!("{}: {reason}", hook.name);
                assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
            }
        }
    }
    assert_eq!(kernel.runs().len(), names.len() - unloaded);
}

#[test]
fn what_a_missing_hook_would_count_is_absent_and_the_rest_counts() {
    if kernel().is_none() {
        return;
    }
    for missing in ["tcp_destroy_sock", "tcp_retransmit_synack", "inet_csk_accept", "iter_task", "iter_task_file"] {
        let mut kernel = Kernel::load_object(&object_without(missing)).unwrap();
        let state = |name: &str| kernel.hooks().iter().find(|hook| hook.name == name).unwrap().state.clone();
        assert!(matches!(state(missing), HookState::Failed(_)), "{missing}: {:?}", state(missing));
        let works = ["tcp_retransmit_synack", "inet_csk_accept"].map(|name| state(name) == HookState::Healthy);
        let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
        let (mut client, _server) = pair(&listener);
        client.write_all(&[0; 10]).unwrap();
        let now = wait_for(&mut kernel, address, |l| l.bytes_received == 10);
        assert_eq!(numbers(&now), (1, 1, 10, 0), "{missing}");
        assert_eq!([now.synack_retransmits.is_some(), now.accept_wait.is_some()], works, "{missing}");
    }
}

/// The object of the programs, one of which has a name that nobody asks for.
fn object_without(program: &str) -> Vec<u8> {
    let mut object = include_bytes!("../../../ebpf/prebuilt/lbstatd.bpf.o").to_vec();
    let name = format!("{program}\0").into_bytes();
    let places: Vec<_> = (0..object.len() - name.len()).filter(|&at| object[at..].starts_with(&name)).collect();
    assert!(!places.is_empty(), "the object has no program {program}");
    for at in places {
        object[at] = b'_';
    }
    object
}

#[test]
fn connections_and_bytes_are_counted_exactly() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let server = thread::spawn(move || {
        for _ in 0..50 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            stream.read_to_end(&mut request).unwrap();
            stream.write_all(&vec![1; request.len() * 3]).unwrap();
        }
        listener
    });
    for n in 1..=50_usize {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&vec![0; n * 1000]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), n * 3000);
    }
    let _listener = server.join().unwrap();
    let end = wait_for(&mut kernel, address, |l| l.open == 0);
    let sent = 1000 * 50 * 51 / 2;
    assert_eq!((end.accepted, end.bytes_received, end.bytes_acked), (50, sent, 3 * sent));
    assert_eq!((end.sockets, end.backlog, end.drops), (1, 0, 0));
}

#[test]
fn an_open_connection_is_counted_while_it_lives() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let (mut client, mut server) = pair(&listener);
    assert_eq!(numbers(&entry(&mut kernel, address)), (1, 1, 0, 0));
    for n in 1..=5 {
        client.write_all(&[0; 700]).unwrap();
        server.write_all(&[0; 900]).unwrap();
        server.read_exact(&mut [0; 700]).unwrap();
        client.read_exact(&mut [0; 900]).unwrap();
        // The client's acknowledgement may be delayed.
        let now = wait_for(&mut kernel, address, |l| l.bytes_acked >= n * 900);
        assert_eq!(numbers(&now), (1, 1, n * 700, n * 900));
    }
    drop((client, server));
    assert_eq!(numbers(&wait_for(&mut kernel, address, |l| l.open == 0)), (1, 0, 3500, 4500));
}

#[test]
fn samples_that_spare_connections_still_see_queues_and_catch_up() {
    const CONNECTIONS: usize = 200;
    const SAMPLES: u64 = 10;
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let mut pairs: Vec<_> = (0..CONNECTIONS).map(|_| pair(&listener)).collect();
    kernel.measure_runs().unwrap();
    let visits = |kernel: &Kernel| kernel.runs().iter().find(|program| program.name == "iter_tcp").unwrap().runs;
    let before = visits(&kernel);
    assert_eq!(numbers(&entry(&mut kernel, address)), (CONNECTIONS as u64, CONNECTIONS as u64, 0, 0));
    let all = visits(&kernel) - before;
    assert!(all >= 2 * CONNECTIONS as u64, "{all}");

    for (client, server) in &mut pairs {
        client.write_all(&[0; 10]).unwrap();
        server.read_exact(&mut [0; 10]).unwrap();
    }
    let _waiting = TcpStream::connect(address).unwrap();
    let sparing = |kernel: &mut Kernel| {
        let listeners = kernel.sample_sparingly(&[]).unwrap().listeners;
        listeners.into_iter().find(|listener| (listener.namespace, listener.address) == (0, address)).unwrap()
    };
    let before = visits(&kernel);
    for _ in 0..SAMPLES {
        let now = sparing(&mut kernel);
        assert_eq!((now.backlog, now.accepted, now.sockets), (1, CONNECTIONS as u64 + 1, 1));
    }
    let spared = visits(&kernel) - before;
    assert!(spared < SAMPLES * all / 2, "{spared} visits, {all} in a sample of all");
    wait_until(|| sparing(&mut kernel).bytes_received == 10 * CONNECTIONS as u64);
}

#[test]
fn the_clients_half_close_is_no_byte() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let (mut client, mut server) = pair(&listener);
    client.write_all(&[0; 10]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read_to_end(&mut Vec::new()).unwrap(), 10);
    assert_eq!(numbers(&entry(&mut kernel, address)), (1, 1, 10, 0));
    server.write_all(&[0; 20]).unwrap();
    client.read_exact(&mut [0; 20]).unwrap();
    assert_eq!(numbers(&wait_for(&mut kernel, address, |l| l.bytes_acked > 0)), (1, 1, 10, 20));
    drop(server);
    drop(client);
    assert_eq!(numbers(&wait_for(&mut kernel, address, |l| l.open == 0)), (1, 0, 10, 20));
}

#[test]
fn the_servers_half_close_is_no_byte() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let (mut client, mut server) = pair(&listener);
    server.write_all(&[0; 20]).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 20);
    client.write_all(&[0; 30]).unwrap();
    server.read_exact(&mut [0; 30]).unwrap();
    // Once both the data and the FIN are acknowledged, and before as well.
    assert_eq!(numbers(&wait_for(&mut kernel, address, |l| l.bytes_acked >= 20)), (1, 1, 30, 20));
    wait_until(|| state_of(server.local_addr().unwrap(), client.local_addr().unwrap()) == FIN_WAIT2);
    assert_eq!(numbers(&entry(&mut kernel, address)), (1, 1, 30, 20));
    drop(client);
    assert_eq!(numbers(&wait_for(&mut kernel, address, |l| l.open == 0)), (1, 0, 30, 20));
}

#[test]
fn a_reset_by_the_client_ends_the_connection_and_keeps_its_bytes() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let (mut client, mut server) = pair(&listener);
    client.write_all(&[0; 100]).unwrap();
    server.read_exact(&mut [0; 100]).unwrap();
    reset(client);
    assert_eq!(numbers(&wait_for(&mut kernel, address, |l| l.open == 0)), (1, 0, 100, 0));
    drop(server);
    assert_eq!(numbers(&entry(&mut kernel, address)), (1, 0, 100, 0));
}

#[test]
fn a_reset_by_the_server_ends_the_connection_and_keeps_its_bytes() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let (mut client, mut server) = pair(&listener);
    server.write_all(&[0; 40]).unwrap();
    client.read_exact(&mut [0; 40]).unwrap();
    wait_for(&mut kernel, address, |l| l.bytes_acked == 40);
    // Linger of zero after a half-close by the client: state CLOSE_WAIT to CLOSE.
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
    reset(server);
    assert_eq!(numbers(&wait_for(&mut kernel, address, |l| l.open == 0)), (1, 0, 0, 40));
    // Closed with unread data: the kernel resets.
    let (mut client, server) = pair(&listener);
    client.write_all(&[0; 60]).unwrap();
    wait_for(&mut kernel, address, |l| l.bytes_received == 60);
    drop(server);
    assert_eq!(numbers(&wait_for(&mut kernel, address, |l| l.open == 0)), (2, 0, 60, 40));
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn connections_nobody_accepts_are_counted_and_seen_in_the_queue() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let mut clients: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
    clients[0].write_all(&[0; 77]).unwrap();
    let now = wait_for(&mut kernel, address, |l| l.accepted == 5 && l.bytes_received == 77);
    assert_eq!((now.open, now.backlog, now.sockets), (5, 5, 1));
    assert!(now.backlog_limit >= 5, "{now:?}");
    drop(listener.accept().unwrap());
    assert_eq!(entry(&mut kernel, address).backlog, 4);
    drop(listener);
    let end = wait_for(&mut kernel, address, |l| l.open == 0);
    assert_eq!((end.accepted, end.bytes_received, end.backlog, end.sockets), (5, 77, 0, 0));
}

#[test]
fn an_overflowing_accept_queue_is_counted_as_drops() {
    let Some(mut kernel) = kernel() else { return };
    let _alone = overflowing();
    let host_before = listen_drops();
    let (listener, address) = listen_with_backlog(1);
    // The kernel lets the queue hold one connection more than its limit; what follows is dropped.
    let filling: Vec<_> = (0..2).map(|_| TcpStream::connect(address).unwrap()).collect();
    wait_for(&mut kernel, address, |l| l.backlog == 2);
    let waiting: Vec<_> = (0..4).map(|_| start_to_connect(address)).collect();
    let now = wait_for(&mut kernel, address, |l| l.drops >= 4);
    assert_eq!((now.backlog, now.backlog_peak, now.backlog_limit, now.accepted), (2, 2, 1, 2));
    let host = listen_drops() - host_before;
    assert!(host >= now.drops, "the host counts {host} drops, this listener alone {}", now.drops);
    drop((filling, waiting, listener));
}

#[test]
fn connections_older_than_the_watch_are_open_but_not_accepted() {
    if kernel().is_none() {
        return;
    }
    for (bound, connect_to) in [
        (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv4Addr::LOCALHOST)),
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
        (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
        // Dual-stack: IPv4 on an IPv6 socket.
        (Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
    ] {
        let (listener, address) = listen_on(bound);
        let connect_to = SocketAddr::new(connect_to, address.port());
        let (mut client, mut server) = pair_to(&listener, connect_to);
        let (mut half, mut half_server) = pair_to(&listener, connect_to);
        for stream in [&mut client, &mut half] {
            stream.write_all(&[0; 500]).unwrap();
        }
        half.shutdown(Shutdown::Write).unwrap();
        assert_eq!(half_server.read_to_end(&mut Vec::new()).unwrap(), 500);
        server.read_exact(&mut [0; 500]).unwrap();

        let mut kernel = kernel().unwrap();
        assert_eq!(numbers(&entry(&mut kernel, address)), (0, 2, 0, 0), "{address}");
        client.write_all(&[0; 100]).unwrap();
        server.read_exact(&mut [0; 100]).unwrap();
        half_server.write_all(&[0; 30]).unwrap();
        half.read_exact(&mut [0; 30]).unwrap();
        let now = wait_for(&mut kernel, address, |l| l.bytes_acked >= 30);
        assert_eq!(numbers(&now), (0, 2, 100, 30), "{address}");
        let (new, new_server) = pair_to(&listener, connect_to);
        drop((client, server, half, half_server));
        let now = wait_for(&mut kernel, address, |l| l.open == 1);
        assert_eq!(numbers(&now), (1, 1, 100, 30), "{address}");
        drop((new, new_server));
        assert_eq!(numbers(&wait_for(&mut kernel, address, |l| l.open == 0)), (1, 0, 100, 30), "{address}");
    }
}

#[test]
fn an_address_goes_on_counting_when_its_listener_is_replaced() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    exchange(&listener, 11);
    let (mut old_client, mut old_server) = pair(&listener);
    drop(listener);
    for _ in 0..4 {
        // The connection outlives its listener.
        let now = wait_for(&mut kernel, address, |l| l.open == 1);
        assert_eq!((now.accepted, now.bytes_received, now.sockets), (2, 11, 0));
    }
    let listener = TcpListener::bind(address).unwrap();
    old_client.write_all(&[0; 5]).unwrap();
    old_server.read_exact(&mut [0; 5]).unwrap();
    exchange(&listener, 17);
    let now = wait_for(&mut kernel, address, |l| l.open == 1);
    assert_eq!((now.accepted, now.bytes_received, now.sockets), (3, 33, 1));
    drop((old_client, old_server));
    let now = wait_for(&mut kernel, address, |l| l.open == 0);
    assert_eq!((now.accepted, now.bytes_received, now.sockets), (3, 33, 1));
    // Long enough for the old one to be retired.
    for _ in 0..4 {
        assert_eq!(numbers(&entry(&mut kernel, address)), numbers(&now));
    }
    // A listener that comes and goes between two samples counts as well.
    drop(listener);
    exchange(&TcpListener::bind(address).unwrap(), 100);
    let _listener = TcpListener::bind(address).unwrap();
    for _ in 0..4 {
        let now = wait_for(&mut kernel, address, |l| l.open == 0);
        assert_eq!((now.accepted, now.bytes_received, now.sockets), (4, 133, 1));
    }
}

#[test]
fn a_listener_that_pauses_and_resumes_goes_on_counting() {
    let Some(mut kernel) = kernel() else { return };
    let me = [std::process::id().into()];
    let (chosen, address) = listen_on(Ipv4Addr::LOCALHOST);
    drop(chosen);
    // A port the kernel chose would be given back by the pause.
    let listener = TcpListener::bind(address).unwrap();
    exchange(&listener, 10);
    let now = wait_for(&mut kernel, address, |l| l.open == 0);
    assert_eq!((now.accepted, now.sockets), (1, 1));
    kernel.sample(&me).unwrap();
    // How HAProxy pauses a listener.
    connect_unspec(&listener).unwrap();
    for _ in 0..4 {
        let listeners = kernel.sample(&me).unwrap().listeners;
        let now = listeners.iter().find(|l| l.address == address).expect("an owned listener stays listed");
        assert_eq!((now.accepted, now.bytes_received, now.sockets, now.owned), (1, 10, 0, true));
    }
    listen(&listener, 16).unwrap();
    exchange(&listener, 20);
    let now = wait_for(&mut kernel, address, |l| l.open == 0);
    assert_eq!((now.accepted, now.bytes_received, now.sockets, now.backlog_limit), (2, 30, 1, 16));
}

#[test]
fn sockets_that_share_a_port_are_added_up() {
    let Some(mut kernel) = kernel() else { return };
    let first = reuseport_listener(0);
    let address = first.local_addr().unwrap();
    let second = reuseport_listener(address.port());
    let clients: Vec<_> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
    let now = wait_for(&mut kernel, address, |l| l.accepted == 40);
    assert_eq!((now.open, now.backlog, now.sockets), (40, 40, 2));
    drop(first);
    let now = wait_for(&mut kernel, address, |l| l.sockets == 1);
    assert_eq!((now.accepted, now.open), (40, now.backlog));
    drop((clients, second));
    assert_eq!(numbers(&wait_for(&mut kernel, address, |l| l.open == 0)), (40, 0, 0, 0));
}

#[test]
fn ipv6_and_dual_stack_listeners_are_counted_at_their_own_address() {
    let Some(mut kernel) = kernel() else { return };
    let (only6, address6) = listen_on(Ipv6Addr::LOCALHOST);
    exchange(&only6, 6);
    let (dual, address) = listen_on(Ipv6Addr::UNSPECIFIED);
    for (ip, length) in [(IpAddr::from(Ipv4Addr::LOCALHOST), 40), (Ipv6Addr::LOCALHOST.into(), 600)] {
        let (mut client, mut server) = pair_to(&dual, SocketAddr::new(ip, address.port()));
        client.write_all(&vec![0; length]).unwrap();
        server.read_exact(&mut vec![0; length]).unwrap();
    }
    assert_eq!(numbers(&wait_for(&mut kernel, address6, |l| l.open == 0)), (1, 0, 6, 0));
    assert_eq!(numbers(&wait_for(&mut kernel, address, |l| l.open == 0)), (2, 0, 640, 0));
    assert_eq!(address.ip(), Ipv6Addr::UNSPECIFIED);
}

#[test]
fn the_owner_of_a_listener_is_found() {
    let Some(mut kernel) = kernel() else { return };
    let healthy = |kernel: &Kernel| kernel.hooks()[6].state == HookState::Healthy;
    let (_listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let mut owned = |pids: &[u32]| {
        let processes: Vec<_> = pids.iter().copied().map(Process::from).collect();
        let listeners = kernel.sample(&processes).unwrap().listeners;
        listeners.iter().find(|l| l.address == address).unwrap().owned
    };
    assert!(!owned(&[]));
    let works = owned(&[std::process::id()]);
    assert!(!owned(&[1]));
    assert_eq!(owned(&[1, std::process::id()]), works);
    assert_eq!(works, healthy(&kernel));
}

#[test]
fn many_short_connections_at_once_are_all_counted_and_never_backwards() {
    const THREADS: usize = 4;
    const EACH: usize = 500;
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let listener = Arc::new(listener);
    let servers: Vec<_> = (0..THREADS)
        .map(|_| {
            let listener = Arc::clone(&listener);
            thread::spawn(move || (0..EACH).map(|_| serve(&listener)).sum::<usize>())
        })
        .collect();
    let clients: Vec<_> = (0..THREADS)
        .map(|thread| {
            thread::spawn(move || (0..EACH).map(|n| request(address, (thread * EACH + n) % 5000)).sum::<usize>())
        })
        .collect();
    let mut last = entry(&mut kernel, address);
    while !clients.iter().all(thread::JoinHandle::is_finished) {
        let now = entry(&mut kernel, address);
        assert!(now.accepted >= last.accepted && now.bytes_received >= last.bytes_received, "{last:?} {now:?}");
        assert!(now.bytes_acked >= last.bytes_acked && now.open <= now.accepted, "{last:?} {now:?}");
        last = now;
    }
    let sent: usize = clients.into_iter().map(|thread| thread.join().unwrap()).sum();
    let answered: usize = servers.into_iter().map(|thread| thread.join().unwrap()).sum();
    let end = wait_for(&mut kernel, address, |l| l.open == 0);
    let expected = ((THREADS * EACH) as u64, 0, sent as u64, answered as u64);
    assert_eq!(numbers(&end), expected, "skipped runs: {:?}", kernel.runs());
}

#[test]
fn what_is_no_object_is_refused_in_one_line() {
    if kernel().is_none() {
        return;
    }
    let error = Kernel::load_object(b"\x7fELF and nothing more").err().expect("not an object").to_string();
    assert!(error.contains("cargo xtask build-ebpf") && !error.contains('\n'), "{error}");
}
