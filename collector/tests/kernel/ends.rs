//! How connections end, each kind made on purpose and counted once.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
    time::Duration,
};

use lbstatd::kernel::{Kernel, Listener};
use rustix::net::sockopt;

use crate::sockets::*;

/// By the peer, by us, resets received, resets sent, timed out.
fn ends(listener: &Listener) -> [u64; 5] {
    [listener.closed_by_peer, listener.closed_by_us, listener.resets_received, listener.resets_sent, listener.timed_out]
}

fn after(kernel: &mut Kernel, address: std::net::SocketAddr, accepted: u64) -> [u64; 5] {
    let now = wait_for(kernel, address, |l| l.accepted == accepted && l.open == 0);
    assert_eq!(ends(&now).iter().sum::<u64>(), accepted, "{now:?}");
    ends(&now)
}

#[test]
fn an_orderly_end_belongs_to_the_first_fin() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let (client, mut server) = pair(&listener);
    drop(client);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    drop(server);
    assert_eq!(after(&mut kernel, address, 1), [1, 0, 0, 0, 0]);

    // Ours, and nobody holds our socket when the client's comes.
    let (mut client, server) = pair(&listener);
    drop(server);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(client);
    assert_eq!(after(&mut kernel, address, 2), [1, 1, 0, 0, 0]);

    // Ours, by a half-close, and somebody does hold it.
    let (mut client, mut server) = pair(&listener);
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(client);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    assert_eq!(after(&mut kernel, address, 3), [1, 2, 0, 0, 0]);
}

#[test]
fn resets_are_counted_by_who_sent_them() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let (client, server) = pair(&listener);
    reset(client);
    assert_eq!(after(&mut kernel, address, 1), [0, 0, 1, 0, 0]);
    drop(server);
    // A reset after the client's FIN.
    let (client, mut server) = pair(&listener);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    server.write_all(&[0; 10]).unwrap();
    drop(client);
    assert_eq!(after(&mut kernel, address, 2), [0, 0, 2, 0, 0]);
    drop(server);

    // Linger of zero.
    let (_client, server) = pair(&listener);
    reset(server);
    assert_eq!(after(&mut kernel, address, 3), [0, 0, 2, 1, 0]);
    // Closed with unread data.
    let (mut client, server) = pair(&listener);
    client.write_all(&[0; 60]).unwrap();
    wait_for(&mut kernel, address, |l| l.bytes_received == 60);
    drop(server);
    assert_eq!(after(&mut kernel, address, 4), [0, 0, 2, 2, 0]);
    // After our own half-close.
    let (mut client, server) = pair(&listener);
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    reset(server);
    assert_eq!(after(&mut kernel, address, 5), [0, 0, 2, 3, 0]);
    // Never accepted: the listener's end resets them.
    let clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
    wait_for(&mut kernel, address, |l| l.backlog == 2);
    drop(listener);
    assert_eq!(after(&mut kernel, address, 7), [0, 0, 2, 5, 0]);
    drop(clients);
}

#[test]
fn data_after_our_end_is_answered_with_a_reset_of_ours() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    // Our FIN waits behind data that the client has no room for.
    let closed = || {
        let (client, mut server) = pair(&listener);
        server.set_nonblocking(true).unwrap();
        while server.write(&[0; 65536]).is_ok() {}
        drop(server);
        client
    };
    let mut client = closed();
    client.write_all(&[0; 10]).unwrap();
    assert_eq!(after(&mut kernel, address, 1), [0, 0, 0, 1, 0]);
    drop(client);
    // The same, but it is the client that resets.
    reset(closed());
    assert_eq!(after(&mut kernel, address, 2), [0, 0, 1, 1, 0]);
}

#[test]
fn a_client_that_no_longer_answers_times_out() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let (client, mut server) = pair(&listener);
    // The client's socket takes no more data, so that our probes of its closed window decide.
    sockopt::set_tcp_user_timeout(&server, 400).unwrap();
    server.set_nonblocking(true).unwrap();
    while server.write(&[0; 65536]).is_ok() {}
    assert_eq!(after(&mut kernel, address, 1), [0, 0, 0, 0, 1]);
    drop(client);
    let listener = entry(&mut kernel, address);
    assert!(listener.lifetime.sum >= Duration::from_millis(300).as_micros().try_into().unwrap(), "{listener:?}");
    assert_eq!(listener.lifetime.count(), 1);
}
