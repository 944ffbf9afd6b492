//! The histograms of a row: as the kernel counted them, and percentiles of what came in lately.

use std::time::Duration;

use lbstats::{Field, Histogram};

use super::windows::Recent;
use crate::kernel;

/// Percentiles are of the last half to whole of this.
const WINDOW: Duration = Duration::from_secs(60);

/// The histograms of one row.
pub(super) struct Histograms<const N: usize>([Shown; N]);

struct Shown {
    name: &'static str,
    whole: Option<Histogram>,
    recent: Option<Histogram>,
}

impl<const N: usize> Histograms<N> {
    /// Histograms by name, none where the kernel does not count; `kept` is what their windows keep, in the same order.
    pub(super) fn take(
        counted: [(&'static str, Option<&kernel::Histogram>); N],
        kept: &mut [Recent; N],
        now: Duration,
    ) -> Self {
        let mut kept = kept.iter_mut();
        Self(counted.map(|(name, histogram)| {
            let whole = histogram.map(of_model);
            let recent = whole.as_ref().zip(kept.next()).map(|(whole, kept)| kept.since(now, whole, WINDOW));
            Shown { name, whole, recent }
        }))
    }

    /// The field of a column, if it is a histogram of these or a percentile of one, such as `rtt_p99`.
    pub(super) fn field(&self, source: &str) -> Option<Field<'_>> {
        let shown = |name| self.0.iter().find(|shown| shown.name == name);
        if let Some(shown) = shown(source) {
            return Some(shown.whole.as_ref().map_or(Field::Absent, Field::Histogram));
        }
        let (name, percent) = source.rsplit_once("_p")?;
        let (shown, percent) = (shown(name)?, percent.parse().ok()?);
        let unit = if name == "lifetime" { kernel::LIFETIME_SCALE } else { 1 };
        let value = shown.recent.and_then(|recent| recent.percentile(percent));
        Some(value.map_or(Field::Absent, |value| Field::Number(value.saturating_mul(unit))))
    }
}

/// The kernel's histogram as the model's: the same buckets.
fn of_model(histogram: &kernel::Histogram) -> Histogram {
    const { assert!(kernel::HISTOGRAM_BUCKETS == lbstats::BUCKETS && kernel::LIFETIME_SCALE == 64) };
    Histogram { buckets: histogram.buckets, sum: histogram.sum }
}
