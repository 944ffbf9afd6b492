//! Messages of version 3 on the wire (RFC 3412 section 6, RFC 3414 section 2.4): where their parts are, and making them.

use std::ops::Range;

use super::WrapError;
use super::auth::Authenticator;
use super::engine::Clock;
use super::privacy::{Cipher, Iv, SALT_LENGTH};
use crate::ber::{self, BerError, Reader, tag};

/// Number of the User-based Security Model (RFC 3411 section 5, SnmpSecurityModel).
pub(crate) const MODEL_USM: u32 = 3;

/// Bits of msgFlags (RFC 3412 section 6.4).
pub(crate) const AUTH: u8 = 1;
pub(crate) const PRIV: u8 = 2;
pub(crate) const REPORTABLE: u8 = 4;

/// The smallest msgMaxSize there may be (RFC 3412 section 6.3).
const SMALLEST_MAX_SIZE: u32 = 484;

/// Octets that are no message, or a part of one that breaks its syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl From<BerError> for Malformed {
    fn from(_: BerError) -> Self {
        Self
    }
}

/// What every security model shares, and where the rest is in the datagram.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: u32,
    pub(crate) max_size: u32,
    pub(crate) flags: u8,
    pub(crate) security_model: u32,
    /// The contents of msgSecurityParameters.
    parameters: Range<usize>,
    /// The element msgData.
    data: Range<usize>,
}

impl Message {
    pub(crate) fn read(datagram: &[u8]) -> Result<Self, Malformed> {
        let mut outer = Reader::new(datagram);
        let mut message = outer.element(tag::SEQUENCE)?;
        outer.finish()?;
        if message.integer()? != 3 {
            return Err(Malformed);
        }
        let mut header = message.element(tag::SEQUENCE)?;
        let id = natural(&mut header)?;
        let max_size = natural(&mut header)?;
        let &[flags] = header.string()? else { return Err(Malformed) };
        let security_model = natural(&mut header)?;
        header.finish()?;
        let parameters = message.element(tag::OCTET_STRING)?.range();
        let data = message.range();
        message.any()?;
        message.finish()?;
        if max_size < SMALLEST_MAX_SIZE || security_model == 0 {
            return Err(Malformed);
        }
        Ok(Self { id, max_size, flags, security_model, parameters, data })
    }

    /// The parameters of USM.
    pub(crate) fn parameters(&self, datagram: &[u8]) -> Result<Parameters, Malformed> {
        let start = self.parameters.start;
        let mut outer = Reader::new(&datagram[self.parameters.clone()]);
        let mut fields = outer.element(tag::SEQUENCE)?;
        outer.finish()?;
        let engine_id = string(&mut fields, start)?;
        let clock = Clock { boots: natural(&mut fields)?, time: natural(&mut fields)? };
        let user = string(&mut fields, start)?;
        if user.len() > 32 {
            return Err(Malformed);
        }
        let code = string(&mut fields, start)?;
        let salt = string(&mut fields, start)?;
        fields.finish()?;
        Ok(Parameters { engine_id, clock, user, code, salt })
    }

    /// The scoped PDU of a message that is not encrypted.
    pub(crate) fn plain(&self, datagram: &[u8]) -> Result<ScopedPdu, Malformed> {
        let (scoped, end) = ScopedPdu::read(datagram, self.data.clone())?;
        if end == self.data.end { Ok(scoped) } else { Err(Malformed) }
    }

    /// Where the encrypted octets of a message are that is.
    pub(crate) fn encrypted(&self, datagram: &[u8]) -> Result<Range<usize>, Malformed> {
        string(&mut Reader::new(&datagram[self.data.clone()]), self.data.start)
    }
}

/// msgSecurityParameters of USM: numbers, and where the strings are in the datagram.
#[derive(Clone, Debug)]
pub(crate) struct Parameters {
    pub(crate) engine_id: Range<usize>,
    pub(crate) clock: Clock,
    pub(crate) user: Range<usize>,
    pub(crate) code: Range<usize>,
    pub(crate) salt: Range<usize>,
}

impl Parameters {
    /// None if the salt has not the length of one.
    pub(crate) fn iv(&self, datagram: &[u8]) -> Option<Iv> {
        let salt = datagram[self.salt.clone()].try_into().ok()?;
        Some(Iv { boots: self.clock.boots, time: self.clock.time, salt })
    }
}

/// Where the parts of a ScopedPDU are in the datagram.
#[derive(Clone, Debug)]
pub(crate) struct ScopedPdu {
    pub(crate) context_engine_id: Range<usize>,
    pub(crate) context_name: Range<usize>,
    pub(crate) tag: u8,
    /// The PDU with its tag and length.
    pub(crate) pdu: Range<usize>,
    pub(crate) request_id: i32,
}

impl ScopedPdu {
    /// And where it ends: what is decrypted may have padding behind it.
    pub(crate) fn read(datagram: &[u8], at: Range<usize>) -> Result<(Self, usize), Malformed> {
        let start = at.start;
        let mut outer = Reader::new(&datagram[at]);
        let mut scoped = outer.element(tag::SEQUENCE)?;
        let end = start + outer.range().start;
        let context_engine_id = string(&mut scoped, start)?;
        let context_name = string(&mut scoped, start)?;
        let pdu = scoped.range();
        let (tag, mut fields) = scoped.any()?;
        scoped.finish()?;
        if !matches!(tag, tag::GET..=tag::SET | tag::GET_BULK..=tag::REPORT) {
            return Err(Malformed);
        }
        let request_id = fields.integer()?;
        let pdu = start + pdu.start..start + pdu.end;
        Ok((Self { context_engine_id, context_name, tag, pdu, request_id }, end))
    }

    /// Whether it wants an answer: a Report may then be one (RFC 3411 section 2.8, Confirmed Class).
    pub(crate) fn is_confirmed(&self) -> bool {
        matches!(self.tag, tag::GET | tag::GET_NEXT | tag::GET_BULK | tag::SET | tag::INFORM)
    }
}

/// An INTEGER from 0 to 2^31-1.
fn natural(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    u32::try_from(reader.integer()?).map_err(|_| Malformed)
}

/// Where the contents of the next OCTET STRING are, in octets of which the reader has those from `start` on.
fn string(reader: &mut Reader<'_>, start: usize) -> Result<Range<usize>, Malformed> {
    let within = reader.element(tag::OCTET_STRING)?.range();
    Ok(start + within.start..start + within.end)
}

/// What a message says beside its PDU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope<'a> {
    pub(crate) id: u32,
    /// msgMaxSize: the longest message the sender takes, in octets.
    pub(crate) max_size: u32,
    pub(crate) reportable: bool,
    pub(crate) engine_id: &'a [u8],
    pub(crate) clock: Clock,
    pub(crate) user: &'a [u8],
    pub(crate) protection: Protection<'a>,
    pub(crate) context_engine_id: &'a [u8],
    pub(crate) context_name: &'a [u8],
}

/// What protects a message: its security level, and what that takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protection<'a> {
    None,
    Auth(&'a Authenticator),
    /// The salt must not have been used with the same key before.
    AuthPriv(&'a Authenticator, &'a Cipher, [u8; SALT_LENGTH]),
}

/// A message whose PDU is still to be appended: where what depends on it is to be filled in.
#[derive(Clone, Debug)]
pub(crate) struct Unfinished {
    message: usize,
    code: Range<usize>,
    /// Where the element around the encrypted octets begins.
    encrypted: Option<usize>,
    scoped: usize,
}

impl Envelope<'_> {
    /// Makes `out` the whole message around this PDU.
    pub(crate) fn wrap(&self, pdu: &[u8], out: &mut Vec<u8>) -> Result<(), WrapError> {
        out.clear();
        let unfinished = self.begin(out);
        if out.len() + pdu.len() > self.max_size as usize {
            out.clear();
            return Err(WrapError::TooLong(pdu.len()));
        }
        out.extend_from_slice(pdu);
        self.finish(out, &unfinished);
        Ok(())
    }

    /// Appends everything in front of the PDU.
    pub(crate) fn begin(&self, out: &mut Vec<u8>) -> Unfinished {
        let (code_length, salt, level) = match self.protection {
            Protection::None => (0, &[][..], 0),
            Protection::Auth(auth) => (auth.protocol().code_length(), &[][..], AUTH),
            Protection::AuthPriv(auth, _, ref salt) => (auth.protocol().code_length(), &salt[..], AUTH | PRIV),
        };
        let message = begin_long(out, tag::SEQUENCE);
        push_natural(out, 3);
        let header = ber::begin(out, tag::SEQUENCE);
        push_natural(out, self.id);
        push_natural(out, self.max_size);
        ber::push_string(out, tag::OCTET_STRING, &[level | if self.reportable { REPORTABLE } else { 0 }]);
        push_natural(out, MODEL_USM);
        ber::end(out, header);

        // Its length takes one octet or two; where the code is must be known once both are written.
        let parameters = ber::begin(out, tag::OCTET_STRING);
        let fields = ber::begin(out, tag::SEQUENCE);
        ber::push_string(out, tag::OCTET_STRING, self.engine_id);
        push_natural(out, self.clock.boots);
        push_natural(out, self.clock.time);
        ber::push_string(out, tag::OCTET_STRING, self.user);
        ber::push_string(out, tag::OCTET_STRING, &[0; 64][..code_length]);
        ber::push_string(out, tag::OCTET_STRING, salt);
        ber::end(out, fields);
        ber::end(out, parameters);
        let code = out.len() - ber::size(salt.len()) - code_length;

        let encrypted = matches!(self.protection, Protection::AuthPriv(..)).then(|| begin_long(out, tag::OCTET_STRING));
        let scoped = begin_long(out, tag::SEQUENCE);
        ber::push_string(out, tag::OCTET_STRING, self.context_engine_id);
        ber::push_string(out, tag::OCTET_STRING, self.context_name);
        Unfinished { message, code: code..code + code_length, encrypted, scoped }
    }

    /// Takes what was appended since for the PDU: fills in lengths, encrypts and authenticates.
    pub(crate) fn finish(&self, out: &mut [u8], unfinished: &Unfinished) {
        end_long(out, unfinished.scoped);
        if let (Protection::AuthPriv(_, cipher, salt), Some(encrypted)) = (self.protection, unfinished.encrypted) {
            end_long(out, encrypted);
            let iv = Iv { boots: self.clock.boots, time: self.clock.time, salt };
            cipher.encrypt(iv, &mut out[encrypted + LONG..]);
        }
        end_long(out, unfinished.message);
        if let Protection::Auth(auth) | Protection::AuthPriv(auth, ..) = self.protection {
            auth.sign(&mut out[unfinished.message..], {
                let Range { start, end } = unfinished.code;
                start - unfinished.message..end - unfinished.message
            });
        }
    }
}

/// Octets of the tag and the length of an element that [`begin_long`] began.
const LONG: usize = 4;

/// Begins an element of up to 65535 octets whose length has its place already: nothing needs to be moved when it ends.
/// Where it is comes back.
fn begin_long(out: &mut Vec<u8>, tag: u8) -> usize {
    out.extend_from_slice(&[tag, 0x82, 0, 0]);
    out.len() - LONG
}

/// Ends the element that began here: all behind it is its contents.
fn end_long(out: &mut [u8], begun: usize) {
    let length = u16::try_from(out.len() - begun - LONG).expect("a datagram is shorter than 64 KiB");
    out[begun + 2..begun + LONG].copy_from_slice(&length.to_be_bytes());
}

fn push_natural(out: &mut Vec<u8>, number: u32) {
    ber::push_unsigned(out, tag::INTEGER, number.into());
}
