//! Reads the Prometheus text format, for comparisons.

use std::collections::BTreeMap;

use lbstatd_tests::Lbstatd;

/// A page of metrics: families and series as they are written, labels in alphabetical order.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// Type by family.
    pub(crate) types: BTreeMap<String, String>,
    /// Value by series.
    pub(crate) series: BTreeMap<String, f64>,
}

impl Exposition {
    /// What the daemon exposes now.
    pub(crate) fn of(lbstatd: &Lbstatd) -> anyhow::Result<Self> {
        Ok(Self::parse(&lbstatd.metrics()?))
    }

    pub(crate) fn parse(page: &str) -> Self {
        let mut exposition = Self::default();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (family, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                let before = exposition.types.insert(family.to_owned(), kind.to_owned());
                assert!(before.is_none(), "family {family} comes twice");
            } else if !line.starts_with('#') && !line.is_empty() {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
                let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
                let before = exposition.series.insert(sorted(series), value);
                assert!(before.is_none(), "series {series} comes twice");
            }
        }
        exposition
    }

    /// The value of a series, labels in alphabetical order.
    pub(crate) fn get(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The series of a family, without its name.
    pub(crate) fn family<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> + 'a {
        let series = self.series.iter();
        series.filter_map(move |(series, value)| {
            let labels = series.strip_prefix(name)?;
            (labels.is_empty() || labels.starts_with('{')).then_some((labels, *value))
        })
    }
}

/// No label value in these tests holds `",`.
fn sorted(series: &str) -> String {
    let Some((name, labels)) = series.strip_suffix('}').and_then(|series| series.split_once('{')) else {
        return series.to_owned();
    };
    let mut labels: Vec<&str> = labels.split_inclusive("\",").map(|label| label.trim_end_matches(',')).collect();
    labels.sort_unstable();
    format!("{name}{{{}}}", labels.join(","))
}

#[test]
fn series_are_read_with_their_labels_in_order() {
    let page = "# TYPE b counter\nb{y=\"1\",x=\"a,b\"} 3\nc 1.5\n";
    let exposition = Exposition::parse(page);
    assert_eq!(exposition.get("b{x=\"a,b\",y=\"1\"}"), Some(3.0));
    assert_eq!(exposition.get("c"), Some(1.5));
    assert_eq!(exposition.family("b").count(), 1);
}
