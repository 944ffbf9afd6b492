//! What lbStats must hold, read from HAProxy's stats socket by code of its own: nothing here is shared with lbstatd, so
//! that a mistake there cannot hide behind the same mistake here.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use lbstatd_tests::{Answer, Haproxy, SnmpValue, Varbind};

/// The two roots of lbStats.
pub(crate) const ROOTS: [&str; 2] = [".1.3.6.1.4.1.23263.4.3.1.3", ".1.3.6.1.4.1.58750.4.3.1.3"];

/// A column of lbStats, from `lbstats-columns.tsv`.
pub(crate) struct Column {
    pub(crate) table_arc: u32,
    pub(crate) column: u32,
    pub(crate) table: &'static str,
    pub(crate) name: &'static str,
    pub(crate) syntax: &'static str,
    pub(crate) source: &'static str,
    empty: &'static str,
}

/// All columns, in the order of their identifiers.
pub(crate) static COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    let lines = include_str!("../lbstats-columns.tsv").lines().filter(|line| !line.starts_with('#')).skip(1);
    lines
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [table_arc, column, table, name, syntax, source, empty] => {
                let arc = |text: &str| text.parse().unwrap();
                Column { table_arc: arc(table_arc), column: arc(column), table, name, syntax, source, empty }
            }
            _ => panic!("lbstats-columns.tsv: {line:?}"),
        })
        .collect()
});

/// Everything that one `show info` and one `show stat` say, as lbStats must show it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    /// By identifier below the root.
    pub(crate) cells: BTreeMap<Vec<u32>, Cell>,
    pub(crate) frontends: usize,
    pub(crate) backends: usize,
    pub(crate) servers: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) value: SnmpValue,
    /// The field it comes from.
    pub(crate) source: &'static str,
}

type Row = BTreeMap<String, String>;

impl Reading {
    /// Asks HAProxy itself.
    pub(crate) fn of(haproxy: &Haproxy) -> Self {
        Self::new(&haproxy.command("show info").unwrap(), &haproxy.command("show stat").unwrap())
    }

    /// Reads the two answers.
    pub(crate) fn new(info: &str, stat: &str) -> Self {
        let rows = stat_rows(stat);
        let of_type = |number: &str| rows.iter().filter(|row| row["type"] == number).collect::<Vec<_>>();
        let (frontends, backends, servers) = (of_type("0"), of_type("1"), of_type("2"));
        let process = info_row(info);
        let mut cells = BTreeMap::new();
        for column in COLUMNS.iter() {
            let (rows, index): (&[&Row], &[&str]) = match column.table_arc {
                1 => (&[&process], &["Process_num"]),
                2 => (&frontends, &["pid", "iid"]),
                3 => (&backends, &["pid", "iid"]),
                _ => (&servers, &["pid", "iid", "sid"]),
            };
            for row in rows {
                let arcs = index.iter().map(|field| row[*field].parse().unwrap());
                let oid = [column.table_arc, 1, column.column].into_iter().chain(arcs).collect();
                let field = row.get(column.source).map_or("", String::as_str);
                cells.insert(oid, Cell { value: column.value(field), source: column.source });
            }
        }
        Self { cells, frontends: frontends.len(), backends: backends.len(), servers: servers.len() }
    }

    /// Rows of a walk, by the sizes of the tables.
    pub(crate) fn rows(&self) -> usize {
        51 + 13 * self.frontends + 23 * self.backends + 27 * self.servers
    }

    /// What of a walk below `root` is not as this reading has it; empty if nothing.
    pub(crate) fn differences(&self, root: &str, walk: &[Varbind]) -> Vec<String> {
        let seen = below(root, walk);
        let mut differences = Vec::new();
        for (oid, cell) in &self.cells {
            match seen.get(oid) {
                Some(value) if **value == cell.value => {}
                other => differences.push(format!("{oid:?} ({}): {:?} and not {other:?}", cell.source, cell.value)),
            }
        }
        let more = seen.keys().filter(|oid| !self.cells.contains_key(*oid));
        differences.extend(more.map(|oid| format!("{oid:?} is too much")));
        differences
    }
}

/// The values of a walk, by identifier below its root.
pub(crate) fn below<'a>(root: &str, walk: &'a [Varbind]) -> BTreeMap<Vec<u32>, &'a SnmpValue> {
    let root = arcs(root);
    walk.iter()
        .map(|varbind| match &varbind.answer {
            Answer::Value(value) => (varbind.oid.strip_prefix(&root[..]).expect("below the root").to_vec(), value),
            other => panic!("{:?} is {other:?}", varbind.oid),
        })
        .collect()
}

/// An identifier from its text with a leading dot.
pub(crate) fn arcs(oid: &str) -> Vec<u32> {
    oid[1..].split('.').map(|arc| arc.parse().unwrap()).collect()
}

impl Column {
    fn value(&self, field: &str) -> SnmpValue {
        let field = if field.is_empty() { self.empty } else { field };
        let number = || -> u64 { field.parse().unwrap_or_else(|_| panic!("{}: {field:?}", self.source)) };
        match self.syntax {
            "INTEGER" => SnmpValue::Integer(i64::try_from(number().min(2_147_483_647)).unwrap()),
            "INTEGER(0..1)" => SnmpValue::Integer(i64::try_from(number()).unwrap()),
            "Counter32" => SnmpValue::Counter32(number() % (1 << 32)),
            "Counter64" => SnmpValue::Counter64(number()),
            "OCTET STRING" => SnmpValue::OctetString(field.as_bytes().to_vec()),
            other => panic!("syntax {other}"),
        }
    }
}

fn info_row(info: &str) -> Row {
    let lines = info.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(name, value)| (name.to_owned(), csv_fields(value).concat())).collect()
}

fn stat_rows(stat: &str) -> Vec<Row> {
    let mut lines = stat.lines();
    let header = csv_fields(lines.next().unwrap().strip_prefix("# ").unwrap());
    let rows = lines.filter(|line| !line.is_empty());
    rows.map(|line| header.iter().cloned().zip(csv_fields(line)).collect()).collect()
}

/// Fields between commas; in quotes, a comma is a character and two quotes are one.
fn csv_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                fields.last_mut().unwrap().push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut().unwrap().push(other),
        }
    }
    fields
}

#[test]
fn the_columns_are_those_of_the_schema() {
    use lbstats::schema::{BACKEND, FRONTEND, PROCESS, SERVER, Syntax};

    let mut columns = COLUMNS.iter();
    for table in [&PROCESS, &FRONTEND, &BACKEND, &SERVER] {
        for declared in table.mib_columns() {
            let column = columns.next().expect("a column for each of the schema's");
            let syntax = match declared.syntax {
                Syntax::Integer => "INTEGER",
                Syntax::YesNo => "INTEGER(0..1)",
                Syntax::Counter32 => "Counter32",
                Syntax::Counter64 => "Counter64",
                Syntax::Text => "OCTET STRING",
                other => panic!("lbStats has no {other:?}"),
            };
            let here = (column.table_arc, Some(column.column), column.table, column.name, column.syntax);
            assert_eq!((table.arc, declared.arc, table.name, declared.name, syntax), here);
            assert_eq!(declared.source, column.source, "{}", column.name);
        }
    }
    assert!(columns.next().is_none());
}
