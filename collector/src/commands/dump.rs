//! `lbstatd dump`: one snapshot on standard output.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use lbstats::schema::Syntax;
use lbstats::{Histogram, Oid, Snapshot, Table, unix_micros};
use serde_json::{Map, Value, json};
use snmp_export::View;

use crate::collect::{self, Ebpf};
use crate::control::{self, Client};
use crate::haproxy::Limits;
use crate::prometheus;
use crate::publish::Published;

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Flags of `dump`.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// json: every cell as its source sent it; snmp: as `snmpwalk -On` prints it; prometheus: as /metrics shows it
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Ask the daemon on this socket [default: /run/lbstatd/control.sock]
    #[arg(long, value_name = "PATH", conflicts_with = "stats_socket")]
    control: Option<PathBuf>,
    /// Read HAProxy's stats socket once, without a daemon; repeat it for several processes
    #[arg(long, value_name = "PATH")]
    stats_socket: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Json,
    Snmp,
    Prometheus,
}

/// Prints one snapshot.
///
/// # Errors
/// When neither the daemon nor, with `--stats-socket`, HAProxy answers.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let snapshot = if args.stats_socket.is_empty() {
        let path = args.control.clone().unwrap_or_else(|| control::DEFAULT_PATH.into());
        Arc::new(Client::connect(&path, false)?.next(Some(PATIENCE))?)
    } else {
        read_once(args.stats_socket.clone())?
    };
    let page = match args.format {
        Format::Json => json_of(&snapshot),
        Format::Snmp => walk_of(snapshot),
        Format::Prometheus => prometheus::exposition(&snapshot),
    };
    Ok(std::io::stdout().write_all(page.as_bytes())?)
}

/// The first snapshot of a collection that has no other purpose; a socket that fails is an error here.
fn read_once(stats_sockets: Vec<PathBuf>) -> anyhow::Result<Arc<Snapshot>> {
    let settings = collect::Settings {
        stats_sockets,
        interval: Duration::from_secs(1),
        limits: Limits::default(),
        ebpf: Ebpf::Off,
        faces: Arc::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let snapshot = runtime.block_on(async {
        let published = Published::new();
        let mut changes = published.changes();
        tokio::select! {
            ended = collect::run(settings, published.clone(), std::future::pending()) => ended.map(|()| published.load()),
            _ = changes.wait_for(|generation| *generation > 0) => Ok(published.load()),
        }
    })?;
    match snapshot.sources.iter().find_map(|source| source.error.clone()) {
        Some(error) => Err(anyhow::anyhow!(error)),
        None => Ok(snapshot),
    }
}

fn walk_of(snapshot: Arc<Snapshot>) -> String {
    let view = View::new(snapshot);
    let (mut oid, mut next, mut page) = (Oid::default(), Oid::default(), String::new());
    while let Some(value) = view.next(&oid, &mut next) {
        page.push_str(&format!("{next} = {value}\n"));
        std::mem::swap(&mut oid, &mut next);
    }
    page
}

fn json_of(snapshot: &Snapshot) -> String {
    let tables = snapshot.tables(unix_micros());
    let tables: Map<String, Value> =
        tables.iter().map(|table| (table.schema().name.to_owned(), rows_of(table))).collect();
    let page = json!({
        "generation": snapshot.generation,
        "taken_unix_microseconds": snapshot.taken,
        "haproxy_read_unix_microseconds": snapshot.haproxy_read,
        "tables": tables,
    });
    format!("{page:#}\n")
}

fn rows_of(table: &Table) -> Value {
    let row_of = |row| -> Map<String, Value> {
        (table.schema().columns.iter().enumerate())
            // Another column has the address as text.
            .filter(|(_, column)| column.syntax != Syntax::Address)
            .map(|(place, column)| {
                let cell = match column.syntax {
                    Syntax::Histogram(unit) => {
                        table.histogram(place, row).map(|histogram| json_of_histogram(histogram, unit))
                    }
                    syntax if syntax.is_text() => {
                        table.text(place, row).map(|text| Value::from(String::from_utf8_lossy(text)))
                    }
                    _ => table.number(place, row).map(Value::from),
                };
                (column.source.to_owned(), cell.unwrap_or(Value::Null))
            })
            .collect()
    };
    (0..table.len()).map(|row| Value::Object(row_of(row))).collect()
}

/// Count, sum, and each bucket that is not empty with its upper bound (null for none), in microseconds.
fn json_of_histogram(histogram: &Histogram, unit: u32) -> Value {
    let buckets = histogram.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
    let bucket = |(bucket, count): (usize, &u64)| json!({ "le_microseconds": lbstats::bound(bucket).map(|bound| bound * u64::from(unit)), "count": count });
    json!({
        "count": histogram.count(),
        "sum_microseconds": histogram.sum,
        "buckets": buckets.map(bucket).collect::<Vec<_>>(),
    })
}
