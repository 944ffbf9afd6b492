//! Clients of an HTTP server that keep their connections, as fast as they get answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What the clients got done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// Requests answered.
    pub(super) requests: u64,
    /// From the start of the first client to the end of the last.
    pub(super) wall: Duration,
}

/// Lets so many clients, a thread and a connection each, send requests for so long.
pub(super) fn run(address: SocketAddr, clients: usize, duration: Duration) -> Result<Work> {
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    let requests = thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(|| client(address, &stop))).collect();
        thread::sleep(duration);
        stop.store(true, Ordering::Relaxed);
        let counts = threads.into_iter().map(|thread| thread.join().expect("a client does not panic"));
        counts.sum::<Result<u64>>()
    })?;
    Ok(Work { requests, wall: start.elapsed() })
}

fn client(address: SocketAddr, stop: &AtomicBool) -> Result<u64> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    let mut requests = 0;
    let mut answer = [0; 4096];
    // Every answer of one test is the same.
    let mut length = None;
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        length = Some(read_answer(&mut stream, &mut answer, length)?);
        requests += 1;
    }
    Ok(requests)
}

/// Reads one answer, of this length if it is known; returns its length.
fn read_answer(stream: &mut TcpStream, answer: &mut [u8], length: Option<usize>) -> Result<usize> {
    let mut got = 0;
    loop {
        match stream.read(&mut answer[got..])? {
            0 => bail!("the server has ended the connection"),
            more => got += more,
        }
        if length.is_some_and(|length| length <= got) {
            return Ok(got);
        }
        if let Some(length) = length_of(&answer[..got])
            && length <= got
        {
            return Ok(got);
        }
    }
}

/// Head and body, once the head is there.
fn length_of(answer: &[u8]) -> Option<usize> {
    let text = str::from_utf8(answer).ok()?.to_ascii_lowercase();
    let (head, _) = text.split_once("\r\n\r\n")?;
    let body = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    Some(head.len() + 4 + body.trim().parse::<usize>().ok()?)
}
