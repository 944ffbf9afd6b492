//! Sends notifications: a task for each receiver, which nobody waits for.
//!
//! Events go to all receivers through one channel of a fixed length. A receiver that is slow, because it does not
//! acknowledge, misses the oldest ones, and that is counted as refused: a dead one costs no memory and holds up nobody.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{info, warn};

use super::dialect::{Dialect, Heard};
use super::event::Event;
use crate::faces::FaceState;

/// Events that a receiver may be behind.
pub const QUEUE: usize = 1024;
/// The longest response that is read; one to our informs has some hundred octets.
const LONGEST: usize = 8192;
/// How often a receiver of SNMPv3 may ask for the same inform in another form within one try.
const AGAINS: u32 = 3;

/// Gives each notification a number of its own.
#[derive(Clone, Debug)]
pub struct Requests(Arc<AtomicU32>);

/// One receiver and how to reach it.
#[derive(Debug)]
pub struct Peer {
    to: SocketAddr,
    dialect: Dialect,
    /// See [`super::Receiver::timeout`].
    timeout: Duration,
    /// See [`super::Receiver::retries`].
    retries: u32,
    requests: Requests,
    socket: Option<UdpSocket>,
    buffer: Vec<u8>,
}

impl Requests {
    /// Numbers from a random one on, so that a response to an earlier daemon is none to this one.
    pub fn from_random(random: u32) -> Self {
        Self(Arc::new(AtomicU32::new(random)))
    }

    /// 0 to 2^31-1.
    fn next(&self) -> i32 {
        i32::try_from(self.0.fetch_add(1, Relaxed) & 0x7fff_ffff).unwrap_or_default()
    }
}

/// Sends what the channel brings until it is closed.
pub async fn serve(mut peer: Peer, state: Arc<FaceState>, mut events: broadcast::Receiver<Arc<Event>>) {
    let to = peer.to;
    let ready = peer.open().await.and_then(|()| peer.dialect.check());
    let mut up = note(&state, &to, false, ready);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => {
                    let delivered = peer.deliver(&event).await;
                    if delivered.is_ok() {
                        state.requests.fetch_add(1, Relaxed);
                        state.varbinds.fetch_add(peer.dialect.varbinds(&event), Relaxed);
                    } else {
                        state.refused.fetch_add(1, Relaxed);
                    }
                    up = note(&state, &to, up, delivered);
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    state.refused.fetch_add(missed, Relaxed);
                    warn!("{missed} notifications to {} were given up: it does not keep up", peer.to);
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            // Traps have no answer, but the network may say that nobody took the last one.
            error = peer.overhear() => {
                state.refused.fetch_add(1, Relaxed);
                up = note(&state, &to, up, Err(error));
            }
        }
    }
}

/// Shows whether the receiver takes notifications, and says so when that changes.
fn note(state: &FaceState, to: &SocketAddr, was_up: bool, outcome: Result<(), String>) -> bool {
    match outcome {
        Ok(()) if was_up => {}
        Ok(()) => {
            info!("notifications go to {to}");
            state.up();
        }
        Err(reason) => {
            if was_up {
                warn!("{reason}");
            }
            state.down(reason);
            return false;
        }
    }
    true
}

impl Peer {
    /// A receiver.
    pub fn new(receiver: &super::Receiver, dialect: Dialect, requests: Requests) -> Self {
        let super::Receiver { to, timeout, retries, .. } = *receiver;
        Self { to, dialect, timeout, retries, requests, socket: None, buffer: vec![0; LONGEST] }
    }

    /// Sends an event; an inform until it is acknowledged or all tries are over.
    ///
    /// # Errors
    /// Why nobody took it, in one line.
    pub async fn deliver(&mut self, event: &Event) -> Result<(), String> {
        let request = self.requests.next();
        if self.dialect.is_inform() { self.inform(event, request).await } else { self.trap(event, request).await }
    }

    /// Makes the socket unless there is one.
    async fn open(&mut self) -> Result<(), String> {
        if self.socket.is_none() {
            let any = match self.to {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let connect = async {
                let socket = UdpSocket::bind((any, 0)).await?;
                socket.connect(self.to).await?;
                Ok(socket)
            };
            self.socket = Some(connect.await.map_err(|error| self.cannot(&error))?);
        }
        Ok(())
    }

    async fn trap(&mut self, event: &Event, request: i32) -> Result<(), String> {
        let earlier = self.socket.is_some();
        match self.send(event, request).await {
            // What the network said about an earlier one.
            Err(_) if earlier => {
                self.socket = None;
                self.send(event, request).await
            }
            other => other,
        }
    }

    async fn inform(&mut self, event: &Event, request: i32) -> Result<(), String> {
        let mut failure =
            format!("{} acknowledges no informs: is it there, and is what opens its door right?", self.to);
        let mut wait = self.timeout;
        for _ in 0..=self.retries {
            let deadline = Instant::now() + wait;
            match self.try_inform(event, request, deadline).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // Nobody may be believed who says that it is no use, so this try lasts as long as any other.
                Err(reason) => {
                    failure = reason;
                    self.socket = None;
                    sleep_until(deadline).await;
                }
            }
            wait = wait.saturating_mul(2);
        }
        self.dialect.forget();
        Err(failure)
    }

    /// Whether the inform was acknowledged before the deadline.
    async fn try_inform(&mut self, event: &Event, request: i32, deadline: Instant) -> Result<bool, String> {
        let mut agains = 0;
        self.send(event, request).await?;
        loop {
            let Some(socket) = &self.socket else { return Ok(false) };
            let length = match timeout_at(deadline, socket.recv(&mut self.buffer)).await {
                Err(_) => return Ok(false),
                Ok(Err(error)) => return Err(self.cannot(&error)),
                Ok(Ok(length)) => length,
            };
            match self.dialect.hear(&mut self.buffer[..length], request) {
                Heard::Taken => return Ok(true),
                Heard::Again if agains < AGAINS => {
                    agains += 1;
                    self.send(event, request).await?;
                }
                Heard::Refused(reason) => return Err(format!("{} refuses informs: {reason}", self.to)),
                Heard::Again | Heard::Nothing => {}
            }
        }
    }

    async fn send(&mut self, event: &Event, request: i32) -> Result<(), String> {
        self.open().await?;
        let Some(socket) = &self.socket else { return Ok(()) };
        let from = socket.local_addr().map_or(self.to.ip(), |address| address.ip());
        let message = self.dialect.message(event, request, from)?;
        socket.send(&message).await.map(|_| ()).map_err(|error| self.cannot(&error))
    }

    /// Waits for an error of the network; never ends without one. Other datagrams are late responses.
    async fn overhear(&mut self) -> String {
        let Some(socket) = &self.socket else { return std::future::pending().await };
        loop {
            if let Err(error) = socket.recv(&mut self.buffer).await {
                return self.cannot(&error);
            }
        }
    }

    fn cannot(&self, error: &std::io::Error) -> String {
        match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                format!(
                    "nobody listens for notifications at {}: start snmptrapd there, or correct the address",
                    self.to
                )
            }
            _ => format!("cannot send notifications to {}: {error}", self.to),
        }
    }
}

#[cfg(test)]
mod tests;
