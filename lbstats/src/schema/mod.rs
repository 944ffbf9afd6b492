//! The one place where columns are declared: table, arc, MIB name, syntax, source field, Prometheus name, help.
//!
//! MIB modules, conversions, OID order and Prometheus families all come from here. The tables themselves are in
//! `columns.rs` (what HAProxy says), `kernel.rs` (what the kernel counts) and `daemon.rs` (how the daemon fares); this
//! file says what a column is, and `check.rs` refuses at compile time a set of tables that contradicts itself.

mod check;
mod columns;
mod daemon;
mod kernel;

pub use columns::{BACKEND, FRONTEND, PROCESS, SERVER};
pub use daemon::{FACE, HOOK, PROGRAM, SNAPSHOT, SOURCE};
pub use kernel::{KERNEL_FRONTEND, KERNEL_SERVER, LISTENER};

use std::fmt;

use crate::value::Value;

/// All tables, in the order in which faces show them.
#[rustfmt::skip] // In groups.
pub static TABLES: [&TableSchema; TABLE_COUNT] = [
    &PROCESS, &FRONTEND, &BACKEND, &SERVER,
    &LISTENER, &KERNEL_FRONTEND, &KERNEL_SERVER,
    &SOURCE, &HOOK, &PROGRAM, &FACE, &SNAPSHOT,
];

/// How many tables there are.
pub const TABLE_COUNT: usize = 12;

/// The root of `LBSTATD-MIB` unless configured otherwise: in the branch that net-snmp leaves to everybody's trials,
/// because the project has no enterprise number.
pub static LBSTATD_ROOT: &[u32] = &[1, 3, 6, 1, 4, 1, 8072, 9999, 9999, 4300];

/// The roots under which the four lbStats tables are served: that of `EXCELIANCE-MIB`, and that of newer HAProxy
/// Enterprise.
pub static LBSTATS_ROOTS: [&[u32]; 2] =
    [&[1, 3, 6, 1, 4, 1, 23263, 4, 3, 1, 3], &[1, 3, 6, 1, 4, 1, 58750, 4, 3, 1, 3]];

/// The root of the same tables in the older ALOHA branch, for managers that look there only.
pub static ALOHA_ROOT: &[u32] = &[1, 3, 6, 1, 4, 1, 23263, 4, 2, 1, 3];

/// The group of scalars by which managers recognise an ALOHA, `alProductInfo`.
pub static ALOHA_PRODUCT: &[u32] = &[1, 3, 6, 1, 4, 1, 23263, 4, 2, 1, 1];

/// The scalars of that group that HAProxy can fill: arc, and the field of `show info`. They are alProductName,
/// alProductVersion and alProductBuildDate.
pub static ALOHA_SCALARS: [(u32, &str); 3] = [(1, "Name"), (3, "Version"), (6, "Release_date")];

/// A table: what one row describes, and its columns.
pub struct TableSchema {
    /// Name of the table in documents and JSON; for lbStats, its name in the MIB.
    pub name: &'static str,
    /// The MIB module that has it.
    pub module: Module,
    /// Arc of the table under lbStats, or under the objects of LBSTATD-MIB.
    pub arc: u32,
    /// What one row is, as a phrase.
    pub row: &'static str,
    /// How many of the first columns make the index of a row, 0 to 4; with 0, SNMP shows the first row as scalars.
    pub index: usize,
    /// Prometheus labels of a row: the label's name and the source field of its value. One without a text, or whose
    /// number is 0, is left out.
    pub labels: &'static [(&'static str, &'static str)],
    /// The columns: those with an arc first, arcs ascending.
    pub columns: &'static [Column],
}

/// A MIB module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// EXCELIANCE-MIB, with lbStats.
    Exceliance,
    /// LBSTATD-MIB: what the kernel counts, and how the daemon fares. A table's name there, of an index object too, is
    /// that of its columns: `lbstatdListener` and so on; index objects are not accessible, as RFC 2578 section 7.7 wants.
    Lbstatd,
}

/// A column of a table.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Arc under the table's entry; none for a column that is not in the MIB.
    pub arc: Option<u32>,
    /// Name of the MIB object; empty without an arc.
    pub name: &'static str,
    /// SNMP syntax, and with it the conversion (see [`Column::convert`]).
    pub syntax: Syntax,
    /// Name of the field at its source: of `show info`, of the header of `show stat`, or of our own collection.
    pub source: &'static str,
    /// The Prometheus family that shows it; none for names, and for what a label or another family says already.
    pub metric: Option<Metric>,
    /// What it is, in one phrase without a full stop.
    pub help: &'static str,
    /// The number lbStats sends for an absent one.
    pub if_absent: u8,
}

/// Syntax of a column, as in the MIB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// INTEGER (0..2147483647): larger numbers are clamped, since net-snmp would send five octets that managers choke on.
    Integer,
    /// INTEGER { no(0), yes(1) }.
    YesNo,
    /// Counter32: modulo 2^32.
    Counter32,
    /// Counter64: whole.
    Counter64,
    /// OCTET STRING (SIZE (0..65535)).
    Text,
    /// SnmpAdminString (SIZE (1..64)): a text that may be part of an index.
    Name,
    /// Unsigned32: larger numbers are clamped.
    Unsigned,
    /// Gauge32: larger numbers are clamped.
    Gauge32,
    /// CounterBasedGauge64 (RFC 2856), on the wire a Counter64: whole.
    Gauge64,
    /// TruthValue: 0 is false(2), any other number true(1).
    Truth,
    /// InetAddressType (RFC 4001): ipv4(1), ipv6(2), ipv6z(4).
    AddressType,
    /// InetAddress (RFC 4001): 4, 16 or 20 octets, as the InetAddressType before it says.
    Address,
    /// InetPortNumber.
    Port,
    /// A [`Histogram`](crate::Histogram) whose bounds are in units of this many microseconds. Not in a MIB.
    Histogram(u32),
}

/// How Prometheus shows a column. Names and types are those of HAProxy's own exporter where it has the same family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name of the family.
    pub name: &'static str,
    /// Type, and how the cell becomes a sample.
    pub kind: MetricKind,
    /// A label that tells this column from others of the same family.
    pub label: Option<(&'static str, &'static str)>,
}

/// Type of a family, and how a cell becomes a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Counter; the number as it is.
    Counter,
    /// Gauge; the number as it is.
    Gauge,
    /// Gauge in seconds of a number in milliseconds.
    Milliseconds,
    /// Counter in seconds of a number in microseconds.
    MicrosecondsTotal,
    /// Gauge in seconds of a number in microseconds.
    Microseconds,
    /// Counter in seconds of a number in nanoseconds.
    NanosecondsTotal,
    /// Histogram in seconds, one bucket an octave.
    Histogram,
    /// A gauge for each state, 1 for the one that the text names: label value, and the texts (up to a space) that mean it.
    States(&'static [(&'static str, &'static [&'static str])]),
    /// Always 1, with the text as a label of this name; no sample where the text is absent.
    Info(&'static str),
}

/// There is one of each name.
impl PartialEq for TableSchema {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for TableSchema {}

/// The name alone: all columns would drown whatever a failed test has to say.
impl fmt::Debug for TableSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl TableSchema {
    /// Place of the column that comes from this field.
    pub fn place(&self, source: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.source == source)
    }

    /// The columns that SNMP serves: those with an arc, without those of the index in [`Module::Lbstatd`].
    pub fn served(&self) -> impl Iterator<Item = (usize, &'static Column)> {
        let hidden = if self.module == Module::Lbstatd { self.index } else { 0 };
        self.mib_columns().iter().enumerate().skip(hidden)
    }

    /// The columns with an arc.
    pub fn mib_columns(&self) -> &'static [Column] {
        let end = self.columns.iter().position(|column| column.arc.is_none()).unwrap_or(self.columns.len());
        &self.columns[..end]
    }
}

impl Syntax {
    /// Whether its cells hold octets.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Name | Self::Address)
    }

    /// Whether its cells hold numbers.
    pub const fn is_number(self) -> bool {
        !self.is_text() && !matches!(self, Self::Histogram(_))
    }

    /// The largest number that may stand in an index; none for texts.
    pub(crate) const fn index_limit(self) -> Option<u64> {
        match self {
            Self::Integer | Self::AddressType => Some(i32::MAX as u64),
            Self::Unsigned => Some(u32::MAX as u64),
            Self::Port => Some(u16::MAX as u64),
            _ => None,
        }
    }

    /// The most octets of a text that may stand in an index; none for numbers, and texts that may not.
    pub(crate) const fn index_octets(self) -> Option<usize> {
        match self {
            Self::Name => Some(64),
            Self::Address => Some(20),
            _ => None,
        }
    }
}

impl Column {
    /// What SNMP sends for a number of this column: INTEGER clamped to 0..2147483647, Gauge32 to 0..4294967295, Counter32
    /// modulo 2^32, 64 bits whole; for an absent one, [`Column::if_absent`]. Meaningless for texts and histograms.
    pub fn convert(&self, number: Option<u64>) -> Value<'static> {
        let number = number.unwrap_or(u64::from(self.if_absent));
        match self.syntax {
            Syntax::Integer | Syntax::AddressType => Value::Integer(i32::try_from(number).unwrap_or(i32::MAX)),
            Syntax::YesNo => Value::Integer(i32::from(number != 0)),
            Syntax::Counter32 => Value::Counter32(u32::try_from(number & 0xffff_ffff).unwrap_or_default()),
            Syntax::Counter64 | Syntax::Gauge64 => Value::Counter64(number),
            Syntax::Unsigned | Syntax::Gauge32 | Syntax::Port => {
                Value::Gauge32(u32::try_from(number).unwrap_or(u32::MAX))
            }
            Syntax::Truth => Value::Integer(if number == 0 { 2 } else { 1 }),
            Syntax::Text | Syntax::Name | Syntax::Address | Syntax::Histogram(_) => Value::OctetString(b""),
        }
    }

    /// An absent number is sent as 1.
    const fn or_one(mut self) -> Self {
        self.if_absent = 1;
        self
    }
}

const fn mib(
    arc: u32,
    name: &'static str,
    syntax: Syntax,
    source: &'static str,
    metric: Option<Metric>,
    help: &'static str,
) -> Column {
    Column { arc: Some(arc), name, syntax, source, metric, help, if_absent: 0 }
}

const fn extra(source: &'static str, syntax: Syntax, metric: Option<Metric>, help: &'static str) -> Column {
    Column { arc: None, name: "", syntax, source, metric, help, if_absent: 0 }
}

/// A histogram whose bounds are in units of `unit` microseconds.
const fn histogram(source: &'static str, unit: u32, name: &'static str, help: &'static str) -> Column {
    extra(source, Syntax::Histogram(unit), metric(name, MetricKind::Histogram), help)
}

const fn metric(name: &'static str, kind: MetricKind) -> Option<Metric> {
    Some(Metric { name, kind, label: None })
}

const fn counter(name: &'static str) -> Option<Metric> {
    metric(name, MetricKind::Counter)
}

const fn counter_of(name: &'static str, label: &'static str, value: &'static str) -> Option<Metric> {
    Some(Metric { name, kind: MetricKind::Counter, label: Some((label, value)) })
}

const fn gauge(name: &'static str) -> Option<Metric> {
    metric(name, MetricKind::Gauge)
}

const fn gauge_of(name: &'static str, label: &'static str, value: &'static str) -> Option<Metric> {
    Some(Metric { name, kind: MetricKind::Gauge, label: Some((label, value)) })
}

const fn milliseconds(name: &'static str) -> Option<Metric> {
    metric(name, MetricKind::Milliseconds)
}

const fn states(name: &'static str, states: &'static [(&'static str, &'static [&'static str])]) -> Option<Metric> {
    metric(name, MetricKind::States(states))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lbstats_has_its_114_columns() {
        let columns = [&PROCESS, &FRONTEND, &BACKEND, &SERVER].map(|table| table.mib_columns().len());
        assert_eq!(columns, [51, 13, 23, 27]);
        for table in [&PROCESS, &FRONTEND, &BACKEND, &SERVER] {
            let arcs: Vec<u32> = table.mib_columns().iter().filter_map(|column| column.arc).collect();
            let expected: Vec<u32> = (1..).take(arcs.len()).collect();
            assert_eq!(arcs, expected, "{}", table.name);
        }
    }

    #[test]
    fn labels_name_columns() {
        for table in TABLES {
            for (label, source) in table.labels {
                assert!(table.place(source).is_some(), "{}: label {label} of {source}", table.name);
            }
        }
    }

    #[test]
    fn scalars_come_from_columns_and_ascend() {
        assert!(ALOHA_SCALARS.is_sorted_by_key(|(arc, _)| arc));
        assert!(ALOHA_SCALARS.iter().all(|(_, source)| PROCESS.place(source).is_some()));
    }

    #[test]
    fn numbers_convert_by_syntax() {
        let column = |table: &'static TableSchema, source| &table.columns[table.place(source).unwrap()];
        let integer = column(&PROCESS, "Maxconn");
        assert_eq!(integer.convert(Some(2_147_483_648)), Value::Integer(i32::MAX));
        assert_eq!(integer.convert(None), Value::Integer(0));
        assert_eq!(column(&PROCESS, "Nbproc").convert(None), Value::Integer(1));
        assert_eq!(column(&PROCESS, "CumReq").convert(Some(4_294_967_299)), Value::Counter32(3));
        assert_eq!(column(&SERVER, "bin").convert(Some(u64::MAX - 1)), Value::Counter64(u64::MAX - 1));
        assert_eq!(column(&SERVER, "act").convert(Some(1)), Value::Integer(1));
    }

    #[test]
    fn metric_names_are_those_prometheus_takes() {
        for metric in TABLES.iter().flat_map(|table| table.columns).filter_map(|column| column.metric) {
            let shape = metric.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            assert!(shape && !metric.name.starts_with(|c: char| c.is_ascii_digit()), "{}", metric.name);
        }
    }
}
