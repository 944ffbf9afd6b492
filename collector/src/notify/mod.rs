//! Notifications: what happened between two snapshots, told to SNMP managers as `alTrap` of EXCELIANCE-MIB.
//!
//! [`detect`] is pure: [`status`] judges HAProxy's rows and [`pressure`] the kernel's listeners, [`damp`] decides when a
//! change is told. [`send`] brings the events to the receivers, each in its [`dialect`], and [`through_agentx`] to snmpd.

pub mod damp;
pub mod detect;
pub mod dialect;
mod event;
pub mod pressure;
pub mod send;
mod settings;
mod start;
pub mod status;
pub mod through_agentx;

pub use event::{Class, Event, Kind, display_string};
pub use settings::{Community, NotifySettings, Receiver, Security};
pub use start::{Ways, start};
