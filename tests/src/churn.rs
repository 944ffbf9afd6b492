//! A load balancer's day in a short time: connections at full rate, listeners and servers that come and go, reloads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::haproxy::{Haproxy, HaproxyConfig};
use crate::loopback::address;

/// What was done.
#[derive(Debug, Default)]
pub struct Churn {
    /// Connections of clients that were answered.
    pub answered: u64,
    /// Connections of clients that were established and then lost, which happens while a process hands over to the
    /// next; the kernel may have counted them or not.
    pub lost: u64,
    /// Listeners of others that were opened, used once, and closed.
    pub listeners: u64,
    /// How often HAProxy's server was moved to another address.
    pub servers: u64,
    /// Reloads of HAProxy.
    pub reloads: u64,
}

impl AddAssign for Churn {
    fn add_assign(&mut self, more: Self) {
        self.answered += more.answered;
        self.lost += more.lost;
        self.listeners += more.listeners;
        self.servers += more.servers;
        self.reloads += more.reloads;
    }
}

/// A HAProxy to be shaken, with a frontend `www` at [`Self::listen`].
#[derive(Debug)]
pub struct Shaken {
    /// It.
    pub haproxy: Haproxy,
    /// Where the frontend listens, through all reloads.
    pub listen: SocketAddr,
    servers: [SocketAddr; 2],
}

const CLIENTS: usize = 4;
/// Pause between two listeners of others: all that come and go within a sample or two must fit into the kernel's map.
const PAUSE: Duration = Duration::from_millis(5);
/// Addresses that the server is moved through, again and again.
const SERVERS: u64 = 256;
const BETWEEN_RELOADS: Duration = Duration::from_millis(1500);

impl Shaken {
    /// Starts it.
    ///
    /// # Errors
    /// As [`Haproxy::start`].
    pub fn start() -> Result<Self> {
        let (listen, servers) = (address(), [address(), address()]);
        let sections = sections(listen, &servers, 0);
        let haproxy = Haproxy::start(HaproxyConfig { sections, ..HaproxyConfig::default() })?;
        Ok(Self { haproxy, listen, servers })
    }

    /// Shakes it for so long.
    ///
    /// # Errors
    /// When HAProxy does not answer or reload, or no listener can be had.
    pub fn shake(&mut self, duration: Duration) -> Result<Churn> {
        let stop = AtomicBool::new(false);
        let (answered, lost, opened) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let listen = self.listen;
        let (servers, reloads) = thread::scope(|scope| {
            let clients: Vec<_> =
                (0..CLIENTS).map(|_| scope.spawn(|| be_client(listen, &stop, &answered, &lost))).collect();
            let listeners = scope.spawn(|| be_listeners(&stop, &opened));
            let shaken = self.shake_haproxy(duration);
            stop.store(true, Ordering::Relaxed);
            listeners.join().expect("no panic")?;
            clients.into_iter().try_for_each(|client| client.join().expect("no panic"))?;
            shaken
        })?;
        Ok(Churn {
            answered: answered.into_inner(),
            lost: lost.into_inner(),
            listeners: opened.into_inner(),
            servers,
            reloads,
        })
    }

    /// Reloads, each time with other listeners beside, and moves the server about; returns how often each.
    fn shake_haproxy(&mut self, duration: Duration) -> Result<(u64, u64)> {
        let end = Instant::now() + duration;
        let (mut moves, mut reloads) = (0, 0);
        let mut old = Vec::new();
        while Instant::now() < end {
            reloads += 1;
            old.push(self.haproxy.reload_with(sections(self.listen, &self.servers, reloads))?);
            // Those before have ended by now, or are ended.
            if old.len() > 3 {
                old.remove(0);
            }
            let next = (Instant::now() + BETWEEN_RELOADS).min(end);
            while Instant::now() < next {
                moves += 1;
                let [high, low] = u16::try_from(moves % SERVERS)?.to_be_bytes();
                let port = self.servers[0].port();
                self.haproxy.command(&format!("set server servers/one addr 127.63.{high}.{low} port {port}"))?;
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ok((moves, reloads))
    }
}

/// The server `one` is a wildcard listener of HAProxy's own: it answers at whatever loopback address it is said to be.
fn sections(listen: SocketAddr, servers: &[SocketAddr; 2], round: u64) -> String {
    let answer = "http-request return status 200 content-type text/plain string ok";
    let [one, two] = servers;
    let (wildcard, beside) = (one.port(), address());
    format!(
        "defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    option socket-stats
frontend www
    bind {listen}
    http-request return status 200 content-type text/plain string ok if {{ rand(4) gt 0 }}
    default_backend servers
frontend round{round}
    bind {beside}
    {answer}
backend servers
    option http-server-close
    retries 0
    server one 127.63.0.0:{wildcard}
    server two {two}
frontend behind
    bind 0.0.0.0:{wildcard}
    bind {two}
    {answer}
"
    )
}

fn be_client(listen: SocketAddr, stop: &AtomicBool, answered: &AtomicU64, lost: &AtomicU64) -> Result<()> {
    let mut answer = [0; 1024];
    while !stop.load(Ordering::Relaxed) {
        // While one process hands over to the next, nobody may listen for a moment.
        let Ok(mut stream) = TcpStream::connect(listen) else { continue };
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let sent = stream.write_all(b"GET / HTTP/1.1\r\nHost: churn\r\nConnection: close\r\n\r\n");
        let mut got = 0;
        let ended = sent.is_ok()
            && loop {
                match stream.read(&mut answer[got..]) {
                    Ok(0) => break true,
                    Ok(more) => got += more,
                    Err(_) => break false,
                }
            };
        let counter = if ended && answer[..got].starts_with(b"HTTP/1.1 ") { answered } else { lost };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Listeners that have nothing to do with HAProxy, each at an address of its own.
fn be_listeners(stop: &AtomicBool, opened: &AtomicU64) -> Result<()> {
    let mut number = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let [_, high, middle, low] = number.to_be_bytes();
        let at = SocketAddr::from(([127, 128 | (high & 0x7f), middle, low], 0));
        let listener = TcpListener::bind(at).with_context(|| format!("cannot listen on {at}"))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        ensure!(server.peer_addr()? == client.local_addr()?, "a stranger connects to {at}");
        opened.fetch_add(1, Ordering::Relaxed);
        thread::sleep(PAUSE);
    }
    Ok(())
}
