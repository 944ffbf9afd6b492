//! Which view answers a request: a walk stays on the one it began with, everything else gets the newest.
//!
//! A request does not say which walk it belongs to; its OID does. A getnext that asks for what follows an answer just
//! given goes on with that walk, and so does one that asks again behind it: snmpd cuts an answer that does not fit
//! into its packet, and managers repeat what got lost. Anything else begins a walk, on the newest snapshot: so a walk
//! that restarts sees fresh values at once, and two managers at the same time each keep a view of their own. (Where
//! they meet at the very same OID, turns are what tells them apart: one that overtakes the other may change views with
//! it.)

use std::time::{Duration, Instant};

use lbstats::{Oid, Value};

use crate::view::{Cell, View};
use crate::walk::{self, Asked, Walk};

/// Walks remembered at a time; one getnext for the 27 columns of a server takes 27.
const MAX_WALKS: usize = 64;
/// Snapshots kept at a time, since one may have many megabytes; one more ends the walks on the oldest.
const MAX_VIEWS: usize = 3;
/// How long the newest view counts as such: the varbinds of one PDU, which come one after the other, agree.
const BURST: Duration = Duration::from_millis(5);

/// The walks under way through one agent, and the views they are on.
#[derive(Debug)]
pub struct Walks {
    pause: Duration,
    max_walk: Duration,
    views: Vec<View>,
    /// Which of the views is the newest, and when it came.
    newest: Option<(usize, Instant)>,
    walks: Vec<Walk<On>>,
}

#[derive(Debug)]
struct On {
    /// Its place in `views`; none if the walk ended.
    view: Option<usize>,
    /// The cell of the last OID answered.
    cell: Cell,
}

/// [`Walks::PAUSE`] and [`Walks::MAX_WALK`].
impl Default for Walks {
    fn default() -> Self {
        Self::new(Self::PAUSE, Self::MAX_WALK)
    }
}

impl Walks {
    /// The usual pause, longer than the one to three seconds after which managers repeat a request that got lost.
    pub const PAUSE: Duration = Duration::from_secs(5);
    /// The usual bound of a walk, enough for 20,000 servers by single getnexts over a fast network.
    pub const MAX_WALK: Duration = Duration::from_secs(120);

    /// A walk ends after a `pause` without requests; after `max_walk` it goes on with the newest snapshot, which
    /// bounds how old an answer can be.
    pub fn new(pause: Duration, max_walk: Duration) -> Self {
        Self { pause, max_walk, views: Vec::new(), newest: None, walks: Vec::new() }
    }

    /// The value under exactly this OID, from the newest view; `source` is asked for that if need be.
    pub fn get(&mut self, now: Instant, oid: &[u32], source: impl FnOnce() -> View) -> Option<Value<'_>> {
        let newest = self.newest(now, source);
        self.views[newest].get(oid)
    }

    /// Whether the newest view has the object that `oid` is, or would be, an instance of; see [`View::has_object`].
    pub fn has_object(&mut self, now: Instant, oid: &[u32], source: impl FnOnce() -> View) -> bool {
        let newest = self.newest(now, source);
        self.views[newest].has_object(oid)
    }

    /// The value under the first OID above `oid`, from the view of the walk that this request belongs to, and that OID
    /// in `into`; at the end none, and `into` is as it was. `source` is asked for the newest view if a walk begins.
    pub fn next(
        &mut self,
        now: Instant,
        oid: &[u32],
        into: &mut Oid,
        source: impl FnOnce() -> View,
    ) -> Option<Value<'_>> {
        let is_cell = |walk: &Walk<On>| walk.on.view.is_some_and(|view| self.views[view].cell_at(oid).is_some());
        match walk::find(&self.walks, oid, |walk| self.goes_on(walk, now), is_cell) {
            Some(Asked::Ahead(at)) => {
                let walk = &mut self.walks[at];
                walk.used = now;
                let view = &self.views[walk.on.view?];
                walk.on.cell = view.following(walk.on.cell)?;
                view.oid(walk.on.cell, into);
                walk.reach.assign(into);
                Some(view.value(walk.on.cell))
            }
            Some(Asked::Behind(at)) => {
                let walk = &mut self.walks[at];
                walk.used = now;
                self.views[walk.on.view?].next(oid, into)
            }
            None => {
                let newest = self.newest(now, source);
                let cell = self.views[newest].cell_after(oid)?;
                self.views[newest].oid(cell, into);
                self.begin(now, newest, oid, into, cell);
                Some(self.views[newest].value(cell))
            }
        }
    }

    fn goes_on(&self, walk: &Walk<On>, now: Instant) -> bool {
        walk.on.view.is_some() && walk.goes_on(now, self.pause, self.max_walk)
    }

    /// Remembers a walk, in the place of one that ended, or else of the one that was used longest ago.
    fn begin(&mut self, now: Instant, view: usize, from: &[u32], reach: &Oid, cell: Cell) {
        let place = match self.walks.iter().position(|walk| !self.goes_on(walk, now)) {
            Some(ended) => ended,
            None if self.walks.len() < MAX_WALKS => {
                let (from, reach) = (Oid::default(), Oid::default());
                self.walks.push(Walk { on: On { view: None, cell }, from, reach, began: now, used: now });
                self.walks.len() - 1
            }
            None => (0..MAX_WALKS).min_by_key(|at| self.walks[*at].used).unwrap_or_default(),
        };
        let walk = &mut self.walks[place];
        (walk.on, walk.began, walk.used) = (On { view: Some(view), cell }, now, now);
        walk.from.assign(from);
        walk.reach.assign(reach);
    }

    /// The place of the newest view.
    fn newest(&mut self, now: Instant, source: impl FnOnce() -> View) -> usize {
        if let Some((place, came)) = self.newest
            && now.saturating_duration_since(came) <= BURST
        {
            return place;
        }
        let view = source();
        let place = self.views.iter().position(|kept| kept.is(&view)).unwrap_or_else(|| self.keep(now, view));
        self.newest = Some((place, now));
        place
    }

    /// Keeps a view in the place of one that no walk needs, or else of the one whose walk began first.
    fn keep(&mut self, now: Instant, view: View) -> usize {
        let needed = |place| self.walks.iter().any(|walk| walk.on.view == Some(place) && self.goes_on(walk, now));
        let place = match (0..self.views.len()).find(|place| !needed(*place)) {
            Some(place) => place,
            None if self.views.len() < MAX_VIEWS => self.views.len(),
            None => self.walks.iter().min_by_key(|walk| walk.began).and_then(|walk| walk.on.view).unwrap_or_default(),
        };
        for walk in self.walks.iter_mut().filter(|walk| walk.on.view == Some(place)) {
            walk.on.view = None;
        }
        match self.views.get_mut(place) {
            Some(old) => *old = view,
            None => self.views.push(view),
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sample::{self, Ids};
    use lbstats::schema::LBSTATS_ROOTS;

    /// An agent in whose snapshots every number tells the generation, and a clock that stands until it is moved.
    struct Agent {
        walks: Walks,
        now: Instant,
        generation: u64,
        newest: View,
    }

    const GENERATION: u64 = 1_000_000;

    impl Agent {
        fn new() -> Self {
            let walks = Walks::new(Duration::from_secs(5), Duration::from_secs(60));
            let mut agent = Self { walks, now: Instant::now(), generation: 0, newest: view(0) };
            agent.publish();
            agent
        }

        /// A second passes, and there is a new snapshot.
        fn publish(&mut self) {
            self.now += Duration::from_secs(1);
            self.generation += 1;
            self.newest = view(self.generation);
        }

        /// The OID after this one, and which generation its value is from.
        fn next(&mut self, oid: &[u32]) -> Option<(Oid, u64)> {
            let mut found = Oid::default();
            let value = self.walks.next(self.now, oid, &mut found, || self.newest.clone())?;
            let Value::Counter64(number) = value else { panic!("{found} is no counter but {value}") };
            Some((found, number / GENERATION))
        }

        fn get(&mut self, oid: &[u32]) -> u64 {
            match self.walks.get(self.now, oid, || self.newest.clone()) {
                Some(Value::Counter64(number)) => number / GENERATION,
                other => panic!("{other:?} is no counter"),
            }
        }
    }

    fn view(generation: u64) -> View {
        let frontends = (1..=200).map(|iid| (1, iid)).collect();
        View::new(Arc::new(sample::snapshot(&Ids { frontends, base: generation * GENERATION, ..Ids::default() })))
    }

    /// The OID of a column of the frontends that the sample fills with numbers.
    fn column(place: u32) -> Oid {
        let mut oid = Oid::from(LBSTATS_ROOTS[0]);
        oid.extend(&[2, 1, [6, 7, 8, 9, 11, 12][place as usize]]);
        oid
    }

    #[test]
    fn a_walk_stays_and_the_next_one_is_fresh() {
        let mut agent = Agent::new();
        let mut oid = column(0);
        for _ in 0..50 {
            let (found, generation) = agent.next(&oid).unwrap();
            assert_eq!(generation, 1, "{found}");
            oid = found;
            agent.publish();
        }
        assert_eq!(agent.next(&column(0)).unwrap().1, 51, "a walk that begins again");
        assert_eq!(agent.next(&oid).unwrap().1, 1, "the walk before it, still going on");
        assert_eq!(agent.get(&oid), 51);
    }

    #[test]
    fn a_pause_ends_a_walk() {
        let mut agent = Agent::new();
        let (first, _) = agent.next(&column(0)).unwrap();
        (0..5).for_each(|_| agent.publish());
        let (second, generation) = agent.next(&first).unwrap();
        assert_eq!(generation, 1);
        (0..6).for_each(|_| agent.publish());
        let (third, generation) = agent.next(&second).unwrap();
        assert_eq!(generation, 12);
        agent.publish();
        assert_eq!(agent.next(&third).unwrap().1, 12);
    }

    #[test]
    fn a_long_walk_is_never_older_than_its_bound() {
        let mut agent = Agent::new();
        let mut oid = column(0);
        for step in 0..150 {
            let (found, generation) = agent.next(&oid).unwrap();
            assert_eq!(generation, 1 + step / 61 * 61, "{found}");
            oid = found;
            agent.publish();
        }
    }

    #[test]
    fn what_is_asked_again_is_answered_as_before() {
        let mut agent = Agent::new();
        let mut oids = vec![column(0)];
        for _ in 0..20 {
            let (found, _) = agent.next(oids.last().unwrap()).unwrap();
            oids.push(found);
        }
        agent.publish();
        for at in [5, 6, 7, 19, 20] {
            let (found, generation) = agent.next(&oids[at]).unwrap();
            assert_eq!((Some(&found), generation), (oids.get(at + 1).or(Some(&found)), 1), "after {}", oids[at]);
        }
        assert_eq!(agent.next(&column(0)).unwrap().1, 2, "where the walk began, another begins");
    }

    #[test]
    fn a_walk_that_begins_inside_another_is_fresh() {
        let mut agent = Agent::new();
        let mut oid = column(0);
        for _ in 0..450 {
            (oid, _) = agent.next(&oid).unwrap();
        }
        agent.publish();
        assert!(column(1) < oid);
        assert_eq!(agent.next(&column(1)).unwrap().1, 2);
        assert_eq!(agent.next(&oid).unwrap().1, 1);
    }

    #[test]
    fn columns_walked_side_by_side_agree() {
        let mut agent = Agent::new();
        let mut oids: Vec<Oid> = (0..6).map(column).collect();
        for _ in 0..50 {
            for oid in &mut oids {
                let (found, generation) = agent.next(oid).unwrap();
                assert_eq!(generation, 1, "{found}");
                *oid = found;
                agent.now += Duration::from_micros(100);
            }
            agent.publish();
        }
    }

    #[test]
    fn one_burst_of_gets_agrees_and_the_next_is_fresh() {
        let mut agent = Agent::new();
        let (oid, _) = agent.next(&column(0)).unwrap();
        agent.publish();
        for _ in 0..10 {
            assert_eq!(agent.get(&oid), 2);
            agent.newest = view(3);
        }
        agent.now += BURST + Duration::from_nanos(1);
        assert_eq!(agent.get(&oid), 3);
    }

    #[test]
    fn two_managers_keep_their_views_while_a_third_polls() {
        let mut agent = Agent::new();
        let (mut first, _) = agent.next(&column(0)).unwrap();
        agent.publish();
        let (mut second, _) = agent.next(&column(0)).unwrap();
        for step in 0..50 {
            agent.publish();
            assert_eq!(agent.get(&first), 3 + step);
            for (oid, expected) in [(&mut first, 1), (&mut second, 2)] {
                let (found, generation) = agent.next(oid).unwrap();
                assert_eq!(generation, expected, "{found}");
                *oid = found;
            }
        }
        assert_eq!(agent.walks.views.len(), 3);
    }

    #[test]
    fn more_views_than_are_kept_end_the_oldest_walk() {
        let mut agent = Agent::new();
        let walk_all = |agent: &mut Agent, oids: &mut [Oid]| -> Vec<u64> {
            let step = |oid: &mut Oid| {
                let (found, generation) = agent.next(oid).unwrap();
                *oid = found;
                generation
            };
            oids.iter_mut().map(step).collect()
        };
        let mut oids = Vec::new();
        for place in 0..5 {
            agent.publish();
            oids.push(column(place));
            walk_all(&mut agent, &mut oids);
        }
        assert_eq!(agent.walks.views.len(), MAX_VIEWS);
        agent.publish();
        let generations = walk_all(&mut agent, &mut oids);
        assert_eq!(generations, walk_all(&mut agent, &mut oids), "each stays where it is now");
        assert!(generations.iter().all(|generation| *generation >= 3), "{generations:?}");
    }

    #[test]
    fn a_host_of_walks_is_answered_from_bounded_memory() {
        let mut agent = Agent::new();
        for iid in 1..200 {
            let mut oid = column(0);
            oid.extend(&[1, iid]);
            assert_eq!(agent.next(&oid).unwrap().1, 1);
            assert!(agent.walks.walks.len() <= MAX_WALKS);
        }
    }

    #[test]
    fn the_end_is_the_end() {
        let mut agent = Agent::new();
        assert_eq!(agent.next(&[1, 3, 6, 1, 4, 1, 58751]), None);
        let mut oid = Oid::from(LBSTATS_ROOTS[1]);
        oid.extend(&[2, 1, 12, 1, 198]);
        for expected in [199, 200] {
            let (found, _) = agent.next(&oid).unwrap();
            assert_eq!(found.last(), Some(&expected));
            oid = found;
        }
        let mut found = Oid::default();
        // What follows is the last column, of texts.
        for _ in 0..200 {
            agent.walks.next(agent.now, &oid, &mut found, || agent.newest.clone()).unwrap();
            oid.assign(&found);
        }
        assert_eq!(agent.walks.next(agent.now, &oid, &mut found, || agent.newest.clone()), None);
        assert_eq!(agent.walks.next(agent.now, &oid, &mut found, || agent.newest.clone()), None);
    }
}
