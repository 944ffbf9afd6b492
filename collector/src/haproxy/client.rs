//! The client of one stats socket: a connection for each reading, one deadline, a bounded answer.
//!
//! Why not keep a connection: HAProxy closes one after a non-interactive line of commands, and that is the surest end
//! of an answer there is. A kept one has to be told by prompts, which 3.2 spells another way and which a description
//! may contain; `stats timeout` closes it; it takes one of the ten places of the socket even between readings; and it
//! counts as a job, so that after a reload the old worker would live on and go on answering, with numbers of the past.
//! A new connection always reaches the process that listens now. On HAProxy 2.6 it costs 80 µs more than a kept one
//! of a reading's 260 µs with two proxies, and nothing measurable of 4 ms with 740 servers.
//!
//! The commands go out in one line, so that one process answers both. The answers end with an empty line each, but
//! are not told apart by looking for one: a description may hold empty lines, and even a line like the header of
//! `show stat`, within quotes. The parser follows the quotes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Garbled, ReadError, Reading, parse, parse_with_servers};

/// What goes over the socket for a reading.
pub const COMMAND: &[u8] = b"show info;show stat\n";

/// The same where HAProxy hides the addresses of servers in `show stat`, once in [`ASK_AGAIN`] readings.
const COMMAND_WITH_SERVERS: &[u8] = b"show info;show stat;show servers state\n";

/// Readings until the addresses of servers are asked for again: they change when names are resolved, and by command.
const ASK_AGAIN: u32 = 32;

/// Up to this size, some tens of microseconds, an answer is parsed where it arrives; a longer one must not hold up the
/// other tasks of this thread.
const PARSED_IN_PLACE: usize = 64 << 10;

/// How long and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a reading: connecting, asking, and the whole answer.
    pub deadline: Duration,
    /// Bytes of an answer. A server takes about 250.
    pub answer: usize,
}

/// Reads one stats socket.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    limits: Limits,
    /// Kept from one reading to the next.
    buffer: Vec<u8>,
    /// Whether anybody wants the addresses of servers.
    servers_wanted: bool,
    /// Readings until `show servers state` is asked for; none while `show stat` tells the addresses.
    ask_in: Option<u32>,
    /// Servers at the last reading.
    servers: usize,
}

impl Default for Limits {
    /// 2 s, and 256 MiB: fifty times what 20,000 servers take.
    fn default() -> Self {
        Self { deadline: Duration::from_secs(2), answer: 256 << 20 }
    }
}

impl Client {
    /// A client for the socket at `path`; it connects when it reads.
    pub fn new(path: impl Into<PathBuf>, limits: Limits) -> Self {
        Self { path: path.into(), limits, buffer: Vec::new(), servers_wanted: false, ask_in: None, servers: 0 }
    }

    /// This client, asking for the addresses of servers now and then where `show stat` does not tell them.
    #[must_use]
    pub fn with_servers(self) -> Self {
        Self { servers_wanted: true, ..self }
    }

    /// Path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks HAProxy and reads what it says.
    ///
    /// # Errors
    /// As [`ReadError`] says; at the latest after the deadline, and then nothing of the answer is used.
    pub async fn read(&mut self) -> Result<Reading, ReadError> {
        let mut answer = std::mem::take(&mut self.buffer);
        answer.clear();
        let with_servers = self.ask_in == Some(0);
        let peer = self.ask(if with_servers { COMMAND_WITH_SERVERS } else { COMMAND }, &mut answer).await?;
        let (reading, answer) = parsed(answer, if with_servers { parse_with_servers } else { parse }).await;
        // The answer to a mistake is not the measure of the next one.
        if let Ok(reading) = &reading {
            self.buffer = answer;
            self.ask_in = self.next_ask(reading, with_servers);
            self.servers = reading.servers.len();
        }
        reading.map(|reading| Reading { peer, ..reading }).map_err(|garbled| ReadError::parsing(&self.path, garbled))
    }

    /// In how many readings to ask for addresses, now that there is this one: at once when they are hidden for the first
    /// time, or the servers became more or fewer.
    fn next_ask(&self, reading: &Reading, asked: bool) -> Option<u32> {
        if asked {
            return Some(ASK_AGAIN);
        }
        if reading.destinations.is_some() || !self.servers_wanted {
            return None;
        }
        let changed = reading.servers.len() != self.servers;
        Some(self.ask_in.filter(|_| !changed).map_or(0, |left| left.saturating_sub(1)))
    }

    /// Asks, and tells who listens.
    async fn ask(&self, command: &[u8], answer: &mut Vec<u8>) -> Result<Option<u32>, ReadError> {
        let Limits { deadline, answer: limit } = self.limits;
        let path = || self.path.clone();
        let end = Instant::now() + deadline;
        let stream = timeout_at(end, connect(&self.path))
            .await
            .map_err(|_| ReadError::Full { path: path(), deadline })?
            .map_err(|error| ReadError::connecting(&self.path, &error))?;
        let peer = stream.peer_cred().ok().and_then(|credentials| credentials.pid());
        // 0 stands for a process that cannot be seen from here.
        let peer = peer.and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid != 0);
        match timeout_at(end, converse(stream, command, answer, limit)).await {
            Err(_) => Err(ReadError::TimedOut { path: path(), deadline, received: answer.len() }),
            Ok(Err(error)) if !is_closed(&error) => Err(ReadError::Io { path: path(), reason: error.to_string() }),
            Ok(_) if answer.len() > limit => Err(ReadError::TooLarge { path: path(), limit }),
            Ok(_) if answer.is_empty() => Err(ReadError::Closed { path: path() }),
            // Whether a closed connection cut the answer is seen from the answer.
            Ok(_) => Ok(peer),
        }
    }
}

/// Connects; waits while the queue of connections is full, for which a Unix socket has no event.
async fn connect(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(Duration::from_millis(10)).await,
            done => return done,
        }
    }
}

/// Reads until the other end closes, or one byte more than `limit`.
async fn converse(mut stream: UnixStream, command: &[u8], answer: &mut Vec<u8>, limit: usize) -> io::Result<()> {
    stream.write_all(command).await?;
    while answer.len() <= limit {
        if answer.capacity() - answer.len() < 16 << 10 {
            answer.reserve(64 << 10);
        }
        let room = u64::try_from(limit + 1 - answer.len()).unwrap_or(u64::MAX);
        if (&mut stream).take(room).read_buf(answer).await? == 0 {
            break;
        }
    }
    Ok(())
}

type Parse = fn(&[u8]) -> Result<Reading, Garbled>;

async fn parsed(answer: Vec<u8>, parse: Parse) -> (Result<Reading, Garbled>, Vec<u8>) {
    if answer.len() <= PARSED_IN_PLACE {
        return (parse(&answer), answer);
    }
    match tokio::task::spawn_blocking(move || (parse(&answer), answer)).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels it, and with it the task that waits here.
            Err(_) => std::future::pending().await,
        },
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
