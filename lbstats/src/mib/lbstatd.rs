//! LBSTATD-MIB: what the kernel counts, and how the daemon fares.

use super::{push_conformance, push_indexed, push_object, push_row_type, syntax};
use crate::schema::{Column, MetricKind, Module, TABLES, TableSchema};

/// The text of the module LBSTATD-MIB (SMIv2, RFC 2578 to 2580) under this root: see
/// [`LBSTATD_ROOT`](crate::schema::LBSTATD_ROOT).
pub fn lbstatd(root: &[u32]) -> String {
    let mut mib = head(root);
    for table in tables() {
        if table.index == 0 { push_scalars(&mut mib, table) } else { push_table(&mut mib, table) }
    }
    let groups: Vec<_> = tables().map(|table| (table, format!("{}Group", stem(table)))).collect();
    let meaning = |table: &TableSchema| format!("What is served of {}.", table.row);
    push_conformance(&mut mib, "lbstatd", &groups, meaning, ("What lbstatd serves.", ""));
    mib.push_str("END\n");
    mib
}

fn tables() -> impl Iterator<Item = &'static TableSchema> {
    TABLES.into_iter().filter(|table| table.module == Module::Lbstatd)
}

fn head(root: &[u32]) -> String {
    let place = match root {
        [1, 3, 6, 1, 4, 1, below @ ..] if !below.is_empty() => format!("enterprises {}", spaced(below)),
        [1, below @ ..] => format!("iso {}", spaced(below)),
        _ => spaced(root),
    };
    let place = place.trim_end();
    format!(
        r#"-- Generated from the schema of lbstatd by `cargo xtask mib`.

LBSTATD-MIB DEFINITIONS ::= BEGIN

IMPORTS
    MODULE-IDENTITY, OBJECT-TYPE,
    {base}, Counter64, Gauge32, Unsigned32
        FROM SNMPv2-SMI
    DisplayString, TruthValue
        FROM SNMPv2-TC
    InetAddressType, InetAddress, InetPortNumber
        FROM INET-ADDRESS-MIB
    CounterBasedGauge64
        FROM HCNUM-TC
    MODULE-COMPLIANCE, OBJECT-GROUP
        FROM SNMPv2-CONF;

lbstatdMIB MODULE-IDENTITY
    LAST-UPDATED "202611250000Z"
    ORGANIZATION "lbstatd"
    CONTACT-INFO
        "The project that lbstatd comes from."
    DESCRIPTION
        "What the kernel counts for the HAProxy load balancer, by address that
        it listens on and by address that it connects to, and how the daemon
        that collects it fares.

        Rows of addresses are indexed as those of TCP-MIB's tables, after the
        network namespace. A number that is not known is sent as 0, a text as
        an empty string. Counters begin again with the daemon, not with
        HAProxy."
    REVISION "202611250000Z"
    DESCRIPTION
        "The first version."
    ::= {{ {place} }}

lbstatdObjects     OBJECT IDENTIFIER ::= {{ lbstatdMIB 1 }}
lbstatdConformance OBJECT IDENTIFIER ::= {{ lbstatdMIB 2 }}
lbstatdCompliances OBJECT IDENTIFIER ::= {{ lbstatdConformance 1 }}
lbstatdGroups      OBJECT IDENTIFIER ::= {{ lbstatdConformance 2 }}

"#,
        base = if place.starts_with("enterprises") { "enterprises" } else { "Integer32" },
    )
}

fn spaced(arcs: &[u32]) -> String {
    arcs.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// What the names of a table's columns begin with: `lbstatdListener`.
fn stem(table: &TableSchema) -> &'static str {
    let first = table.columns[0].name;
    let second = table.columns[1].name;
    let common = first.bytes().zip(second.bytes()).take_while(|(a, b)| a == b).count();
    // Up to the beginning of a word.
    let end = (0..=common).rev().find(|end| first.as_bytes().get(*end).is_some_and(u8::is_ascii_uppercase));
    &first[..end.unwrap_or(common)]
}

fn push_scalars(mib: &mut String, table: &TableSchema) {
    let stem = stem(table);
    mib.push_str(&format!("{stem} OBJECT IDENTIFIER ::= {{ lbstatdObjects {} }}\n\n", table.arc));
    for column in table.mib_columns() {
        let arc = column.arc.expect("a column of the MIB has an arc");
        push_object(
            mib,
            column.name,
            syntax(column.syntax),
            "read-only",
            &meaning_of(column),
            &format!("{stem} {arc}"),
        );
    }
}

fn push_table(mib: &mut String, table: &TableSchema) {
    let stem = stem(table);
    let (name, entry) = (format!("{stem}Table"), format!("{stem}Entry"));
    let row_type = format!("L{}", &entry[1..]);
    let index: Vec<&str> = table.columns[..table.index].iter().map(|column| column.name).collect();

    let meaning = format!("One row for each {}.", table.row.trim_start_matches("an ").trim_start_matches("a "));
    let place = format!("lbstatdObjects {}", table.arc);
    push_object(mib, &name, &format!("SEQUENCE OF {row_type}"), "not-accessible", &meaning, &place);

    let meaning = format!("What is known of {}.", table.row);
    let index = format!("    INDEX {{\n        {}\n    }}\n", index.join(",\n        "));
    push_indexed(mib, &entry, &row_type, "not-accessible", &meaning, &index, &format!("{name} 1"));

    push_row_type(mib, &row_type, table);

    for (place, column) in table.mib_columns().iter().enumerate() {
        let arc = column.arc.expect("a column of the MIB has an arc");
        let access = if place < table.index { "not-accessible" } else { "read-only" };
        push_object(mib, column.name, syntax(column.syntax), access, &meaning_of(column), &format!("{entry} {arc}"));
    }
}

/// The help, and what it leaves to the metric's name and label: the unit, and which of the kinds this is.
fn meaning_of(column: &Column) -> String {
    let unit = match column.metric.map(|metric| metric.kind) {
        Some(MetricKind::Microseconds | MetricKind::MicrosecondsTotal) => ", in microseconds",
        Some(MetricKind::NanosecondsTotal) => ", in nanoseconds",
        _ => "",
    };
    let which = match column.metric.and_then(|metric| metric.label) {
        Some((label, value)) => format!(" Here: {label} {value}."),
        None => String::new(),
    };
    format!("{}{unit}.{which}", column.help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::LBSTATD_ROOT;

    #[test]
    fn every_object_stands_there_once() {
        let mib = lbstatd(LBSTATD_ROOT);
        let columns = tables().flat_map(TableSchema::mib_columns).map(|column| column.name.to_owned());
        let tables = tables().filter(|table| table.index > 0).map(|table| format!("{}Table", stem(table)));
        for name in columns.chain(tables) {
            assert_eq!(mib.matches(&format!("\n{name} OBJECT-TYPE\n")).count(), 1, "{name}");
        }
    }

    #[test]
    fn stems_are_whole_words() {
        let stems: Vec<&str> = tables().map(stem).collect();
        #[rustfmt::skip] // One to a line says nothing more.
        let expected = [
            "lbstatdListener", "lbstatdFrontend", "lbstatdServer", "lbstatdSource", "lbstatdHook", "lbstatdProgram",
            "lbstatdFace", "lbstatdSnapshot",
        ];
        assert_eq!(stems, expected);
    }

    #[test]
    fn the_root_is_where_it_is_wanted() {
        let place = |root: &[u32]| {
            let mib = lbstatd(root);
            let start = mib.find("    ::= { ").unwrap() + 10;
            mib[start..].split(" }").next().unwrap().to_owned()
        };
        assert_eq!(place(LBSTATD_ROOT), "enterprises 8072 9999 9999 4300");
        assert_eq!(place(&[1, 3, 6, 1, 3, 7]), "iso 3 6 1 3 7");
    }
}
