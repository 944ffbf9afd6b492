//! Servers behind HAProxy: threads of this process that answer with as many bytes as told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};

use crate::loopback::address;
use crate::wait::DEADLINE;

/// A server that listens as long as this process lives.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    address: SocketAddr,
}

/// How a server answers.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// After each `request` bytes it sends `reply` bytes, until the client ends.
    Bytes {
        /// Bytes to read before each reply; more than 0.
        request: usize,
        /// Bytes to send.
        reply: usize,
    },
    /// HTTP/1.1, keep-alive: status 200 with a body of so many bytes; status 404 with that body for paths that begin
    /// with `/missing`.
    Http {
        /// Length of the body.
        body: usize,
    },
}

impl Backend {
    /// Listens on an address of its own.
    ///
    /// # Errors
    /// When that address cannot be bound.
    pub fn start(reply: Reply) -> Result<Self> {
        Self::start_at(address(), reply)
    }

    /// Listens on this address.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn start_at(address: SocketAddr, reply: Reply) -> Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream, reply));
            }
        });
        Ok(Self { address })
    }

    /// Where it listens.
    pub fn address(self) -> SocketAddr {
        self.address
    }
}

/// An error is the client's end of the connection: there is nobody to tell.
fn serve(stream: TcpStream, reply: Reply) {
    let _ = match reply {
        Reply::Bytes { request, reply } => serve_bytes(stream, request, reply),
        Reply::Http { body } => serve_http(stream, body),
    };
}

fn serve_bytes(mut stream: TcpStream, request: usize, reply: usize) -> std::io::Result<()> {
    let mut received = vec![0; request];
    let answer = vec![b'r'; reply];
    loop {
        stream.read_exact(&mut received)?;
        stream.write_all(&answer)?;
    }
}

fn serve_http(stream: TcpStream, body: usize) -> std::io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let missing = line.split(' ').nth(1).is_some_and(|path| path.starts_with("/missing"));
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        let status = if missing { "404 Not Found" } else { "200 OK" };
        let mut answer = format!("HTTP/1.1 {status}\r\nContent-Length: {body}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + body, b'b');
        writer.write_all(&answer)?;
    }
}
