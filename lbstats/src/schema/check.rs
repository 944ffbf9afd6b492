//! Refuses at compile time a set of tables that contradicts itself.

use super::{
    BACKEND, Column, FACE, FRONTEND, HOOK, KERNEL_FRONTEND, KERNEL_SERVER, LISTENER, MetricKind, PROCESS, PROGRAM,
    SERVER, SNAPSHOT, SOURCE, Syntax, TABLE_COUNT, TableSchema,
};

// A set of tables that contradicts itself does not compile.
const _: () = {
    let tables = [
        &PROCESS,
        &FRONTEND,
        &BACKEND,
        &SERVER,
        &LISTENER,
        &KERNEL_FRONTEND,
        &KERNEL_SERVER,
        &SOURCE,
        &HOOK,
        &PROGRAM,
        &FACE,
        &SNAPSHOT,
    ];
    assert!(tables.len() == TABLE_COUNT);
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

/// Arcs ascend from 1 and come first; names and sources are unique; the index is made of numbers and
/// short texts of the MIB.
const fn check_table(table: &TableSchema) {
    let columns = table.columns;
    assert!(table.index <= 4 && table.index <= columns.len(), "the index is 0 to 4 of the columns");
    let mut previous = Some(0);
    let mut c = 0;
    while c < columns.len() {
        match (previous, columns[c].arc) {
            (Some(before), Some(arc)) => assert!(arc > before, "arcs must ascend"),
            (None, Some(_)) => panic!("columns with an arc come first"),
            (_, None) => assert!(c >= table.index, "the index is part of the MIB"),
        }
        assert!(columns[c].arc.is_some() != columns[c].name.is_empty(), "a column has a name if it has an arc");
        let syntax = columns[c].syntax;
        let fits = syntax.index_limit().is_some() || syntax.index_octets().is_some();
        assert!(c >= table.index || fits, "the index is made of small numbers and short texts");
        let histogram = matches!(syntax, Syntax::Histogram(_));
        assert!(!(histogram && columns[c].arc.is_some()), "no MIB has histograms");
        let shown_as_one = match &columns[c].metric {
            Some(metric) => matches!(metric.kind, MetricKind::Histogram),
            None => histogram,
        };
        assert!(histogram == shown_as_one, "a histogram is shown as one, and nothing else is");
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
    if one.module as u8 == two.module as u8 {
        assert!(one.arc < two.arc, "the tables' arcs must ascend");
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
