//! HAProxy's stats socket: asking it, and reading what it prints.
//!
//! [`Client::read`] makes one [`Reading`]. The parser has no IO: [`parse`] takes octets and gives a reading or says in
//! which line of which response it could not go on.

mod client;
mod csv;
mod error;
mod parse;
mod servers_state;

use std::net::SocketAddr;

pub use client::{COMMAND, Client, Limits};
pub use error::ReadError;
pub use parse::{Fault, Garbled, Info, Response, Stat, parse, parse_info, parse_stat, parse_with_servers};
pub use servers_state::parse_servers;

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
    /// The listeners that no TCP address names.
    pub unnamed: Vec<Unnamed>,
    /// The addresses of its servers; none where HAProxy did not tell, as at level `user` without having been asked for
    /// `show servers state`.
    pub destinations: Option<Vec<Destination>>,
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

/// A listener that no TCP address names, from a row of type 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unnamed {
    /// Name of its frontend; octets that are not UTF-8 are replaced.
    pub proxy: String,
    /// What it is bound to instead.
    pub bound: Bound,
}

/// What a listener is bound to that is no TCP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// A Unix-domain socket.
    Unix,
    /// A UDP address, for QUIC: column `proto`, since HAProxy 2.8.
    Quic,
    /// Something else, such as an address that HAProxy could not print.
    Other,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Name of its backend; octets that are not UTF-8 are replaced.
    pub proxy: String,
    /// Name of the server, likewise.
    pub server: String,
    /// The address that HAProxy connects to.
    pub address: SocketAddr,
}
