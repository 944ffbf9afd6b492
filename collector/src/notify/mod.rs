//! Notifications: what happened between two snapshots, told to SNMP managers as `alTrap` of EXCELIANCE-MIB.
//!
//! [`detect`] is pure: [`status`] judges HAProxy's rows and [`pressure`] the kernel's listeners, [`damp`] decides when a
//! change is told.

pub mod damp;
pub mod detect;
mod event;
pub mod pressure;
mod settings;
pub mod status;

pub use event::{Class, Event, Kind, display_string};
pub use settings::{Community, Level, NotifySettings, Receiver, Security};
