//! The connection to a master agent: a stream, and a deadline on everything that is done with it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::master::Master;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long the master may leave its end full before the connection is given up.
const SEND: Duration = Duration::from_secs(2);
/// How long a receive waits; see [`Connection::receive`].
const RECEIVE: Duration = Duration::from_millis(20);
/// Room for what is received at a time, in octets; a longer PDU makes it grow.
const ROOM: usize = 16 * 1024;

/// A connected stream, and what came through it and was not looked at yet.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    octets: Vec<u8>,
    /// Where the unread octets begin and end.
    unread: std::ops::Range<usize>,
}

impl Connection {
    /// Connects, within a second.
    pub(super) fn open(master: &Master) -> io::Result<Self> {
        let (domain, protocol, address) = match master {
            Master::Unix(path) => (Domain::UNIX, None, SockAddr::unix(path)?),
            Master::Tcp(address) => (Domain::for_address(*address), Some(Protocol::TCP), (*address).into()),
        };
        let socket = Socket::new(domain, Type::STREAM, protocol)?;
        socket.connect_timeout(&address, CONNECT)?;
        if let Master::Tcp(_) = master {
            socket.set_tcp_nodelay(true)?;
        }
        Self::new(socket)
    }

    fn new(socket: Socket) -> io::Result<Self> {
        socket.set_read_timeout(Some(RECEIVE))?;
        socket.set_write_timeout(Some(SEND))?;
        Ok(Self { socket, octets: vec![0; ROOM], unread: 0..0 })
    }

    /// Sends all of it, and leaves `out` empty.
    pub(super) fn send(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let result = match self.socket.write_all(out) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut.into()),
            result => result,
        };
        out.clear();
        result
    }

    /// Waits a moment for octets and adds them to those unread; false if none came. Between the requests of a walk this
    /// is the whole wait, in one system call; where it was in vain, [`Connection::wait`] waits longer.
    ///
    /// An error of kind `UnexpectedEof` says that the master has closed its end.
    pub(super) fn receive(&mut self) -> io::Result<bool> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == self.octets.len() {
            self.octets.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            if self.unread.end > self.octets.len() / 2 {
                self.octets.resize(2 * self.octets.len(), 0);
            }
        }
        match self.socket.read(&mut self.octets[self.unread.end..]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.unread.end += length;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.octets[self.unread.clone()]
    }

    /// Marks so many of the unread octets as read.
    pub(super) fn consume(&mut self, length: usize) {
        self.unread.start += length;
    }

    /// Waits until there is something to receive, the event happens, or the time is up.
    pub(super) fn wait(&self, event: BorrowedFd<'_>, time: Duration) -> io::Result<()> {
        wait([self.socket.as_fd(), event], time)
    }
}

/// Waits until one of these is readable, or the time is up.
pub(super) fn wait<const N: usize>(fds: [BorrowedFd<'_>; N], time: Duration) -> io::Result<()> {
    let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let time = Timespec::try_from(time).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&time)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
