//! Clients that count what they send and receive.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};

use crate::wait::DEADLINE;

/// A TCP connection, open until dropped or ended.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Bytes sent so far.
    pub sent: u64,
    /// Bytes received so far.
    pub received: u64,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect_timeout(&address, DEADLINE).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, sent: 0, received: 0 })
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// When the other side has closed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")?;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    /// Receives exactly so many bytes.
    ///
    /// # Errors
    /// When the other side closes before, or sends nothing for 30 seconds.
    pub fn receive(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).with_context(|| format!("cannot receive {count} bytes"))?;
        self.received += count as u64;
        Ok(bytes)
    }

    /// Sends a request of HTTP/1.1 without a body and receives the whole answer, which must have a `Content-Length`;
    /// returns its status.
    ///
    /// # Errors
    /// When the answer is no such one.
    pub fn request(&mut self, path: &str) -> Result<u16> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.receive(1)?);
        }
        let head = String::from_utf8(head)?.to_ascii_lowercase();
        let field = |name| head.lines().find_map(|line| line.strip_prefix(name));
        match field("content-length:").map(|length| length.trim().parse()) {
            Some(Ok(length)) => self.receive(length)?,
            _ => bail!("no Content-Length in {head:?}"),
        };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.with_context(|| format!("no status in {head:?}"))
    }

    /// Ends our side, and receives until the other side has ended its.
    ///
    /// # Errors
    /// When it resets the connection, or does not end within 30 seconds.
    pub fn end(mut self) -> Result<(u64, u64)> {
        self.stream.shutdown(Shutdown::Write).context("cannot end the connection")?;
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).context("the other side did not end the connection")?;
        self.received += rest.len() as u64;
        Ok((self.sent, self.received))
    }
}
