//! Parsers for the responses to `show info` and `show stat`, by name of field, all or nothing.
//!
//! A response ends with an empty line; one without it was cut. Fields that the schema does not know are passed over, and
//! fields that HAProxy does not send are absent. Anything else that HAProxy never prints is refused with its line: a
//! collector that guesses would show wrong numbers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

use lbstats::schema::{BACKEND, FRONTEND, PROCESS, SERVER};
use lbstats::{Column, Field, FieldError, Table, TableBuilder, TableSchema};

use super::csv::{Broken, Records};
use super::servers_state::parse_servers;
use super::{Bound, Destination, Listen, Reading, Unnamed};

/// What `show info` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// [`lbstats::schema::PROCESS`], one row.
    pub process: Table,
    /// See [`Reading::pid`].
    pub pid: Option<u32>,
    /// See [`Reading::process_number`].
    pub process_number: u32,
    /// See [`Reading::processes`].
    pub processes: u32,
    /// See [`Reading::stopping`].
    pub stopping: bool,
}

/// What `show stat` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// [`lbstats::schema::FRONTEND`]
    pub frontends: Table,
    /// [`lbstats::schema::BACKEND`]
    pub backends: Table,
    /// [`lbstats::schema::SERVER`]
    pub servers: Table,
    /// See [`Reading::listens`].
    pub listens: Vec<Listen>,
    /// See [`Reading::unnamed`].
    pub unnamed: Vec<Unnamed>,
    /// The servers whose addresses it tells.
    pub destinations: Vec<Destination>,
    /// See [`Reading::duplicates`].
    pub duplicates: usize,
}

/// What is wrong with the output, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of {response}: {fault}")]
pub struct Garbled {
    /// The response in which it stands.
    pub response: Response,
    /// Line of that response, from 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// One of the responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// That to `show info`.
    ShowInfo,
    /// That to `show stat`.
    ShowStat,
    /// That to `show servers state`.
    ShowServersState,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The output ends where more was due.
    #[error("the output ends within the response")]
    Cut,
    /// HAProxy refused the command: the first line of what it said.
    #[error("HAProxy says `{0}`")]
    Refused(String),
    /// The response does not begin as this one does; what stands there, shortened.
    #[error("`{0}` is not how this response begins")]
    Start(String),
    /// A quote within an unquoted field, or something behind a closing quote.
    #[error("a quote stands where none can be")]
    Quote,
    /// A line of `show info` without a colon.
    #[error("it is not a name, a colon and a value")]
    NoPair,
    /// More or fewer fields than the header has.
    #[error("it has {found} fields, the header has {expected}")]
    Fields {
        /// Fields of this row.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// A field that every HAProxy sends is not there.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// A name that stands there twice.
    #[error("field {0} is there twice")]
    Twice(&'static str),
    /// A row that is no frontend, backend, server or listener; what it says it is, shortened.
    #[error("field type holds `{0}`, which is none of 0, 1, 2 and 3")]
    Type(String),
    /// A field that cannot stand in its column.
    #[error(transparent)]
    Field(FieldError),
    /// Something behind the last response.
    #[error("something follows the empty line that ends the output")]
    Trailing,
}

/// Reads the output of `show info;show stat`.
///
/// # Errors
/// When it is anything but the two whole responses.
pub fn parse(output: &[u8]) -> Result<Reading, Garbled> {
    let (reading, after) = parse_both(output)?;
    nothing_after(output, after, Response::ShowStat)?;
    Ok(reading)
}

/// Reads the output of `show info;show stat;show servers state`. A HAProxy that refuses the last one is one that tells
/// no addresses.
///
/// # Errors
/// When it is anything but the three whole responses.
pub fn parse_with_servers(output: &[u8]) -> Result<Reading, Garbled> {
    let (mut reading, rest) = parse_both(output)?;
    match parse_servers(rest) {
        Ok((destinations, after)) => {
            nothing_after(rest, after, Response::ShowServersState)?;
            reading.destinations = Some(destinations);
        }
        Err(Garbled { fault: Fault::Refused(_), .. }) => reading.destinations = Some(Vec::new()),
        Err(garbled) => return Err(garbled),
    }
    Ok(reading)
}

fn parse_both(output: &[u8]) -> Result<(Reading, &[u8]), Garbled> {
    let (info, rest) = parse_info(output)?;
    let (stat, after) = parse_stat(rest)?;
    let told = !stat.destinations.is_empty() || stat.servers.is_empty();
    let reading = Reading {
        process: info.process,
        frontends: stat.frontends,
        backends: stat.backends,
        servers: stat.servers,
        listens: stat.listens,
        unnamed: stat.unnamed,
        destinations: told.then_some(stat.destinations),
        pid: info.pid,
        peer: None,
        process_number: info.process_number,
        processes: info.processes,
        duplicates: stat.duplicates,
        stopping: info.stopping,
    };
    Ok((reading, after))
}

fn nothing_after(output: &[u8], after: &[u8], response: Response) -> Result<(), Garbled> {
    if after.is_empty() {
        return Ok(());
    }
    let whole = &output[..output.len() - after.len()];
    // The line within the response that ends here, not within all of the output.
    let start = match response {
        Response::ShowStat => whole.len() - parse_info(whole).map_or(whole.len(), |(_, rest)| rest.len()),
        _ => 0,
    };
    let line = whole[start..].iter().filter(|byte| **byte == b'\n').count() + 1;
    Err(Garbled { response, line, fault: Fault::Trailing })
}

/// Reads the response to `show info` off the front of `output`; gives what follows it, too.
///
/// # Errors
/// When a whole response does not stand there.
pub fn parse_info(output: &[u8]) -> Result<(Info, &[u8]), Garbled> {
    let mut records = Records::new(output);
    let info = info(&mut records).map_err(|fault| at(Response::ShowInfo, &records, fault))?;
    Ok((info, records.rest))
}

/// Reads the response to `show stat` off the front of `output`; gives what follows it, too.
///
/// # Errors
/// When a whole response does not stand there.
pub fn parse_stat(output: &[u8]) -> Result<(Stat, &[u8]), Garbled> {
    let mut records = Records::new(output);
    let stat = stat(&mut records).map_err(|fault| at(Response::ShowStat, &records, fault))?;
    Ok((stat, records.rest))
}

fn info(records: &mut Records<'_>) -> Result<Info, Fault> {
    starts_with(records, b"Name: ")?;
    let mut values: Vec<Option<Cow<'_, [u8]>>> = vec![None; PROCESS.columns.len()];
    while let Some((name, value)) = records.next_pair()? {
        let value = value.ok_or(Fault::NoPair)?;
        if let Some(place) = PROCESS.columns.iter().position(|column| column.source.as_bytes() == name)
            && values[place].replace(value).is_some()
        {
            return Err(Fault::Twice(PROCESS.columns[place].source));
        }
    }
    let value = |place: usize| values[place].as_deref().unwrap_or_default();
    let mut builder = TableBuilder::new(&PROCESS);
    push(&mut builder, value)?;
    let number = |name: &str| {
        let place = PROCESS.place(name)?;
        match PROCESS.columns[place].parse(value(place)) {
            Ok(Field::Number(number)) => u32::try_from(number).ok(),
            _ => None,
        }
    };
    Ok(Info {
        pid: number("Pid"),
        process_number: number("Process_num").unwrap_or(1),
        processes: number("Nbproc").unwrap_or(1),
        stopping: number("Stopping").is_some_and(|stopping| stopping != 0),
        process: builder.finish().0,
    })
}

fn stat(records: &mut Records<'_>) -> Result<Stat, Fault> {
    starts_with(records, b"# pxname,")?;
    records.rest = &records.rest[b"# ".len()..];
    let mut fields = Vec::new();
    records.next(&mut fields)?;
    let names = Names::of(&fields);
    let header = Header::resolve(fields.len(), &names)?;
    let mut frontends = (TableBuilder::new(&FRONTEND), names.places(&FRONTEND)?);
    let mut backends = (TableBuilder::new(&BACKEND), names.places(&BACKEND)?);
    let mut servers = (TableBuilder::new(&SERVER), names.places(&SERVER)?);
    let (mut listens, mut unnamed, mut destinations) = (Vec::new(), Vec::new(), Vec::new());
    while records.next(&mut fields)? {
        if fields.len() != header.fields {
            return Err(Fault::Fields { found: fields.len(), expected: header.fields });
        }
        let (builder, places) = match header.kind(&fields)? {
            Kind::Frontend => &mut frontends,
            Kind::Backend => &mut backends,
            Kind::Server => {
                destinations.extend(header.destination(&fields));
                &mut servers
            }
            Kind::Listener => {
                match header.listen(&fields) {
                    Some(Ok(listen)) => listens.push(listen),
                    Some(Err(bound)) => unnamed.push(bound),
                    None => {}
                }
                continue;
            }
        };
        push(builder, |place| places[place].map_or(&b""[..], |field| &fields[field]))?;
    }
    let [frontends, backends, servers] = [frontends, backends, servers].map(|(builder, _)| builder.finish());
    let duplicates = frontends.1 + backends.1 + servers.1;
    let (frontends, backends, servers) = (frontends.0, backends.0, servers.0);
    Ok(Stat { frontends, backends, servers, listens, unnamed, destinations, duplicates })
}

/// Where the fields stand that say what a row is.
struct Header {
    fields: usize,
    pxname: usize,
    iid: usize,
    sid: usize,
    kind: usize,
    svname: Option<usize>,
    addr: Option<usize>,
    proto: Option<usize>,
}

/// What a row of `show stat` is about.
enum Kind {
    Frontend,
    Backend,
    Server,
    Listener,
}

impl Header {
    fn resolve(fields: usize, names: &Names<'_>) -> Result<Self, Fault> {
        let due = |name: &'static str| names.place(name)?.ok_or(Fault::Missing(name));
        let (pxname, iid, sid, kind) = (due("pxname")?, due("iid")?, due("sid")?, due("type")?);
        let (svname, addr, proto) = (names.place("svname")?, names.place("addr")?, names.place("proto")?);
        Ok(Self { fields, pxname, iid, sid, kind, svname, addr, proto })
    }

    fn kind(&self, fields: &[Cow<'_, [u8]>]) -> Result<Kind, Fault> {
        if fields[self.pxname].is_empty() {
            return Err(Fault::Missing("pxname"));
        }
        for (name, field) in [("iid", self.iid), ("sid", self.sid)] {
            if fields[field].is_empty() || !fields[field].iter().all(u8::is_ascii_digit) {
                return Err(Fault::Missing(name));
            }
        }
        match &*fields[self.kind] {
            b"0" => Ok(Kind::Frontend),
            b"1" => Ok(Kind::Backend),
            b"2" => Ok(Kind::Server),
            b"3" => Ok(Kind::Listener),
            b"" => Err(Fault::Missing("type")),
            other => Err(Fault::Type(shortened(other))),
        }
    }

    /// The listener of a row of type 3, with its address of the form `127.0.0.1:80` or `[::1]:80`, or else what it is
    /// bound to; none where HAProxy does not tell (level `user`). A range of ports is a row for each.
    fn listen(&self, fields: &[Cow<'_, [u8]>]) -> Option<Result<Listen, Unnamed>> {
        let addr = &*fields[self.addr?];
        let proxy = String::from_utf8_lossy(&fields[self.pxname]).into_owned();
        let proto = self.proto.map_or(&b""[..], |proto| &fields[proto]);
        let address = str::from_utf8(addr).ok().and_then(|addr| addr.parse().ok());
        match (address, addr) {
            (_, b"") => None,
            // What listens on TCP at the same address is somebody else's.
            _ if proto.starts_with(b"quic") => Some(Err(Unnamed { proxy, bound: Bound::Quic })),
            (Some(address), _) => Some(Ok(Listen { proxy, address })),
            (None, addr) if addr.starts_with(b"unix") || addr.starts_with(b"abns") => {
                Some(Err(Unnamed { proxy, bound: Bound::Unix }))
            }
            _ => Some(Err(Unnamed { proxy, bound: Bound::Other })),
        }
    }

    /// The address of a server, if it has one and a port of its own: not one that is resolved yet, a Unix-domain
    /// socket, or one to which the client's port is added (`127.0.0.1:+80`).
    fn destination(&self, fields: &[Cow<'_, [u8]>]) -> Option<Destination> {
        let address: SocketAddr = str::from_utf8(&fields[self.addr?]).ok()?.parse().ok()?;
        if address.port() == 0 {
            return None;
        }
        let name = |field: usize| String::from_utf8_lossy(&fields[field]).into_owned();
        Some(Destination { proxy: name(self.pxname), server: name(self.svname?), address })
    }
}

/// Appends a row of what `value` gives for each column of the schema.
fn push<'a>(builder: &mut TableBuilder, value: impl Fn(usize) -> &'a [u8]) -> Result<(), Fault> {
    let mut refused = None;
    let pushed = builder.push(|place, column: &'static Column| {
        column.parse(value(place)).unwrap_or_else(|error| {
            refused.get_or_insert(error);
            Field::Absent
        })
    });
    match refused.map_or(pushed, Err) {
        Ok(()) => Ok(()),
        Err(error) => Err(Fault::Field(error)),
    }
}

/// HAProxy's own columns by name. Those of its modules stand behind a column named `-` and may have any name.
struct Names<'f> {
    places: HashMap<&'f [u8], usize>,
    twice: Vec<&'f [u8]>,
}

impl<'f> Names<'f> {
    fn of(header: &'f [Cow<'_, [u8]>]) -> Self {
        let mut names = Self { places: HashMap::new(), twice: Vec::new() };
        for (place, name) in header.iter().enumerate().take_while(|(_, name)| &***name != b"-") {
            if names.places.insert(name, place).is_some() {
                names.twice.push(name);
            }
        }
        names
    }

    /// Where the column of this name stands, if there is one; there must not be two.
    fn place(&self, name: &'static str) -> Result<Option<usize>, Fault> {
        if self.twice.contains(&name.as_bytes()) {
            return Err(Fault::Twice(name));
        }
        Ok(self.places.get(name.as_bytes()).copied())
    }

    /// For each column of the schema, its place in the header.
    fn places(&self, schema: &'static TableSchema) -> Result<Vec<Option<usize>>, Fault> {
        schema.columns.iter().map(|column| self.place(column.source)).collect()
    }
}

/// Tells a response from a refusal, which HAProxy prints in its place.
pub(super) fn starts_with(records: &mut Records<'_>, start: &[u8]) -> Result<(), Fault> {
    records.line = 1;
    let rest = records.rest;
    if rest.starts_with(start) {
        return Ok(());
    }
    if start.starts_with(rest) {
        return Err(Fault::Cut);
    }
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let refused = [&b"Unknown command"[..], b"Permission denied", b"Command not found", b"Can't"];
    if refused.iter().any(|words| line.starts_with(words)) {
        return Err(Fault::Refused(shortened(line)));
    }
    Err(Fault::Start(shortened(line)))
}

pub(super) fn shortened(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(80)]).escape_debug().to_string()
}

fn at(response: Response, records: &Records<'_>, fault: Fault) -> Garbled {
    Garbled { response, line: records.line, fault }
}

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Cut => Self::Cut,
            Broken::Quote => Self::Quote,
        }
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShowInfo => "`show info`",
            Self::ShowStat => "`show stat`",
            Self::ShowServersState => "`show servers state`",
        })
    }
}

#[cfg(test)]
mod tests;
