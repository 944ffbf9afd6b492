//! What becomes of a message that arrives at the engine: RFC 3412 section 7.2 and, within it, RFC 3414 section 3.2, step
//! by step in their order.

use std::sync::Arc;
use std::time::Instant;

use super::Usm;
use super::engine::Clock;
use super::message::{AUTH, Envelope, MODEL_USM, Malformed, Message, PRIV, Parameters, REPORTABLE, ScopedPdu};
use super::stats::Counter;
use super::user::{SecurityLevel, User};
use crate::ber::{self, Reader, tag};

/// What is to be done about a datagram.
#[derive(Debug)]
pub enum Received<'a> {
    /// Somebody known asks, and is to be answered with [`Request::answer`].
    Request(Request<'a>),
    /// The answer is made already: a Report, or a Response with authorizationError for a user who asks below the level
    /// demanded of it. It only needs to be sent.
    Answered,
    /// No answer. It breaks the syntax of messages: the caller counts snmpInASNParseErrs.
    Malformed,
    /// No answer, and what was to be counted is.
    Ignored,
}

/// A request that is authentic and fresh, as far as its level says, and decrypted.
#[derive(Debug)]
pub struct Request<'a> {
    /// Who asks. Its view is for the caller to respect.
    pub user: Arc<User>,
    /// How the message was protected; the answer will be likewise.
    pub level: SecurityLevel,
    /// The request's PDU with its tag: GetRequest, GetNextRequest, GetBulkRequest or SetRequest. What is behind its
    /// request-id has not been looked at.
    pub pdu: &'a [u8],
    id: u32,
    max_size: u32,
}

/// What the request will be made of, once the datagram is not changed any more.
struct Accepted {
    user: Arc<User>,
    level: SecurityLevel,
    scoped: ScopedPdu,
    message: Message,
}

/// Why there will be no request.
enum Refusal {
    Malformed,
    Ignored,
    Report(Report),
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A Report that is to be sent.
struct Report {
    counter: Counter,
    count: u32,
    id: u32,
    max_size: u32,
    request_id: i32,
    /// Whose keys protect it, and at which level.
    protection: (Option<Arc<User>>, SecurityLevel),
    /// Its user's name is said again.
    name: std::ops::Range<usize>,
}

impl Usm {
    /// Takes in a datagram that holds a message of version 3, decrypting it in place. `out` becomes the answer if there
    /// is one already, else empty.
    pub fn receive<'a>(&self, now: Instant, datagram: &'a mut [u8], out: &mut Vec<u8>) -> Received<'a> {
        out.clear();
        let now = self.engine.clock(now);
        let Accepted { user, level, scoped, message } = match self.accept(now, datagram) {
            Ok(accepted) => accepted,
            Err(Refusal::Malformed) => return Received::Malformed,
            Err(Refusal::Ignored) => return Received::Ignored,
            Err(Refusal::Report(report)) => return self.report(now, &report, datagram, out),
        };
        let request = Request { pdu: &datagram[scoped.pdu], id: message.id, max_size: message.max_size, user, level };
        if level >= request.user.level() { Received::Request(request) } else { self.deny(now, &request, out) }
    }

    fn accept(&self, now: Clock, datagram: &mut [u8]) -> Result<Accepted, Refusal> {
        let message = Message::read(datagram)?;
        if message.security_model != MODEL_USM {
            self.stats.count(Counter::UnknownSecurityModels);
            return Err(Refusal::Ignored);
        }
        let level = match message.flags & (AUTH | PRIV) {
            0 => SecurityLevel::NoAuthNoPriv,
            AUTH => SecurityLevel::AuthNoPriv,
            PRIV => {
                self.stats.count(Counter::InvalidMsgs);
                return Err(Refusal::Ignored);
            }
            _ => SecurityLevel::AuthPriv,
        };
        let parameters = message.parameters(datagram)?;
        let user = self.authenticate(now, datagram, &message, &parameters, level)?;
        let scoped = match level {
            SecurityLevel::AuthPriv => self.decrypt(datagram, &message, &parameters, &user)?,
            _ => message.plain(datagram)?,
        };
        self.dispatch(datagram, &message, &parameters, &scoped, (&user, level))?;
        Ok(Accepted { user, level, scoped, message })
    }

    /// RFC 3414 section 3.2, steps 3 to 7.
    fn authenticate(
        &self,
        now: Clock,
        datagram: &[u8],
        message: &Message,
        parameters: &Parameters,
        level: SecurityLevel,
    ) -> Result<Arc<User>, Refusal> {
        // Before it is decrypted, a message's PDU is not known, and its flag says whether it wants a Report; else its
        // PDU does (RFC 3412 section 6.4).
        let plain = || (level != SecurityLevel::AuthPriv).then(|| message.plain(datagram).ok()).flatten();
        let refuse = |counter, protection| {
            let plain = plain();
            let wanted = plain.as_ref().map_or(message.flags & REPORTABLE != 0, ScopedPdu::is_confirmed);
            let request_id = plain.map_or(0, |plain| plain.request_id);
            self.refuse(counter, message, parameters, wanted.then_some(request_id), protection)
        };
        let unprotected = (None, SecurityLevel::NoAuthNoPriv);
        if datagram[parameters.engine_id.clone()] != *self.engine.id().octets() {
            return Err(refuse(Counter::UnknownEngineIds, unprotected));
        }
        let user = std::str::from_utf8(&datagram[parameters.user.clone()]).ok();
        let Some(user) = user.and_then(|name| self.user(name)) else {
            return Err(refuse(Counter::UnknownUserNames, unprotected));
        };
        if level > user.highest_level() {
            return Err(refuse(Counter::UnsupportedSecLevels, unprotected));
        }
        if level >= SecurityLevel::AuthNoPriv {
            if !user.auth().is_some_and(|auth| auth.verify(datagram, parameters.code.clone())) {
                return Err(refuse(Counter::WrongDigests, unprotected));
            }
            if !parameters.clock.is_fresh_at(now) {
                return Err(refuse(Counter::NotInTimeWindows, (Some(user), SecurityLevel::AuthNoPriv)));
            }
        }
        Ok(user)
    }

    /// RFC 3414 section 3.2, step 8. AES cannot fail, but what comes out of it makes no sense if the key was another:
    /// then the sender learns so, as the message is its own.
    fn decrypt(
        &self,
        datagram: &mut [u8],
        message: &Message,
        parameters: &Parameters,
        user: &Arc<User>,
    ) -> Result<ScopedPdu, Refusal> {
        let encrypted = message.encrypted(datagram)?;
        if let (Some(cipher), Some(iv)) = (user.cipher(), parameters.iv(datagram)) {
            cipher.decrypt(iv, &mut datagram[encrypted.clone()]);
            if let Ok((scoped, _)) = ScopedPdu::read(datagram, encrypted) {
                return Ok(scoped);
            }
        }
        let wanted = (message.flags & REPORTABLE != 0).then_some(0);
        let unprotected = (None, SecurityLevel::NoAuthNoPriv);
        Err(self.refuse(Counter::DecryptionErrors, message, parameters, wanted, unprotected))
    }

    /// RFC 3412 section 4.2.2 and RFC 3413 section 3.2: this engine answers requests for itself, in the default context.
    fn dispatch(
        &self,
        datagram: &[u8],
        message: &Message,
        parameters: &Parameters,
        scoped: &ScopedPdu,
        (user, level): (&Arc<User>, SecurityLevel),
    ) -> Result<(), Refusal> {
        let request_id = scoped.is_confirmed().then_some(scoped.request_id);
        let refuse = |counter| self.refuse(counter, message, parameters, request_id, (Some(user.clone()), level));
        match scoped.tag {
            // They answer something, and nothing has been asked.
            tag::RESPONSE | tag::REPORT => Err(Refusal::Ignored),
            tag::GET | tag::GET_NEXT | tag::GET_BULK | tag::SET
                if datagram[scoped.context_engine_id.clone()] == *self.engine.id().octets() =>
            {
                if scoped.context_name.is_empty() { Ok(()) } else { Err(refuse(Counter::UnknownContexts)) }
            }
            _ => Err(refuse(Counter::UnknownPduHandlers)),
        }
    }

    /// Counts it, and makes a Report if one is wanted: then the request-id is known, or 0.
    fn refuse(
        &self,
        counter: Counter,
        message: &Message,
        parameters: &Parameters,
        request_id: Option<i32>,
        protection: (Option<Arc<User>>, SecurityLevel),
    ) -> Refusal {
        let count = self.stats.count(counter);
        let Some(request_id) = request_id else { return Refusal::Ignored };
        let (id, max_size, name) = (message.id, message.max_size, parameters.user.clone());
        Refusal::Report(Report { counter, count, id, max_size, request_id, protection, name })
    }

    /// RFC 3412 section 7.1, step 3.
    fn report<'a>(&self, now: Clock, report: &Report, datagram: &[u8], out: &mut Vec<u8>) -> Received<'a> {
        let (user, level) = &report.protection;
        let name = &datagram[report.name.clone()];
        let written =
            self.respond(now, report.id, report.max_size, (user.as_deref(), name, *level), out, |out, end| {
                ber::push_pdu(out, tag::REPORT, [report.request_id, 0, 0], |out| {
                    ber::push_varbind(out, report.counter.oid(), lbstats::Value::Counter32(report.count));
                });
                out.len() <= end
            });
        if written { Received::Answered } else { Received::Ignored }
    }

    /// A Response with authorizationError and the request's varbinds (RFC 3413 section 3.2, noAccessEntry).
    fn deny<'a>(&self, now: Clock, request: &Request<'_>, out: &mut Vec<u8>) -> Received<'a> {
        let parts = || {
            let (_, mut fields) = Reader::new(request.pdu).any()?;
            let request_id = fields.integer()?;
            fields.integer()?;
            fields.integer()?;
            let varbinds = fields.rest();
            fields.element(tag::SEQUENCE)?;
            fields.finish().map(|()| (request_id, varbinds))
        };
        let Ok((request_id, varbinds)) = parts() else { return Received::Malformed };
        let written = request.respond(self, now, out, |out, end| {
            let pdu = ber::begin(out, tag::RESPONSE);
            ber::push_integer(out, request_id);
            ber::push_integer(out, AUTHORIZATION_ERROR);
            ber::push_integer(out, 0);
            out.extend_from_slice(varbinds);
            ber::end(out, pdu);
            out.len() <= end
        });
        if written { Received::Answered } else { Received::Ignored }
    }

    /// Makes `out` a message of this engine, or empty if its PDU did not fit.
    fn respond(
        &self,
        clock: Clock,
        id: u32,
        max_size: u32,
        (user, name, level): (Option<&User>, &[u8], SecurityLevel),
        out: &mut Vec<u8>,
        pdu: impl FnOnce(&mut Vec<u8>, usize) -> bool,
    ) -> bool {
        out.clear();
        let salt = if level == SecurityLevel::AuthPriv { self.next_salt() } else { Default::default() };
        let protection = match user {
            Some(user) => user.protection(level, salt).expect("the request was of a level that its user has"),
            None => super::message::Protection::None,
        };
        let envelope = Envelope {
            id,
            max_size: self.engine.max_size(),
            reportable: false,
            engine_id: self.engine.id().octets(),
            clock,
            user: name,
            protection,
            context_engine_id: self.engine.id().octets(),
            context_name: b"",
        };
        let unfinished = envelope.begin(out);
        if !pdu(out, max_size.min(self.engine.max_size()) as usize) {
            out.clear();
            return false;
        }
        envelope.finish(out, &unfinished);
        true
    }
}

const AUTHORIZATION_ERROR: i32 = 16;

impl Request<'_> {
    /// Makes `out` the message that answers. `pdu` appends the Response's PDU to what is in the buffer it gets, which may
    /// then have the octets it is told and no more: that makes the message as long as both sides take. Returns what
    /// `pdu` does: false if nothing fits, and then `out` is empty and no answer is to be sent (snmpSilentDrops).
    pub fn answer(
        &self,
        usm: &Usm,
        now: Instant,
        out: &mut Vec<u8>,
        pdu: impl FnOnce(&mut Vec<u8>, usize) -> bool,
    ) -> bool {
        self.respond(usm, usm.engine.clock(now), out, pdu)
    }

    fn respond(
        &self,
        usm: &Usm,
        clock: Clock,
        out: &mut Vec<u8>,
        pdu: impl FnOnce(&mut Vec<u8>, usize) -> bool,
    ) -> bool {
        let user = (Some(&*self.user), self.user.name().as_bytes(), self.level);
        usm.respond(clock, self.id, self.max_size, user, out, pdu)
    }
}
