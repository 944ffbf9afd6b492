//! What a variable binding says: a value of any SNMP type, or one of the three exceptions (RFC 2741 section 5.4).

use std::borrow::Cow;

use lbstats::{Oid, Value};

use super::wire::{Malformed, Reader, Writer};

/// A value with its type, or an exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// INTEGER
    Integer(i32),
    /// OCTET STRING, any octets.
    OctetString(&'a [u8]),
    /// No value.
    Null,
    /// OBJECT IDENTIFIER
    ObjectIdentifier(Cow<'a, [u32]>),
    /// IpAddress
    IpAddress([u8; 4]),
    /// Counter32
    Counter32(u32),
    /// Gauge32 and Unsigned32
    Gauge32(u32),
    /// TimeTicks, in hundredths of a second.
    TimeTicks(u32),
    /// Opaque, any octets.
    Opaque(&'a [u8]),
    /// Counter64
    Counter64(u64),
    /// There is no such object.
    NoSuchObject,
    /// The object has no such instance.
    NoSuchInstance,
    /// Nothing follows within the range that was asked for.
    EndOfMibView,
}

impl<'a> From<Value<'a>> for Data<'a> {
    fn from(value: Value<'a>) -> Self {
        match value {
            Value::Integer(number) => Self::Integer(number),
            Value::Counter32(number) => Self::Counter32(number),
            Value::Counter64(number) => Self::Counter64(number),
            Value::Gauge32(number) => Self::Gauge32(number),
            Value::TimeTicks(ticks) => Self::TimeTicks(ticks),
            Value::OctetString(octets) => Self::OctetString(octets),
            Value::ObjectIdentifier(arcs) => Self::ObjectIdentifier(Cow::Borrowed(arcs)),
        }
    }
}

impl<'a> Data<'a> {
    /// The number of its type on the wire.
    fn kind(&self) -> u16 {
        match self {
            Self::Integer(_) => 2,
            Self::OctetString(_) => 4,
            Self::Null => 5,
            Self::ObjectIdentifier(_) => 6,
            Self::IpAddress(_) => 64,
            Self::Counter32(_) => 65,
            Self::Gauge32(_) => 66,
            Self::TimeTicks(_) => 67,
            Self::Opaque(_) => 68,
            Self::Counter64(_) => 70,
            Self::NoSuchObject => 128,
            Self::NoSuchInstance => 129,
            Self::EndOfMibView => 130,
        }
    }

    fn read(kind: u16, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match kind {
            2 => Self::Integer(reader.u32()?.cast_signed()),
            4 => Self::OctetString(reader.string()?),
            5 => Self::Null,
            6 => {
                let mut oid = Oid::default();
                reader.oid(&mut oid)?;
                Self::ObjectIdentifier(Cow::Owned(oid.to_vec()))
            }
            64 => Self::IpAddress(reader.string()?.try_into().map_err(|_| Malformed::IpAddress)?),
            65 => Self::Counter32(reader.u32()?),
            66 => Self::Gauge32(reader.u32()?),
            67 => Self::TimeTicks(reader.u32()?),
            68 => Self::Opaque(reader.string()?),
            70 => Self::Counter64(reader.u64()?),
            128 => Self::NoSuchObject,
            129 => Self::NoSuchInstance,
            130 => Self::EndOfMibView,
            other => return Err(Malformed::Type(other)),
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Integer(number) => writer.u32(number.cast_unsigned()),
            Self::OctetString(octets) | Self::Opaque(octets) => writer.string(octets),
            Self::ObjectIdentifier(arcs) => writer.oid(arcs, false),
            Self::IpAddress(octets) => writer.string(octets),
            Self::Counter32(number) | Self::Gauge32(number) | Self::TimeTicks(number) => writer.u32(*number),
            Self::Counter64(number) => writer.u64(*number),
            Self::Null | Self::NoSuchObject | Self::NoSuchInstance | Self::EndOfMibView => {}
        }
    }
}

/// Reads a variable binding, its name into `name`.
pub(super) fn read_varbind<'a>(reader: &mut Reader<'a>, name: &mut Oid) -> Result<Data<'a>, Malformed> {
    let kind = reader.u16()?;
    let _reserved = reader.u16()?;
    reader.oid(name)?;
    Data::read(kind, reader)
}

/// Writes a variable binding.
pub(super) fn write_varbind(writer: &mut Writer<'_>, name: &[u32], data: &Data<'_>) {
    writer.u16(data.kind());
    writer.u16(0);
    writer.oid(name, false);
    data.write(writer);
}
