//! The agent against a plain model of what the RFCs say, with rasn encoding the questions and decoding the answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use lbstats::schema::{LBSTATD_ROOT, LBSTATS_ROOTS};
use lbstats::{Oid, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use rasn::types::ObjectIdentifier;
use rasn_snmp::v2::{
    BulkPdu, GetBulkRequest, GetNextRequest, GetRequest, Pdu, Pdus, SetRequest, VarBind, VarBindValue,
};
use rasn_snmp::v2c::Message;

use super::*;
use crate::View;
use crate::sample::{self, Ids};

const MANAGER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const COMMUNITY: &str = "s3cret";

/// One worker, the columns it answers from, and its clock.
struct Bed {
    worker: Worker,
    columns: Arc<Columns>,
    now: Instant,
}

/// What came back: error status, error index, and the variable bindings, the value of each encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    status: u32,
    index: u32,
    varbinds: Vec<(Vec<u32>, Vec<u8>)>,
}

fn ids(servers: u32) -> Ids {
    Ids {
        processes: vec![1],
        frontends: vec![(1, 2), (1, 10)],
        backends: vec![(1, 3)],
        servers: (1..=servers).map(|sid| (1, 3, sid)).collect(),
        // Whose indexes differ in length.
        listeners: vec![(0, MANAGER, 80), (0, IpAddr::V6(Ipv6Addr::LOCALHOST), 443), (7, MANAGER, 80)],
        hooks: vec!["iter/tcp".into(), "inet_sock_set_state".into()],
        base: 0,
    }
}

fn bed_with(ids: &Ids, subtrees: Subtrees, max_size: usize) -> Bed {
    let system = System {
        description: "a test".into(),
        object_id: Oid::from(&[1, 3, 6, 1, 4, 1, 8072][..]),
        contact: String::new(),
        name: "here".into(),
        location: String::new(),
        modules: vec![(Oid::from(&[1, 3, 6, 1, 6, 3, 1][..]), "SNMPv2-MIB".into())],
    };
    let mut agent = Agent::new(&system, vec![Community::new("public"), Community::new(COMMUNITY)], subtrees, max_size);
    // Behind the enterprises, as those of SNMPv3 are.
    agent.show(vec![Instance::new(&[1, 3, 6, 1, 6, 3], &[10, 0], Content::Now(Box::new(|| Value::Gauge32(7))))]);
    let columns = Arc::new(Columns::new(View::new(Arc::new(sample::snapshot(ids)))));
    Bed { worker: Worker::new(Arc::new(agent)), columns, now: Instant::now() }
}

fn bed() -> Bed {
    bed_with(&ids(300), Subtrees::all(), 65_507)
}

impl Bed {
    fn raw(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let columns = self.columns.clone();
        match self.worker.answer(datagram, MANAGER, self.now, || columns) {
            Answer::Send(answer, _) => Some(answer.to_vec()),
            Answer::Silence => None,
        }
    }

    fn ask(&mut self, version: i32, data: Pdus) -> Told {
        let datagram = encode(version, COMMUNITY, data);
        let answer = self.raw(&datagram).expect("this is answered");
        let message: Message<Pdus> = rasn::ber::decode(&answer).unwrap();
        assert_eq!((message.version, &message.community[..]), (version.into(), COMMUNITY.as_bytes()));
        let Pdus::Response(response) = message.data else { panic!("{:?}", message.data) };
        assert_eq!(response.0.request_id, -7);
        let varbinds = response.0.variable_bindings.into_iter();
        let varbinds = varbinds.map(|varbind| (varbind.name.to_vec(), rasn::ber::encode(&varbind.value).unwrap()));
        Told { status: response.0.error_status, index: response.0.error_index, varbinds: varbinds.collect() }
    }

    fn counter(&self, of: fn(&Counters) -> &std::sync::atomic::AtomicU64) -> u64 {
        of(self.worker.agent.counters()).load(Relaxed)
    }

    /// Everything that `subtrees` show, straight from the view and the instances.
    fn model(&self, subtrees: &[Oid], counter64: bool) -> BTreeMap<Vec<u32>, Vec<u8>> {
        let mut all = BTreeMap::new();
        let (mut oid, mut next) = (Oid::default(), Oid::default());
        while let Some(value) = self.columns.view().next(&oid, &mut next) {
            if counter64 || !matches!(value, Value::Counter64(_)) {
                all.insert(next.to_vec(), encoded(value));
            }
            std::mem::swap(&mut oid, &mut next);
        }
        all.extend(self.worker.agent.instances.iter().map(|there| (there.oid.to_vec(), encoded(there.value()))));
        all.retain(|oid, _| subtrees.iter().any(|root| oid.starts_with(root)));
        all
    }
}

fn encoded(value: Value<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    ber::push_value(&mut octets, value);
    octets
}

fn encode(version: i32, community: &str, data: Pdus) -> Vec<u8> {
    let community = community.as_bytes().to_vec().into();
    rasn::ber::encode(&Message { version: version.into(), community, data }).unwrap()
}

fn list(oids: &[Vec<u32>]) -> Vec<VarBind> {
    let varbind = |oid: &Vec<u32>| VarBind {
        name: ObjectIdentifier::new(oid.clone()).expect("names in these tests have an encoding"),
        value: VarBindValue::Unspecified,
    };
    oids.iter().map(varbind).collect()
}

fn pdu(oids: &[Vec<u32>]) -> Pdu {
    Pdu { request_id: -7, error_status: 0, error_index: 0, variable_bindings: list(oids) }
}

fn get(oids: &[Vec<u32>]) -> Pdus {
    Pdus::GetRequest(GetRequest(pdu(oids)))
}

fn get_next(oids: &[Vec<u32>]) -> Pdus {
    Pdus::GetNextRequest(GetNextRequest(pdu(oids)))
}

fn get_bulk(non_repeaters: u32, max_repetitions: u32, oids: &[Vec<u32>]) -> Pdus {
    let variable_bindings = list(oids);
    Pdus::GetBulkRequest(GetBulkRequest(BulkPdu { request_id: -7, non_repeaters, max_repetitions, variable_bindings }))
}

/// RFC 3416 section 4.2.3, without a limit of size.
fn bulk_of(
    model: &BTreeMap<Vec<u32>, Vec<u8>>,
    non_repeaters: usize,
    most: usize,
    oids: &[Vec<u32>],
) -> Vec<(Vec<u32>, Vec<u8>)> {
    let next = |oid: &Vec<u32>| {
        let above = (Bound::Excluded(oid.clone()), Bound::Unbounded);
        let found = model.range(above).next().map(|(oid, value)| (oid.clone(), value.clone()));
        found.unwrap_or_else(|| (oid.clone(), vec![tag::END_OF_MIB_VIEW, 0]))
    };
    let (single, repeated) = oids.split_at(non_repeaters.min(oids.len()));
    let mut told: Vec<_> = single.iter().map(next).collect();
    let mut names = repeated.to_vec();
    for _ in 0..most {
        let row: Vec<_> = names.iter().map(next).collect();
        names = row.iter().map(|(oid, _)| oid.clone()).collect();
        let ended = row.iter().all(|(_, value)| value[0] == tag::END_OF_MIB_VIEW);
        told.extend(row);
        if ended {
            break;
        }
    }
    told
}

/// OIDs at, near and far from what there is.
fn questions(model: &BTreeMap<Vec<u32>, Vec<u8>>, picks: &[(prop::sample::Index, usize, u32)]) -> Vec<Vec<u32>> {
    let oids: Vec<&Vec<u32>> = model.keys().collect();
    let question = |(pick, cut, arc): &(prop::sample::Index, usize, u32)| {
        let mut oid = if oids.is_empty() { vec![1, 3, 6, 1] } else { oids[pick.index(oids.len())].clone() };
        oid.truncate(oid.len().saturating_sub(*cut).max(2));
        if let (Some(last), 1..6) = (oid.get_mut(2..).and_then(<[u32]>::last_mut), *arc) {
            *last = last.wrapping_add(*arc).wrapping_sub(3);
        }
        oid
    };
    picks.iter().map(question).collect()
}

fn picks(most: usize) -> impl Strategy<Value = Vec<(prop::sample::Index, usize, u32)>> {
    vec((any::<prop::sample::Index>(), prop_oneof![3 => Just(0_usize), 1 => 0_usize..17], 0_u32..16), 0..=most)
}

/// Counters move as they are asked for.
fn moves(oid: &[u32]) -> bool {
    oid.starts_with(&[1, 3, 6, 1, 2, 1, 11]) || oid.starts_with(&[1, 3, 6, 1, 2, 1, 1, 3])
}

fn steady(varbinds: &[(Vec<u32>, Vec<u8>)]) -> Vec<(Vec<u32>, Vec<u8>)> {
    let steady =
        |(oid, value): &(Vec<u32>, Vec<u8>)| (oid.clone(), if moves(oid) { Vec::new() } else { value.clone() });
    varbinds.iter().map(steady).collect()
}

fn some_subtrees() -> impl Strategy<Value = Vec<Oid>> {
    const ROOTS: &[&str] = &[
        "1.3.6.1.2.1.1",
        "1.3.6.1.2.1.11",
        "1.3.6.1.4.1.23263.4.3.1.3.4",
        "1.3.6.1.4.1.23263.4.3.1.3.4.1.9",
        "1.3.6.1.4.1.23263.4.3.1.3.4.1.9.1.3.7",
        "1.3.6.1.4.1.58750.4.3.1.3.2.1.3.1",
        "1.3.6.1.6.3",
        "1.3.7",
    ];
    prop_oneof![
        Just(vec![Oid::default()]),
        prop::sample::subsequence(ROOTS, 0..8)
            .prop_map(|roots| roots.iter().map(|root| root.parse().unwrap()).collect()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn version_2c_answers_as_a_plain_map_would(
        subtrees in some_subtrees(), picks in picks(6), non_repeaters in 0_u32..5,
        most in prop_oneof![0_u32..4, Just(150), Just(700)],
    ) {
        let mut bed = bed_with(&ids(150), Subtrees::new(subtrees.clone()), 65_507);
        let model = bed.model(&subtrees, true);
        let oids = questions(&model, &picks);

        let told = bed.ask(1, get(&oids));
        prop_assert_eq!((told.status, told.index), (0, 0));
        prop_assert_eq!(told.varbinds.len(), oids.len());
        for ((oid, value), asked) in told.varbinds.iter().zip(&oids) {
            prop_assert_eq!(oid, asked);
            match model.get(oid) {
                Some(expected) => prop_assert!(moves(oid) || value == expected),
                None => prop_assert!([tag::NO_SUCH_OBJECT, tag::NO_SUCH_INSTANCE].contains(&value[0])),
            }
        }

        let told = bed.ask(1, get_next(&oids));
        let expected = bulk_of(&model, oids.len(), 0, &oids);
        prop_assert_eq!((told.status, steady(&told.varbinds)), (0, steady(&expected)));

        let told = bed.ask(1, get_bulk(non_repeaters, most, &oids));
        let expected = bulk_of(&model, non_repeaters as usize, most as usize, &oids);
        let whole = told.varbinds.len() == expected.len();
        prop_assert!(whole || told.varbinds.len() > 1000, "{} of {}", told.varbinds.len(), expected.len());
        prop_assert_eq!((told.status, steady(&told.varbinds)), (0, steady(&expected[..told.varbinds.len()])));
    }

    #[test]
    fn version_1_has_no_counter64_and_no_exceptions(subtrees in some_subtrees(), picks in picks(3)) {
        let mut bed = bed_with(&ids(3), Subtrees::new(subtrees.clone()), 65_507);
        let model = bed.model(&subtrees, false);
        let oids = questions(&bed.model(&subtrees, true), &picks);
        let echo: Vec<(Vec<u32>, Vec<u8>)> = oids.iter().map(|oid| (oid.clone(), vec![tag::NULL, 0])).collect();
        let expect = |told: Told, expected: Vec<Option<(Vec<u32>, Vec<u8>)>>| {
            match expected.iter().position(Option::is_none) {
                Some(missing) => {
                    let index = u32::try_from(missing).unwrap() + 1;
                    prop_assert_eq!(told, Told { status: 2, index, varbinds: echo.clone() });
                }
                None => {
                    let expected: Vec<_> = expected.into_iter().flatten().collect();
                    prop_assert_eq!((told.status, steady(&told.varbinds)), (0, steady(&expected)));
                }
            }
            Ok(())
        };
        let found = |oid: &Vec<u32>| model.get(oid).map(|value| (oid.clone(), value.clone()));
        expect(bed.ask(0, get(&oids)), oids.iter().map(found).collect())?;
        let next = |oid: &Vec<u32>| {
            let (oid, value) = model.range((Bound::Excluded(oid.clone()), Bound::Unbounded)).next()?;
            Some((oid.clone(), value.clone()))
        };
        expect(bed.ask(0, get_next(&oids)), oids.iter().map(next).collect())?;
    }

    #[test]
    fn an_answer_is_never_larger_than_it_may_be(picks in picks(5), max_size in 40_usize..700, most in 0_u32..60) {
        let mut bed = bed_with(&ids(30), Subtrees::all(), max_size);
        let model = bed.model(&[Oid::default()], true);
        let oids = questions(&model, &picks);
        for (request, whole) in [
            (get(&oids), None),
            (get_next(&oids), Some(bulk_of(&model, oids.len(), 0, &oids))),
            (get_bulk(0, most, &oids), Some(bulk_of(&model, 0, most as usize, &oids))),
        ] {
            let bulk = matches!(request, Pdus::GetBulkRequest(_));
            let octets = bed.raw(&encode(1, COMMUNITY, request.clone()));
            prop_assert!(octets.as_ref().is_none_or(|octets| octets.len() <= max_size));
            if octets.is_none() {
                // Not even one without variable bindings fits.
                prop_assert!(max_size < 48, "silence at {max_size}");
                continue;
            }
            let told = bed.ask(1, request);
            match (told.status, whole) {
                (1, _) => prop_assert!(!bulk && told.index == 0 && told.varbinds.is_empty()),
                (0, Some(whole)) if bulk => {
                    prop_assert_eq!(steady(&told.varbinds), steady(&whole[..told.varbinds.len()]));
                }
                (0, Some(whole)) => prop_assert_eq!(steady(&told.varbinds), steady(&whole)),
                (status, _) => prop_assert_eq!((status, told.varbinds.len()), (0, oids.len())),
            }
        }
    }

    #[test]
    fn any_datagram_is_answered_or_counted(octets in vec(any::<u8>(), 0..60), flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let mut bed = bed_with(&ids(3), Subtrees::all(), 1472);
        let mut mangled = encode(1, COMMUNITY, get_bulk(0, 5, &[vec![1, 3, 6, 1]]));
        for (at, octet) in flips {
            let at = at.index(mangled.len());
            mangled[at] = octet;
        }
        for datagram in [&octets, &mangled] {
            let before = bed.counter(|counters| &counters.out_packets);
            let answer = bed.raw(datagram);
            prop_assert_eq!(bed.counter(|counters| &counters.out_packets) - before, u64::from(answer.is_some()));
            if let Some(answer) = answer {
                prop_assert!(rasn::ber::decode::<Message<Pdus>>(&answer).is_ok());
            }
        }
    }
}

#[test]
fn a_walk_crosses_all_groups_in_order_and_by_every_size() {
    let mut bed = bed_with(&ids(140), Subtrees::all(), 65_507);
    let model = bed.model(&[Oid::default()], true);
    let below = |root: &[u32]| model.keys().filter(|oid| oid.starts_with(root)).count();
    assert_eq!(LBSTATS_ROOTS.map(below), [51 + 2 * 13 + 23 + 140 * 27; 2]);
    assert_eq!((below(&[1, 3, 6, 1, 2]), below(&[1, 3, 6, 1, 6])), (16 + 8 + 3, 1));
    assert!(below(LBSTATD_ROOT) > 0);
    for most in [7, 50, 127, 128, 129, 5000] {
        let (mut walked, mut oid) = (Vec::new(), vec![1, 3]);
        loop {
            let told = bed.ask(1, get_bulk(0, most, std::slice::from_ref(&oid)));
            assert!(told.status == 0 && !told.varbinds.is_empty());
            let ended = told.varbinds.iter().any(|(_, value)| value[0] == tag::END_OF_MIB_VIEW);
            oid = told.varbinds.last().unwrap().0.clone();
            walked.extend(told.varbinds.into_iter().filter(|(_, value)| value[0] != tag::END_OF_MIB_VIEW));
            if ended {
                break;
            }
        }
        assert_eq!(steady(&walked), steady(&model.clone().into_iter().collect::<Vec<_>>()), "{most} at a time");
    }
}

#[test]
fn nothing_can_be_set() {
    let mut bed = bed();
    let name = vec![1, 3, 6, 1, 2, 1, 1, 6, 0];
    let echo = vec![(name.clone(), vec![tag::NULL, 0])];
    let set = Pdus::SetRequest(SetRequest(pdu(&[name])));
    assert_eq!(bed.ask(1, set.clone()), Told { status: 17, index: 1, varbinds: echo.clone() });
    assert_eq!(bed.ask(0, set), Told { status: 2, index: 1, varbinds: echo });
    assert_eq!(bed.counter(|counters| &counters.in_sets), 2);
    assert_eq!(bed.counter(|counters| &counters.in_bad_community_uses), 2);
}

#[test]
fn what_is_missing_is_told_by_its_kind() {
    let mut bed = bed();
    for (oid, kind) in [
        ("1.3.6.1.2.1.1.1", tag::NO_SUCH_INSTANCE),
        ("1.3.6.1.2.1.1.1.1", tag::NO_SUCH_INSTANCE),
        ("1.3.6.1.2.1.1.9.1.2.9", tag::NO_SUCH_INSTANCE),
        ("1.3.6.1.2.1.2.1.0", tag::NO_SUCH_OBJECT),
        ("1.3.6.1.4.1.23263.4.3.1.3.2.1.3.1.11", tag::NO_SUCH_INSTANCE),
        ("1.3.6.1.4.1.23263.4.3.1.3.2.1.99.1.11", tag::NO_SUCH_OBJECT),
        ("2.100.3", tag::NO_SUCH_OBJECT),
    ] {
        let oid: Oid = oid.parse().unwrap();
        assert_eq!(bed.ask(1, get(&[oid.to_vec()])).varbinds[0].1[0], kind, "{oid}");
    }
}

#[test]
fn repetitions_out_of_any_range_do_no_harm() {
    let mut bed = bed_with(&ids(300), Subtrees::all(), 1472);
    let bulk = |non_repeaters: i32, max_repetitions: i32| {
        ber::message(1, COMMUNITY.as_bytes(), |out| {
            ber::push_pdu(out, tag::GET_BULK, [-7, non_repeaters, max_repetitions], |out| {
                ber::push_varbind_empty(out, &[1, 3, 6, 1, 4], tag::NULL);
                ber::push_varbind_empty(out, &[1, 3, 6, 1, 6, 3, 10, 0], tag::NULL);
            });
        })
    };
    for (non_repeaters, max_repetitions, least, most) in [
        (-1, -1, 0, 0),
        (i32::MIN, i32::MAX, 30, 90),
        (i32::MAX, i32::MAX, 2, 2),
        (1, -5, 1, 1),
        (0, 0, 0, 0),
        (1, i32::MAX, 2, 2),
    ] {
        let octets = bed.raw(&bulk(non_repeaters, max_repetitions)).unwrap();
        let message: Message<Pdus> = rasn::ber::decode(&octets).unwrap();
        let Pdus::Response(response) = message.data else { panic!("{:?}", message.data) };
        let count = response.0.variable_bindings.len();
        assert!((least..=most).contains(&count), "{non_repeaters}, {max_repetitions}: {count}");
    }
}

#[test]
fn a_walk_stays_on_its_snapshot_and_the_next_one_is_fresh() {
    let mut bed = bed();
    let generation = |generation: u64| {
        let mut snapshot = sample::snapshot(&Ids { base: generation * 1_000_000, ..ids(190) });
        snapshot.generation = generation;
        Arc::new(Columns::new(View::new(Arc::new(snapshot))))
    };
    let mut column = LBSTATS_ROOTS[0].to_vec();
    column.extend([4, 1, 8]);
    let mut oid = column.clone();
    bed.columns = generation(1);
    let older = Arc::downgrade(&bed.columns);
    for number in 2..20 {
        let told = bed.ask(1, get_bulk(0, 10, std::slice::from_ref(&oid)));
        let model = bulk_of(
            &Bed { columns: older.upgrade().unwrap(), ..bed_with(&ids(1), Subtrees::all(), 1472) }
                .model(&[Oid::default()], true),
            0,
            10,
            &[oid],
        );
        assert_eq!(told.varbinds, model);
        // A manager that repeats a request, or was given more than it could use.
        assert_eq!(bed.ask(1, get_bulk(0, 3, &[model[4].0.clone()])).varbinds, model[5..8]);
        oid = told.varbinds.last().unwrap().0.clone();
        bed.columns = generation(number);
        bed.now += Duration::from_secs(1);
    }
    let fresh = bed.ask(1, get_bulk(0, 10, &[column]));
    let current = bed.model(&[Oid::default()], true);
    assert!(fresh.varbinds.iter().all(|(oid, value)| current[oid] == *value));
    // Nobody goes on for too long: nothing is kept any more.
    bed.now += Duration::from_secs(6);
    bed.ask(1, get_bulk(0, 1, &[vec![1, 3]]));
    assert!(older.upgrade().is_none());
}

#[test]
fn few_snapshots_are_kept_however_many_walks_there_are() {
    let mut bed = bed();
    let mut kept = Vec::new();
    for number in 1..200 {
        let mut snapshot = sample::snapshot(&ids(200));
        snapshot.generation = number;
        bed.columns = Arc::new(Columns::new(View::new(Arc::new(snapshot))));
        kept.push(Arc::downgrade(&bed.columns));
        let mut oid = LBSTATS_ROOTS[0].to_vec();
        oid.extend([4, 1, 1 + u32::try_from(number % 27).unwrap()]);
        bed.ask(1, get_bulk(0, 10, &[oid]));
        bed.now += Duration::from_millis(10);
    }
    let alive = kept.iter().filter(|columns| columns.upgrade().is_some()).count();
    assert!(alive <= 4, "{alive} are kept");
}

#[test]
fn hostile_datagrams_are_counted_by_their_kind() {
    let good = encode(1, COMMUNITY, get(&[vec![1, 3, 6, 1, 2, 1, 1, 3, 0]]));
    let mut bed = bed_with(&ids(3), Subtrees::all(), 1472);
    let change = |at: usize, octet: u8| {
        let mut octets = good.clone();
        octets[at] = octet;
        octets
    };
    let trailing = [&good[..], &[0]].concat();
    let indefinite = [&[0x30, 0x80][..], &good[2..], &[0, 0]].concat();
    let parse_errors: Vec<Vec<u8>> = vec![
        vec![],
        vec![0x30],
        trailing,
        indefinite,
        change(1, good[1] + 1),
        change(1, good[1] - 1),
        change(2, 4),
        change(6, 0x30),
        change(13, 0xa9),
        change(13, 0xa4 ^ 0x20),
        good[..good.len() - 1].to_vec(),
    ];
    let number = parse_errors.len() as u64;
    for datagram in &parse_errors {
        assert_eq!(bed.raw(datagram), None, "{datagram:x?}");
    }
    assert_eq!(bed.counter(|counters| &counters.in_parse_errors), number);
    for version in [2, 4, -1, i32::MAX] {
        assert_eq!(bed.raw(&encode(version, COMMUNITY, get(&[]))), None);
    }
    assert_eq!(bed.counter(|counters| &counters.in_bad_versions), 4);
    for community in ["", "Public", "publi", "public\0"] {
        assert_eq!(bed.raw(&encode(1, community, get(&[]))), None);
    }
    assert_eq!(bed.counter(|counters| &counters.in_bad_community_names), 4);
    // A response, a report, a trap and an inform are no requests, and no errors of decoding either; in version 1 all but
    // the first are.
    let pdu = || pdu(&[]);
    for data in [
        Pdus::Response(rasn_snmp::v2::Response(pdu())),
        Pdus::Report(rasn_snmp::v2::Report(pdu())),
        Pdus::Trap(rasn_snmp::v2::Trap(pdu())),
        Pdus::InformRequest(rasn_snmp::v2::InformRequest(pdu())),
    ] {
        assert_eq!(bed.raw(&encode(1, COMMUNITY, data)), None);
    }
    assert_eq!(bed.counter(|counters| &counters.in_parse_errors), number);
    assert_eq!(bed.raw(&encode(0, COMMUNITY, get_bulk(0, 1, &[]))), None);
    assert_eq!(bed.counter(|counters| &counters.in_parse_errors), number + 1);
    assert!(bed.raw(&good).is_some());
    assert_eq!(bed.counter(|counters| &counters.in_packets), number + 4 + 4 + 4 + 2);
    assert_eq!(bed.counter(|counters| &counters.out_packets), 1);
}

/// What net-snmp's tools sent, and what nobody should, by name.
fn packets() -> BTreeMap<String, Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/snmp_agent");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    let named = files.filter(|file| file.file_name().len() < 40);
    named.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

#[test]
fn what_the_tools_send_is_read_as_rasn_reads_it() {
    let mut names = Vec::new();
    for (packet, octets) in packets().into_iter().filter(|(packet, _)| !packet.starts_with("hostile")) {
        let Ok(message) = rasn::ber::decode::<Message<Pdus>>(&octets) else {
            assert!(packet.starts_with("v3"), "{packet}");
            continue;
        };
        let version1 = message.version == 0.into();
        let theirs = match message.data {
            Pdus::GetRequest(GetRequest(pdu)) | Pdus::GetNextRequest(GetNextRequest(pdu)) => pdu.variable_bindings,
            Pdus::SetRequest(SetRequest(pdu)) => pdu.variable_bindings,
            Pdus::GetBulkRequest(GetBulkRequest(pdu)) => pdu.variable_bindings,
            _ => continue,
        };
        let mut message = Reader::new(&octets).element(tag::SEQUENCE).unwrap();
        message.integer().unwrap();
        message.string().unwrap();
        let request = request::Request::read(&mut message, version1, &mut names).unwrap();
        let ours = names[..request.count].iter().map(|name| name.to_vec());
        assert!(ours.eq(theirs.iter().map(|varbind| varbind.name.to_vec())), "{packet}");
    }
}

proptest! {
    #[test]
    fn what_the_tools_send_may_be_mangled(pick: prop::sample::Index, flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..5)) {
        let packets: Vec<Vec<u8>> = packets().into_values().collect();
        let mut octets = packets[pick.index(packets.len())].clone();
        for (at, octet) in flips {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        let mut bed = bed_with(&ids(3), Subtrees::all(), 1472);
        if let Some(answer) = bed.raw(&octets) {
            prop_assert!(answer.len() <= 1472 && rasn::ber::decode::<Message<Pdus>>(&answer).is_ok());
        }
    }
}

#[test]
fn a_request_that_is_too_big_to_echo_is_dropped_in_version_1() {
    let oids = vec![vec![1, 3, 6, 1, 2, 1, 1, 1, 0]; 20];
    let mut bed = bed_with(&ids(3), Subtrees::all(), 100);
    assert_eq!(bed.raw(&encode(0, COMMUNITY, get(&oids))), None);
    assert_eq!(bed.counter(|counters| &counters.silent_drops), 1);
    assert_eq!(bed.ask(1, get(&oids)), Told { status: 1, index: 0, varbinds: Vec::new() });
    assert_eq!(bed.counter(|counters| &counters.out_too_bigs), 1);
}
