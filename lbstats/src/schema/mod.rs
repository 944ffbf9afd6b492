//! The one place where columns are declared: table, arc, MIB name, syntax, source field, Prometheus name, help.
//!
//! MIB modules, conversions, OID order and Prometheus families all come from here. The tables themselves are in
//! `columns.rs`; this file says what a column is, and refuses at compile time a set of tables that contradicts itself.

mod columns;

pub use columns::{BACKEND, FACE, FRONTEND, HOOK, LISTENER, PROCESS, SERVER, SNAPSHOT, SOURCE};

use std::fmt;

use crate::value::Value;

/// All tables, in the order in which faces show them.
pub static TABLES: [&TableSchema; 9] =
    [&PROCESS, &FRONTEND, &BACKEND, &SERVER, &LISTENER, &SOURCE, &HOOK, &FACE, &SNAPSHOT];

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
    /// Name of the table; for lbStats, its name in the MIB.
    pub name: &'static str,
    /// Arc of the table under the root of lbStats; none for a table that SNMP does not serve.
    pub arc: Option<u32>,
    /// What one row is, as a phrase.
    pub row: &'static str,
    /// How many of the first columns make the index of a row, 0 to 3.
    pub index: usize,
    /// Prometheus labels of a row: the label's name and the source field of its value.
    pub labels: &'static [(&'static str, &'static str)],
    /// The columns: those with an arc first, arcs ascending.
    pub columns: &'static [Column],
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

    /// The columns with an arc.
    pub fn mib_columns(&self) -> &'static [Column] {
        let end = self.columns.iter().position(|column| column.arc.is_none()).unwrap_or(self.columns.len());
        &self.columns[..end]
    }
}

impl Column {
    /// What SNMP sends for a number of this column: INTEGER clamped to 0..2147483647, Counter32 modulo 2^32, Counter64
    /// whole; for an absent one, [`Column::if_absent`]. Meaningless for text.
    pub fn convert(&self, number: Option<u64>) -> Value<'static> {
        let number = number.unwrap_or(u64::from(self.if_absent));
        match self.syntax {
            Syntax::Integer => Value::Integer(i32::try_from(number).unwrap_or(i32::MAX)),
            Syntax::YesNo => Value::Integer(i32::from(number != 0)),
            Syntax::Counter32 => Value::Counter32(u32::try_from(number & 0xffff_ffff).unwrap_or_default()),
            Syntax::Counter64 => Value::Counter64(number),
            Syntax::Text => Value::OctetString(b""),
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

const fn milliseconds(name: &'static str) -> Option<Metric> {
    metric(name, MetricKind::Milliseconds)
}

const fn states(name: &'static str, states: &'static [(&'static str, &'static [&'static str])]) -> Option<Metric> {
    metric(name, MetricKind::States(states))
}

// A set of tables that contradicts itself does not compile.
const _: () = {
    let tables = [&PROCESS, &FRONTEND, &BACKEND, &SERVER, &LISTENER, &SOURCE, &HOOK, &FACE, &SNAPSHOT];
    let mut t = 0;
    while t < tables.len() {
        check_table(tables[t]);
        let mut other = 0;
        while other < t {
            check_apart(tables[other], tables[t]);
            other += 1;
        }
        t += 1;
    }
};

/// Arcs ascend from 1 and come first; names and sources are unique; the index is made of numbers of the MIB.
const fn check_table(table: &TableSchema) {
    let columns = table.columns;
    assert!(table.index <= 3 && table.index <= columns.len(), "the index is 0 to 3 of the columns");
    let mut previous = Some(0);
    let mut c = 0;
    while c < columns.len() {
        match (previous, columns[c].arc) {
            (Some(before), Some(arc)) => assert!(arc > before, "arcs must ascend"),
            (None, Some(_)) => panic!("columns with an arc come first"),
            (_, None) => assert!(c >= table.index || table.arc.is_none(), "the index is part of the MIB"),
        }
        assert!(columns[c].arc.is_some() != columns[c].name.is_empty(), "a column has a name if it has an arc");
        assert!(!(c < table.index && matches!(columns[c].syntax, Syntax::Text)), "the index is made of numbers");
        assert!(!columns[c].source.is_empty() && !columns[c].help.is_empty(), "a column has a source and a help");
        let mut other = 0;
        while other < c {
            assert!(!same(columns[other].source, columns[c].source), "two columns of one source");
            check_columns_apart(&columns[other], &columns[c]);
            other += 1;
        }
        previous = columns[c].arc;
        c += 1;
    }
}

const fn check_apart(one: &TableSchema, two: &TableSchema) {
    assert!(!same(one.name, two.name), "two tables of one name");
    if let (Some(a), Some(b)) = (one.arc, two.arc) {
        assert!(a < b, "the tables' arcs must ascend");
    }
    let mut a = 0;
    while a < one.columns.len() {
        let mut b = 0;
        while b < two.columns.len() {
            check_columns_apart(&one.columns[a], &two.columns[b]);
            b += 1;
        }
        a += 1;
    }
}

const fn check_columns_apart(one: &Column, two: &Column) {
    assert!(one.name.is_empty() || !same(one.name, two.name), "two columns of one MIB name");
    if let (Some(a), Some(b)) = (&one.metric, &two.metric) {
        let apart = match (a.label, b.label) {
            (Some(a), Some(b)) => !same(a.1, b.1),
            _ => false,
        };
        assert!(apart || !same(a.name, b.name), "two columns of one Prometheus name and label");
    }
}

const fn same(one: &str, two: &str) -> bool {
    let (one, two) = (one.as_bytes(), two.as_bytes());
    if one.len() != two.len() {
        return false;
    }
    // From the end, where names of one family differ: keeps the check within the compiler's patience.
    let mut i = one.len();
    while i > 0 {
        i -= 1;
        if one[i] != two[i] {
            return false;
        }
    }
    true
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
