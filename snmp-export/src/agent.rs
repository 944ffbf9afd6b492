//! An SNMP agent over datagrams, without the sockets: versions 1 and 2c (RFC 1157, RFC 1901, RFC 3416).
//!
//! An [`Agent`] is what all its workers share and never changes; a [`Worker`] turns one datagram at a time into an
//! answer or into silence. What it answers from is a snapshot's [`Columns`], encoded block by block when somebody asks,
//! and the `system` and `snmp` groups.

mod access;
mod columns;
mod counters;
mod instances;
mod pdu;
mod request;
mod response;
mod tree;
mod walks;

pub use access::{Community, Subtrees};
pub use columns::Columns;
pub use counters::Counters;
pub use instances::{Content, Instance, System};
pub use pdu::{Asker, Mib, Refusal, Responder};

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::ber::{self, BerError, Reader, tag};
use counters::tally;

const VERSION_1: i32 = 0;
const VERSION_2C: i32 = 1;
/// Octets that the length of a message takes beyond its first one.
const LONGER_LENGTH: usize = 2;

/// What the workers of an agent share.
#[derive(Debug)]
pub struct Agent {
    communities: Vec<Community>,
    subtrees: Subtrees,
    max_size: usize,
    counters: Arc<Counters>,
    instances: Vec<Instance>,
}

/// Answers datagrams, on one thread.
#[derive(Debug)]
pub struct Worker {
    agent: Arc<Agent>,
    responder: Responder,
    out: Vec<u8>,
}

/// What became of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// This goes back, with so many variable bindings.
    Send(&'a [u8], usize),
    /// Nothing goes back; the reason has been counted.
    Silence,
}

impl Agent {
    /// An agent that shows these subtrees to these communities, read-only and from now on, in messages of at most
    /// `max_size` octets.
    pub fn new(system: &System, communities: Vec<Community>, subtrees: Subtrees, max_size: usize) -> Self {
        let counters = Arc::new(Counters::default());
        let mut agent = Self { communities, subtrees, max_size, instances: Vec::new(), counters: counters.clone() };
        agent.show(instances::system(system, Instant::now()));
        agent.show(instances::snmp(&counters));
        agent
    }

    /// Shows these as well; none of them may stand within a column of a snapshot's view.
    pub fn show(&mut self, instances: Vec<Instance>) {
        self.instances.extend(instances);
        self.instances.sort_by(|one, other| one.oid.cmp(&other.oid));
    }

    /// What it has counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// What it shows beside the columns.
    pub fn mib(&self) -> Mib<'_> {
        Mib { instances: &self.instances, counters: &self.counters }
    }
}

impl Worker {
    /// A worker of this agent.
    pub fn new(agent: Arc<Agent>) -> Self {
        Self { agent, responder: Responder::default(), out: Vec::new() }
    }

    /// Answers a datagram that came from this address. `newest` is asked for the columns of the newest snapshot unless
    /// the request goes on with a walk; it must not block.
    pub fn answer(
        &mut self,
        datagram: &[u8],
        address: IpAddr,
        now: Instant,
        newest: impl FnOnce() -> Arc<Columns>,
    ) -> Answer<'_> {
        tally(&self.agent.counters.in_packets);
        self.out.clear();
        match self.answer_message(datagram, address, now, newest) {
            Ok(varbinds) => {
                tally(&self.agent.counters.out_packets);
                Answer::Send(&self.out, varbinds)
            }
            Err(Silence::Malformed) => {
                tally(&self.agent.counters.in_parse_errors);
                Answer::Silence
            }
            Err(Silence::Counted) => Answer::Silence,
        }
    }

    fn answer_message(
        &mut self,
        datagram: &[u8],
        address: IpAddr,
        now: Instant,
        newest: impl FnOnce() -> Arc<Columns>,
    ) -> Result<usize, Silence> {
        let mut whole = Reader::new(datagram);
        let mut message = whole.element(tag::SEQUENCE)?;
        whole.finish()?;
        let version = message.integer()?;
        if !matches!(version, VERSION_1 | VERSION_2C) {
            tally(&self.agent.counters.in_bad_versions);
            return Err(Silence::Counted);
        }
        let community = message.string()?;
        let mut pdu = message.clone();
        message.any()?;
        message.finish()?;
        if !Community::is_one_of(community, &self.agent.communities) {
            tally(&self.agent.counters.in_bad_community_names);
            return Err(Silence::Counted);
        }

        let begun = ber::begin(&mut self.out, tag::SEQUENCE);
        ber::push_integer(&mut self.out, version);
        ber::push_string(&mut self.out, tag::OCTET_STRING, community);
        let max_size = self.agent.max_size.saturating_sub(self.out.len() + LONGER_LENGTH);
        let (version1, subtrees) = (version == VERSION_1, &self.agent.subtrees);
        let asker = Asker { address, now, version1, subtrees, max_size };
        let varbinds = self.responder.answer(&self.agent.mib(), &asker, newest, &mut pdu, &mut self.out)?;
        ber::end(&mut self.out, begun);
        Ok(varbinds)
    }
}

/// Why nothing is sent.
enum Silence {
    Malformed,
    /// The reason has been counted, or is none of those that are.
    Counted,
}

impl From<BerError> for Silence {
    fn from(_: BerError) -> Self {
        Self::Malformed
    }
}

impl From<Refusal> for Silence {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(_) => Self::Malformed,
            Refusal::NoRequest | Refusal::TooBig => Self::Counted,
        }
    }
}

#[cfg(test)]
mod tests;
