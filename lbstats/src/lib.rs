//! The model of lbstatd, without any IO: the schema of columns, tables of cells, snapshots, OIDs and SNMP values.
//!
//! A column is declared once, in [`schema`]. What fills a table (HAProxy's socket, the kernel) and what reads one (SNMP,
//! Prometheus, the MIB modules) knows it by its place there and by nothing else.
#![forbid(unsafe_code)]

mod histogram;
pub mod mib;
mod oid;
pub mod reference;
pub mod schema;
mod snapshot;
mod table;
pub mod traps;
mod value;
mod wire;

pub use histogram::{BUCKETS, Histogram, bound};
pub use oid::{Oid, ParseOidError};
pub use schema::{Column, TableSchema};
pub use snapshot::{DaemonTables, Face, Hook, Program, Snapshot, Source, SourceKind, unix_micros};
pub use table::{Field, FieldError, Index, MAX_NUMBER, Table, TableBuilder};
pub use value::Value;
pub use wire::DecodeError;
