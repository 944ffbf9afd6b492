//! Informs of version 3 to one receiver, which is the authoritative engine: what is sent has to name its engine, carry its
//! time and be protected with keys for it (RFC 3414 section 4).
//!
//! An [`Informer`] opens no socket and waits for nothing. Its user sends what [`Informer::message`] makes, gives what
//! comes back to [`Informer::hear`], and sends again when that says so or nothing comes:
//!
//! ```no_run
//! # use std::{io, net::UdpSocket, time::Instant};
//! # use snmp_export::usm::{Heard, Informer};
//! /// Whether the receiver has taken the inform; `socket` is connected to it and has a time-out.
//! fn inform(informer: &mut Informer, socket: &UdpSocket, pdu: &[u8]) -> io::Result<bool> {
//!     let (mut out, mut datagram) = (Vec::new(), vec![0; 65_507]);
//!     for _attempt in 0..5 {
//!         informer.message(Instant::now(), pdu, &mut out).map_err(io::Error::other)?;
//!         socket.send(&out)?;
//!         loop {
//!             let Ok(length) = socket.recv(&mut datagram) else { break };
//!             match informer.hear(Instant::now(), &mut datagram[..length]) {
//!                 Heard::Response { error_status, .. } => return Ok(error_status == 0),
//!                 Heard::Again => break,
//!                 Heard::Refused(reason) => return Err(io::Error::other(reason.to_string())),
//!                 Heard::Nothing => {}
//!             }
//!         }
//!     }
//!     Ok(false)
//! }
//! ```

use std::fmt;
use std::time::Instant;

use lbstats::Oid;

use super::WrapError;
use super::engine::{Clock, Engine, EngineId, LATCHED, TIME_WINDOW};
use super::message::{AUTH, Envelope, MODEL_USM, Malformed, Message, PRIV, Parameters, Protection, ScopedPdu};
use super::stats::Counter;
use super::user::{Account, AccountError, Keys, SecurityLevel, User};
use crate::ber::{self, BerError, Reader, tag};

/// The secrets for informs.
#[derive(Clone, Debug)]
pub enum InformKeys {
    /// None: informs are sent noAuthNoPriv.
    None,
    /// Ku, from which keys for any engine can be made: whichever engine the receiver says it is, its keys are found. Who
    /// steals them can speak for this user wherever it has the same passphrases.
    Anywhere(Keys),
    /// Keys localized to the engine of this receiver, which must be known beforehand. They are good for nothing else.
    At(EngineId, Keys),
}

/// Sends informs of one user to one receiver.
#[derive(Debug)]
pub struct Informer {
    account: Account,
    keys: InformKeys,
    level: SecurityLevel,
    receiver: Option<Receiver>,
    /// The msgID of the oldest message that may still be answered, and of the next one.
    ids: (u32, u32),
    salt: u64,
}

/// What is known of the engine that receives.
#[derive(Debug)]
struct Receiver {
    engine_id: EngineId,
    /// With keys for that engine.
    user: User,
    /// The last time that it told authentically, and when; none before the first one.
    clock: Option<(Clock, Instant)>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The receiver has answered an inform: with 0 it has taken it.
    Response {
        /// The inform's.
        request_id: i32,
        /// RFC 3416 section 3; 0 is noError.
        error_status: i32,
    },
    /// The receiver has told its engine or its time. The message must be made and sent again, now; a receiver that says so
    /// more than three times for one inform is not to be believed.
    Again,
    /// It does not take what this user sends, and repeating would not help. Reports are not authentic: a forged one may say
    /// so too.
    Refused(Refused),
    /// Nothing that concerns what was sent; go on waiting.
    Nothing,
}

/// Why a receiver does not take an inform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub Counter);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Counter::UnknownUserNames => "the receiver does not know the user: create it there",
            Counter::WrongDigests => {
                "the receiver has another authentication key for the user: compare protocol and passphrase"
            }
            Counter::DecryptionErrors => "the receiver has another privacy key: compare protocol and passphrase",
            Counter::UnsupportedSecLevels => "the receiver has no keys for this security level of the user",
            Counter::UnknownEngineIds => "the receiver is another engine than the one that the keys are localized to",
            Counter::NotInTimeWindows => "the receiver takes no message for fresh",
            Counter::UnknownContexts | Counter::UnavailableContexts => "the receiver does not know the default context",
            Counter::UnknownPduHandlers => "the receiver takes no informs",
            Counter::UnknownSecurityModels | Counter::InvalidMsgs => "the receiver does not understand the message",
        })
    }
}

impl Informer {
    /// Informs of this user at this level. `random` needs to differ from one start to the next.
    ///
    /// # Errors
    /// When the name is none, or the keys are not enough for the level.
    pub fn new(name: &str, level: SecurityLevel, keys: InformKeys, random: u64) -> Result<Self, AccountError> {
        let account = Account { name: name.to_owned(), keys: None, level, view: Vec::new() };
        let id = u32::try_from(random & u64::from(ID_MASK)).unwrap_or_default();
        let mut informer = Self { account, keys, level, receiver: None, ids: (id, id), salt: random };
        // Keys of the right lengths for one engine are so for every other.
        let engine_id = match &informer.keys {
            InformKeys::At(engine_id, _) => engine_id.clone(),
            _ => EngineId::from_random([0; 12]),
        };
        informer.meet(engine_id)?;
        if !matches!(informer.keys, InformKeys::At(..)) {
            informer.receiver = None;
        }
        Ok(informer)
    }

    /// Makes `out` what has to be sent now to deliver this InformRequest-PDU: the inform, or while the receiver's engine is
    /// not known, a question for it.
    ///
    /// # Errors
    /// When the PDU is too long for a message.
    pub fn message(&mut self, now: Instant, pdu: &[u8], out: &mut Vec<u8>) -> Result<(), WrapError> {
        let id = self.ids.1;
        self.ids.1 = (id + 1) & ID_MASK;
        self.salt = self.salt.wrapping_add(1);
        let envelope = Envelope {
            id,
            max_size: Engine::MAX_SIZE,
            reportable: true,
            engine_id: b"",
            clock: Clock::default(),
            user: b"",
            protection: Protection::None,
            context_engine_id: b"",
            context_name: b"",
        };
        let Some(receiver) = &self.receiver else { return envelope.wrap(&question(id), out) };
        let engine_id = receiver.engine_id.octets();
        let protection = receiver.user.protection(self.level, self.salt.to_be_bytes());
        // Before the first synchronization it is 0, and the receiver answers with its own (RFC 3414 section 4).
        let clock = receiver.clock.map(|(clock, heard)| clock.later(now.saturating_duration_since(heard)));
        let envelope = Envelope {
            engine_id,
            clock: clock.unwrap_or_default(),
            user: self.account.name.as_bytes(),
            protection: protection.expect("keys for the level are there since `new`"),
            context_engine_id: engine_id,
            ..envelope
        };
        envelope.wrap(pdu, out)
    }

    /// Takes in a datagram from the receiver's address, decrypting it in place.
    pub fn hear(&mut self, now: Instant, datagram: &mut [u8]) -> Heard {
        self.take(now, datagram).unwrap_or(Heard::Nothing)
    }

    fn take(&mut self, now: Instant, datagram: &mut [u8]) -> Result<Heard, Malformed> {
        let message = Message::read(datagram)?;
        let since = |id: u32| id.wrapping_sub(self.ids.0) & ID_MASK;
        if message.security_model != MODEL_USM || since(message.id) >= since(self.ids.1) {
            return Ok(Heard::Nothing);
        }
        let parameters = message.parameters(datagram)?;
        let level = match message.flags & (AUTH | PRIV) {
            0 => SecurityLevel::NoAuthNoPriv,
            AUTH => SecurityLevel::AuthNoPriv,
            PRIV => return Err(Malformed),
            _ => SecurityLevel::AuthPriv,
        };
        if level == SecurityLevel::NoAuthNoPriv {
            let scoped = message.plain(datagram)?;
            return self.take_unprotected(datagram, &parameters, &scoped);
        }
        let Some(receiver) = &mut self.receiver else { return Ok(Heard::Nothing) };
        if !receiver.authenticates(now, datagram, &parameters) {
            return Ok(Heard::Nothing);
        }
        let scoped = match (level, receiver.user.cipher(), parameters.iv(datagram)) {
            (SecurityLevel::AuthPriv, Some(cipher), Some(iv)) => {
                let encrypted = message.encrypted(datagram)?;
                cipher.decrypt(iv, &mut datagram[encrypted.clone()]);
                ScopedPdu::read(datagram, encrypted)?.0
            }
            (SecurityLevel::AuthPriv, ..) => return Err(Malformed),
            _ => message.plain(datagram)?,
        };
        match scoped.tag {
            tag::REPORT => Ok(match reported(&datagram[scoped.pdu])? {
                Some(Counter::NotInTimeWindows) => Heard::Again,
                Some(counter) => Heard::Refused(Refused(counter)),
                None => Heard::Nothing,
            }),
            // RFC 3412 section 7.2 step 12: at the level at which it was asked.
            tag::RESPONSE if level == self.level => self.response(&datagram[scoped.pdu]),
            _ => Ok(Heard::Nothing),
        }
    }

    fn take_unprotected(
        &mut self,
        datagram: &[u8],
        parameters: &Parameters,
        scoped: &ScopedPdu,
    ) -> Result<Heard, Malformed> {
        let engine_id = EngineId::try_from(&datagram[parameters.engine_id.clone()]).map_err(|_| Malformed)?;
        let known = self.receiver.as_ref().is_some_and(|receiver| receiver.engine_id == engine_id);
        match scoped.tag {
            tag::REPORT => Ok(match reported(&datagram[scoped.pdu.clone()])? {
                Some(Counter::UnknownEngineIds) if known => Heard::Nothing,
                Some(Counter::UnknownEngineIds) if matches!(self.keys, InformKeys::At(..)) => {
                    Heard::Refused(Refused(Counter::UnknownEngineIds))
                }
                Some(Counter::UnknownEngineIds) => {
                    self.meet(engine_id).map_err(|_| Malformed)?;
                    Heard::Again
                }
                // Only an authentic one tells a time that can be believed.
                Some(Counter::NotInTimeWindows) | None => Heard::Nothing,
                Some(counter) => Heard::Refused(Refused(counter)),
            }),
            tag::RESPONSE if known && self.level == SecurityLevel::NoAuthNoPriv => {
                self.response(&datagram[scoped.pdu.clone()])
            }
            _ => Ok(Heard::Nothing),
        }
    }

    fn response(&mut self, pdu: &[u8]) -> Result<Heard, Malformed> {
        let (_, mut fields) = Reader::new(pdu).any()?;
        let (request_id, error_status) = (fields.integer()?, fields.integer()?);
        self.ids.0 = self.ids.1;
        Ok(Heard::Response { request_id, error_status })
    }

    /// From now on the receiver is this engine.
    fn meet(&mut self, engine_id: EngineId) -> Result<(), AccountError> {
        let keys = match &self.keys {
            InformKeys::None => None,
            InformKeys::Anywhere(ku) => Some(ku.localize(&engine_id)),
            InformKeys::At(_, keys) => Some(keys.clone()),
        };
        let user = User::new(&Account { keys, ..self.account.clone() })?;
        self.receiver = Some(Receiver { engine_id, user, clock: None });
        Ok(())
    }
}

impl Receiver {
    /// Whether a message is this receiver's and not an old one (RFC 3414 section 3.2, steps 6 and 7b); its time is
    /// learned then.
    fn authenticates(&mut self, now: Instant, datagram: &[u8], parameters: &Parameters) -> bool {
        let theirs = parameters.clock;
        let said_so = datagram[parameters.engine_id.clone()] == *self.engine_id.octets()
            && datagram[parameters.user.clone()] == *self.user.name().as_bytes()
            && self.user.auth().is_some_and(|auth| auth.verify(datagram, parameters.code.clone()));
        if !said_so || theirs.boots == LATCHED {
            return false;
        }
        match self.clock {
            Some((latest, heard)) if theirs <= latest => {
                let expected = latest.later(now.saturating_duration_since(heard));
                theirs.boots == expected.boots && theirs.time.saturating_add(TIME_WINDOW) >= expected.time
            }
            _ => {
                self.clock = Some((theirs, now));
                true
            }
        }
    }
}

const ID_MASK: u32 = i32::MAX as u32;

/// The question for a receiver's engine: a GetRequest for nothing (RFC 3414 section 4).
fn question(request_id: u32) -> Vec<u8> {
    let mut pdu = Vec::new();
    let begun = ber::begin(&mut pdu, tag::GET);
    ber::push_unsigned(&mut pdu, tag::INTEGER, request_id.into());
    ber::push_integer(&mut pdu, 0);
    ber::push_integer(&mut pdu, 0);
    ber::push_empty(&mut pdu, tag::SEQUENCE);
    ber::end(&mut pdu, begun);
    pdu
}

/// What a Report-PDU reports, if it is something known.
fn reported(pdu: &[u8]) -> Result<Option<Counter>, BerError> {
    let (_, mut fields) = Reader::new(pdu).any()?;
    for _ in ["request-id", "error-status", "error-index"] {
        fields.integer()?;
    }
    let mut oid = Oid::default();
    fields.element(tag::SEQUENCE)?.element(tag::SEQUENCE)?.oid(&mut oid)?;
    Ok(Counter::of(&oid))
}
