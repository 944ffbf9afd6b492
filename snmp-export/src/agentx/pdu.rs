//! The PDUs of AgentX (RFC 2741 section 6), decoded without copying and encoded in either byte order.

use lbstats::Oid;

use super::lists::{Ranges, Varbinds};
use super::wire::{Malformed, Order, Reader, Writer};

/// Octets of a header.
pub const HEADER: usize = 20;
/// The one version there is (RFC 2741 section 6.1).
pub const VERSION: u8 = 1;

const NON_DEFAULT_CONTEXT: u8 = 0x08;
const NETWORK_BYTE_ORDER: u8 = 0x10;

/// The header of a PDU (RFC 2741 section 6.1), without the length of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// [`VERSION`], or what a stranger sent.
    pub version: u8,
    /// Type of the PDU; see [`Pdu`].
    pub kind: u8,
    /// All flags but those that `order` and [`Message::context`] stand for.
    pub flags: u8,
    /// Whether a context precedes the payload.
    pub in_context: bool,
    /// Byte order of everything behind the first four octets.
    pub order: Order,
    /// The session, 0 before there is one.
    pub session: u32,
    /// The transaction of SNMP that it belongs to, 0 for none.
    pub transaction: u32,
    /// Number of the request, the same in its response.
    pub packet: u32,
}

impl Header {
    /// The header in these octets, and the length of the payload behind it.
    pub fn decode(octets: &[u8; HEADER]) -> (Self, u32) {
        let [version, kind, flags, _reserved, rest @ ..] = octets;
        let order = if flags & NETWORK_BYTE_ORDER == 0 { Order::Little } else { Order::Big };
        let number = |place: usize| {
            let octets = [rest[place], rest[place + 1], rest[place + 2], rest[place + 3]];
            if order == Order::Big { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) }
        };
        let header = Self {
            version: *version,
            kind: *kind,
            flags: flags & !(NETWORK_BYTE_ORDER | NON_DEFAULT_CONTEXT),
            in_context: flags & NON_DEFAULT_CONTEXT != 0,
            order,
            session: number(0),
            transaction: number(4),
            packet: number(8),
        };
        (header, number(12))
    }

    /// Appends a PDU with this header and the payload that `payload` writes.
    pub(super) fn encode(&self, out: &mut Vec<u8>, payload: impl FnOnce(&mut Writer<'_>)) {
        let start = out.len();
        let order = if self.order == Order::Big { NETWORK_BYTE_ORDER } else { 0 };
        let context = if self.in_context { NON_DEFAULT_CONTEXT } else { 0 };
        out.extend_from_slice(&[self.version, self.kind, self.flags | order | context, 0]);
        let mut writer = Writer::new(out, self.order);
        for number in [self.session, self.transaction, self.packet, 0] {
            writer.u32(number);
        }
        payload(&mut writer);
        let length = writer.octets.len() - start - HEADER;
        // A session bounds what it sends far below that.
        writer.patch(start + HEADER - 4, u32::try_from(length).unwrap_or(u32::MAX));
    }
}

/// A PDU with its header and its context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its header.
    pub header: Header,
    /// Name of the context; none for the default one.
    pub context: Option<&'a [u8]>,
    /// The PDU itself.
    pub pdu: Pdu<'a>,
}

/// A PDU, as its type says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pdu<'a> {
    /// Begins a session (RFC 2741 section 6.2.1).
    Open {
        /// Seconds that the master waits for an answer; 0 for its own choice.
        timeout: u8,
        /// Identifies the subagent; may be empty.
        id: Oid,
        /// Describes it, in text for people.
        description: &'a [u8],
    },
    /// Ends a session, with its [`CloseReason`](super::CloseReason) (section 6.2.2).
    Close(u8),
    /// Registers a region of the MIB (section 6.2.3).
    Register {
        /// Seconds that the master waits for an answer; 0 for that of the session.
        timeout: u8,
        /// The region.
        region: Region,
    },
    /// Takes a registration back (section 6.2.4).
    Unregister(Region),
    /// Asks for the value under exactly each start (section 6.2.5).
    Get(Ranges<'a>),
    /// Asks for the first value in each range (section 6.2.6).
    GetNext(Ranges<'a>),
    /// Asks for one or several values in each range (section 6.2.7).
    GetBulk {
        /// How many of the first ranges are asked for one value.
        non_repeaters: u16,
        /// How many values each of the others is asked for.
        max_repetitions: u16,
        /// The ranges.
        ranges: Ranges<'a>,
    },
    /// Asks whether values can be set (section 6.2.8).
    TestSet(Varbinds<'a>),
    /// Sets what was tested (section 6.2.9).
    CommitSet,
    /// Takes back what was set (section 6.2.9).
    UndoSet,
    /// Ends a set; it has no response (section 6.2.9).
    CleanupSet,
    /// A notification for the master to send (section 6.2.10).
    Notify(Varbinds<'a>),
    /// Asks for a sign of life (section 6.2.11).
    Ping,
    /// Allocates values of an index (section 6.2.12).
    IndexAllocate(Varbinds<'a>),
    /// Gives them back (section 6.2.13).
    IndexDeallocate(Varbinds<'a>),
    /// Adds a row to sysORTable (section 6.2.14).
    AddAgentCaps {
        /// Value of sysORID.
        id: Oid,
        /// Value of sysORDescr.
        description: &'a [u8],
    },
    /// Removes it (section 6.2.15).
    RemoveAgentCaps(Oid),
    /// Answers any other (section 6.2.16).
    Response {
        /// The master's sysUpTime, in hundredths of a second.
        uptime: u32,
        /// 0, an error status of SNMP, or one of AgentX; see [`ErrorStatus`](super::ErrorStatus).
        error: u16,
        /// Which variable binding the error is about, from 1; 0 for none.
        index: u16,
        /// The answers, as many as were asked for.
        varbinds: Varbinds<'a>,
    },
}

/// A region of the MIB: a subtree, or of a range of them (RFC 2741 section 6.2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// 1 to 255; the lowest wins among overlapping regions.
    pub priority: u8,
    /// Which arc of the subtree, from 1, goes up to the bound; 0 for none.
    pub range_arc: u8,
    /// The subtree.
    pub subtree: Oid,
    /// Where there is a range, the last value of that arc.
    pub upper_bound: Option<u32>,
}

pub(super) const OPEN: u8 = 1;
pub(super) const CLOSE: u8 = 2;
pub(super) const REGISTER: u8 = 3;
pub(super) const CLEANUP_SET: u8 = 11;
pub(super) const NOTIFY: u8 = 12;
pub(super) const PING: u8 = 13;
pub(super) const RESPONSE: u8 = 18;

/// The types whose payload begins with the context if the header says so (RFC 2741 section 6.1.1).
fn takes_context(kind: u8) -> bool {
    !matches!(kind, OPEN | CLOSE | 9..=CLEANUP_SET | RESPONSE)
}

impl<'a> Message<'a> {
    /// The PDU with this header and payload. Lists of ranges and variable bindings are not looked into before they are
    /// read.
    ///
    /// # Errors
    /// As [`Malformed`] says.
    pub fn decode(header: Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        if !payload.len().is_multiple_of(4) {
            return Err(Malformed::Unaligned);
        }
        let mut reader = Reader::new(payload, header.order);
        let context = match header.in_context && takes_context(header.kind) {
            true => Some(reader.string()?),
            false => None,
        };
        let pdu = Pdu::read(header.kind, &mut reader)?;
        reader.end()?;
        Ok(Self { header, context, pdu })
    }

    /// Appends it. What a header says of context and type is taken from `context` and `pdu`.
    ///
    /// # Errors
    /// When a list in it is malformed.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let kind = self.pdu.kind();
        let context = self.context.filter(|_| takes_context(kind));
        let header = Header { kind, in_context: context.is_some(), ..self.header };
        let mut result = Ok(());
        header.encode(out, |writer| {
            if let Some(context) = context {
                writer.string(context);
            }
            result = self.pdu.write(writer);
        });
        result
    }
}

impl<'a> Pdu<'a> {
    /// The number of its type on the wire.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Open { .. } => OPEN,
            Self::Close(_) => CLOSE,
            Self::Register { .. } => REGISTER,
            Self::Unregister(_) => 4,
            Self::Get(_) => 5,
            Self::GetNext(_) => 6,
            Self::GetBulk { .. } => 7,
            Self::TestSet(_) => 8,
            Self::CommitSet => 9,
            Self::UndoSet => 10,
            Self::CleanupSet => CLEANUP_SET,
            Self::Notify(_) => NOTIFY,
            Self::Ping => PING,
            Self::IndexAllocate(_) => 14,
            Self::IndexDeallocate(_) => 15,
            Self::AddAgentCaps { .. } => 16,
            Self::RemoveAgentCaps(_) => 17,
            Self::Response { .. } => RESPONSE,
        }
    }

    fn read(kind: u8, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let oid = |reader: &mut Reader<'a>| {
            let mut oid = Oid::default();
            reader.oid(&mut oid).map(|_| oid)
        };
        Ok(match kind {
            OPEN => {
                let timeout = reader.u8()?;
                reader.take(3)?;
                Self::Open { timeout, id: oid(reader)?, description: reader.string()? }
            }
            CLOSE => {
                let reason = reader.u8()?;
                reader.take(3)?;
                Self::Close(reason)
            }
            REGISTER => Self::Register { timeout: reader.u8()?, region: Region::read(reader)? },
            4 => {
                reader.u8()?;
                Self::Unregister(Region::read(reader)?)
            }
            5 => Self::Get(Ranges::rest_of(reader)),
            6 => Self::GetNext(Ranges::rest_of(reader)),
            7 => Self::GetBulk {
                non_repeaters: reader.u16()?,
                max_repetitions: reader.u16()?,
                ranges: Ranges::rest_of(reader),
            },
            8 => Self::TestSet(Varbinds::rest_of(reader)),
            9 => Self::CommitSet,
            10 => Self::UndoSet,
            CLEANUP_SET => Self::CleanupSet,
            NOTIFY => Self::Notify(Varbinds::rest_of(reader)),
            PING => Self::Ping,
            14 => Self::IndexAllocate(Varbinds::rest_of(reader)),
            15 => Self::IndexDeallocate(Varbinds::rest_of(reader)),
            16 => Self::AddAgentCaps { id: oid(reader)?, description: reader.string()? },
            17 => Self::RemoveAgentCaps(oid(reader)?),
            RESPONSE => Self::Response {
                uptime: reader.u32()?,
                error: reader.u16()?,
                index: reader.u16()?,
                varbinds: Varbinds::rest_of(reader),
            },
            other => return Err(Malformed::Kind(other)),
        })
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        match self {
            Self::Open { timeout, id, description } => {
                writer.octets.extend_from_slice(&[*timeout, 0, 0, 0]);
                writer.oid(id, false);
                writer.string(description);
            }
            Self::Close(reason) => writer.octets.extend_from_slice(&[*reason, 0, 0, 0]),
            Self::Register { timeout, region } => {
                writer.u8(*timeout);
                region.write(writer);
            }
            Self::Unregister(region) => {
                writer.u8(0);
                region.write(writer);
            }
            Self::Get(ranges) | Self::GetNext(ranges) => ranges.write(writer)?,
            Self::GetBulk { non_repeaters, max_repetitions, ranges } => {
                writer.u16(*non_repeaters);
                writer.u16(*max_repetitions);
                ranges.write(writer)?;
            }
            Self::TestSet(varbinds)
            | Self::Notify(varbinds)
            | Self::IndexAllocate(varbinds)
            | Self::IndexDeallocate(varbinds) => varbinds.write(writer)?,
            Self::CommitSet | Self::UndoSet | Self::CleanupSet | Self::Ping => {}
            Self::AddAgentCaps { id, description } => {
                writer.oid(id, false);
                writer.string(description);
            }
            Self::RemoveAgentCaps(id) => writer.oid(id, false),
            Self::Response { uptime, error, index, varbinds } => {
                writer.u32(*uptime);
                writer.u16(*error);
                writer.u16(*index);
                varbinds.write(writer)?;
            }
        }
        Ok(())
    }
}

impl Region {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (priority, range_arc) = (reader.u8()?, reader.u8()?);
        reader.u8()?;
        let mut subtree = Oid::default();
        reader.oid(&mut subtree)?;
        let upper_bound = if range_arc == 0 { None } else { Some(reader.u32()?) };
        Ok(Self { priority, range_arc, subtree, upper_bound })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let range_arc = if self.upper_bound.is_some() { self.range_arc } else { 0 };
        writer.octets.extend_from_slice(&[self.priority, range_arc, 0]);
        writer.oid(&self.subtree, false);
        if let (1.., Some(bound)) = (range_arc, self.upper_bound) {
            writer.u32(bound);
        }
    }
}
