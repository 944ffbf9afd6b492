//! The SNMP faces of an [`lbstats::Snapshot`], over any input and output.
//!
//! A [`View`] is one snapshot as SNMP sees it: an ordered set of OIDs with values, made of nothing but the snapshot's
//! tables. A face turns requests into [`View::get`] and [`View::next`]; [`Walks`] decides which view answers a request,
//! so that a walk reads one snapshot from its first cell to its last. [`pass_persist::serve`] is the face for snmpd:
//!
//! ```no_run
//! use std::{io, sync::Arc, time::Duration};
//! # fn newest() -> Arc<lbstats::Snapshot> { unimplemented!() }
//! let (pause, max_walk) = (snmp_export::Walks::PAUSE, snmp_export::Walks::MAX_WALK); // what Walks::default() has
//! let max_age = Duration::from_secs(60);
//! snmp_export::pass_persist::serve(
//!     io::stdin().lock(),
//!     io::stdout().lock(),
//!     snmp_export::Walks::new(pause, max_walk),
//!     || snmp_export::View::unless_older(newest(), max_age), // at the start of a walk; must not block
//! )?;
//! # Ok::<(), io::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod agent;
pub mod agentx;
pub mod ber;
pub mod notification;
pub mod pass_persist;
#[cfg(test)]
mod sample;
mod spelled;
mod tree;
pub mod usm;
mod view;
mod walk;
mod walks;

pub use tree::{Tree, TreeError};
pub use view::{Cell, View};
pub use walks::Walks;
