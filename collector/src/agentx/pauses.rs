//! Pauses between attempts: longer and longer, and no two subagents in step.

use std::ops::RangeInclusive;
use std::time::Duration;

/// An endless series of pauses that double from the first to the longest, each a quarter longer or shorter at random.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(super) fn new(range: RangeInclusive<Duration>) -> Self {
        Self { next: *range.start(), longest: *range.end() }
    }

    /// The pause to make now.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (2 * pause).min(self.longest);
        let mut random = [0];
        // Without chance, only the jitter is missing.
        let _ = getrandom::fill(&mut random);
        pause * 3 / 4 + pause * u32::from(random[0]) / 510
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_their_range() {
        let ms = Duration::from_millis;
        let mut pauses = Pauses::new(ms(50)..=ms(800));
        for middle in [50, 100, 200, 400, 800, 800, 800] {
            let pause = pauses.next();
            assert!(ms(middle) * 3 / 4 <= pause && pause <= ms(middle) * 5 / 4, "{pause:?} for {middle}");
        }
    }
}
