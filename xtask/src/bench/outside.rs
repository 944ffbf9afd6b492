//! Clients that are elsewhere: the kernel sees one end of their connections only, as on a load balancer.
//!
//! The other ends are here, behind a TUN interface: one thread and no socket. What the kernel does about a packet that
//! comes in from there it does in this thread, as it would in an interrupt.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use lbstatd_tests::{Segment, TcpControl, Tun};

use super::clients::Work;

/// The network that the clients are in.
pub(super) struct Outside {
    tun: Tun,
    begun: u32,
    given_up: u64,
}

/// A client's end of a connection.
struct Connection {
    local: SocketAddrV4,
    server: SocketAddrV4,
    state: State,
    /// The next to be sent.
    sequence: u32,
    /// The next to be received.
    expected: u32,
    /// When something came last.
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynSent,
    Asked,
    /// In part; the server's end completes it.
    Answered,
    /// Both sides have ended, the server has yet to acknowledge it.
    LastAck,
    Ended,
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200";
/// Nothing gets lost on this way but what the server's end of it drops.
const PATIENCE: Duration = Duration::from_secs(1);
const FIRST_PORT: u16 = 1024;

impl Outside {
    /// Sets up the way there.
    pub(super) fn start() -> Result<Self> {
        Ok(Self { tun: Tun::open()?, begun: 0, given_up: 0 })
    }

    /// Where a server has to listen to be reached.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.tun.near()
    }

    /// Connections so far on which nothing came for a second; the client reset them and went on with another.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Lets so many clients send requests for so long, a connection for each; the server ends it. Returns when all
    /// connections are over.
    pub(super) fn run(&mut self, server: SocketAddrV4, clients: usize, duration: Duration) -> Result<Work> {
        let start = Instant::now();
        let (mut requests, mut swept) = (0, start);
        let mut open: HashMap<SocketAddrV4, Connection> = (0..clients).map(|_| self.begin(server)).collect();
        while !open.is_empty() {
            self.tun.wait(PATIENCE / 10)?;
            while let Some(packet) = self.tun.receive() {
                // The kernel also looks for IPv6 routers, and acknowledges what was given up.
                let Some(segment) = Segment::parse(&packet) else { continue };
                let Some(connection) = open.get_mut(&segment.destination) else { continue };
                if let Some(answer) = connection.react(&segment)? {
                    self.tun.send(&answer.packet());
                }
                if connection.state == State::Ended {
                    open.remove(&segment.destination);
                    requests += 1;
                    if start.elapsed() < duration {
                        open.extend([self.begin(server)]);
                    }
                }
            }
            if swept.elapsed() < PATIENCE / 10 {
                continue;
            }
            swept = Instant::now();
            let stuck = open.extract_if(|_, connection| connection.since.elapsed() > PATIENCE);
            for (_, connection) in stuck.collect::<Vec<_>>() {
                self.tun.send(&connection.segment(TcpControl::Rst, b"").packet());
                self.given_up += 1;
                if start.elapsed() < duration {
                    open.extend([self.begin(server)]);
                }
            }
        }
        Ok(Work { requests, wall: start.elapsed() })
    }

    /// Begins a connection from an address and port that was not used for the last 16 million connections: the server's
    /// end of each is in TIME_WAIT for a minute.
    fn begin(&mut self, server: SocketAddrV4) -> (SocketAddrV4, Connection) {
        let ports = u32::from(u16::MAX - FIRST_PORT);
        let port = FIRST_PORT + u16::try_from(self.begun / Tun::FAR % ports).expect("less than 2^16");
        let local = SocketAddrV4::new(self.tun.far(self.begun), port);
        self.begun = self.begun.wrapping_add(1);
        // A clock of 4 microseconds (RFC 9293, section 3.4.1), so that a later run, too, begins above an earlier one's: the
        // server's end then gives up its TIME_WAIT.
        #[expect(clippy::cast_possible_truncation, reason = "it wraps")]
        let sequence = (UNIX_EPOCH.elapsed().expect("after 1970").as_micros() / 4) as u32;
        let since = Instant::now();
        let mut connection = Connection { local, server, state: State::SynSent, sequence, expected: 0, since };
        self.tun.send(&connection.say(TcpControl::Syn, b"").packet());
        (local, connection)
    }
}

impl Connection {
    /// What it says to a segment.
    fn react(&mut self, segment: &Segment<'_>) -> Result<Option<Segment<'static>>> {
        self.since = Instant::now();
        match (self.state, segment.control) {
            (_, TcpControl::Rst) => bail!("{} resets a connection in state {:?}", self.server, self.state),
            (State::SynSent, TcpControl::Syn) => {
                self.expected = segment.sequence.wrapping_add(1);
                self.state = State::Asked;
                Ok(Some(self.say(TcpControl::Psh, REQUEST)))
            }
            (State::Asked | State::Answered, TcpControl::None | TcpControl::Psh | TcpControl::Fin) => {
                self.take(segment)
            }
            (State::LastAck, _) if segment.acknowledged == Some(self.sequence) => {
                self.state = State::Ended;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn take(&mut self, segment: &Segment<'_>) -> Result<Option<Segment<'static>>> {
        let Segment { payload, control, .. } = *segment;
        if segment.sequence != self.expected {
            return Ok(Some(self.segment(TcpControl::None, b"")));
        }
        if self.state == State::Asked && !payload.is_empty() {
            ensure!(payload.starts_with(ANSWER), "{} answers {:?}", self.server, String::from_utf8_lossy(payload));
            self.state = State::Answered;
        }
        self.expected = self.expected.wrapping_add(length(control, payload));
        if control == TcpControl::Fin {
            ensure!(self.state == State::Answered, "{} ends a connection without an answer", self.server);
            self.state = State::LastAck;
            return Ok(Some(self.say(TcpControl::Fin, b"")));
        }
        Ok((!payload.is_empty()).then(|| self.segment(TcpControl::None, b"")))
    }

    /// A segment that takes up sequence numbers.
    fn say(&mut self, control: TcpControl, payload: &'static [u8]) -> Segment<'static> {
        let segment = self.segment(control, payload);
        self.sequence = self.sequence.wrapping_add(length(control, payload));
        segment
    }

    fn segment<'a>(&self, control: TcpControl, payload: &'a [u8]) -> Segment<'a> {
        Segment {
            source: self.local,
            destination: self.server,
            control,
            sequence: self.sequence,
            acknowledged: (self.state != State::SynSent).then_some(self.expected),
            payload,
        }
    }
}

/// Sequence numbers that a segment takes up.
fn length(control: TcpControl, payload: &[u8]) -> u32 {
    let payload = u32::try_from(payload.len()).expect("less than 64 KiB");
    payload + u32::from(matches!(control, TcpControl::Syn | TcpControl::Fin))
}
