//! Encoding and decoding, both byte orders, any octets.

use lbstats::Oid;
use proptest::collection::vec;
use proptest::prelude::*;

use super::peer::{self, Asked, Bound, Content, Fields, Octets, Range};
use crate::agentx::pdu::HEADER;
use crate::agentx::{Data, Header, Malformed, Message, Pdu};

fn arcs() -> impl Strategy<Value = Vec<u32>> {
    let anything = vec(any::<u32>(), 0..=128);
    let internet =
        (0_u32..300, vec(any::<u32>(), 0..=20)).prop_map(|(first, rest)| [&[1, 3, 6, 1, first], &rest[..]].concat());
    prop_oneof![anything, internet, Just(vec![])]
}

fn bound() -> impl Strategy<Value = Bound> {
    let number = prop_oneof![Just(2_u16), 65_u16..=67]
        .prop_flat_map(|kind| any::<u32>().prop_map(move |number| (kind, Content::Number(number.into()))));
    let octets = prop_oneof![Just(4_u16), Just(68)]
        .prop_flat_map(|kind| vec(any::<u8>(), 0..40).prop_map(move |octets| (kind, Content::Octets(octets))));
    let data = prop_oneof![
        number,
        octets,
        any::<u64>().prop_map(|number| (70, Content::Number(number))),
        any::<[u8; 4]>().prop_map(|octets| (64, Content::Octets(octets.to_vec()))),
        arcs().prop_map(|arcs| (6, Content::Arcs(arcs))),
        prop_oneof![Just(5_u16), 128_u16..=130].prop_map(|kind| (kind, Content::Nothing)),
    ];
    (arcs(), data).prop_map(|(name, (kind, content))| (name, kind, content))
}

fn range() -> impl Strategy<Value = Range> {
    (arcs(), any::<bool>(), arcs())
}

/// A PDU of any kind, as the peer encodes it: kind, context, payload in front of the lists, ranges, variable bindings.
fn pdu() -> impl Strategy<Value = Vec<u8>> {
    let (octets, context) = (vec(any::<u8>(), 0..20), prop::option::of(vec(any::<u8>(), 0..9)));
    let lists = (vec(range(), 0..5), vec(bound(), 0..5));
    (1_u8..=18, any::<bool>(), context, any::<[u32; 3]>(), arcs(), octets, lists).prop_map(
        |(kind, big, context, numbers, oid, octets, (ranges, varbinds))| {
            let mut payload = Octets { octets: Vec::new(), big };
            let context = context.filter(|_| !matches!(kind, 1 | 2 | 9 | 10 | 11 | 18));
            if let Some(context) = &context {
                payload.string(context);
            }
            let head: &[u8] = &numbers[0].to_be_bytes();
            match kind {
                1 | 2 => payload.octets.extend([head[0], 0, 0, 0]),
                3 | 4 => payload.octets.extend([if kind == 3 { head[0] } else { 0 }, head[1], head[2] % 2, 0]),
                7 => [1, 2].into_iter().for_each(|_| payload.u16(7)),
                18 => [numbers[1], numbers[2]].into_iter().for_each(|number| payload.u32(number)),
                _ => {}
            }
            match kind {
                1 | 16 => {
                    payload.oid(&oid, false, true);
                    payload.string(&octets);
                }
                3 | 4 => {
                    payload.oid(&oid, false, true);
                    if head[2] % 2 == 1 {
                        payload.u32(numbers[1]);
                    }
                }
                17 => payload.oid(&oid, false, true),
                5..=7 => ranges.iter().for_each(|(start, include, end)| {
                    payload.oid(start, *include, true);
                    payload.oid(end, false, true);
                }),
                8 | 12 | 14 | 15 | 18 => varbinds.iter().for_each(|bound| payload.varbind(bound)),
                _ => {}
            }
            let flags = if context.is_some() { 0x08 } else { 0 };
            peer::pdu(big, kind, flags, numbers, &payload.octets)
        },
    )
}

fn decode(pdu: &[u8]) -> Result<Message<'_>, Malformed> {
    let (header, length) = Header::decode(pdu.first_chunk().unwrap());
    assert_eq!(length as usize, pdu.len() - HEADER);
    Message::decode(header, &pdu[HEADER..])
}

fn content(data: &Data<'_>) -> Content {
    match data {
        Data::Integer(number) => Content::Number(number.cast_unsigned().into()),
        Data::Counter32(number) | Data::Gauge32(number) | Data::TimeTicks(number) => Content::Number((*number).into()),
        Data::Counter64(number) => Content::Number(*number),
        Data::OctetString(octets) | Data::Opaque(octets) => Content::Octets(octets.to_vec()),
        Data::IpAddress(octets) => Content::Octets(octets.to_vec()),
        Data::ObjectIdentifier(arcs) => Content::Arcs(arcs.to_vec()),
        Data::Null | Data::NoSuchObject | Data::NoSuchInstance | Data::EndOfMibView => Content::Nothing,
    }
}

proptest! {
    #[test]
    fn what_is_decoded_encodes_to_the_same_octets(pdu in pdu()) {
        let message = decode(&pdu).unwrap();
        let mut again = Vec::new();
        message.encode(&mut again).unwrap();
        // The peer has written prefixes wherever there is one, but for the values of object identifiers.
        if message.pdu.kind() < 8 {
            prop_assert_eq!(again.escape_ascii().to_string(), pdu.escape_ascii().to_string());
        }
        let mut third = Vec::new();
        decode(&again).unwrap().encode(&mut third).unwrap();
        prop_assert_eq!(third, again);
    }

    #[test]
    fn either_byte_order_says_the_same(ranges in vec(range(), 0..5), varbinds in vec(bound(), 0..5)) {
        for (kind, big) in [(6, true), (6, false), (8, true), (8, false)] {
            let mut asked = Asked::new(kind, if kind == 6 { ranges.clone() } else { vec![] });
            asked.varbinds = if kind == 8 { varbinds.clone() } else { vec![] };
            asked.big = big;
            let pdu = asked.encode();
            let (mut name, mut end) = (Oid::default(), Oid::default());
            match decode(&pdu).unwrap().pdu {
                Pdu::GetNext(mut list) => {
                    for (start, include, stop) in &ranges {
                        prop_assert_eq!(list.next(&mut name, &mut end), Ok(Some(*include)));
                        prop_assert_eq!((&*name, &*end), (&start[..], &stop[..]));
                    }
                    prop_assert_eq!(list.next(&mut name, &mut end), Ok(None));
                }
                Pdu::TestSet(mut list) => {
                    for (bound_name, _, expected) in &varbinds {
                        let data = list.next(&mut name).unwrap().unwrap();
                        prop_assert_eq!((&*name, &content(&data)), (&bound_name[..], expected));
                    }
                    prop_assert_eq!(list.next(&mut name), Ok(None));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_is_encoded_is_what_the_peer_reads(varbinds in vec(bound(), 0..5), big: bool) {
        let mut asked = Asked::new(8, vec![]);
        (asked.varbinds, asked.big) = (varbinds.clone(), big);
        let mut again = Vec::new();
        decode(&asked.encode()).unwrap().encode(&mut again).unwrap();
        let (header, rest) = peer::header(&again);
        prop_assert!(header.kind == 8 && header.big == big && rest.is_empty());
        let mut fields = Fields { octets: &again[HEADER..], big };
        for bound in &varbinds {
            prop_assert_eq!(&fields.varbind(), bound);
        }
        prop_assert!(fields.octets.is_empty());
    }

    #[test]
    fn any_octets_are_decoded_or_refused(pdu in pdu(), cut: prop::sample::Index, changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        let mut octets = pdu;
        for (place, octet) in changes {
            let place = place.index(octets.len());
            octets[place] = octet;
        }
        octets.truncate(cut.index(octets.len() + 1));
        let Some((header, payload)) = octets.split_first_chunk::<HEADER>() else { return Ok(()) };
        let (header, _) = Header::decode(header);
        if let Ok(message) = Message::decode(header, payload) {
            let mut again = Vec::new();
            if message.encode(&mut again).is_ok() {
                decode(&again).unwrap();
            }
        }
    }
}

#[test]
fn identifiers_are_bounded() {
    let mut longest = Octets { octets: Vec::new(), big: false };
    longest.oid(&[7; 128], false, false);
    let read = |oid: &[u8]| match decode(&peer::pdu(false, 17, 0, [0; 3], oid)) {
        Ok(Message { pdu: Pdu::RemoveAgentCaps(oid), .. }) => Ok(oid.to_vec()),
        other => Err(other.map(|_| ()).unwrap_err()),
    };
    assert_eq!(read(&longest.octets), Ok(vec![7; 128]));
    let mut longer = longest.octets.clone();
    longer[1] = 4;
    assert_eq!(read(&longer), Err(Malformed::LongOid));
    longer[0] = 255;
    assert_eq!(read(&longer), Err(Malformed::LongOid));
    assert_eq!(read(&longest.octets[..8]), Err(Malformed::Cut));
    assert_eq!(read(&[0, 2, 0, 0]), Ok(vec![1, 3, 6, 1, 2]));
}

#[test]
fn what_is_wrong_has_its_name() {
    let of = |kind: u8, payload: &[u8]| decode(&peer::pdu(true, kind, 0, [0; 3], payload)).map(|_| ()).unwrap_err();
    assert_eq!(of(13, &[0; 4]), Malformed::Trailing);
    assert_eq!(of(2, &[1]), Malformed::Unaligned);
    assert_eq!(of(2, &[]), Malformed::Cut);
    assert_eq!(of(0, &[]), Malformed::Kind(0));
    assert_eq!(of(19, &[]), Malformed::Kind(19));
    let set = |varbind: &[u8]| {
        let pdu = peer::pdu(true, 8, 0, [0; 3], varbind);
        let Ok(Message { pdu: Pdu::TestSet(mut list), .. }) = decode(&pdu) else { panic!("a TestSet") };
        list.next(&mut Oid::default()).map(|_| ()).unwrap_err()
    };
    assert_eq!(set(&[0, 1, 0, 0, 0, 0, 0, 0]), Malformed::Type(1));
    assert_eq!(set(&[0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 0]), Malformed::IpAddress);
    assert_eq!(set(&[0, 4, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]), Malformed::Cut);
}

/// What snmpd sent, PDU by PDU: the corpus of the fuzz target.
fn recorded() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/agentx");
    let mut pdus = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let octets = std::fs::read(file.unwrap().path()).unwrap();
        let mut rest = &octets[..];
        while !rest.is_empty() {
            let (_, behind) = peer::header(rest);
            pdus.push(rest[..rest.len() - behind.len()].to_vec());
            rest = behind;
        }
    }
    pdus
}

#[test]
fn what_snmpd_sends_is_understood_to_the_octet() {
    let pdus = recorded();
    assert!(pdus.len() > 40, "{} PDUs", pdus.len());
    for pdu in pdus {
        let mut again = Vec::new();
        decode(&pdu).unwrap().encode(&mut again).unwrap();
        let understood = decode(&again).unwrap();
        assert_eq!(understood.header, decode(&pdu).unwrap().header);
        // snmpd leaves some prefixes out; the same arcs are then longer.
        assert!(again.len() <= pdu.len(), "{} became {}", pdu.escape_ascii(), again.escape_ascii());
    }
}

proptest! {
    #[test]
    fn what_snmpd_sends_may_be_garbled(pick: prop::sample::Index, changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut: prop::sample::Index) {
        let pdus = recorded();
        let mut pdu = pdus[pick.index(pdus.len())].clone();
        for (place, octet) in changes {
            let place = place.index(pdu.len());
            pdu[place] = octet;
        }
        pdu.truncate(HEADER.max(cut.index(pdu.len() + 1)));
        let mut pair = super::Pair::open(super::some_rows());
        let newest = pair.newest.clone();
        let mut out = Vec::new();
        let _ = pair.session.receive(&pdu, pair.now, &mut || newest.clone(), &mut out);
        while !out.is_empty() {
            out = peer::header(&out).1.to_vec();
        }
    }
}
