//! Datagrams with SNMP requests, many in flight.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbstats::Oid;
use snmp_export::ber::{self, Reader, tag};

/// Requests in flight.
pub(super) const IN_FLIGHT: usize = 32;
const MAX_REPETITIONS: i32 = 50;
/// After which a datagram counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// The requests of a walk.
pub(super) struct Recorded {
    pub(super) requests: Vec<Vec<u8>>,
    /// Octets of an answer, on average.
    pub(super) answer_size: usize,
    /// Varbinds below the root.
    pub(super) varbinds: usize,
}

impl Recorded {
    /// Walks the subtree one request at a time.
    pub(super) fn walk(agent: SocketAddr, root: &str) -> Result<Self> {
        let socket = connect(agent)?;
        let root: Oid = root.parse()?;
        let (mut oid, mut found) = (root.clone(), Oid::default());
        let (mut requests, mut octets, mut varbinds) = (Vec::new(), 0, 0);
        let mut buffer = vec![0; 65_536];
        loop {
            let request = request(tag::GET_BULK, MAX_REPETITIONS, &oid);
            socket.send(&request)?;
            let length = socket.recv(&mut buffer).context("the agent does not answer")?;
            requests.push(request);
            octets += length;
            let mut list = varbinds_of(&buffer[..length])?;
            while list.peek().is_some() {
                list.element(tag::SEQUENCE)?.oid(&mut found)?;
                if !found.starts_with(&root) {
                    return Ok(Self { answer_size: octets / requests.len(), requests, varbinds });
                }
                ensure!(found > oid, "{found} after {oid}");
                std::mem::swap(&mut oid, &mut found);
                varbinds += 1;
            }
        }
    }

    /// Octets of a request, on average.
    pub(super) fn request_size(&self) -> usize {
        self.requests.iter().map(Vec::len).sum::<usize>() / self.requests.len()
    }
}

/// Sends the requests over and over; how many answers came, and in what time.
pub(super) fn load(target: SocketAddr, requests: &[Vec<u8>], spell: Duration) -> Result<(u64, Duration)> {
    let socket = connect(target)?;
    let mut requests = requests.iter().cycle();
    let mut send = || -> Result<()> {
        socket.send(requests.next().context("nothing is to be sent")?)?;
        Ok(())
    };
    (0..IN_FLIGHT).try_for_each(|_| send())?;
    let mut buffer = vec![0; 65_536];
    let (start, mut answers) = (Instant::now(), 0);
    while answers % 64 != 0 || start.elapsed() < spell {
        match socket.recv(&mut buffer) {
            Ok(_) => answers += 1,
            Err(error) => return Err(error).with_context(|| format!("{target}: an answer is lost after {answers}")),
        }
        send()?;
    }
    let wall = start.elapsed();
    // What is still in flight is part of what the other side has counted.
    for _ in 0..IN_FLIGHT {
        socket.recv(&mut buffer).context("an answer is lost")?;
        answers += 1;
    }
    Ok((answers, wall))
}

/// Asks for one object over and over, one request at a time; what each answer took.
pub(super) fn single_gets(agent: SocketAddr, oid: &str, spell: Duration) -> Result<Vec<Duration>> {
    let socket = connect(agent)?;
    let request = request(tag::GET, 0, &oid.parse()?);
    let (start, mut times, mut buffer) = (Instant::now(), Vec::new(), vec![0; 65_536]);
    while start.elapsed() < spell {
        let sent = Instant::now();
        socket.send(&request)?;
        match socket.recv(&mut buffer) {
            Ok(length) => ensure!(varbinds_of(&buffer[..length])?.peek().is_some(), "an empty answer"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => anyhow::bail!("an answer is lost"),
            Err(error) => return Err(error.into()),
        }
        times.push(sent.elapsed());
    }
    Ok(times)
}

fn connect(target: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// A request of version 2c with community `public`.
fn request(kind: u8, max_repetitions: i32, oid: &Oid) -> Vec<u8> {
    ber::message(1, b"public", |out| {
        ber::push_pdu(out, kind, [i32::MAX, 0, max_repetitions], |out| ber::push_varbind_empty(out, oid, tag::NULL));
    })
}

/// The variable bindings of a response without an error.
fn varbinds_of(octets: &[u8]) -> Result<Reader<'_>> {
    let mut message = Reader::new(octets).element(tag::SEQUENCE)?;
    message.integer()?;
    message.string()?;
    let mut pdu = message.element(tag::RESPONSE)?;
    pdu.integer()?;
    let status = pdu.integer()?;
    ensure!(status == 0, "error status {status}");
    pdu.integer()?;
    Ok(pdu.element(tag::SEQUENCE)?)
}
