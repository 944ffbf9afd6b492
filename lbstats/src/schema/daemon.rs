//! How the daemon fares: its sources, its hooks in the kernel and what they cost, its faces, and the snapshot itself.
//!
//! Metrics are `lbstatd_*`.

use super::MetricKind::{Counter, Gauge, Info, Microseconds, MicrosecondsTotal, NanosecondsTotal};
use super::Module::Lbstatd;
use super::Syntax::{Counter64, Gauge64, Integer, Name, Text, Truth};
use super::{TableSchema, counter, extra, gauge, metric, mib, states};

/// The daemon's sources: stats sockets and the kernel.
#[rustfmt::skip] // A table reads as one: a column to a line.
pub static SOURCE: TableSchema = TableSchema {
    name: "sources",
    module: Lbstatd,
    arc: 4,
    row: "a source of the daemon",
    index: 1,
    labels: &[("source", "source"), ("target", "target")],
    columns: &[
        mib(1, "lbstatdSourceIndex", Integer, "place", None, "Place of the source, from 1: the stats sockets in the order of the configuration, then the kernel"),
        mib(2, "lbstatdSourceKind", Text, "source", None, "Kind of the source: haproxy or ebpf"),
        mib(3, "lbstatdSourceTarget", Text, "target", None, "Path of the stats socket; empty for the kernel"),
        mib(4, "lbstatdSourceUp", Truth, "up", gauge("lbstatd_up"), "Whether the last collection from this source succeeded"),
        mib(5, "lbstatdSourceError", Text, "error", metric("lbstatd_source_error_info", Info("reason")), "Why the last collection from this source failed; absent while it is up"),
        mib(6, "lbstatdSourceAge", Gauge64, "age", metric("lbstatd_source_age_seconds", Microseconds), "Time since the last successful collection from this source; absent before the first"),
        mib(7, "lbstatdSourceDuration", Gauge64, "duration", metric("lbstatd_collection_duration_seconds", Microseconds), "Duration of the last collection from this source"),
        mib(8, "lbstatdSourceDurationTotal", Counter64, "duration_total", metric("lbstatd_collection_time_seconds_total", MicrosecondsTotal), "Time spent collecting from this source"),
        mib(9, "lbstatdSourceCollections", Counter64, "collections", metric("lbstatd_collections_total", Counter), "Collections from this source that were begun"),
        mib(10, "lbstatdSourceErrors", Counter64, "errors", metric("lbstatd_collection_errors_total", Counter), "Collections from this source that failed"),
    ],
};

/// The daemon's hooks in the kernel.
#[rustfmt::skip] // A table reads as one: a column to a line.
pub static HOOK: TableSchema = TableSchema {
    name: "hooks",
    module: Lbstatd,
    arc: 5,
    row: "a hook of the daemon in the kernel",
    index: 1,
    labels: &[("hook", "hook"), ("reason", "reason")],
    columns: &[
        mib(1, "lbstatdHookName", Name, "hook", None, "Name of the kernel's tracepoint or iterator"),
        mib(2, "lbstatdHookState", Text, "state", states("lbstatd_hook_state", &[("healthy", &["healthy"]), ("unsupported", &["unsupported"]), ("failed", &["failed"])]), "State of a hook in the kernel: healthy, unsupported (this kernel cannot have it) or failed"),
        mib(3, "lbstatdHookReason", Text, "reason", None, "Why it is not healthy; empty if it is"),
    ],
};

/// What the daemon's programs in the kernel cost, by the kernel's own account.
#[rustfmt::skip] // A table reads as one: a column to a line.
pub static PROGRAM: TableSchema = TableSchema {
    name: "programs",
    module: Lbstatd,
    arc: 6,
    row: "a program of the daemon in the kernel",
    index: 1,
    labels: &[("program", "program")],
    columns: &[
        mib(1, "lbstatdProgramName", Name, "program", None, "Name of the program, that of its hook"),
        mib(2, "lbstatdProgramRuns", Counter64, "runs", counter("lbstatd_program_runs_total"), "Runs of the program while the kernel kept its statistics (kernel.bpf_stats_enabled); absent while it keeps none"),
        mib(3, "lbstatdProgramRunTime", Counter64, "time", metric("lbstatd_program_run_time_seconds_total", NanosecondsTotal), "Time spent in those runs"),
        mib(4, "lbstatdProgramMissed", Counter64, "missed", counter("lbstatd_program_missed_total"), "Runs that the kernel left out because the program would have interrupted itself; what they would have counted is counted later"),
    ],
};

/// The daemon's faces that keep a state of their own: sessions with snmpd, the SNMP agent, receivers of notifications.
#[rustfmt::skip] // A table reads as one: a column to a line.
pub static FACE: TableSchema = TableSchema {
    name: "faces",
    module: Lbstatd,
    arc: 7,
    row: "a face of the daemon",
    index: 1,
    labels: &[("face", "face"), ("target", "target")],
    columns: &[
        mib(1, "lbstatdFaceIndex", Integer, "place", None, "Place of the face, from 1, in the order in which the daemon started them"),
        mib(2, "lbstatdFaceKind", Text, "face", None, "Kind of the face: agentx, snmp or notifications"),
        mib(3, "lbstatdFaceTarget", Text, "target", None, "Address or path of its socket or its peer"),
        mib(4, "lbstatdFaceUp", Truth, "up", gauge("lbstatd_face_up"), "Whether the face works"),
        mib(5, "lbstatdFaceError", Text, "error", metric("lbstatd_face_error_info", Info("reason")), "Why the face does not work; absent while it does"),
        mib(6, "lbstatdFaceConnects", Counter64, "connects", counter("lbstatd_face_connects_total"), "Sessions begun or sockets bound"),
        mib(7, "lbstatdFaceRequests", Counter64, "requests", counter("lbstatd_face_requests_total"), "Requests answered, or notifications sent"),
        mib(8, "lbstatdFaceVarbinds", Counter64, "varbinds", counter("lbstatd_face_varbinds_total"), "Variable bindings sent"),
        mib(9, "lbstatdFaceRefused", Counter64, "refused", counter("lbstatd_face_refused_total"), "Requests not answered, or notifications that nobody took"),
    ],
};

/// The snapshot itself, one row.
#[rustfmt::skip] // A table reads as one: a column to a line.
pub static SNAPSHOT: TableSchema = TableSchema {
    name: "snapshot",
    module: Lbstatd,
    arc: 8,
    row: "the snapshot",
    index: 0,
    labels: &[],
    columns: &[
        mib(1, "lbstatdSnapshotGeneration", Gauge64, "generation", metric("lbstatd_snapshot_generation", Gauge), "Number of the snapshot, the same in every face; starts again with the daemon"),
        mib(2, "lbstatdSnapshotTaken", Gauge64, "taken", None, "When the snapshot was published, in microseconds since 1970"),
        extra("age", Counter64, metric("lbstatd_snapshot_age_seconds", Microseconds), "Time since the snapshot was published"),
    ],
};
