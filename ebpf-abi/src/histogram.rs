//! Log-linear histograms: two buckets an octave.

/// Buckets of a histogram, the unbounded last one included.
pub const HISTOGRAM_BUCKETS: usize = 48;

/// The unit of lifetimes in histograms, in microseconds: bounds are this many times those of other histograms, from
/// 1 ms to 2.4 h.
pub const LIFETIME_SCALE: u64 = 64;

/// Upper bound of a bucket, inclusive: 16, 24, 32, 48, 64, 96 … The last bucket has none.
#[must_use]
pub const fn bound(bucket: usize) -> u64 {
    (if bucket.is_multiple_of(2) { 16 } else { 24 }) << (bucket / 2)
}

/// The bucket of a value.
#[must_use]
#[inline(always)]
pub const fn bucket(value: u64) -> usize {
    // One less makes the bounds inclusive: 17..=24 is 16..=23, whose two highest bits are 10, and 25..=32 has 11.
    let below = value.saturating_sub(1);
    if below < 16 {
        return 0;
    }
    let exponent = 63 - below.leading_zeros() as usize;
    let half = (below >> (exponent - 1) & 1) as usize;
    let bucket = 2 * (exponent - 4) + half + 1;
    if bucket < HISTOGRAM_BUCKETS { bucket } else { HISTOGRAM_BUCKETS - 1 }
}

/// Values counted by their [`bucket`]. Their sum is kept apart, beside the counters that change with it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets(pub [u64; HISTOGRAM_BUCKETS]);

impl Default for Buckets {
    fn default() -> Self {
        Self([0; HISTOGRAM_BUCKETS])
    }
}

impl Buckets {
    /// Adds other values.
    pub fn add(&mut self, others: &Self) {
        for (bucket, more) in self.0.iter_mut().zip(others.0) {
            *bucket += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_between_the_bounds_of_its_bucket() {
        let bounds = (0..HISTOGRAM_BUCKETS - 1).map(bound);
        for value in bounds.flat_map(|bound| [bound - 1, bound, bound + 1]).chain([0, 1, u64::MAX]) {
            let bucket = bucket(value);
            assert!(bucket == 0 || bound(bucket - 1) < value, "{value} is in bucket {bucket}");
            assert!(bucket == HISTOGRAM_BUCKETS - 1 || value <= bound(bucket), "{value} is in bucket {bucket}");
        }
    }
}
