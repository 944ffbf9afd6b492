//! A snapshot: everything the daemon knows at one moment, under one generation number.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::schema::{self, Column, Syntax, TableSchema};
use crate::table::{Field, MAX_NUMBER, Table, TableBuilder};

/// Immutable once published; readers share it through an [`Arc`]. Tables that did not change are shared between
/// generations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Number of this snapshot, from 1; 0 before the first collection.
    pub generation: u64,
    /// When it was published, in microseconds since 1970.
    pub taken: u64,
    /// When HAProxy's tables were read, in microseconds since 1970; older than `taken` while HAProxy does not answer,
    /// none before it first did. With several stats sockets, the youngest of them.
    pub haproxy_read: Option<u64>,
    /// [`schema::PROCESS`]
    pub processes: Arc<Table>,
    /// [`schema::FRONTEND`]
    pub frontends: Arc<Table>,
    /// [`schema::BACKEND`]
    pub backends: Arc<Table>,
    /// [`schema::SERVER`]
    pub servers: Arc<Table>,
    /// [`schema::LISTENER`]
    pub listeners: Arc<Table>,
    /// [`schema::KERNEL_FRONTEND`]
    pub kernel_frontends: Arc<Table>,
    /// [`schema::KERNEL_SERVER`]
    pub kernel_servers: Arc<Table>,
    /// How each source fares.
    pub sources: Vec<Source>,
    /// How each hook in the kernel fares; empty without eBPF.
    pub hooks: Vec<Hook>,
    /// What each program in the kernel cost; empty without eBPF.
    pub programs: Vec<Program>,
    /// How each face that keeps a state fares.
    pub faces: Vec<Face>,
    /// The last of the tables, made when somebody asks for one.
    pub daemon: DaemonTables,
}

/// The tables of what a snapshot holds as lists, as they stood when it was published: see [`Snapshot::daemon`]. They
/// follow from the rest of a snapshot, so that all of them are equal.
#[derive(Debug, Default)]
pub struct DaemonTables(OnceLock<[Arc<Table>; 5]>);

/// A copy may be of a snapshot about to change.
impl Clone for DaemonTables {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for DaemonTables {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for DaemonTables {}

/// How a source of the daemon fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    /// Path of the stats socket; empty for the kernel.
    pub target: String,
    /// Why the last collection failed, in one line; none if it succeeded.
    pub error: Option<String>,
    /// When it last succeeded, in microseconds since 1970.
    pub succeeded: Option<u64>,
    /// Duration of the last collection, in microseconds.
    pub duration: u64,
    /// Time spent on all collections, in microseconds.
    pub duration_total: u64,
    /// Collections begun.
    pub collections: u64,
    /// Collections that failed.
    pub errors: u64,
}

/// Kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceKind {
    /// A stats socket of HAProxy.
    Haproxy,
    /// The kernel, through eBPF.
    Ebpf,
}

/// How a hook in the kernel fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Name of the tracepoint or iterator.
    pub name: String,
    /// `healthy`, `unsupported` or `failed`.
    pub state: String,
    /// Why it is not healthy, in one line; empty if it is.
    pub reason: String,
}

/// What a program of the daemon in the kernel cost, by the kernel's own account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Name of the program, that of its hook.
    pub name: String,
    /// Runs counted; none while the kernel keeps no statistics.
    pub runs: Option<u64>,
    /// Time spent in them, in nanoseconds; none likewise.
    pub time: Option<u64>,
    /// Runs that were left out, because the program would have interrupted itself.
    pub missed: u64,
}

/// How a face of the daemon fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Face {
    /// Its kind: `agentx`, `snmp` or `notifications`.
    pub kind: String,
    /// Address or path of its socket or its peer.
    pub target: String,
    /// Why it does not work, in one line; none while it does.
    pub error: Option<String>,
    /// Sessions begun or sockets bound.
    pub connects: u64,
    /// Requests answered, or notifications sent.
    pub requests: u64,
    /// Variable bindings sent.
    pub varbinds: u64,
    /// Requests not answered, or notifications that nobody took.
    pub refused: u64,
}

impl Snapshot {
    /// The snapshot before the first collection: no rows, generation 0.
    pub fn empty() -> Self {
        let table = |schema| Arc::new(Table::empty(schema));
        Self {
            generation: 0,
            taken: unix_micros(),
            haproxy_read: None,
            processes: table(&schema::PROCESS),
            frontends: table(&schema::FRONTEND),
            backends: table(&schema::BACKEND),
            servers: table(&schema::SERVER),
            listeners: table(&schema::LISTENER),
            kernel_frontends: table(&schema::KERNEL_FRONTEND),
            kernel_servers: table(&schema::KERNEL_SERVER),
            sources: Vec::new(),
            hooks: Vec::new(),
            programs: Vec::new(),
            faces: Vec::new(),
            daemon: DaemonTables::default(),
        }
    }

    /// The four tables of lbStats, in the order of their arcs.
    pub fn lbstats(&self) -> [&Table; 4] {
        [&self.processes, &self.frontends, &self.backends, &self.servers]
    }

    /// What the kernel counts, in the order of the tables' arcs: listeners, frontends, servers.
    pub fn kernel(&self) -> [&Table; 3] {
        [&self.listeners, &self.kernel_frontends, &self.kernel_servers]
    }

    /// How the daemon fares, in the order of the tables' arcs: sources, hooks, programs, faces, and the snapshot. Ages
    /// are those at the time it was published. The first call makes the tables, unless `self` is changed later.
    pub fn daemon(&self) -> &[Arc<Table>; 5] {
        self.daemon.0.get_or_init(|| self.daemon_at(self.taken))
    }

    /// All tables, in the order of [`schema::TABLES`]; ages are those at `now`, in microseconds since 1970.
    pub fn tables(&self, now: u64) -> [Arc<Table>; schema::TABLE_COUNT] {
        let [sources, hooks, programs, faces, snapshot] = self.daemon_at(now);
        [
            self.processes.clone(),
            self.frontends.clone(),
            self.backends.clone(),
            self.servers.clone(),
            self.listeners.clone(),
            self.kernel_frontends.clone(),
            self.kernel_servers.clone(),
            sources,
            hooks,
            programs,
            faces,
            snapshot,
        ]
    }

    fn daemon_at(&self, now: u64) -> [Arc<Table>; 5] {
        let tables = [
            table_of(&schema::SOURCE, &self.sources, |source, column| source.field(column, now)),
            table_of(&schema::HOOK, &self.hooks, Hook::field),
            table_of(&schema::PROGRAM, &self.programs, Program::field),
            table_of(&schema::FACE, &self.faces, Face::field),
            table_of(&schema::SNAPSHOT, std::slice::from_ref(self), |snapshot, column| match column.source {
                "generation" => Field::Number(snapshot.generation),
                "taken" => Field::Number(snapshot.taken),
                "age" => Field::Number(now.saturating_sub(snapshot.taken)),
                other => unreachable!("the schema's column {other} of the snapshot has no value"),
            }),
        ];
        tables.map(Arc::new)
    }
}

impl Source {
    /// A source that was not read yet.
    pub fn new(kind: SourceKind, target: impl Into<String>) -> Self {
        let target = target.into();
        let error = Some("not read yet".to_owned());
        Self { kind, target, error, succeeded: None, duration: 0, duration_total: 0, collections: 0, errors: 0 }
    }

    fn field(&self, column: &Column, now: u64) -> Field<'_> {
        match column.source {
            "source" => Field::Text(self.kind.name().as_bytes()),
            "target" => Field::Text(self.target.as_bytes()),
            "up" => Field::Number(u64::from(self.error.is_none())),
            "error" => self.error.as_ref().map_or(Field::Absent, |error| Field::Text(error.as_bytes())),
            "age" => self.succeeded.map_or(Field::Absent, |then| Field::Number(now.saturating_sub(then))),
            "duration" => Field::Number(self.duration),
            "duration_total" => Field::Number(self.duration_total),
            "collections" => Field::Number(self.collections),
            "errors" => Field::Number(self.errors),
            other => unreachable!("the schema's column {other} of sources has no value"),
        }
    }
}

impl SourceKind {
    /// Its name in labels and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Ebpf => "ebpf",
        }
    }
}

impl Hook {
    fn field(&self, column: &Column) -> Field<'_> {
        match column.source {
            "hook" => Field::Text(self.name.as_bytes()),
            "reason" => Field::Text(self.reason.as_bytes()),
            "state" => Field::Text(self.state.as_bytes()),
            other => unreachable!("the schema's column {other} of hooks has no value"),
        }
    }
}

impl Program {
    fn field(&self, column: &Column) -> Field<'_> {
        match column.source {
            "program" => Field::Text(self.name.as_bytes()),
            "runs" => self.runs.map_or(Field::Absent, Field::Number),
            "time" => self.time.map_or(Field::Absent, Field::Number),
            "missed" => Field::Number(self.missed),
            other => unreachable!("the schema's column {other} of programs has no value"),
        }
    }
}

impl Face {
    fn field(&self, column: &Column) -> Field<'_> {
        match column.source {
            "face" => Field::Text(self.kind.as_bytes()),
            "target" => Field::Text(self.target.as_bytes()),
            "up" => Field::Number(u64::from(self.error.is_none())),
            "error" => self.error.as_ref().map_or(Field::Absent, |error| Field::Text(error.as_bytes())),
            "connects" => Field::Number(self.connects),
            "requests" => Field::Number(self.requests),
            "varbinds" => Field::Number(self.varbinds),
            "refused" => Field::Number(self.refused),
            other => unreachable!("the schema's column {other} of faces has no value"),
        }
    }
}

/// Microseconds since 1970, by the system's clock.
pub fn unix_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX))
}

fn table_of<R>(
    schema: &'static TableSchema,
    rows: &[R],
    field: impl for<'a> Fn(&'a R, &'static Column) -> Field<'a>,
) -> Table {
    let mut builder = TableBuilder::new(schema);
    for (place, row) in rows.iter().enumerate() {
        let field = |column: &'static Column| match column.source {
            "place" => Field::Number(place as u64 + 1),
            _ => field(row, column),
        };
        let pushed = builder.push(|_, column| match field(column) {
            // What came over the control socket may be anything.
            Field::Number(number) => Field::Number(number.min(MAX_NUMBER)),
            Field::Text(text) if column.syntax == Syntax::Name => Field::Text(&text[..text.len().min(64)]),
            other => other,
        });
        pushed.expect("numbers and texts were made to fit");
    }
    builder.finish().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_of_the_schema_is_there_in_order() {
        let mut snapshot = Snapshot::empty();
        snapshot.sources.push(Source::new(SourceKind::Haproxy, "/run/haproxy.sock"));
        snapshot.hooks.push(Hook { name: "iter_tcp".into(), state: "healthy".into(), reason: String::new() });
        snapshot.faces.push(Face { kind: "agentx".into(), error: Some("no master".into()), ..Face::default() });
        let tables = snapshot.tables(snapshot.taken + 5);
        for (table, schema) in tables.iter().zip(schema::TABLES) {
            assert!(std::ptr::eq(table.schema(), schema));
        }
        let [.., sources, hooks, _, faces, own] = &tables;
        assert_eq!(faces.text(schema::FACE.place("error").unwrap(), 0), Some(&b"no master"[..]));
        assert_eq!(faces.number(schema::FACE.place("up").unwrap(), 0), Some(0));
        assert_eq!(sources.number(schema::SOURCE.place("up").unwrap(), 0), Some(0));
        assert_eq!(sources.number(schema::SOURCE.place("age").unwrap(), 0), None);
        assert_eq!(hooks.text(schema::HOOK.place("state").unwrap(), 0), Some(&b"healthy"[..]));
        assert_eq!(own.number(schema::SNAPSHOT.place("age").unwrap(), 0), Some(5));
    }
}
