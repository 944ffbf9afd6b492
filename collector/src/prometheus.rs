//! The Prometheus face: a snapshot in the text exposition format (version 0.0.4).
//!
//! Names, types and helps all come from the schema. The classic format is served to everybody: OpenMetrics would need
//! counters under another name than HAProxy's own exporter gives them in its TYPE lines.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use lbstats::schema::{Metric, MetricKind, Module, Syntax};
use lbstats::{Column, Histogram, Snapshot, Table, unix_micros};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// Content type of [`exposition`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All families of a snapshot; ages are those of this moment.
pub fn exposition(snapshot: &Arc<Snapshot>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(snapshot.clone())));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("writing to a String cannot fail");
    page
}

#[derive(Debug)]
struct Families(Arc<Snapshot>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.tables(unix_micros()).iter().try_for_each(|table| encode_table(table, &mut encoder))
    }
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// One family for all columns of one name.
fn encode_table(table: &Table, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let labels: Vec<Labels<'_>> = (0..table.len()).map(|row| row_labels(table, row)).collect();
    let mut families: Vec<Vec<(usize, &Column, &Metric)>> = Vec::new();
    for (place, column) in table.schema().columns.iter().enumerate() {
        let Some(metric) = &column.metric else { continue };
        match families.iter_mut().find(|family| family[0].2.name == metric.name) {
            Some(family) => family.push((place, column, metric)),
            None => families.push(vec![(place, column, metric)]),
        }
    }
    for family in families {
        let (_, column, metric) = family[0];
        if !family.iter().any(|(place, ..)| (0..table.len()).any(|row| table.has(*place, row))) {
            continue;
        }
        let kind = match metric.kind {
            MetricKind::Counter | MetricKind::MicrosecondsTotal | MetricKind::NanosecondsTotal => MetricType::Counter,
            MetricKind::Histogram => MetricType::Histogram,
            _ => MetricType::Gauge,
        };
        let mut samples = encoder.encode_descriptor(metric.name, column.help, None, kind)?;
        for (place, _, metric) in &family {
            for (row, labels) in labels.iter().enumerate() {
                encode_cell(table, *place, row, metric, labels, &mut samples)?;
            }
        }
    }
    Ok(())
}

/// The labels of a row, without numbers that are 0; that of the process only where rows of several processes would look
/// alike without it.
fn row_labels(table: &Table, row: usize) -> Labels<'_> {
    let schema = table.schema();
    let mut labels: Labels<'_> = (schema.labels.iter())
        .filter_map(|(label, source)| {
            let place = schema.place(source)?;
            if schema.columns[place].syntax.is_number() {
                let number = table.number(place, row).filter(|number| *number > 0)?;
                return Some((*label, Cow::Owned(number.to_string())));
            }
            Some((*label, String::from_utf8_lossy(table.text(place, row).unwrap_or_default())))
        })
        .collect();
    if schema.module != Module::Exceliance {
        return labels;
    }
    let process = |row| table.index(row).next();
    if process(row).is_some() && process(0) != process(table.len() - 1) {
        labels.extend(process(row).map(|number| ("process", Cow::Owned(number.to_string()))));
    }
    labels
}

fn encode_cell(
    table: &Table,
    column: usize,
    row: usize,
    metric: &Metric,
    labels: &Labels<'_>,
    samples: &mut MetricEncoder<'_>,
) -> fmt::Result {
    let mut sample = |value: Sample, more: Option<(&str, &str)>| {
        let all = labels.iter().map(|(label, text)| (*label, text.as_ref())).chain(metric.label).chain(more);
        let all: Vec<(&str, &str)> = all.collect();
        write(&mut *samples, &all, &value)
    };
    match metric.kind {
        MetricKind::States(states) => table.text(column, row).map_or(Ok(()), |text| {
            let word = first_word(text);
            states.iter().try_for_each(|(state, words)| {
                sample(Sample::Whole(u64::from(words.iter().any(|w| w.as_bytes() == word))), Some(("state", state)))
            })
        }),
        MetricKind::Info(label) => table
            .text(column, row)
            .map_or(Ok(()), |text| sample(Sample::Whole(1), Some((label, &String::from_utf8_lossy(text))))),
        MetricKind::Histogram => table.histogram(column, row).map_or(Ok(()), |histogram| {
            let unit = match table.schema().columns[column].syntax {
                Syntax::Histogram(unit) => unit,
                _ => 1,
            };
            let labels: Vec<(&str, &str)> = labels.iter().map(|(label, text)| (*label, text.as_ref())).collect();
            write_histogram(samples, &labels, histogram, unit)
        }),
        kind => table.number(column, row).map_or(Ok(()), |number| sample(Sample::of(kind, number), None)),
    }
}

/// Not `encode_counter`: it would append another `_total`.
fn write(samples: &mut MetricEncoder<'_>, labels: &[(&str, &str)], value: &Sample) -> fmt::Result {
    if !labels.is_empty() {
        return write(&mut samples.encode_family(&labels)?, &[], value);
    }
    match value {
        Sample::Whole(number) => samples.encode_gauge(number),
        Sample::Seconds(seconds) => samples.encode_gauge(seconds),
    }
}

/// The kernel's two buckets an octave are one here: half the series, and a quantile still within a factor of two.
#[expect(clippy::cast_precision_loss, reason = "durations of up to 285 years are exact to the microsecond")]
fn write_histogram(
    samples: &mut MetricEncoder<'_>,
    labels: &[(&str, &str)],
    histogram: &Histogram,
    unit: u32,
) -> fmt::Result {
    let seconds = |microseconds: u64| microseconds as f64 / 1e6;
    let bound = |bound: u64| seconds(bound * u64::from(unit));
    let mut buckets: Vec<(f64, u64)> = histogram.octaves().map(|(upper, count)| (bound(upper), count)).collect();
    let (count, within) = (histogram.count(), buckets.iter().map(|(_, count)| count).sum());
    buckets.push((f64::INFINITY, count.saturating_sub(within)));
    let labels = &labels;
    let mut samples = samples.encode_family(labels)?;
    samples.encode_histogram::<NoLabelSet>(seconds(histogram.sum), count, &buckets, None)
}

enum Sample {
    Whole(u64),
    Seconds(f64),
}

impl Sample {
    #[expect(clippy::cast_precision_loss, reason = "durations of up to 285 years are exact to the microsecond")]
    fn of(kind: MetricKind, number: u64) -> Self {
        match kind {
            MetricKind::Milliseconds => Self::Seconds(number as f64 / 1e3),
            MetricKind::Microseconds | MetricKind::MicrosecondsTotal => Self::Seconds(number as f64 / 1e6),
            MetricKind::NanosecondsTotal => Self::Seconds(number as f64 / 1e9),
            _ => Self::Whole(number),
        }
    }
}

/// `UP 2/3` is up, and a check in progress (`* L7OK`) still has its last result.
fn first_word(text: &[u8]) -> &[u8] {
    let text = text.strip_prefix(b"* ").unwrap_or(text);
    text.split(|octet| *octet == b' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lbstats::schema::{LISTENER, PROCESS, SERVER};
    use lbstats::{Field, TableBuilder};

    fn servers(rows: &[(u64, &'static str, &'static str)]) -> Arc<Snapshot> {
        let mut builder = TableBuilder::new(&SERVER);
        for (process, name, status) in rows {
            builder
                .push(|_, column| match column.source {
                    "pid" => Field::Number(*process),
                    "iid" | "sid" => Field::Number(3),
                    "pxname" => Field::Text(b"www"),
                    "svname" => Field::Text(name.as_bytes()),
                    "status" => Field::Text(status.as_bytes()),
                    "stot" => Field::Number(u64::MAX - 1),
                    "qtime" => Field::Number(1500),
                    "hrsp_2xx" => Field::Number(2),
                    "hrsp_5xx" => Field::Number(5),
                    _ => Field::Absent,
                })
                .unwrap();
        }
        Arc::new(Snapshot { servers: Arc::new(builder.finish().0), ..Snapshot::empty() })
    }

    fn lines_of<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
        page.lines().filter(|line| line.split([' ', '{']).any(|word| word == name)).collect()
    }

    #[test]
    fn a_family_has_one_head_and_all_its_samples() {
        let page = exposition(&servers(&[(1, "a\"b", "UP 2/3")]));
        expect_test::expect![[r#"
            # HELP haproxy_server_http_responses_total HTTP responses by class of status code
            # TYPE haproxy_server_http_responses_total counter
            haproxy_server_http_responses_total{proxy="www",server="a\"b",code="2xx"} 2
            haproxy_server_http_responses_total{proxy="www",server="a\"b",code="5xx"} 5"#]]
        .assert_eq(&lines_of(&page, "haproxy_server_http_responses_total").join("\n"));
        assert_eq!(
            lines_of(&page, "haproxy_server_sessions_total").last(),
            Some(&r#"haproxy_server_sessions_total{proxy="www",server="a\"b"} 18446744073709551614"#)
        );
        assert_eq!(
            lines_of(&page, "haproxy_server_queue_time_average_seconds").last(),
            Some(&r#"haproxy_server_queue_time_average_seconds{proxy="www",server="a\"b"} 1.5"#)
        );
        assert!(lines_of(&page, "haproxy_server_bytes_in_total").is_empty());
    }

    #[test]
    fn a_histogram_has_a_bucket_an_octave_and_namespaces_a_label() {
        let mut builder = TableBuilder::new(&LISTENER);
        let mut handshake = Histogram { sum: 190, ..Histogram::EMPTY };
        (handshake.buckets[0], handshake.buckets[3], handshake.buckets[47]) = (2, 1, 1);
        for namespace in [0, 4_026_531_999] {
            builder
                .push(|_, column| match column.source {
                    "namespace" => Field::Number(namespace),
                    "address_type" => Field::Number(1),
                    "address_octets" => Field::Text(&[10, 0, 0, 1]),
                    "port" => Field::Number(80),
                    "proxy" => Field::Text(b"www"),
                    "address" => Field::Text(b"10.0.0.1:80"),
                    "handshake" => Field::Histogram(&handshake),
                    "lifetime" => Field::Histogram(&Histogram::EMPTY),
                    "closed_by_peer" => Field::Number(3),
                    "resets_sent" => Field::Number(4),
                    _ => Field::Absent,
                })
                .unwrap();
        }
        let page = exposition(&Arc::new(Snapshot { listeners: Arc::new(builder.finish().0), ..Snapshot::empty() }));
        let family = |name: &str| page.lines().filter(|line| line.contains(name)).collect::<Vec<_>>();
        let handshake = family("haproxy_kernel_handshake_seconds");
        // Two heads; and for each row sum, count and 25 buckets.
        assert_eq!(handshake.len(), 2 + 2 * 27);
        expect_test::expect![[r#"
            # HELP haproxy_kernel_handshake_seconds Round trip of the handshake, from the SYN-ACK to the client's ACK, of accepted connections
            # TYPE haproxy_kernel_handshake_seconds histogram
            haproxy_kernel_handshake_seconds_sum{proxy="www",address="10.0.0.1:80"} 0.00019
            haproxy_kernel_handshake_seconds_count{proxy="www",address="10.0.0.1:80"} 4
            haproxy_kernel_handshake_seconds_bucket{le="0.000016",proxy="www",address="10.0.0.1:80"} 2
            haproxy_kernel_handshake_seconds_bucket{le="0.000032",proxy="www",address="10.0.0.1:80"} 2
            haproxy_kernel_handshake_seconds_bucket{le="0.000064",proxy="www",address="10.0.0.1:80"} 3"#]]
        .assert_eq(&handshake[..7].join("\n"));
        assert_eq!(
            handshake[27..30],
            [
                r#"haproxy_kernel_handshake_seconds_bucket{le="134.217728",proxy="www",address="10.0.0.1:80"} 3"#,
                r#"haproxy_kernel_handshake_seconds_bucket{le="+Inf",proxy="www",address="10.0.0.1:80"} 4"#,
                r#"haproxy_kernel_handshake_seconds_sum{proxy="www",address="10.0.0.1:80",namespace="4026531999"} 0.00019"#,
            ]
        );
        let lifetime = family("haproxy_kernel_connection_duration_seconds_bucket");
        assert!(
            lifetime[0].contains(r#"le="0.001024""#) && lifetime[23].contains(r#"le="8589.934592""#),
            "{lifetime:#?}"
        );
        expect_test::expect![[r#"
            haproxy_kernel_connections_closed_total{proxy="www",address="10.0.0.1:80",kind="peer"} 3
            haproxy_kernel_connections_closed_total{proxy="www",address="10.0.0.1:80",namespace="4026531999",kind="peer"} 3
            haproxy_kernel_connections_closed_total{proxy="www",address="10.0.0.1:80",kind="reset_sent"} 4
            haproxy_kernel_connections_closed_total{proxy="www",address="10.0.0.1:80",namespace="4026531999",kind="reset_sent"} 4"#]]
        .assert_eq(&family("haproxy_kernel_connections_closed_total{").join("\n"));
    }

    #[test]
    fn one_state_is_on() {
        for (status, on) in [("UP", "UP"), ("no check", "UP"), ("DOWN 1/2", "DOWN"), ("MAINT (via a/b)", "MAINT")] {
            let page = exposition(&servers(&[(1, "a", status)]));
            let lines = lines_of(&page, "haproxy_server_status");
            let lit: Vec<&&str> = lines.iter().filter(|line| line.ends_with("} 1")).collect();
            assert_eq!(lit, [&format!(r#"haproxy_server_status{{proxy="www",server="a",state="{on}"}} 1"#)]);
        }
    }

    #[test]
    fn several_processes_are_told_apart() {
        let page = exposition(&servers(&[(1, "a", "UP"), (2, "a", "UP")]));
        assert_eq!(
            lines_of(&page, "haproxy_server_sessions_total")[2..],
            [
                r#"haproxy_server_sessions_total{proxy="www",server="a",process="1"} 18446744073709551614"#,
                r#"haproxy_server_sessions_total{proxy="www",server="a",process="2"} 18446744073709551614"#,
            ]
        );
    }

    #[test]
    fn the_build_is_an_info() {
        let mut builder = TableBuilder::new(&PROCESS);
        builder
            .push(|_, column| if column.source == "Version" { Field::Text(b"2.6.12") } else { Field::Absent })
            .unwrap();
        let page = exposition(&Arc::new(Snapshot { processes: Arc::new(builder.finish().0), ..Snapshot::empty() }));
        assert_eq!(
            lines_of(&page, "haproxy_process_build_info").last(),
            Some(&r#"haproxy_process_build_info{version="2.6.12"} 1"#)
        );
    }
}
