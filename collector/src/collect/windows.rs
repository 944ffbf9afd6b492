//! Sliding windows: what a sample saw stays visible after it is over, in bounded memory.
//!
//! Times here are durations since some beginning that all calls share.

use std::collections::VecDeque;
use std::time::Duration;

use lbstats::Histogram;

/// Maxima are kept by slots of this many milliseconds, which bounds what a window holds. A maximum is seen for the
/// window and up to a slot longer, never shorter.
const SLOT: u128 = 250;

/// The maximum of a gauge over any window up to the longest asked for.
///
/// What is kept are the maxima that no later one reaches, and so the highest first: each is the maximum from its time
/// on.
#[derive(Debug, Default)]
pub(super) struct Peaks(VecDeque<(u128, u64)>);

impl Peaks {
    /// Adds a value seen at `now`, and forgets what no window up to `longest` shows any more.
    pub(super) fn add(&mut self, now: Duration, value: u64, longest: Duration) {
        let slot = slot(now);
        while self.0.front().is_some_and(|(then, _)| slot - then > slots(longest)) {
            self.0.pop_front();
        }
        while self.0.back().is_some_and(|(_, lower)| *lower <= value) {
            self.0.pop_back();
        }
        // One of the same slot that stands there is higher, and seen as long.
        if self.0.back().is_none_or(|(then, _)| *then < slot) {
            self.0.push_back((slot, value));
        }
    }

    /// The maximum over the window that ends at `now`; 0 without a value in it.
    pub(super) fn over(&self, now: Duration, window: Duration) -> u64 {
        let within = |(then, _): &&(u128, u64)| slot(now).saturating_sub(*then) <= slots(window);
        self.0.iter().find(within).map_or(0, |(_, value)| *value)
    }
}

fn slot(at: Duration) -> u128 {
    at.as_millis() / SLOT
}

fn slots(window: Duration) -> u128 {
    window.as_millis().div_ceil(SLOT)
}

/// What a cumulative histogram saw in the last half to whole of a window.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The histogram as it stood at these times, the older one first.
    stood: Option<[(Duration, Histogram); 2]>,
}

impl Recent {
    /// What came in during about the last `window`, from the histogram as it stands at `now`; at first, all it has.
    pub(super) fn since(&mut self, now: Duration, stands: &Histogram, window: Duration) -> Histogram {
        let [older, newer] = self.stood.get_or_insert([(now, Histogram::EMPTY), (now, Histogram::EMPTY)]);
        if now.saturating_sub(newer.0) >= window / 2 {
            *older = *newer;
            *newer = (now, *stands);
        }
        stands.since(&older.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_spike_stays_for_its_window_and_no_longer() {
        let mut peaks = Peaks::default();
        let at = Duration::from_secs;
        peaks.add(at(100), 512, 5 * MINUTE);
        for second in 101..=460 {
            peaks.add(at(second), 3, 5 * MINUTE);
            let seen = [10, 60, 300].map(|window| peaks.over(at(second), at(window)));
            let expected = [10, 60, 300].map(|window| if second - 100 <= window { 512 } else { 3 });
            assert_eq!(seen, expected, "at {second} s");
        }
    }

    #[test]
    fn a_histogram_is_that_of_the_last_minute() {
        let (mut recent, mut histogram) = (Recent::default(), Histogram::EMPTY);
        histogram.buckets[10] = 5;
        assert_eq!(recent.since(Duration::ZERO, &histogram, MINUTE).count(), 5);
        for second in 1..=300 {
            histogram.buckets[0] += 1;
            let seen = recent.since(Duration::from_secs(second), &histogram, MINUTE);
            assert!(second < 60 || (30..=60).contains(&seen.count()), "{} after {second} s", seen.count());
            assert!(second < 60 || seen.buckets[10] == 0, "the old ones are gone");
        }
    }

    proptest! {
        #[test]
        fn peaks_are_maxima_in_bounded_memory(values in vec((0_u64..2000, 0_u64..50), 1..200), window in 1_u64..20) {
            let (mut peaks, mut now, mut all) = (Peaks::default(), Duration::ZERO, Vec::new());
            let (window, longest) = (Duration::from_secs(window), Duration::from_secs(20));
            for (pause, value) in values {
                now += Duration::from_millis(pause);
                all.push((now, value));
                peaks.add(now, value, longest);
                let most = |more: u64| {
                    let span = window + Duration::from_millis(more);
                    all.iter().filter(|(then, _)| now - *then <= span).map(|(_, value)| *value).max().unwrap_or(0)
                };
                let seen = peaks.over(now, window);
                prop_assert!(most(0) <= seen && seen <= most(500), "{seen} is not from {} to {}", most(0), most(500));
                prop_assert!(peaks.0.len() <= 82);
            }
        }
    }
}
