//! The dashboard and the alert rules: they parse, and name families that there are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lbstatd_tests::run;
use lbstats::schema::{MetricKind, TABLES};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards").join(name)
}

#[test]
fn promtool_accepts_the_rules() {
    let output = run("promtool", |command| command.args(["check", "rules"]).arg(file("alerts.yml"))).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", output.stdout, output.stderr);
}

#[test]
fn every_family_they_name_is_exported() {
    let mut exported = BTreeSet::new();
    for metric in TABLES.iter().flat_map(|table| table.columns).filter_map(|column| column.metric) {
        exported.insert(metric.name.to_owned());
        if metric.kind == MetricKind::Histogram {
            exported.extend(["bucket", "sum", "count"].map(|part| format!("{}_{part}", metric.name)));
        }
    }
    for name in ["alerts.yml", "lbstatd.json"] {
        let text = std::fs::read_to_string(file(name)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: BTreeSet<&str> =
            words.filter(|word| word.starts_with("haproxy_") || word.starts_with("lbstatd_")).collect();
        assert!(named.len() > 10, "{name}: {named:?}");
        let unknown: Vec<&&str> = named.iter().filter(|family| !exported.contains(**family)).collect();
        assert_eq!(unknown, Vec::<&&str>::new(), "{name}");
    }
}

#[test]
fn the_dashboard_is_json_whose_queries_parse() {
    let text = std::fs::read_to_string(file("lbstatd.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Vec<String> = targets
        .map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "1m").replace("$instance", ".*"))
        .collect();
    assert!(queries.len() > 10);
    // promtool parses queries as those of rules.
    let rules: String =
        queries.iter().enumerate().fold("groups: [{name: queries, rules: [".to_owned(), |rules, (n, query)| {
            format!("{rules}{{record: 'query:{n}', expr: '{}'}},\n", query.replace('\'', "''"))
        });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queries.yml");
    std::fs::write(&path, format!("{rules}]}}]")).unwrap();
    let output = run("promtool", |command| command.args(["check", "rules"]).arg(&path)).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", output.stdout, output.stderr);
}
