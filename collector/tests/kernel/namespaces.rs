//! Sockets of a network namespace other than the one the programs are read from.

use std::{
    fs::{self, File},
    io::{Read, Write, stderr},
    net::{Ipv4Addr, SocketAddr},
    os::{fd::AsFd, unix::fs::MetadataExt},
    process::{Command, id},
    thread,
    time::Instant,
};

use lbstatd::kernel::{Kernel, Listener, Sample};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sockets::*;

/// A namespace with a loopback interface; gone when this is dropped.
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) inode: u32,
}

impl Namespace {
    pub(crate) fn new(name: &str) -> Option<Self> {
        let name = format!("lbstatd-{name}-{}", id());
        let added = Command::new("ip").args(["netns", "add", &name]).output();
        if !added.as_ref().is_ok_and(|output| output.status.success()) {
            let said = format!("\nSKIPPED kernel test of namespaces: `ip netns add`: {added:?}\n\n");
            stderr().write_all(said.as_bytes()).unwrap();
            return None;
        }
        let inode = fs::metadata(path(&name)).unwrap().ino().try_into().unwrap();
        let namespace = Self { name, inode };
        let up = Command::new("ip").args(["-n", &namespace.name, "link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        Some(namespace)
    }

    /// Runs `work` in a thread that lives in the namespace; what it opens stays there.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                let file = File::open(path(&self.name)).unwrap();
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            entered.join().unwrap()
        })
    }

    fn entry(&self, sample: &Sample, address: SocketAddr) -> Option<Listener> {
        sample.listeners.iter().find(|l| l.namespace == self.inode && l.address == address).cloned()
    }

    fn wait_for(&self, kernel: &mut Kernel, address: SocketAddr, condition: impl Fn(&Listener) -> bool) -> Listener {
        let started = Instant::now();
        loop {
            let now = self.entry(&kernel.sample(&[id().into()]).unwrap(), address);
            match now {
                Some(now) if condition(&now) => return now,
                _ => assert!(started.elapsed() < PATIENCE, "waited in vain, last: {now:?}"),
            }
            thread::yield_now();
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn path(name: &str) -> String {
    format!("/run/netns/{name}")
}

#[test]
fn a_listener_of_another_namespace_is_counted_like_one_of_ours() {
    let Some(mut kernel) = kernel() else { return };
    let Some(namespace) = Namespace::new("new") else { return };
    let (listener, address) = namespace.enter(|| listen_on(Ipv4Addr::LOCALHOST));
    let same_here = std::net::TcpListener::bind(address).unwrap();
    let (mut client, mut server) = namespace.enter(|| pair(&listener));
    for n in 1..=5 {
        client.write_all(&[0; 700]).unwrap();
        server.read_exact(&mut [0; 700]).unwrap();
        server.write_all(&[0; 900]).unwrap();
        client.read_exact(&mut [0; 900]).unwrap();
        let now = namespace.wait_for(&mut kernel, address, |l| l.bytes_acked >= n * 900);
        assert_eq!(numbers(&now), (1, 1, n * 700, n * 900));
        assert_eq!((now.sockets, now.owned, now.backlog), (1, true, 0));
    }
    let waiting = namespace.enter(|| std::net::TcpStream::connect(address).unwrap());
    let now = namespace.wait_for(&mut kernel, address, |l| l.accepted == 2);
    assert_eq!((now.backlog, now.backlog_peak, now.open), (1, 1, 2));
    drop((client, waiting));
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    drop((server, listener));
    let now = namespace.wait_for(&mut kernel, address, |l| l.open == 0);
    assert_eq!(numbers(&now), (2, 0, 3500, 4500));
    assert_eq!(numbers(&entry(&mut kernel, address)), (0, 0, 0, 0), "the same address of ours is another one");
    drop(same_here);
}

#[test]
fn what_is_older_than_the_watch_is_found_through_its_process() {
    let Some(namespace) = Namespace::new("old") else { return };
    if kernel().is_none() {
        return;
    }
    let (listener, address) = namespace.enter(|| listen_on(Ipv4Addr::LOCALHOST));
    let (mut client, mut server) = namespace.enter(|| pair(&listener));
    client.write_all(&[0; 500]).unwrap();
    server.read_exact(&mut [0; 500]).unwrap();
    let mut kernel = kernel().unwrap();
    assert_eq!(namespace.entry(&kernel.sample(&[]).unwrap(), address), None, "nobody has asked for its process");
    let now = namespace.wait_for(&mut kernel, address, |l| l.open == 1);
    assert_eq!(numbers(&now), (0, 1, 0, 0));
    client.write_all(&[0; 100]).unwrap();
    server.read_exact(&mut [0; 100]).unwrap();
    assert_eq!(numbers(&namespace.wait_for(&mut kernel, address, |l| l.bytes_received > 0)), (0, 1, 100, 0));
    let (new, mut new_server) = namespace.enter(|| pair(&listener));
    drop((new, client));
    assert_eq!(server.read(&mut [0]).unwrap() + new_server.read(&mut [0]).unwrap(), 0);
    drop((new_server, server));
    let now = namespace.wait_for(&mut kernel, address, |l| l.open == 0);
    assert_eq!((numbers(&now), now.closed_by_peer), ((1, 0, 100, 0), 2));
}

#[test]
fn settling_without_the_lock_counts_nothing_twice() {
    const EACH: usize = 300;
    let Some(mut kernel) = kernel() else { return };
    let Some(namespace) = Namespace::new("busy") else { return };
    let (listener, address) = namespace.enter(|| listen_on(Ipv4Addr::LOCALHOST));
    namespace.wait_for(&mut kernel, address, |l| l.owned);
    let (sent, answered) = thread::scope(|scope| {
        let server = scope.spawn(|| (0..EACH).map(|_| serve(&listener)).sum::<usize>());
        let client =
            scope.spawn(|| namespace.enter(|| (0..EACH).map(|n| request(address, n * 37 % 50_000)).sum::<usize>()));
        let mut last = namespace.wait_for(&mut kernel, address, |_| true);
        while !client.is_finished() {
            let now = namespace.wait_for(&mut kernel, address, |_| true);
            assert!(now.bytes_received >= last.bytes_received && now.bytes_acked >= last.bytes_acked);
            last = now;
        }
        (client.join().unwrap(), server.join().unwrap())
    });
    let now = namespace.wait_for(&mut kernel, address, |l| l.open == 0);
    assert_eq!(numbers(&now), (EACH as u64, 0, sent as u64, answered as u64));
    let servers = kernel.sample(&[id().into()]).unwrap().servers;
    let server = servers.iter().find(|s| s.namespace == namespace.inode && s.address == address).unwrap();
    assert_eq!((server.established, server.open), (EACH as u64, 0));
    assert_eq!((server.bytes_acked, server.bytes_received), (sent as u64, answered as u64));
}
