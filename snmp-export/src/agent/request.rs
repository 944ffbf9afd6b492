//! A request PDU, decoded whole before anything of it is answered.

use lbstats::Oid;

use super::pdu::Refusal;
use crate::ber::{BerError, Reader, tag};

/// A request; the names of its variables are where [`Request::read`] put them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    pub(super) id: i32,
    /// Number of variables.
    pub(super) count: usize,
    /// The variable bindings as they came, one well-formed element.
    pub(super) list: &'a [u8],
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    GetNext,
    /// `non_repeaters` is not above the number of variables.
    GetBulk {
        non_repeaters: usize,
        max_repetitions: usize,
    },
    Set,
}

impl Kind {
    /// Whether it asks for what follows.
    pub(super) fn walks(self) -> bool {
        matches!(self, Self::GetNext | Self::GetBulk { .. })
    }
}

impl<'a> Request<'a> {
    /// Reads the PDU that the reader stands at, and makes the first [`Request::count`] of `names` its variables.
    pub(super) fn read(pdu: &mut Reader<'a>, version1: bool, names: &mut Vec<Oid>) -> Result<Self, Refusal> {
        let (found, mut body) = pdu.any()?;
        match found {
            tag::GET | tag::GET_NEXT | tag::SET => {}
            tag::GET_BULK | tag::INFORM | tag::TRAP | tag::REPORT if version1 => {
                return Err(BerError::Tag { expected: tag::GET, found }.into());
            }
            tag::GET_BULK => {}
            tag::RESPONSE | tag::TRAP_V1 | tag::INFORM | tag::TRAP | tag::REPORT => return Err(Refusal::NoRequest),
            _ => return Err(BerError::Tag { expected: tag::GET, found }.into()),
        }
        let id = body.integer()?;
        let (first, second) = (body.integer()?, body.integer()?);
        let list = body.rest();
        let mut varbinds = body.element(tag::SEQUENCE)?;
        body.finish()?;
        let mut count = 0;
        while varbinds.peek().is_some() {
            if names.len() == count {
                names.push(Oid::default());
            }
            read_varbind(&mut varbinds, &mut names[count])?;
            count += 1;
        }
        let natural = |number| usize::try_from(number).unwrap_or(0);
        let kind = match found {
            tag::GET => Kind::Get,
            tag::GET_NEXT => Kind::GetNext,
            tag::SET => Kind::Set,
            // Below zero is zero (RFC 3416 section 4.2.3).
            _ => Kind::GetBulk { non_repeaters: natural(first).min(count), max_repetitions: natural(second) },
        };
        Ok(Self { kind, id, count, list })
    }

    /// Place of the first variable that repeats; of requests without repetition, of the first.
    pub(super) fn first_repeater(&self) -> usize {
        match self.kind {
            Kind::GetBulk { non_repeaters, .. } if non_repeaters < self.count => non_repeaters,
            _ => 0,
        }
    }
}

/// A name and a value. The value says nothing in a request that reads, but it may come back in a response.
fn read_varbind(varbinds: &mut Reader<'_>, name: &mut Oid) -> Result<(), BerError> {
    let mut varbind = varbinds.element(tag::SEQUENCE)?;
    varbind.oid(name)?;
    if varbind.peek() == Some(tag::NULL) {
        varbind.null()?;
    } else {
        check_value(&mut varbind)?;
    }
    varbind.finish()
}

fn check_value(varbind: &mut Reader<'_>) -> Result<(), BerError> {
    let found = varbind.peek().ok_or(BerError::Truncated)?;
    match found {
        tag::INTEGER => varbind.integer().map(drop),
        tag::OCTET_STRING | tag::OPAQUE => varbind.any().map(drop),
        tag::OID => varbind.oid(&mut Oid::default()),
        tag::COUNTER32 | tag::GAUGE32 | tag::TIME_TICKS => varbind.unsigned(found).map(drop),
        tag::COUNTER64 | tag::IP_ADDRESS | tag::NO_SUCH_OBJECT | tag::NO_SUCH_INSTANCE | tag::END_OF_MIB_VIEW => {
            let length = varbind.any()?.1.rest().len();
            let lengths = match found {
                tag::COUNTER64 => 1..=9,
                tag::IP_ADDRESS => 4..=4,
                _ => 0..=0,
            };
            if lengths.contains(&length) { Ok(()) } else { Err(BerError::Length) }
        }
        _ => Err(BerError::Tag { expected: tag::NULL, found }),
    }
}
