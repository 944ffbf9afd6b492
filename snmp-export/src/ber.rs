//! BER as SNMP uses it (RFC 3417 section 8, ITU-T X.690): a reader that allocates nothing, and functions that append
//! to a buffer.
//!
//! The reader takes definite lengths and single-octet tags only, and no element reaches beyond the one around it.
//! Lengths and integers may have leading octets that say nothing: X.690 forbids them in integers, yet gosnmp (and with
//! it snmp_exporter and Telegraf) writes every request id in four octets. What is appended here is always the shortest
//! form.

use std::ops::Range;

use lbstats::{Oid, Value};

/// Tags of the elements of an SNMP message.
pub mod tag {
    /// INTEGER
    pub const INTEGER: u8 = 0x02;
    /// OCTET STRING
    pub const OCTET_STRING: u8 = 0x04;
    /// NULL
    pub const NULL: u8 = 0x05;
    /// OBJECT IDENTIFIER
    pub const OID: u8 = 0x06;
    /// SEQUENCE and SEQUENCE OF
    pub const SEQUENCE: u8 = 0x30;
    /// IpAddress
    pub const IP_ADDRESS: u8 = 0x40;
    /// Counter32
    pub const COUNTER32: u8 = 0x41;
    /// Gauge32 and Unsigned32
    pub const GAUGE32: u8 = 0x42;
    /// TimeTicks
    pub const TIME_TICKS: u8 = 0x43;
    /// Opaque
    pub const OPAQUE: u8 = 0x44;
    /// Counter64
    pub const COUNTER64: u8 = 0x46;
    /// noSuchObject
    pub const NO_SUCH_OBJECT: u8 = 0x80;
    /// noSuchInstance
    pub const NO_SUCH_INSTANCE: u8 = 0x81;
    /// endOfMibView
    pub const END_OF_MIB_VIEW: u8 = 0x82;
    /// GetRequest-PDU
    pub const GET: u8 = 0xa0;
    /// GetNextRequest-PDU
    pub const GET_NEXT: u8 = 0xa1;
    /// Response-PDU, and GetResponse-PDU of version 1
    pub const RESPONSE: u8 = 0xa2;
    /// SetRequest-PDU
    pub const SET: u8 = 0xa3;
    /// Trap-PDU of version 1
    pub const TRAP_V1: u8 = 0xa4;
    /// GetBulkRequest-PDU
    pub const GET_BULK: u8 = 0xa5;
    /// InformRequest-PDU
    pub const INFORM: u8 = 0xa6;
    /// SNMPv2-Trap-PDU
    pub const TRAP: u8 = 0xa7;
    /// Report-PDU
    pub const REPORT: u8 = 0xa8;
}

/// The most arcs an object identifier may have (RFC 2578 section 3.5).
const MAX_ARCS: usize = 128;

/// Why octets are not the element asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BerError {
    /// An element is longer than what is there.
    #[error("cut off within an element")]
    Truncated,
    /// Another element stands here.
    #[error("tag {found:#04x} where {expected:#04x} belongs")]
    Tag {
        /// What was asked for.
        expected: u8,
        /// What stands there.
        found: u8,
    },
    /// A tag of more than one octet, which SNMP has none of.
    #[error("a tag of several octets")]
    LongTag,
    /// An indefinite length, or one of more than four octets.
    #[error("an indefinite length, or one of more than four octets")]
    Length,
    /// An integer without octets, or outside the range of its type.
    #[error("an integer without octets or out of range")]
    Integer,
    /// No object identifier: no arc, an arc above 2^32-1 or not in its shortest form, or more than 128 arcs.
    #[error("an object identifier that is empty, too long or not in its shortest form")]
    Oid,
    /// A NULL with octets.
    #[error("a NULL that is not empty")]
    Null,
    /// Octets behind the last element.
    #[error("octets behind the end")]
    Trailing,
}

/// Reads one element after the other. Positions are those in the octets that the first reader was made of.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    /// A reader of these octets.
    pub fn new(octets: &'a [u8]) -> Self {
        Self { octets, at: 0, end: octets.len() }
    }

    /// Where what has not been read yet stands.
    pub fn range(&self) -> Range<usize> {
        self.at..self.end
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.octets[self.range()]
    }

    /// The tag of the next element; none at the end.
    pub fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// The next element, whichever it is: its tag, and a reader of its contents.
    ///
    /// # Errors
    /// As [`BerError`] says; the reader stays where it is.
    pub fn any(&mut self) -> Result<(u8, Self), BerError> {
        let rest = self.rest();
        let (&tag, after) = rest.split_first().ok_or(BerError::Truncated)?;
        if tag & 0x1f == 0x1f {
            return Err(BerError::LongTag);
        }
        let (&first, after) = after.split_first().ok_or(BerError::Truncated)?;
        let (length, after) = match first {
            0..=0x7f => (usize::from(first), after),
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let (length, after) = after.split_at_checked(count).ok_or(BerError::Truncated)?;
                (length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), after)
            }
            _ => return Err(BerError::Length),
        };
        if length > after.len() {
            return Err(BerError::Truncated);
        }
        let at = self.end - after.len();
        self.at = at + length;
        Ok((tag, Self { octets: self.octets, at, end: at + length }))
    }

    /// The contents of the next element, which has this tag.
    ///
    /// # Errors
    /// As [`BerError`] says; the reader stays where it is.
    pub fn element(&mut self, tag: u8) -> Result<Self, BerError> {
        match self.peek() {
            Some(found) if found != tag => Err(BerError::Tag { expected: tag, found }),
            _ => Ok(self.any()?.1),
        }
    }

    /// An INTEGER, -2^31 to 2^31-1.
    ///
    /// # Errors
    /// As [`BerError`] says.
    pub fn integer(&mut self) -> Result<i32, BerError> {
        let octets = self.element(tag::INTEGER)?.rest();
        let (first, sign) = match octets {
            [] => return Err(BerError::Integer),
            [first, ..] if first & 0x80 != 0 => (octets, -1_i64),
            _ => (octets, 0),
        };
        if first.len() > 8 {
            return Err(BerError::Integer);
        }
        let number = first.iter().fold(sign, |number, octet| number << 8 | i64::from(*octet));
        i32::try_from(number).map_err(|_| BerError::Integer)
    }

    /// A number of this tag (Counter32, Gauge32, TimeTicks, or INTEGER), 0 to 2^32-1.
    ///
    /// # Errors
    /// As [`BerError`] says.
    pub fn unsigned(&mut self, tag: u8) -> Result<u32, BerError> {
        let octets = self.element(tag)?.rest();
        let negative = octets.first().is_none_or(|first| first & 0x80 != 0);
        if negative || octets.len() > 8 {
            return Err(BerError::Integer);
        }
        let number = octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
        u32::try_from(number).map_err(|_| BerError::Integer)
    }

    /// The contents of an OCTET STRING.
    ///
    /// # Errors
    /// As [`BerError`] says.
    pub fn string(&mut self) -> Result<&'a [u8], BerError> {
        Ok(self.element(tag::OCTET_STRING)?.rest())
    }

    /// A NULL.
    ///
    /// # Errors
    /// As [`BerError`] says.
    pub fn null(&mut self) -> Result<(), BerError> {
        if self.element(tag::NULL)?.rest().is_empty() { Ok(()) } else { Err(BerError::Null) }
    }

    /// An OBJECT IDENTIFIER, which `oid` becomes; after an error it is undefined.
    ///
    /// # Errors
    /// As [`BerError`] says.
    pub fn oid(&mut self, oid: &mut Oid) -> Result<(), BerError> {
        let octets = self.element(tag::OID)?.rest();
        oid.assign(&[]);
        let mut arc: u64 = 0;
        let mut within = false;
        for &octet in octets {
            if !within && octet == 0x80 {
                return Err(BerError::Oid);
            }
            arc = arc << 7 | u64::from(octet & 0x7f);
            within = octet & 0x80 != 0;
            if arc > u64::from(u32::MAX) + 80 {
                return Err(BerError::Oid);
            }
            if within {
                continue;
            }
            push_arc(oid, arc)?;
            arc = 0;
        }
        if within || oid.is_empty() { Err(BerError::Oid) } else { Ok(()) }
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// If something is.
    pub fn finish(&self) -> Result<(), BerError> {
        if self.at == self.end { Ok(()) } else { Err(BerError::Trailing) }
    }
}

/// Appends one subidentifier; the first one is two arcs (X.690 section 8.19.4).
fn push_arc(oid: &mut Oid, subidentifier: u64) -> Result<(), BerError> {
    let arc = |number: u64| u32::try_from(number).map_err(|_| BerError::Oid);
    if oid.is_empty() {
        let top = (subidentifier / 40).min(2);
        oid.extend(&[arc(top)?, arc(subidentifier - top * 40)?]);
    } else if oid.len() == MAX_ARCS {
        return Err(BerError::Oid);
    } else {
        oid.extend(&[arc(subidentifier)?]);
    }
    Ok(())
}

/// Begins an element whose contents follow; [`end`] takes what this returns.
pub fn begin(out: &mut Vec<u8>, tag: u8) -> usize {
    out.extend_from_slice(&[tag, 0]);
    out.len()
}

/// Ends the element that [`begin`] began: everything appended since is its contents, at most 2^32-1 octets.
pub fn end(out: &mut Vec<u8>, begun: usize) {
    let length = out.len() - begun;
    if length < 0x80 {
        out[begun - 1] = octet(length);
        return;
    }
    let octets = length.to_be_bytes();
    let octets = &octets[length.leading_zeros() as usize / 8..];
    out[begun - 1] = 0x80 | octet(octets.len());
    // Makes room in front of the contents.
    out.extend_from_slice(octets);
    out.copy_within(begun..begun + length, begun + octets.len());
    out[begun..begun + octets.len()].copy_from_slice(octets);
}

/// Octets that an element takes whose contents are so long.
pub fn size(contents: usize) -> usize {
    let length = if contents < 0x80 { 1 } else { 1 + (usize::BITS - contents.leading_zeros()).div_ceil(8) as usize };
    1 + length + contents
}

/// Appends an INTEGER.
pub fn push_integer(out: &mut Vec<u8>, number: i32) {
    let octets = number.to_be_bytes();
    let redundant = |pair: &[u8]| matches!((pair[0], pair[1] & 0x80), (0, 0) | (0xff, 0x80));
    let skip = octets.windows(2).take_while(|pair| redundant(pair)).count();
    push_short(out, tag::INTEGER, &octets[skip..]);
}

/// Appends a number of this tag that is never negative.
pub fn push_unsigned(out: &mut Vec<u8>, tag: u8, number: u64) {
    let mut octets = [0; 9];
    octets[1..].copy_from_slice(&number.to_be_bytes());
    // One bit more than the number has, so that it is not taken for a negative one.
    let count = number.checked_ilog2().map_or(1, |highest| highest as usize / 8 + 1 + usize::from(highest % 8 == 7));
    push_short(out, tag, &octets[9 - count..]);
}

/// Appends an OCTET STRING, or another string of octets of this tag.
pub fn push_string(out: &mut Vec<u8>, tag: u8, octets: &[u8]) {
    let begun = begin(out, tag);
    out.extend_from_slice(octets);
    end(out, begun);
}

/// Appends an element without contents: NULL, noSuchObject, noSuchInstance, endOfMibView.
pub fn push_empty(out: &mut Vec<u8>, tag: u8) {
    out.extend_from_slice(&[tag, 0]);
}

/// Appends an OBJECT IDENTIFIER. What has less than two arcs gets zeros for them; a first arc above 2 and a second one
/// above 39 have no encoding (X.690 section 8.19.4) and come out as others.
pub fn push_oid(out: &mut Vec<u8>, arcs: &[u32]) {
    let begun = begin(out, tag::OID);
    push_arcs(out, arcs);
    end(out, begun);
}

/// Appends the contents of an OBJECT IDENTIFIER; more subidentifiers may follow.
pub(crate) fn push_arcs(out: &mut Vec<u8>, arcs: &[u32]) {
    let arc = |place: usize| u64::from(arcs.get(place).copied().unwrap_or(0));
    push_subidentifier(out, arc(0).min(2) * 40 + arc(1));
    arcs.iter().skip(2).for_each(|arc| push_subidentifier(out, u64::from(*arc)));
}

/// Appends a value.
pub fn push_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Integer(number) => push_integer(out, number),
        Value::Counter32(number) => push_unsigned(out, tag::COUNTER32, number.into()),
        Value::Counter64(number) => push_unsigned(out, tag::COUNTER64, number),
        Value::Gauge32(number) => push_unsigned(out, tag::GAUGE32, number.into()),
        Value::TimeTicks(ticks) => push_unsigned(out, tag::TIME_TICKS, ticks.into()),
        Value::OctetString(octets) => push_string(out, tag::OCTET_STRING, octets),
        Value::ObjectIdentifier(arcs) => push_oid(out, arcs),
    }
}

/// Appends a variable binding of this name and value.
pub fn push_varbind(out: &mut Vec<u8>, oid: &[u32], value: Value<'_>) {
    let begun = begin(out, tag::SEQUENCE);
    push_oid(out, oid);
    push_value(out, value);
    end(out, begun);
}

/// Appends a variable binding without a value: NULL, or one of the exceptions.
pub fn push_varbind_empty(out: &mut Vec<u8>, oid: &[u32], tag: u8) {
    let begun = begin(out, tag::SEQUENCE);
    push_oid(out, oid);
    push_empty(out, tag);
    end(out, begun);
}

/// Appends a PDU: its request-id, the two integers behind that, and the variable bindings that `push_varbinds` appends.
pub fn push_pdu(out: &mut Vec<u8>, kind: u8, numbers: [i32; 3], push_varbinds: impl FnOnce(&mut Vec<u8>)) {
    let pdu = begin(out, kind);
    numbers.into_iter().for_each(|number| push_integer(out, number));
    let varbinds = begin(out, tag::SEQUENCE);
    push_varbinds(out);
    end(out, varbinds);
    end(out, pdu);
}

/// A message of version 1 (which is 0) or 2c (1) around the PDU that `push_pdu` appends.
pub fn message(version: i32, community: &[u8], push_pdu: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let message = begin(&mut out, tag::SEQUENCE);
    push_integer(&mut out, version);
    push_string(&mut out, tag::OCTET_STRING, community);
    push_pdu(&mut out);
    end(&mut out, message);
    out
}

fn push_short(out: &mut Vec<u8>, tag: u8, octets: &[u8]) {
    out.extend_from_slice(&[tag, octet(octets.len())]);
    out.extend_from_slice(octets);
}

/// Appends one subidentifier of an OBJECT IDENTIFIER.
pub(crate) fn push_subidentifier(out: &mut Vec<u8>, number: u64) {
    let groups = number.checked_ilog2().unwrap_or(0) / 7;
    for group in (1..=groups).rev() {
        out.push(0x80 | (number >> (7 * group) & 0x7f) as u8);
    }
    out.push((number & 0x7f) as u8);
}

/// For numbers that are below 256.
fn octet(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

#[cfg(test)]
mod tests;
