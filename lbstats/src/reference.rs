//! The reference of metrics, made from the schema: what each family and MIB object is. `cargo xtask mib` writes it to
//! `docs/metrics.md`, where it is committed.

use crate::schema::{Column, Metric, MetricKind, Module, Syntax, TABLES, TableSchema};

const HEAD: &str = "\
# Metrics

<!-- Generated from the schema of lbstatd by `cargo xtask mib`. -->

Everything lbstatd knows, table by table: the metric that Prometheus gets, the object that SNMP serves, the field of
`lbstatd dump`, and what it is. Times are seconds in Prometheus and microseconds in SNMP and `dump`, unless an object of
lbStats says otherwise. What a source does not tell is no sample in Prometheus, `null` in `dump`, and 0 or an empty text
in SNMP. A histogram has a bucket for each octave in Prometheus, two in `dump`, and percentiles in SNMP.

Names of families with a frontend, backend, server or process in them are those of HAProxy's own exporter.
[telemetry.md](telemetry.md) says what the kernel's counters mean together.
";

/// The text of `docs/metrics.md`.
pub fn metrics() -> String {
    let mut text = HEAD.to_owned();
    for table in TABLES {
        push_table(&mut text, table);
    }
    text
}

fn push_table(text: &mut String, table: &TableSchema) {
    let module = match table.module {
        Module::Exceliance => "EXCELIANCE-MIB",
        Module::Lbstatd => "LBSTATD-MIB",
    };
    let labels: Vec<String> = table.labels.iter().map(|(label, _)| format!("`{label}`")).collect();
    let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
    text.push_str(&format!(
        "\n## {}\n\nA row is {}. Labels: {labels}. Objects: {module}.\n\n| metric | object | field | |\n|---|---|---|---|\n",
        table.name, table.row
    ));
    for column in table.columns {
        let metric = column.metric.as_ref().map_or_else(String::new, metric_of);
        let object = if column.name.is_empty() { String::new() } else { format!("`{}`", column.name) };
        // What is in a row's OID or in a label alone needs no line of its own here.
        if metric.is_empty() && object.is_empty() && column.syntax != Syntax::Counter64 {
            continue;
        }
        text.push_str(&format!("| {metric} | {object} | `{}` | {} |\n", column.source, help_of(column)));
    }
}

fn metric_of(metric: &Metric) -> String {
    let label = metric.label.map_or_else(String::new, |(label, value)| format!("{{{label}=\"{value}\"}}"));
    let label = match metric.kind {
        MetricKind::Info(label) => format!("{{{label}}}"),
        MetricKind::States(_) => "{state}".to_owned(),
        _ => label,
    };
    format!("`{}{label}` ({})", metric.name, kind_of(metric.kind))
}

fn kind_of(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter | MetricKind::MicrosecondsTotal | MetricKind::NanosecondsTotal => "counter",
        MetricKind::Histogram => "histogram",
        _ => "gauge",
    }
}

fn help_of(column: &Column) -> String {
    column.help.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_reference_is_what_the_schema_gives() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let committed = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(committed == metrics(), "{path} is out of date: run `cargo xtask mib`");
    }

    #[test]
    fn every_family_is_there() {
        let text = metrics();
        for metric in TABLES.iter().flat_map(|table| table.columns).filter_map(|column| column.metric) {
            assert!(text.contains(&format!("| `{}", metric.name)), "{}", metric.name);
        }
    }
}
