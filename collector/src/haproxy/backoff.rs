//! How long to leave a failing socket alone: doubling, with jitter, bounded, and forgotten at the first success.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);

/// The failures since the last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure. The pause before the next attempt is between half of `bound` and `bound`, where `bound` is
    /// 100 ms after the first failure, twice as much after each further one, and at most 3 s.
    pub fn fail(&mut self) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // Daemons that were started together, on many hosts or many sockets, must not knock together.
        bound / 2 + (bound / 2).mul_f64(random_fraction())
    }

    /// Counts a success.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }
}

/// From 0 to 1, by the random keys that the standard library gives its hash maps.
fn random_fraction() -> f64 {
    f64::from(u16::try_from(RandomState::new().build_hasher().finish() & 0xffff).unwrap_or_default()) / 65535.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_bound_and_starts_again() {
        let mut backoff = Backoff::default();
        for bound in [100, 200, 400, 800, 1600, 3000, 3000, 3000].map(Duration::from_millis) {
            let pause = backoff.fail();
            assert!(pause >= bound / 2 && pause <= bound, "{pause:?} within {bound:?}");
        }
        (0..100).for_each(|_| assert!(backoff.fail() <= LONGEST));
        backoff.succeed();
        assert!(backoff.fail() <= FIRST);
    }

    #[test]
    fn two_daemons_wait_differently() {
        let pauses: std::collections::HashSet<Duration> = (0..20).map(|_| Backoff { failures: 10 }.fail()).collect();
        assert!(pauses.len() > 1, "20 pauses are all the same");
    }
}
