//! Pauses between attempts: longer and longer, and no two processes in step.

use std::ops::RangeInclusive;
use std::time::Duration;

/// An endless series of pauses from the least to the most; until the most is reached, each is about twice as long as the
/// one before.
#[derive(Debug)]
pub(crate) struct Backoff {
    range: RangeInclusive<Duration>,
    /// The least that the next pause may be.
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(range: RangeInclusive<Duration>) -> Self {
        Self { next: *range.start(), range }
    }

    /// The pause to make now.
    pub(crate) fn pause(&mut self) -> Duration {
        // Daemons that were started together, on many hosts or many sockets, must not knock together. Without chance,
        // only that is missing.
        let mut chance = [0];
        let _ = getrandom::fill(&mut chance);
        let pause = self.next + self.next * u32::from(chance[0]) / 255;
        self.next = (2 * self.next).min(*self.range.end() / 2);
        pause
    }

    /// Begins again with the least.
    pub(crate) fn reset(&mut self) {
        self.next = *self.range.start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_their_range_and_begin_again() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(50)..=ms(3000));
        for _ in 0..2 {
            for least in [50, 100, 200, 400, 800, 1500, 1500, 1500] {
                let pause = backoff.pause();
                assert!(ms(least) <= pause && pause <= ms(2 * least), "{pause:?} for {least}");
            }
            backoff.reset();
        }
    }

    #[test]
    fn two_daemons_wait_differently() {
        let minute = Duration::from_secs(60);
        let pauses = (0..20).map(|_| Backoff::new(minute..=2 * minute).pause());
        assert!(pauses.collect::<std::collections::HashSet<_>>().len() > 1, "20 pauses are all the same");
    }
}
