//! A long way, on which packets take their time and can get lost: from this machine out through a TUN interface, and
//! back in.
//!
//! A server that listens on the near address is reached at the far one. The way exchanges a packet's addresses: whoever
//! sends to the far address seems to send from it. So both ends are sockets of this machine, of one namespace, with
//! nothing of the kernel's network emulation, which not every kernel has. TCP over IPv4 only.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::setpriority_process;
use smoltcp::wire::TcpControl;

use crate::segment::Segment;
use crate::tun::Tun;

/// A way of so long a delay; gone with this value.
pub struct Detour {
    near: Ipv4Addr,
    far: Ipv4Addr,
    way: Arc<Way>,
    thread: Option<JoinHandle<()>>,
}

/// A segment that was sent this way, with the addresses its sender gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Who sent it.
    pub source: SocketAddrV4,
    /// For whom.
    pub destination: SocketAddrV4,
    /// SYN, FIN, RST or PSH.
    pub control: TcpControl,
    /// Its sequence number.
    pub sequence: u32,
    /// Bytes of payload.
    pub length: usize,
    /// Whether it got lost.
    pub lost: bool,
}

struct Way {
    delay: Duration,
    traffic: Mutex<Traffic>,
    closed: AtomicBool,
}

struct Traffic {
    lose: Box<dyn FnMut(&Segment<'_>) -> bool + Send>,
    passed: Vec<Passed>,
}

impl Detour {
    /// Opens a way on which each packet takes so long.
    ///
    /// # Errors
    /// Without the right to make a TUN interface.
    pub fn open(delay: Duration) -> Result<Self> {
        let traffic = Mutex::new(Traffic { lose: Box::new(|_| false), passed: Vec::new() });
        let way = Arc::new(Way { delay, traffic, closed: AtomicBool::new(false) });
        let (tell, told) = channel();
        let thread = std::thread::spawn({
            let way = Arc::clone(&way);
            move || match Tun::open() {
                Ok(tun) => {
                    let _ = tell.send(Ok((tun.near(), tun.far(0))));
                    way.carry(tun);
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        });
        let (near, far) = told.recv().context("the detour's thread has ended")??;
        Ok(Self { near, far, way, thread: Some(thread) })
    }

    /// Where a server has to listen.
    pub fn near(&self) -> Ipv4Addr {
        self.near
    }

    /// Where that server is reached.
    pub fn far(&self) -> Ipv4Addr {
        self.far
    }

    /// From now on loses what this says of, by the addresses that its sender gave it.
    pub fn lose(&self, what: impl FnMut(&Segment<'_>) -> bool + Send + 'static) {
        self.way.traffic().lose = Box::new(what);
    }

    /// What was sent so far, in this order.
    pub fn passed(&self) -> Vec<Passed> {
        self.way.traffic().passed.clone()
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        self.way.closed.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the detour's thread has panicked");
        }
    }
}

impl Way {
    fn carry(&self, mut tun: Tun) {
        // A network does not wait for a processor. What this thread alone is late by, the kernel takes for a longer way.
        let _ = setpriority_process(None, -20);
        // All take as long, so the first is due first.
        let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        while !self.closed.load(Ordering::Relaxed) {
            while let Some(mut packet) = tun.receive() {
                if self.lets_pass(&packet) {
                    exchange_addresses(&mut packet);
                    under_way.push_back((Instant::now() + self.delay, packet));
                }
            }
            while under_way.front().is_some_and(|(due, _)| *due <= Instant::now()) {
                tun.send(&under_way.pop_front().expect("there is a first").1);
            }
            let due = under_way.front().map(|(due, _)| due.saturating_duration_since(Instant::now()));
            tun.wait(due.unwrap_or(PAUSE).min(PAUSE)).expect("a TUN interface can be waited for");
        }
    }

    fn lets_pass(&self, packet: &[u8]) -> bool {
        // The kernel also looks for IPv6 routers.
        let Some(segment) = Segment::parse(packet) else { return false };
        let Segment { source, destination, control, sequence, payload, .. } = segment;
        let mut traffic = self.traffic();
        let lost = (traffic.lose)(&segment);
        traffic.passed.push(Passed { source, destination, control, sequence, length: payload.len(), lost });
        !lost
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().expect("what to lose is decided without panic")
    }
}

/// How soon the thread sees that the way is closed.
const PAUSE: Duration = Duration::from_millis(50);

/// Their sum, and with it every checksum, stays.
fn exchange_addresses(packet: &mut [u8]) {
    let (source, destination) = packet[12..20].split_at_mut(4);
    source.swap_with_slice(destination);
}
