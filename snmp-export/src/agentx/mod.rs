//! AgentX (RFC 2741): the face of a subagent, which asks a master agent such as snmpd to serve its subtrees.
//!
//! A [`Session`] is the protocol without any input or output: it is given the octets that the master sent and appends
//! those to send. Every request is answered from memory. [`Message`] is a PDU of any kind, for whoever reads a stream.

mod answer;
mod error;
mod lists;
mod notification;
mod pdu;
mod session;
#[cfg(test)]
mod tests;
mod value;
mod wire;

pub use error::{CloseReason, ErrorStatus};
pub use lists::{Ranges, Varbinds};
pub use notification::Notification;
pub use pdu::{HEADER, Header, Message, Pdu, Region, VERSION};
pub use session::{Event, Session, SessionError};
pub use value::Data;
pub use wire::{Malformed, Order};
