//! When a change is told: after it has held for a while, not again and again, and not too many at once.
//!
//! Every object is in a good or a bad state as far as the world was told. An observation that differs has to hold for a
//! time before it is told. An object that was told of too often stays bad in the world's eyes until it has been good
//! for longer. More changes than the rate allows wait for their turn, and are forgotten if they go away meanwhile; so
//! nothing queues up here.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// What a look at an object shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is bad.
    Bad,
    /// It is good.
    Good,
    /// Neither, and what was told stays true: maintenance, a first check that is not over, between two thresholds. Of an
    /// object that is seen for the first time, the world believes it good.
    Neither,
    /// Nothing is known: what shows it is out of reach. A change must hold anew.
    Unknown,
}

/// How long things must hold, and how much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// An object that was told of so often within `flap_window` flaps.
    pub flap_changes: usize,
    /// See `flap_changes`.
    pub flap_window: Duration,
    /// An object that flaps is told to be good after so long.
    pub flap_hold: Duration,
    /// Notifications a second, of all objects; ten seconds' worth may come at once.
    pub rate: u32,
}

/// A change to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The state that is told.
    pub bad: bool,
    /// How often the object changed since it was last told of; 1 unless it flaps.
    pub changes: u32,
    /// Whether it will be good for `flap_hold` before that is told.
    pub flaps: bool,
}

/// Remembers what was told of each object.
#[derive(Debug)]
pub struct Damper {
    limits: Limits,
    objects: HashMap<Box<[u8]>, Object>,
    /// When the rate would be back to nothing (the generic cell rate algorithm).
    drained: Duration,
    swept: Duration,
}

#[derive(Debug)]
struct Object {
    /// What the world believes.
    bad: bool,
    /// What was seen last, where that was good or bad.
    seen_bad: bool,
    /// Since when the opposite of what was told has been seen.
    since: Option<Duration>,
    changes: u32,
    /// When it was last told of, at most `flap_changes` times.
    told: VecDeque<Duration>,
    /// When it was last looked at.
    looked: Duration,
}

/// What is gone so long is forgotten; should it come back, it is new.
const FORGET: Duration = Duration::from_secs(600);

impl Damper {
    /// Knows no object.
    pub fn new(limits: Limits) -> Self {
        Self { limits, objects: HashMap::new(), drained: Duration::ZERO, swept: Duration::ZERO }
    }

    /// Takes a look at the object of this key. `hold` is how long a change must hold: to the good, and to the bad.
    /// `now` never falls.
    pub fn look(&mut self, key: &[u8], seen: Seen, hold: [Duration; 2], now: Duration) -> Option<Change> {
        let limits = self.limits;
        let Some(object) = self.objects.get_mut(key) else {
            if seen != Seen::Unknown {
                self.objects.insert(key.into(), Object::new(seen == Seen::Bad, now));
            }
            return None;
        };
        object.looked = now;
        let bad = match seen {
            Seen::Bad => true,
            Seen::Good => false,
            Seen::Neither | Seen::Unknown => {
                object.since = None;
                return None;
            }
        };
        if bad != object.seen_bad {
            object.seen_bad = bad;
            object.changes = object.changes.saturating_add(1);
        }
        if bad == object.bad {
            object.since = None;
            return None;
        }
        let since = *object.since.get_or_insert(now);
        let flapped = object.flaps(&limits, now);
        let hold = if flapped && !bad { hold[0].max(limits.flap_hold) } else { hold[usize::from(bad)] };
        if now.saturating_sub(since) < hold || !may(&mut self.drained, limits.rate, now) {
            return None;
        }
        Some(object.tell(&limits, bad, now))
    }

    /// Forgets objects that have not been looked at for ten minutes.
    pub fn sweep(&mut self, now: Duration) {
        if now.saturating_sub(self.swept) >= FORGET / 10 {
            self.swept = now;
            self.objects.retain(|_, object| now.saturating_sub(object.looked) < FORGET);
        }
    }

    /// How many objects it remembers.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether it remembers none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

impl Object {
    fn new(bad: bool, now: Duration) -> Self {
        Self { bad, seen_bad: bad, since: None, changes: 0, told: VecDeque::new(), looked: now }
    }

    /// Whether it was told of as often as it may be within the window.
    fn flaps(&self, limits: &Limits, now: Duration) -> bool {
        self.told.len() >= limits.flap_changes
            && self.told.front().is_none_or(|first| now.saturating_sub(*first) < limits.flap_window)
    }

    fn tell(&mut self, limits: &Limits, bad: bool, now: Duration) -> Change {
        self.bad = bad;
        self.since = None;
        while self.told.len() >= limits.flap_changes.max(1) {
            self.told.pop_front();
        }
        self.told.push_back(now);
        Change { bad, changes: std::mem::take(&mut self.changes), flaps: bad && self.flaps(limits, now) }
    }
}

/// Takes one from the rate, if there is one.
fn may(drained: &mut Duration, rate: u32, now: Duration) -> bool {
    let each = Duration::from_secs(1) / rate.max(1);
    if *drained + each > now + Duration::from_secs(10) {
        return false;
    }
    *drained = (*drained).max(now) + each;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits =
        Limits { flap_changes: 4, flap_window: Duration::from_secs(300), flap_hold: Duration::from_secs(60), rate: 10 };
    const HOLD: [Duration; 2] = [Duration::from_secs(3); 2];

    /// One look a second at one object; what was told, and when.
    fn told(looks: &[Seen]) -> Vec<(usize, Change)> {
        let mut damper = Damper::new(LIMITS);
        let look = |(second, seen): (usize, &Seen)| {
            let change = damper.look(b"o", *seen, HOLD, Duration::from_secs(second as u64))?;
            Some((second, change))
        };
        looks.iter().enumerate().filter_map(look).collect()
    }

    fn times(seen: Seen, count: usize) -> Vec<Seen> {
        vec![seen; count]
    }

    fn change(bad: bool) -> Change {
        Change { bad, changes: 1, flaps: false }
    }

    #[test]
    fn a_change_is_told_once_it_has_held() {
        let looks = [times(Seen::Good, 2), times(Seen::Bad, 9), times(Seen::Good, 9)].concat();
        assert_eq!(told(&looks), [(5, change(true)), (14, change(false))]);
    }

    #[test]
    fn what_was_so_already_is_not_told() {
        assert_eq!(told(&times(Seen::Bad, 100)), []);
        let looks = [times(Seen::Bad, 9), times(Seen::Good, 9)].concat();
        assert_eq!(told(&looks), [(12, change(false))]);
    }

    #[test]
    fn a_change_of_less_than_the_hold_is_not_told() {
        let blip = [times(Seen::Good, 5), times(Seen::Bad, 3)].concat();
        assert_eq!(told(&[blip.clone(), blip.clone(), blip].concat()), []);
    }

    #[test]
    fn what_is_neither_or_unknown_changes_nothing_and_begins_the_hold_anew() {
        for pause in [Seen::Neither, Seen::Unknown] {
            let looks =
                [times(Seen::Good, 5), times(Seen::Bad, 3), times(pause, 50), times(Seen::Bad, 3), times(pause, 1)];
            assert_eq!(told(&looks.concat()), [], "{pause:?}");
            let looks = [times(Seen::Good, 5), times(Seen::Bad, 5), times(pause, 50), times(Seen::Bad, 9)];
            assert_eq!(told(&looks.concat()), [(8, change(true))], "{pause:?}");
        }
    }

    #[test]
    fn from_neither_an_object_can_become_bad_and_from_unknown_it_is_new() {
        let looks = |first| [times(first, 2), times(Seen::Bad, 9)].concat();
        assert_eq!(told(&looks(Seen::Neither)), [(5, change(true))]);
        assert_eq!(told(&looks(Seen::Unknown)), []);
    }

    #[test]
    fn an_object_that_flaps_stays_bad_until_it_is_good_for_longer() {
        let flap = [times(Seen::Bad, 5), times(Seen::Good, 5)].concat();
        let looks = [times(Seen::Good, 1), flap.repeat(10), times(Seen::Good, 100)].concat();
        let told = told(&looks);
        // Four changes, one of which is the last warning; the fifth, and then nothing but the end of it.
        let (ends, states): (Vec<usize>, Vec<bool>) = told.iter().map(|(second, change)| (*second, change.bad)).unzip();
        assert_eq!(states, [true, false, true, false, true, false]);
        assert_eq!(told[4].1, Change { bad: true, changes: 1, flaps: true });
        assert_eq!(told[5].1, Change { bad: false, changes: 15, flaps: false });
        assert_eq!(ends[5], 96 + 60);
    }

    #[test]
    fn more_than_the_rate_waits_for_its_turn() {
        let mut damper = Damper::new(LIMITS);
        let none = [Duration::ZERO; 2];
        let mut told = Vec::new();
        for second in 0..40 {
            let seen = if second == 0 { Seen::Good } else { Seen::Bad };
            let now = Duration::from_secs(second);
            told.push((0..200_u8).filter(|key| damper.look(&[*key], seen, none, now).is_some()).count());
        }
        assert_eq!(told[..3], [0, 100, 10]);
        assert_eq!(told.iter().sum::<usize>(), 200);
    }

    #[test]
    fn what_is_gone_is_forgotten_in_the_end() {
        let mut damper = Damper::new(LIMITS);
        for second in 0..2_000_u64 {
            let now = Duration::from_secs(second);
            damper.look(&second.to_be_bytes(), Seen::Good, HOLD, now);
            damper.look(b"stays", Seen::Bad, HOLD, now);
            damper.sweep(now);
            assert!(damper.len() <= 662, "{}", damper.len());
        }
        assert!(damper.look(b"stays", Seen::Good, HOLD, Duration::from_secs(2_000)).is_none());
        assert!(damper.look(b"stays", Seen::Good, HOLD, Duration::from_secs(2_003)).is_some());
    }

    fn seen() -> impl Strategy<Value = Seen> {
        prop_oneof![
            4 => Just(Seen::Bad),
            4 => Just(Seen::Good),
            1 => Just(Seen::Neither),
            1 => Just(Seen::Unknown),
        ]
    }

    proptest! {
        /// Runs of a state, of 1 to 80 seconds each.
        #[test]
        fn changes_alternate_begin_with_a_change_and_are_bounded(
            runs in prop::collection::vec((seen(), 1_usize..80), 1..80),
        ) {
            let looks: Vec<Seen> = runs.iter().flat_map(|(seen, count)| times(*seen, *count)).collect();
            let told = told(&looks);
            let first = looks.iter().find(|seen| **seen != Seen::Unknown);
            let mut believed = first == Some(&Seen::Bad);
            for (second, change) in &told {
                prop_assert_ne!(change.bad, believed, "second {}", second);
                believed = change.bad;
                // It held: so long before there is nothing else.
                let held = &looks[second - 3..=*second];
                let expected = if change.bad { Seen::Bad } else { Seen::Good };
                prop_assert!(held.iter().all(|seen| *seen == expected), "second {}: {:?}", second, held);
            }
            // As many as are free within a window, and after that two for each time it was good for long.
            for window in told.windows(LIMITS.flap_changes + 3) {
                prop_assert!(window[window.len() - 1].0 - window[0].0 >= 60, "{:?}", window);
            }
        }

        #[test]
        fn flapping_is_bounded(period in 1_usize..30) {
            let flap = [times(Seen::Bad, period), times(Seen::Good, period)].concat();
            let looks: Vec<Seen> = flap.iter().copied().cycle().take(3_600).collect();
            // Within each window of 300 s four changes, and one more to the bad.
            prop_assert!(told(&looks).len() <= 5 * 3_600 / 300 + 5, "{}", told(&looks).len());
        }
    }
}
