//! SNMPv3 with the User-based Security Model: RFC 3412, 3414, 3826 and 7860, for the engine that answers and for the one
//! that notifies.
//!
//! A [`Usm`] is shared by all workers and waits for nothing: its users are swapped as a whole, what it counts is atomic.
//! It wraps and unwraps PDUs and does not look into them:
//!
//! ```
//! # use std::time::Instant;
//! # use snmp_export::usm::{Received, Usm};
//! # fn pdu_that_answers(request: &[u8], out: &mut Vec<u8>, end: usize) -> bool { false }
//! /// True if `out` is to be sent back.
//! fn answer(usm: &Usm, datagram: &mut [u8], out: &mut Vec<u8>) -> bool {
//!     let now = Instant::now();
//!     match usm.receive(now, datagram, out) {
//!         Received::Request(request) => {
//!             request.answer(usm, now, out, |out, end| pdu_that_answers(request.pdu, out, end))
//!         }
//!         Received::Answered => true,
//!         Received::Malformed | Received::Ignored => false,
//!     }
//! }
//! ```
//!
//! [`Usm::trap`] wraps a trap, [`Informer`] sends informs to one receiver.

mod auth;
mod engine;
mod inform;
mod keys;
mod message;
mod privacy;
mod receive;
mod stats;
#[cfg(test)]
mod tests;
mod user;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::ArcSwap;

pub use auth::{AuthProtocol, UnknownAuthProtocol};
pub use engine::{Clock, Engine, EngineId, NoEngineId};
pub use inform::{Heard, InformKeys, Informer, Refused};
pub use keys::{Key, PassphraseTooShort, SHORTEST_PASSPHRASE};
pub use privacy::{PrivProtocol, UnknownPrivProtocol};
pub use receive::{Received, Request};
pub use stats::{Counter, Stats};
pub use user::{Account, AccountError, Keys, SecurityLevel, UnknownSecurityLevel, User, Users};

use message::Envelope;
use privacy::SALT_LENGTH;

/// The security of one engine: who it is, whom it knows, what it has counted.
#[derive(Debug)]
pub struct Usm {
    engine: Engine,
    users: ArcSwap<Users>,
    stats: Stats,
    salt: AtomicU64,
    message_id: AtomicU32,
}

/// Why a notification cannot be wrapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// The user has no keys for the level at which it was to be sent.
    #[error("SNMPv3 user {0} has no keys for {1}")]
    NoKeys(String, SecurityLevel),
    /// It does not fit into a UDP datagram.
    #[error("a PDU of {0} octets does not fit into an SNMPv3 message")]
    TooLong(usize),
}

impl Usm {
    /// Security of an engine. Salts begin at `random`, which only needs to differ from one start to the next: two
    /// messages of one second must not be encrypted with the same vector (RFC 3826 section 3.1.2.1).
    pub fn new(engine: Engine, users: Users, random: u64) -> Self {
        Self {
            engine,
            users: ArcSwap::from_pointee(users),
            stats: Stats::default(),
            salt: AtomicU64::new(random),
            message_id: AtomicU32::new(u32::try_from(random >> 32).unwrap_or_default()),
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What it has counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The user of this name.
    pub fn user(&self, name: &str) -> Option<Arc<User>> {
        self.users.load().of_name(name).cloned()
    }

    /// Knows these users from now on, and no others.
    pub fn replace_users(&self, users: Users) {
        self.users.store(Arc::new(users));
    }

    /// Makes `out` the message that carries a trap of this engine, which is the authoritative one: a receiver knows the
    /// user's keys at this engine ID, and nothing is asked of it before. `pdu` is an SNMPv2-Trap-PDU with its tag.
    ///
    /// # Errors
    /// As [`WrapError`] says.
    pub fn trap(
        &self,
        now: Instant,
        user: &User,
        level: SecurityLevel,
        pdu: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), WrapError> {
        let protection = user.protection(level, self.next_salt());
        let protection = protection.ok_or_else(|| WrapError::NoKeys(user.name().to_owned(), level))?;
        let envelope = Envelope {
            id: self.next_message_id(),
            max_size: self.engine.max_size(),
            reportable: false,
            engine_id: self.engine.id().octets(),
            clock: self.engine.clock(now),
            user: user.name().as_bytes(),
            protection,
            context_engine_id: self.engine.id().octets(),
            context_name: b"",
        };
        envelope.wrap(pdu, out)
    }

    fn next_salt(&self) -> [u8; SALT_LENGTH] {
        self.salt.fetch_add(1, Relaxed).to_be_bytes()
    }

    /// 0 to 2^31-1.
    fn next_message_id(&self) -> u32 {
        self.message_id.fetch_add(1, Relaxed) & i32::MAX as u32
    }
}
