//! Addresses that nobody else uses, and a small HTTP client.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

use crate::wait::{DEADLINE, wait_for};

/// A loopback address and port for one listener, never given out twice.
///
/// Each test process takes an address of 127.64.0.0/10 after its process id, and counts ports on it: no other test
/// process can come into the way, and neither can a client's port, since clients connect from 127.0.0.1.
pub fn address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(10_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(port >= 10_000, "one process has used up 55,000 ports");
    SocketAddr::from((Ipv4Addr::new(127, 64 | (high & 0x3f), middle, low), port))
}

/// A port on 127.0.0.1 that is free now, for TCP and UDP, for what people will connect to by hand.
///
/// # Errors
/// When none is.
pub fn local_address() -> Result<SocketAddr> {
    wait_for("a free port on 127.0.0.1", || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        UdpSocket::bind(address)?;
        Ok(address)
    })
}

/// The body of an answer 200 to GET.
///
/// # Errors
/// When there is no such answer within 30 seconds.
pub fn http_get(address: SocketAddr, path: &str) -> Result<String> {
    let answer = exchange(address, path).with_context(|| format!("cannot GET http://{address}{path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no end of headers in {answer:?}"))?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("GET http://{address}{path}: {status}: {body}");
    }
    let chunked = head.lines().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
    if chunked { unchunk(body) } else { Ok(body.to_owned()) }
}

fn exchange(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// RFC 9112 section 7.1, without trailers.
fn unchunk(body: &str) -> Result<String> {
    let mut text = String::new();
    let mut rest = body;
    loop {
        let (size, after) = rest.split_once("\r\n").context("a chunk without its size")?;
        let size = usize::from_str_radix(size.trim(), 16).with_context(|| format!("size of a chunk: {size:?}"))?;
        if size == 0 {
            return Ok(text);
        }
        text.push_str(after.get(..size).context("a chunk is cut")?);
        rest = after.get(size + 2..).context("a chunk is cut")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        assert_eq!(unchunk("4\r\nabcd\r\n2\r\ne\n\r\n0\r\n\r\n").unwrap(), "abcde\n");
        assert!(unchunk("4\r\nabc").is_err());
    }

    #[test]
    fn addresses_differ_and_can_be_bound() {
        let (one, two) = (address(), address());
        assert_ne!(one, two);
        TcpListener::bind(one).unwrap();
        TcpListener::bind(two).unwrap();
    }
}
