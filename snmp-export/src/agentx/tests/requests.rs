//! Get, GetNext and GetBulk: the right answers, as many as were asked for.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;

use lbstats::{Oid, Value};
use proptest::collection::vec;
use proptest::prelude::*;

use super::peer::{Answer, Asked, Bound, Content, Range};
use super::{Pair, below, some_rows, view};
use crate::sample::Ids;
use crate::view::View;

const NO_SUCH_OBJECT: u16 = 128;
const NO_SUCH_INSTANCE: u16 = 129;
const END_OF_MIB_VIEW: u16 = 130;

fn from(oid: &[u32]) -> Range {
    (oid.to_vec(), false, vec![])
}

/// Every cell of a view, as the master reads it.
fn cells(view: &View) -> BTreeMap<Vec<u32>, (u16, Content)> {
    let (mut oid, mut next, mut cells) = (Oid::default(), Oid::default(), BTreeMap::new());
    while let Some(value) = view.next(&oid, &mut next) {
        let content = match value {
            Value::Integer(number) => (2, Content::Number(number.cast_unsigned().into())),
            Value::Counter32(number) => (65, Content::Number(number.into())),
            Value::Gauge32(number) => (66, Content::Number(number.into())),
            Value::TimeTicks(ticks) => (67, Content::Number(ticks.into())),
            Value::Counter64(number) => (70, Content::Number(number)),
            Value::OctetString(octets) => (4, Content::Octets(octets.to_vec())),
            Value::ObjectIdentifier(arcs) => (6, Content::Arcs(arcs.to_vec())),
        };
        cells.insert(next.to_vec(), content);
        std::mem::swap(&mut oid, &mut next);
    }
    cells
}

/// What RFC 2741 section 7.2.3.2 has as the answer to a range.
fn expected(cells: &BTreeMap<Vec<u32>, (u16, Content)>, (start, include, end): &Range) -> Bound {
    let from = if *include { Included(start.clone()) } else { Excluded(start.clone()) };
    match cells.range((from, Unbounded)).next() {
        Some((name, (kind, content))) if end.is_empty() || name < end => (name.clone(), *kind, content.clone()),
        _ => (start.clone(), END_OF_MIB_VIEW, Content::Nothing),
    }
}

/// OIDs at cells, near them, and elsewhere.
fn near(cells: &[Vec<u32>], pick: prop::sample::Index, cut: usize, more: &[u32]) -> Vec<u32> {
    let mut oid = cells[pick.index(cells.len())].clone();
    oid.truncate(oid.len().saturating_sub(cut));
    oid.extend(more);
    oid
}

fn places() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, Vec<u32>)>> {
    let cut = prop_oneof![3 => Just(0_usize), 2 => 1_usize..9];
    let more = prop_oneof![2 => Just(vec![]), 1 => vec(prop_oneof![0_u32..30, Just(u32::MAX)], 0..3)];
    vec((any::<prop::sample::Index>(), cut, more), 2..12)
}

proptest! {
    #[test]
    fn any_ranges_are_answered_as_an_ordered_map_would(
        places in places(), includes: u16, ends: u16, big: bool, (non_repeaters, repetitions) in (0_u16..4, 0_u16..6),
    ) {
        let view = some_rows();
        let cells = cells(&view);
        let names: Vec<Vec<u32>> = cells.keys().cloned().collect();
        let oids: Vec<_> = places.iter().map(|(pick, cut, more)| near(&names, *pick, *cut, more)).collect();
        let ranges: Vec<Range> = oids.windows(2).enumerate().map(|(place, pair)| {
            let end = if ends >> place & 1 == 1 { pair[1].clone() } else { vec![] };
            (pair[0].clone(), includes >> place & 1 == 1, end)
        }).collect();
        let mut pair = Pair::open(view);
        let mut ask = |kind, numbers: &[u16]| {
            let mut asked = Asked::new(kind, ranges.clone());
            (asked.big, asked.numbers) = (big, numbers.to_vec());
            let answer = pair.ask(&asked);
            assert_eq!((answer.error, answer.index), (0, 0));
            answer.varbinds
        };

        for ((start, ..), (name, kind, content)) in ranges.iter().zip(ask(5, &[])) {
            prop_assert_eq!(&name, start);
            match cells.get(start) {
                Some(cell) => prop_assert_eq!(&(kind, content), cell),
                None => prop_assert!(kind == NO_SUCH_OBJECT || kind == NO_SUCH_INSTANCE),
            }
        }
        prop_assert_eq!(ask(6, &[]), ranges.iter().map(|range| expected(&cells, range)).collect::<Vec<_>>());

        let bulk = ask(7, &[non_repeaters, repetitions]);
        let mut model: Vec<Bound> = Vec::new();
        let (once, mut often) = (ranges.clone(), ranges.clone().split_off(ranges.len().min(non_repeaters.into())));
        model.extend(once.iter().take(non_repeaters.into()).map(|range| expected(&cells, range)));
        for _ in 0..repetitions {
            for range in &mut often {
                let next = expected(&cells, range);
                if next.1 == END_OF_MIB_VIEW {
                    range.2 = range.0.clone();
                    range.1 = false;
                    // Nothing is before its own start.
                    model.push((range.0.clone(), END_OF_MIB_VIEW, Content::Nothing));
                } else {
                    *range = (next.0.clone(), false, range.2.clone());
                    model.push(next);
                }
            }
        }
        prop_assert!(bulk.len() <= model.len() && model.starts_with(&bulk));
        // What is left out says that everything has ended.
        prop_assert!(model[bulk.len()..].iter().all(|(_, kind, _)| *kind == END_OF_MIB_VIEW));
        prop_assert!(repetitions == 0 || bulk.len() >= ranges.len());
    }
}

#[test]
fn a_get_tells_a_missing_object_from_a_missing_instance() {
    let mut pair = Pair::open(some_rows());
    let [there, instance, column, table, elsewhere] = [
        below(&[2, 1, 3, 1, 10]),
        below(&[2, 1, 3, 1, 11]),
        below(&[2, 1, 14, 1, 10]),
        below(&[2, 1]),
        vec![1, 3, 6, 1, 2, 1],
    ];
    let answer = pair.ask(&Asked::new(5, [&there, &instance, &column, &table, &elsewhere].map(|oid| from(oid)).into()));
    let kinds = [4, NO_SUCH_INSTANCE, NO_SUCH_OBJECT, NO_SUCH_OBJECT, NO_SUCH_OBJECT];
    let names = [&there, &instance, &column, &table, &elsewhere];
    assert_eq!(answer.kinds(), names.into_iter().map(|oid| &oid[..]).zip(kinds).collect::<Vec<_>>());
    assert_eq!(answer.varbinds[0].2, Content::Octets(b"name-1".to_vec()));
    assert_eq!(pair.ask(&Asked::new(5, vec![])).varbinds, []);
}

#[test]
fn another_context_has_no_objects() {
    let mut pair = Pair::open(some_rows());
    let cell = below(&[2, 1, 3, 1, 10]);
    let mut ask = |kind, context: &[u8], numbers: &[u16]| {
        let mut asked = Asked::new(kind, vec![from(&cell), from(&cell)]);
        (asked.context, asked.numbers) = (Some(context.to_vec()), numbers.to_vec());
        let answer = pair.ask(&asked);
        assert_eq!(answer.error, 0);
        answer.varbinds.into_iter().map(|(name, kind, _)| (name == cell, kind)).collect::<Vec<_>>()
    };
    assert_eq!(ask(5, b"other", &[]), [(true, NO_SUCH_OBJECT); 2]);
    assert_eq!(ask(6, b"other", &[]), [(true, END_OF_MIB_VIEW); 2]);
    assert_eq!(ask(7, b"other", &[1, 9]), [(true, END_OF_MIB_VIEW); 2]);
    // The default context has an empty name.
    assert_eq!(ask(5, b"", &[]), [(true, 4); 2]);
}

#[test]
fn a_walk_stays_on_its_snapshot_and_columns_side_by_side_agree() {
    let rows = |base: u64| view(&Ids { frontends: (1..=50).map(|iid| (1, iid)).collect(), base, ..Ids::default() });
    let mut pair = Pair::open(rows(0));
    let columns: Vec<Vec<u32>> = [6, 7, 8].map(|column| below(&[2, 1, column])).to_vec();
    let mut at = columns.clone();
    let numbers = |answer: &Answer| -> Vec<u64> {
        let number = |(_, _, content): &Bound| match content {
            Content::Number(number) => number / 1_000_000,
            other => panic!("{other:?}"),
        };
        answer.varbinds.iter().map(number).collect()
    };
    for step in 0..40 {
        let answer = pair.ask(&Asked::new(6, at.iter().map(|oid| from(oid)).collect()));
        assert_eq!(numbers(&answer), [0, 0, 0], "step {step}");
        at = answer.varbinds.into_iter().map(|(name, ..)| name).collect();
        pair.now += Duration::from_secs(1);
        pair.newest = rows(1_000_000 * (step + 1));
    }
    let fresh = pair.ask(&Asked::new(6, columns.iter().map(|oid| from(oid)).collect()));
    assert_eq!(numbers(&fresh), [40, 40, 40], "a walk that begins now");
    let walked = pair.ask(&Asked::new(6, vec![from(&at[0])]));
    assert_eq!(numbers(&walked), [0], "the walk before it goes on");
}

#[test]
fn an_answer_is_bounded() {
    let mut pair = Pair::open(some_rows());
    // Each range is 8 octets and its answer more than 50.
    let many = vec![(vec![], false, vec![]); 20_000];
    for (kind, error) in [(5, 0), (6, 1)] {
        let answer = pair.ask(&Asked::new(kind, many.clone()));
        assert_eq!((answer.error, answer.index), (error, 0));
        assert_eq!(answer.varbinds.len(), if error == 0 { many.len() } else { 0 });
    }
    let mut bulk = Asked::new(7, vec![(below(&[2]), false, vec![]), (below(&[4]), false, vec![])]);
    bulk.numbers = vec![0, u16::MAX];
    // Both go on over the second root to the end of all.
    let all = pair.ask(&bulk);
    assert_eq!((all.error, all.varbinds.len() % 2), (0, 0));
    bulk.ranges = vec![(vec![], false, vec![]); 100];
    let cut = pair.ask(&bulk);
    assert!(
        cut.error == 0 && cut.varbinds.len().is_multiple_of(100) && cut.varbinds.len() > 1000,
        "{}",
        cut.varbinds.len()
    );
    bulk.ranges = many;
    assert_eq!(pair.ask(&bulk).error, 1);
}
