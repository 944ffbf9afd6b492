//! HAProxy's stats socket: asking it, and reading what it prints.
//!
//! [`Client::read`] makes one [`Reading`]. The parser has no IO: [`parse`] takes octets and gives a reading or says in
//! which line of which response it could not go on.

mod backoff;
mod client;
mod csv;
mod error;
mod parse;

use std::net::SocketAddr;

pub use backoff::Backoff;
pub use client::{COMMAND, Client, Limits};
pub use error::ReadError;
pub use parse::{Fault, Garbled, Info, Response, Stat, parse, parse_info, parse_stat};

use lbstats::Table;

/// What one HAProxy process said at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// [`lbstats::schema::PROCESS`], one row.
    pub process: Table,
    /// [`lbstats::schema::FRONTEND`]
    pub frontends: Table,
    /// [`lbstats::schema::BACKEND`]
    pub backends: Table,
    /// [`lbstats::schema::SERVER`]
    pub servers: Table,
    /// The TCP addresses of its listeners; empty without `option socket-stats` and at level `user`.
    pub listens: Vec<Listen>,
    /// `Pid` of `show info`, in HAProxy's own pid namespace.
    pub pid: Option<u32>,
    /// The process that began to listen on the socket, as this one sees it (`SO_PEERCRED`): HAProxy's, or its master.
    /// `None` where the kernel does not say.
    pub peer: Option<u32>,
    /// `Process_num` of `show info`, from 1; 1 where HAProxy does not say.
    pub process_number: u32,
    /// `Nbproc` of `show info`; 1 where HAProxy does not say.
    pub processes: u32,
    /// Rows left out because one of the same number stood there already. HAProxy refuses to start with such ids.
    pub duplicates: usize,
    /// Whether the process is on its way out: `Stopping` of `show info`.
    pub stopping: bool,
}

/// A listener that HAProxy names, from a row of type 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Name of its frontend; octets that are not UTF-8 are replaced.
    pub proxy: String,
    /// The address it is bound to, a wildcard included.
    pub address: SocketAddr,
}
