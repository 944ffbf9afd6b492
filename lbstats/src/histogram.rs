//! Log-linear histograms of durations, two buckets an octave, as the kernel programs count them.

/// Buckets of a histogram, the last one without an upper bound.
pub const BUCKETS: usize = 48;

/// How often each duration was seen: `buckets[i]` counts those above `bound(i - 1)` and not above `bound(i)`, times the
/// unit of its column (see [`Syntax::Histogram`]).
///
/// [`Syntax::Histogram`]: crate::schema::Syntax::Histogram
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Observations by bucket.
    pub buckets: [u64; BUCKETS],
    /// Sum of the observations, in microseconds whatever the unit of the bounds.
    pub sum: u64,
}

/// The upper bound of a bucket: 16, 24, 32, 48, 64, 96 … 134217728 (2^27); none for the last one.
pub const fn bound(bucket: usize) -> Option<u64> {
    if bucket + 1 >= BUCKETS {
        return None;
    }
    let octave = if bucket.is_multiple_of(2) { 16 } else { 24 };
    Some(octave << (bucket / 2))
}

impl Histogram {
    /// Without observations.
    pub const EMPTY: Self = Self { buckets: [0; BUCKETS], sum: 0 };

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |count, bucket| count.saturating_add(*bucket))
    }

    /// What was observed since `earlier`, an earlier state of this histogram. Nothing is negative: after a restart it
    /// is what the restarted one has.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if self.count() < earlier.count() {
            return *self;
        }
        let buckets = std::array::from_fn(|i| self.buckets[i].saturating_sub(earlier.buckets[i]));
        Self { buckets, sum: self.sum.saturating_sub(earlier.sum) }
    }

    /// The duration that `percent` of the observations do not exceed, as a multiple of the unit of the bounds, by
    /// linear interpolation within its bucket; the highest finite bound if it lies above that, none without
    /// observations.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let count = u128::from(self.count());
        // Times a hundred, to stay with whole numbers.
        let rank = (count * u128::from(percent.min(100))).max(u128::from(count > 0));
        let mut below = 0;
        for (bucket, &here) in self.buckets.iter().enumerate() {
            let here = u128::from(here) * 100;
            if here > 0 && below + here >= rank {
                let low = bucket.checked_sub(1).and_then(bound).unwrap_or(0);
                let Some(high) = bound(bucket) else { return Some(low) };
                let part = u128::from(high - low) * (rank - below) / here;
                return Some(low + u64::try_from(part).unwrap_or(high - low));
            }
            below += here;
        }
        None
    }

    /// The observations by octave: each upper bound, and how many lie above the one before. What is beyond the last
    /// bound is left out: [`Histogram::count`] has it.
    pub fn octaves(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        (0..BUCKETS).step_by(2).filter_map(|bucket| {
            let lower = bucket.checked_sub(1).map_or(0, |half| self.buckets[half]);
            Some((bound(bucket)?, lower.saturating_add(self.buckets[bucket])))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::EMPTY;
        for value in values {
            let bucket = (0..BUCKETS).find(|i| bound(*i).is_none_or(|bound| *value <= bound)).unwrap();
            histogram.buckets[bucket] += 1;
            histogram.sum += value;
        }
        histogram
    }

    #[test]
    fn bounds_are_two_an_octave() {
        let bounds: Vec<u64> = (0..6).filter_map(bound).collect();
        assert_eq!(bounds, [16, 24, 32, 48, 64, 96]);
        assert_eq!((bound(46), bound(47)), (Some(1 << 27), None));
    }

    #[test]
    fn percentiles_interpolate_and_stay_in_range() {
        assert_eq!(Histogram::EMPTY.percentile(50), None);
        let one = of(&[100]);
        assert_eq!((one.percentile(0), one.percentile(100)), (Some(96), Some(128)));
        assert_eq!(of(&[u64::MAX / 2]).percentile(50), Some(1 << 27));
        // 99 at most 16, one of 1000: the 99th of a hundred is still small.
        let mut values = vec![10; 99];
        values.push(1000);
        assert_eq!(of(&values).percentile(99), Some(16));
        assert_eq!(of(&values).percentile(100), Some(1024));
    }

    #[test]
    fn octaves_hold_all_but_what_is_beyond_the_last_bound() {
        let histogram = of(&[1, 20, 30, 40, 1 << 40]);
        let octaves: Vec<_> = histogram.octaves().collect();
        assert_eq!(octaves.len(), 24);
        assert_eq!(&octaves[..3], &[(16, 1), (32, 2), (64, 1)]);
        assert_eq!(octaves.iter().map(|(_, count)| count).sum::<u64>(), histogram.count() - 1);
    }

    proptest! {
        #[test]
        fn a_percentile_is_within_its_bucket(values in prop::collection::vec(1_u64..1 << 27, 1..60), percent in 0_u64..=100) {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let rank = (sorted.len() * usize::try_from(percent).unwrap()).div_ceil(100).max(1);
            let exact = sorted[rank - 1];
            let found = of(&values).percentile(percent).unwrap();
            // Half an octave at most, and nothing below the first bound can be told apart.
            prop_assert!(found <= exact.max(11) * 3 / 2 + 16 && exact <= found * 3 / 2 + 16, "{found} for {exact}");
        }

        #[test]
        fn what_came_since_is_the_difference(before in prop::collection::vec(1_u64..1 << 30, 0..20), after in prop::collection::vec(1_u64..1 << 30, 0..20)) {
            let all = of(&[before.clone(), after.clone()].concat());
            prop_assert_eq!(all.since(&of(&before)), of(&after));
        }
    }
}
