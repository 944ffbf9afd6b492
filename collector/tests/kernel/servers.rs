//! Connections that this process makes, counted by destination.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::id,
    thread,
    time::Instant,
};

use lbstatd::kernel::{Kernel, Server};

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
