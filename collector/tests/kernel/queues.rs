//! The queues of listeners, and what a sample says of the time before it.

use std::{
    net::{Ipv4Addr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lbstatd::kernel::HookState;

use crate::sockets::*;

#[test]
fn a_spike_of_the_accept_queue_is_seen_after_it_is_over() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    assert_eq!(entry(&mut kernel, address).backlog_peak, 0);
    for spike in [17, 40, 3] {
        let clients: Vec<_> = (0..spike).map(|_| TcpStream::connect(address).unwrap()).collect();
        let servers: Vec<_> = (0..spike).map(|_| listener.accept().unwrap()).collect();
        let now = entry(&mut kernel, address);
        assert_eq!((now.backlog, now.backlog_peak), (0, spike), "nothing was sampled while it lasted");
        drop((clients, servers));
        assert_eq!(entry(&mut kernel, address).backlog_peak, 0, "each peak is told once");
    }
    // What is still waiting when a sample is taken counts for the next one as well.
    let waiting = TcpStream::connect(address).unwrap();
    assert_eq!(entry(&mut kernel, address).backlog_peak, 1);
    drop(listener.accept().unwrap());
    assert_eq!(entry(&mut kernel, address).backlog_peak, 1);
    assert_eq!(entry(&mut kernel, address).backlog_peak, 0);
    drop(waiting);
}

#[test]
fn no_peak_is_lost_between_two_samples() {
    const SPIKES: u64 = 300;
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    entry(&mut kernel, address);
    // Connections made and accepted, to be told should the test come to a halt.
    let steps = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let progress = Arc::clone(&steps);
    let spikes = thread::spawn(move || {
        let step = |place: usize| progress[place].fetch_add(1, Ordering::Relaxed);
        for _ in 0..SPIKES {
            let connect = |_| {
                let client = TcpStream::connect(address).unwrap();
                step(0);
                client
            };
            let clients: Vec<_> = (0..9).map(connect).collect();
            for _ in &clients {
                drop(listener.accept().unwrap());
                step(1);
            }
        }
        listener
    });
    // However samples fall, the highest of any run of them is the height of the spikes; and as long as spikes go on,
    // none of them can be sampled to nothing.
    let mut highest = 0;
    let started = Instant::now();
    while !spikes.is_finished() {
        let now = entry(&mut kernel, address);
        highest = highest.max(now.backlog_peak);
        assert!(started.elapsed() < 2 * PATIENCE, "halted after {steps:?} connections made and accepted: {now:?}");
    }
    highest = highest.max(entry(&mut kernel, address).backlog_peak);
    assert_eq!(highest, 9);
    let _listener = spikes.join().unwrap();
    assert_eq!(wait_for(&mut kernel, address, |l| l.open == 0).accepted, 9 * SPIKES);
}

#[test]
fn handshakes_are_timed_and_those_that_hang_are_seen() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    for _ in 0..30 {
        exchange(&listener, 10);
    }
    let now = wait_for(&mut kernel, address, |l| l.open == 0);
    assert_eq!((now.handshake.count(), now.rtt.count(), now.lifetime.count()), (30, 30, 30));
    assert!(now.handshake.sum > 0 && now.handshake.sum < 1_000_000 && now.rtt.sum < 30_000_000, "{now:?}");
    assert_eq!((now.syn_backlog, now.synack_retransmits), (0, Some(0)));
}

#[test]
fn the_wait_in_the_accept_queue_is_timed_where_the_kernel_allows_it() {
    let Some(mut kernel) = kernel() else { return };
    let (listener, address) = listen_on(Ipv4Addr::LOCALHOST);
    let works = kernel.hooks().iter().any(|h| h.name == "inet_csk_accept" && h.state == HookState::Healthy);
    let before = entry(&mut kernel, address);
    assert_eq!(before.accept_wait.is_some(), works);
    if !works {
        return;
    }
    let waiting = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
    let since = Instant::now();
    wait_for(&mut kernel, address, |l| l.backlog == 2 && since.elapsed() > Duration::from_millis(50));
    let servers = [listener.accept().unwrap(), listener.accept().unwrap()];
    let waited = entry(&mut kernel, address).accept_wait.unwrap();
    assert_eq!(waited.count(), 2);
    let (least, most) = (100_000, 2 * u64::try_from(since.elapsed().as_micros()).unwrap() + 200_000);
    assert!((least..=most).contains(&waited.sum), "{} us", waited.sum);
    drop((waiting, servers));
}

#[test]
fn a_syn_dropped_by_a_full_queue_is_answered_when_there_is_room() {
    let Some(mut kernel) = kernel() else { return };
    let _alone = overflowing();
    let (listener, address) = listen_with_backlog(0);
    let first = TcpStream::connect(address).unwrap();
    assert_eq!(entry(&mut kernel, address).backlog_peak, 1);
    // Its SYN is sent again a second later.
    let second = start_to_connect(address);
    wait_for(&mut kernel, address, |l| l.drops >= 1);
    drop(listener.accept().unwrap());
    assert_eq!(entry(&mut kernel, address).backlog_peak, 1);
    let now = wait_for(&mut kernel, address, |l| l.accepted == 2 && l.backlog == 1);
    assert_eq!((now.backlog_limit, now.backlog_peak), (0, 1));
    drop((first, second));
}
