//! AgentX on the wire: numbers in either byte order, strings padded to four octets, object identifiers with a prefix.

use lbstats::Oid;

/// Order of the octets of a number; each PDU says its own (`NETWORK_BYTE_ORDER`, RFC 2741 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Network byte order: the high octet first.
    Big,
    /// The low octet first.
    Little,
}

/// Why octets are no PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They end within a field.
    #[error("it ends within a field")]
    Cut,
    /// There are more of them than the PDU has fields.
    #[error("there are octets behind its last field")]
    Trailing,
    /// The payload is no multiple of four octets (RFC 2741 section 6.1).
    #[error("its payload is no multiple of four octets")]
    Unaligned,
    /// An object identifier has more than 128 arcs (RFC 2741 section 5.1).
    #[error("an object identifier has more than 128 arcs")]
    LongOid,
    /// No such type of PDU (RFC 2741 section 6.1).
    #[error("type {0} of a PDU is none of AgentX")]
    Kind(u8),
    /// No such type of a value (RFC 2741 section 5.4).
    #[error("type {0} of a value is none of AgentX")]
    Type(u16),
    /// An IpAddress that has not four octets.
    #[error("an IpAddress has not four octets")]
    IpAddress,
}

/// The most arcs of an object identifier (RFC 2741 section 5.1).
const MAX_ARCS: usize = 128;
/// What precedes the arc that a prefix octet holds.
const INTERNET: [u32; 4] = [1, 3, 6, 1];

/// Reads fields from the front of some octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader<'a> {
    octets: &'a [u8],
    order: Order,
}

impl<'a> Reader<'a> {
    pub(super) fn new(octets: &'a [u8], order: Order) -> Self {
        Self { octets, order }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Refuses what is left.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }

    /// What is left, taken at once.
    pub(super) fn rest(&mut self) -> Self {
        let rest = *self;
        self.octets = &[];
        rest
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.octets.split_at_checked(length).ok_or(Malformed::Cut)?;
        self.octets = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.octets.split_first_chunk().ok_or(Malformed::Cut)?;
        self.octets = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[octet]| octet)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        let octets = self.array()?;
        Ok(if self.order == Order::Big { u16::from_be_bytes(octets) } else { u16::from_le_bytes(octets) })
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(arc(self.order, self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        let octets = self.array()?;
        Ok(if self.order == Order::Big { u64::from_be_bytes(octets) } else { u64::from_le_bytes(octets) })
    }

    /// An octet string, without the octets that pad it (RFC 2741 section 5.3).
    pub(super) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed::Cut)?;
        let string = self.take(length)?;
        self.take(padding(length))?;
        Ok(string)
    }

    /// An object identifier and its `include` (RFC 2741 section 5.1).
    pub(super) fn oid(&mut self, into: &mut Oid) -> Result<bool, Malformed> {
        let [arcs, prefix, include, _reserved] = self.array()?;
        let arcs = usize::from(arcs);
        into.assign(&[]);
        if prefix != 0 {
            into.assign(&INTERNET);
            into.extend(&[u32::from(prefix)]);
        }
        if into.len() + arcs > MAX_ARCS {
            return Err(Malformed::LongOid);
        }
        let (whole, _) = self.take(4 * arcs)?.as_chunks();
        let mut decoded = [0; MAX_ARCS];
        for (arc, octets) in decoded.iter_mut().zip(whole) {
            *arc = self::arc(self.order, *octets);
        }
        into.extend(&decoded[..arcs]);
        Ok(include != 0)
    }
}

fn arc(order: Order, octets: [u8; 4]) -> u32 {
    if order == Order::Big { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) }
}

fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

/// Appends fields to some octets.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) octets: &'a mut Vec<u8>,
    order: Order,
}

impl<'a> Writer<'a> {
    pub(super) fn new(octets: &'a mut Vec<u8>, order: Order) -> Self {
        Self { octets, order }
    }

    pub(super) fn u8(&mut self, number: u8) {
        self.octets.push(number);
    }

    pub(super) fn u16(&mut self, number: u16) {
        let octets = if self.order == Order::Big { number.to_be_bytes() } else { number.to_le_bytes() };
        self.octets.extend_from_slice(&octets);
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.octets.extend_from_slice(&self.number(number));
    }

    pub(super) fn u64(&mut self, number: u64) {
        let octets = if self.order == Order::Big { number.to_be_bytes() } else { number.to_le_bytes() };
        self.octets.extend_from_slice(&octets);
    }

    /// Writes a number over one written before, at this place.
    pub(super) fn patch(&mut self, place: usize, number: u32) {
        let octets = self.number(number);
        self.octets[place..place + 4].copy_from_slice(&octets);
    }

    fn number(&self, number: u32) -> [u8; 4] {
        if self.order == Order::Big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    /// An octet string, cut at 2^32-1 octets, which nothing has.
    pub(super) fn string(&mut self, octets: &[u8]) {
        let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
        self.u32(length);
        self.octets.extend_from_slice(&octets[..length as usize]);
        self.octets.extend_from_slice(&[0; 3][..padding(octets.len())]);
    }

    /// An object identifier, with a prefix where one fits; arcs beyond the 128 that it may have are left out.
    pub(super) fn oid(&mut self, arcs: &[u32], include: bool) {
        let arcs = &arcs[..arcs.len().min(MAX_ARCS)];
        let (prefix, arcs) = match arcs.strip_prefix(&INTERNET).and_then(<[u32]>::split_first) {
            Some((first, rest)) if (1..256).contains(first) => (first.to_le_bytes()[0], rest),
            _ => (0, arcs),
        };
        // At most 128.
        let count = arcs.len().to_le_bytes()[0];
        self.octets.extend_from_slice(&[count, prefix, u8::from(include), 0]);
        for arc in arcs {
            self.u32(*arc);
        }
    }
}
