//! A session with a master agent, from Open to Close, without input and output.

use std::time::Instant;

use lbstats::Oid;

use super::answer::{Answers, Outcome, respond};
use super::error::{CloseReason, ErrorStatus};
use super::notification::Notification;
use super::pdu::{self, HEADER, Header, Message, Pdu, Region, VERSION};
use super::wire::Order;
use crate::view::View;
use crate::walks::Walks;

/// The largest payload that is read, in octets: more than 100 ranges of the longest identifiers, or a long string set.
const MAX_PAYLOAD: u32 = 1 << 18;
/// Priority of what is registered (RFC 2741 section 6.2.3: the default).
const PRIORITY: u8 = 127;
/// Requests of ours that may wait for their response, beside registrations.
const MAX_PENDING: usize = 64;

/// A session as the subagent sees it. It ends with its connection.
#[derive(Debug)]
pub struct Session {
    /// None until the master has opened it.
    id: Option<u32>,
    /// Number of the next request of ours.
    packet: u32,
    open: u32,
    subtrees: Vec<Subtree>,
    /// Pings and notifications without a response, oldest first.
    pending: Vec<u32>,
    answers: Answers,
}

#[derive(Debug)]
struct Subtree {
    root: Oid,
    state: Registration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registration {
    /// Not asked for yet.
    Unasked,
    /// Asked for by this packet.
    Asked(u32),
    Done,
    Refused(ErrorStatus),
}

/// What a PDU of the master was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The session is open, and registrations are under way.
    Opened,
    /// Every registration has its response; those that were refused are [`Session::refused`].
    Registered,
    /// A request, answered with so many variable bindings.
    Answered {
        /// Variable bindings in the response.
        varbinds: u32,
    },
    /// A request, answered with an error.
    Refused(ErrorStatus),
    /// The response to a ping or a notification of this number, and the error in it.
    Response {
        /// What [`Session::ping`] or [`Session::notify`] returned.
        packet: u32,
        /// [`ErrorStatus::NO_ERROR`] if it went well.
        error: ErrorStatus,
    },
    /// Something that needs no answer.
    Ignored,
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// What comes is no AgentX, or not the version there is.
    #[error("it speaks version {0} of AgentX and not version {VERSION}, or something else")]
    Version(u8),
    /// A PDU is larger than any that makes sense.
    #[error("it announced a PDU of {0} octets, and {MAX_PAYLOAD} are the most that is read")]
    TooLong(u32),
    /// It does not want this session.
    #[error("it refused the session: {0}")]
    OpenRefused(ErrorStatus),
    /// It has ended this session.
    #[error("it closed the session: {0}")]
    Closed(CloseReason),
    /// It does not know this session any more.
    #[error("it does not know the session any more")]
    Forgotten,
}

impl Session {
    /// Begins a session that will register `subtrees`: appends the Open to `out`. `description` tells people who the
    /// subagent is.
    pub fn open(subtrees: impl IntoIterator<Item = Oid>, walks: Walks, description: &str, out: &mut Vec<u8>) -> Self {
        let subtrees = subtrees.into_iter().map(|root| Subtree { root, state: Registration::Unasked });
        let mut session = Self {
            id: None,
            packet: 0,
            open: 0,
            subtrees: subtrees.collect(),
            pending: Vec::new(),
            answers: Answers::new(walks),
        };
        let open = Pdu::Open { timeout: 0, id: Oid::default(), description: description.as_bytes() };
        session.open = session.request(open, out);
        session
    }

    /// Takes the first PDU of `input`, appends to `out` what is to be sent for it, and says how many octets it had and
    /// what it was. None if there is less than a PDU. `newest` is asked at the start of a walk and for a get; it must
    /// not block.
    ///
    /// # Errors
    /// When the session is over; [`Session::close`] tells the master so.
    pub fn receive(
        &mut self,
        input: &[u8],
        now: Instant,
        newest: &mut impl FnMut() -> View,
        out: &mut Vec<u8>,
    ) -> Result<Option<(usize, Event)>, SessionError> {
        let Some((header, rest)) = input.split_first_chunk::<HEADER>() else { return Ok(None) };
        let (header, length) = Header::decode(header);
        if header.version != VERSION {
            // What follows may be a header of another shape, which has no response.
            return Err(SessionError::Version(header.version));
        }
        if length > MAX_PAYLOAD {
            return Err(SessionError::TooLong(length));
        }
        let length = length as usize;
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let event = self.process(header, payload, now, newest, out)?;
        Ok(Some((HEADER + length, event)))
    }

    fn process(
        &mut self,
        header: Header,
        payload: &[u8],
        now: Instant,
        newest: &mut impl FnMut() -> View,
        out: &mut Vec<u8>,
    ) -> Result<Event, SessionError> {
        let decoded = Message::decode(header, payload);
        match decoded {
            // RFC 2741 section 7.2.2: a response with errors is dropped, anything else gets them as its response.
            Err(_) if header.kind == pdu::RESPONSE || header.kind == pdu::CLEANUP_SET => Ok(Event::Ignored),
            Err(_) => Ok(refuse(&header, ErrorStatus::PARSE_ERROR, out)),
            Ok(Message { pdu: Pdu::Response { error, .. }, .. }) => self.response(&header, ErrorStatus(error), out),
            _ if self.id != Some(header.session) => match header.kind {
                pdu::CLEANUP_SET => Ok(Event::Ignored),
                _ => Ok(refuse(&header, ErrorStatus::NOT_OPEN, out)),
            },
            Ok(Message { pdu: Pdu::Close(reason), .. }) => Err(SessionError::Closed(CloseReason(reason))),
            Ok(message) => Ok(match self.answers.answer(&message, now, newest, out) {
                Some(Outcome { error: ErrorStatus::NO_ERROR, varbinds }) => Event::Answered { varbinds },
                Some(Outcome { error, .. }) => Event::Refused(error),
                None => Event::Ignored,
            }),
        }
    }

    fn response(&mut self, header: &Header, error: ErrorStatus, out: &mut Vec<u8>) -> Result<Event, SessionError> {
        if self.id.is_none() {
            if header.packet != self.open {
                return Ok(Event::Ignored);
            }
            if error != ErrorStatus::NO_ERROR {
                return Err(SessionError::OpenRefused(error));
            }
            self.id = Some(header.session);
            self.register(out);
            return Ok(Event::Opened);
        }
        if error == ErrorStatus::NOT_OPEN {
            return Err(SessionError::Forgotten);
        }
        let asked = Registration::Asked(header.packet);
        if let Some(subtree) = self.subtrees.iter_mut().find(|subtree| subtree.state == asked) {
            let done = error == ErrorStatus::NO_ERROR;
            subtree.state = if done { Registration::Done } else { Registration::Refused(error) };
            let settled = self.subtrees.iter().all(|subtree| !matches!(subtree.state, Registration::Asked(_)));
            return Ok(if settled { Event::Registered } else { Event::Ignored });
        }
        match self.pending.iter().position(|packet| *packet == header.packet) {
            Some(place) => Ok(Event::Response { packet: self.pending.remove(place), error }),
            None => Ok(Event::Ignored),
        }
    }

    /// Whether the session is open and every subtree registered.
    pub fn is_complete(&self) -> bool {
        self.id.is_some() && self.subtrees.iter().all(|subtree| subtree.state == Registration::Done)
    }

    /// The subtrees that the master did not take, and why.
    pub fn refused(&self) -> impl Iterator<Item = (&Oid, ErrorStatus)> {
        self.subtrees.iter().filter_map(|subtree| match subtree.state {
            Registration::Refused(error) => Some((&subtree.root, error)),
            _ => None,
        })
    }

    /// Registers what is not registered and not being registered, of an open session.
    pub fn register(&mut self, out: &mut Vec<u8>) {
        for place in 0..self.subtrees.len() {
            let Subtree { root, state } = &self.subtrees[place];
            if matches!(state, Registration::Unasked | Registration::Refused(_)) {
                let subtree = root.clone();
                let region = Region { priority: PRIORITY, range_arc: 0, subtree, upper_bound: None };
                let packet = self.request(Pdu::Register { timeout: 0, region }, out);
                self.subtrees[place].state = Registration::Asked(packet);
            }
        }
    }

    /// Asks the master for a sign of life, and returns the number of the request. None before the session is open, and
    /// while too many requests wait for their response.
    pub fn ping(&mut self, out: &mut Vec<u8>) -> Option<u32> {
        self.may_ask().then(|| self.request(Pdu::Ping, out)).inspect(|packet| self.pending.push(*packet))
    }

    /// Hands a notification to the master, as [`Session::ping`].
    pub fn notify(&mut self, notification: &Notification, out: &mut Vec<u8>) -> Option<u32> {
        if !self.may_ask() {
            return None;
        }
        let header = self.header(pdu::NOTIFY);
        header.encode(out, |writer| writer.octets.extend_from_slice(&notification.varbinds));
        self.pending.push(header.packet);
        Some(header.packet)
    }

    fn may_ask(&self) -> bool {
        self.id.is_some() && self.pending.len() < MAX_PENDING
    }

    /// Ends an open session.
    pub fn close(&mut self, reason: CloseReason, out: &mut Vec<u8>) {
        if self.id.is_some() {
            self.request(Pdu::Close(reason.0), out);
        }
    }

    /// Appends a request of ours and returns its number.
    fn request(&mut self, pdu: Pdu<'_>, out: &mut Vec<u8>) -> u32 {
        let header = self.header(pdu.kind());
        let message = Message { header, context: None, pdu };
        message.encode(out).expect("requests of ours carry no list that could be malformed");
        header.packet
    }

    fn header(&mut self, kind: u8) -> Header {
        let packet = self.packet;
        self.packet = packet.wrapping_add(1);
        Header {
            version: VERSION,
            kind,
            flags: 0,
            in_context: false,
            order: Order::Big,
            session: self.id.unwrap_or_default(),
            transaction: 0,
            packet,
        }
    }
}

fn refuse(header: &Header, error: ErrorStatus, out: &mut Vec<u8>) -> Event {
    respond(header, out, |_| Err((error, 0)));
    Event::Refused(error)
}
