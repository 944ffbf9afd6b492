//! Against rasn, and against what X.690 and RFC 3417 say.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use rasn::types::{Integer, ObjectIdentifier, OctetString};
use rasn_snmp::v2::{Pdus, VarBindValue};
use rasn_snmp::v2c::Message;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn read_oid(octets: &[u8]) -> Result<Oid, BerError> {
    let mut oid = Oid::default();
    Reader::new(octets).oid(&mut oid).map(|()| oid)
}

/// The second arc is one that rasn takes below 2: it wants both in one number of 32 bits.
fn arcs() -> impl Strategy<Value = Vec<u32>> {
    let arc = || prop_oneof![0_u32..300, any::<u32>(), Just(u32::MAX), (0_u32..32).prop_map(|bit| 1 << bit)];
    let top = prop_oneof![(0_u32..2, 0_u32..40), (Just(2), arc().prop_map(|arc| arc.min(u32::MAX - 80)))];
    (top, vec(arc(), 0..=126)).prop_map(|((first, second), rest)| [vec![first, second], rest].concat())
}

proptest! {
    #[test]
    fn numbers_and_strings_are_those_of_rasn(signed: i32, number: u64, shift in 0_u32..64, text in vec(any::<u8>(), 0..400)) {
        let signed = signed >> (shift % 32);
        let octets = written(|out| push_integer(out, signed));
        prop_assert_eq!(&octets, &rasn::ber::encode(&Integer::from(signed)).unwrap());
        prop_assert_eq!(Reader::new(&octets).integer(), Ok(signed));

        let number = number >> shift;
        let octets = written(|out| push_unsigned(out, tag::INTEGER, number));
        prop_assert_eq!(&octets, &rasn::ber::encode(&Integer::from(number)).unwrap());
        prop_assert_eq!(Reader::new(&octets).unsigned(tag::INTEGER).ok(), u32::try_from(number).ok());

        let octets = written(|out| push_string(out, tag::OCTET_STRING, &text));
        prop_assert_eq!(&octets, &rasn::ber::encode(&OctetString::from(text.clone())).unwrap());
        prop_assert_eq!(octets.len(), size(text.len()));
        prop_assert_eq!(Reader::new(&octets).string(), Ok(&text[..]));
    }

    #[test]
    fn identifiers_are_those_of_rasn(arcs in arcs()) {
        let octets = written(|out| push_oid(out, &arcs));
        prop_assert_eq!(&octets, &rasn::ber::encode(&ObjectIdentifier::new(arcs.clone()).unwrap()).unwrap());
        let read = read_oid(&octets);
        prop_assert_eq!(read.as_deref(), Ok(&arcs[..]));
    }

    #[test]
    fn any_octets_are_read_as_rasn_reads_them_or_refused(octets in vec(prop_oneof![any::<u8>(), 0_u8..8, Just(0x80)], 0..12)) {
        // What is read here, rasn reads too, and the same; the reader refuses more.
        if let Ok(number) = Reader::new(&octets).integer() {
            prop_assert_eq!(rasn::ber::decode::<Integer>(&octets).ok(), Some(Integer::from(number)));
        }
        if let Ok(text) = Reader::new(&octets).string() {
            let theirs = rasn::ber::decode::<OctetString>(&octets).ok();
            prop_assert_eq!(theirs.as_deref(), Some(text));
        }
        if let Ok(oid) = read_oid(&octets) {
            let theirs = rasn::ber::decode::<ObjectIdentifier>(&octets).ok();
            prop_assert_eq!(theirs.map(|oid| oid.to_vec()), Some(oid.to_vec()));
        }
    }

    #[test]
    fn the_contents_stay_within_the_element(octets in vec(any::<u8>(), 0..40)) {
        let mut reader = Reader::new(&octets);
        let before = reader.range();
        match reader.any() {
            Ok((found, inner)) => {
                prop_assert_eq!(found, octets[0]);
                prop_assert!(before.start < inner.range().start && inner.range().end == reader.range().start);
                prop_assert_eq!(inner.rest(), &octets[inner.range()]);
            }
            Err(_) => prop_assert_eq!(reader.range(), before),
        }
    }

    #[test]
    fn a_message_is_read_by_rasn(id: i32, community in vec(any::<u8>(), 0..300), oids in vec(arcs(), 0..5), number: u64) {
        let octets = written(|out| {
            let message = begin(out, tag::SEQUENCE);
            push_integer(out, 1);
            push_string(out, tag::OCTET_STRING, &community);
            let pdu = begin(out, tag::RESPONSE);
            push_integer(out, id);
            push_integer(out, 0);
            push_integer(out, 0);
            let varbinds = begin(out, tag::SEQUENCE);
            for oid in &oids {
                push_varbind(out, oid, Value::Counter64(number));
                push_varbind(out, oid, Value::OctetString(&community));
                push_varbind(out, oid, Value::ObjectIdentifier(oid));
                push_varbind(out, oid, Value::TimeTicks(7));
                push_varbind_empty(out, oid, tag::END_OF_MIB_VIEW);
            }
            end(out, varbinds);
            end(out, pdu);
            end(out, message);
        });
        let message: Message<Pdus> = rasn::ber::decode(&octets).unwrap();
        prop_assert_eq!(&message.community[..], &community[..]);
        let Pdus::Response(response) = &message.data else { panic!("{message:?}") };
        prop_assert_eq!(response.0.request_id, id);
        prop_assert_eq!(response.0.variable_bindings.len(), 5 * oids.len());
        for (varbinds, oid) in response.0.variable_bindings.chunks(5).zip(&oids) {
            prop_assert_eq!(&varbinds[0].name[..], &oid[..]);
            prop_assert!(varbinds[..4].iter().all(|varbind| matches!(varbind.value, VarBindValue::Value(_))));
            prop_assert_eq!(&varbinds[4].value, &VarBindValue::EndOfMibView);
        }
        prop_assert_eq!(&octets, &rasn::ber::encode(&message).unwrap());
    }
}

#[test]
fn what_snmp_forbids_is_refused() {
    let any = |octets: &'static [u8]| Reader::new(octets).any().map(|(tag, inner)| (tag, inner.rest()));
    assert_eq!(any(&[0x30, 0x80, 0, 0]), Err(BerError::Length), "indefinite");
    assert_eq!(any(&[0x30, 0x85, 0, 0, 0, 0, 0]), Err(BerError::Length), "five octets of length");
    assert_eq!(any(&[0x30, 0xff]), Err(BerError::Length), "reserved");
    assert_eq!(any(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), Err(BerError::Truncated));
    assert_eq!(any(&[0x30, 0x82, 0]), Err(BerError::Truncated));
    assert_eq!(any(&[0x3f, 0x81, 0x01, 0]), Err(BerError::LongTag));
    assert_eq!(any(&[0x04, 0x82, 0, 1, 7]), Ok((4, &[7][..])), "a longer length than need be");
    for octets in [&[0x30][..], &[], &[0x04, 2, 0]] {
        assert_eq!(Reader::new(octets).any().err(), Some(BerError::Truncated), "{octets:?}");
    }

    let integer = |octets: &[u8]| Reader::new(octets).integer();
    assert_eq!(integer(&[2, 0]), Err(BerError::Integer));
    assert_eq!(integer(&[2, 4, 0, 0, 0, 9]), Ok(9), "as gosnmp writes a request id");
    assert_eq!(integer(&[2, 5, 0, 0x80, 0, 0, 0]), Err(BerError::Integer), "2^31");
    assert_eq!(integer(&[2, 4, 0x80, 0, 0, 0]), Ok(i32::MIN));
    assert_eq!(integer(&[2, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1]), Err(BerError::Integer));
    assert_eq!(integer(&[4, 1, 0]), Err(BerError::Tag { expected: 2, found: 4 }));
    assert_eq!(Reader::new(&[0x43, 5, 0, 0xff, 0xff, 0xff, 0xff]).unsigned(tag::TIME_TICKS), Ok(u32::MAX));
    assert_eq!(Reader::new(&[0x43, 1, 0xff]).unsigned(tag::TIME_TICKS), Err(BerError::Integer));

    for octets in [&[6, 0][..], &[6, 1, 0x80], &[6, 2, 0x2b, 0x86], &[6, 3, 0x2b, 0x80, 1]] {
        assert_eq!(read_oid(octets), Err(BerError::Oid), "{octets:x?}");
    }
    assert_eq!(read_oid(&[6, 6, 0x2b, 0x90, 0x80, 0x80, 0x80, 0]), Err(BerError::Oid), "an arc of 2^32");
    assert_eq!(read_oid(&[6, 6, 0x2b, 0x8f, 0xff, 0xff, 0xff, 0x7f]).as_deref(), Ok(&[1, 3, u32::MAX][..]));
    let many = |arcs: usize| [&[6, 0x81, octet(arcs - 1), 0x2b][..], &vec![1; arcs - 2]].concat();
    assert_eq!(read_oid(&many(128)).map(|oid| oid.len()), Ok(128));
    assert_eq!(read_oid(&many(129)), Err(BerError::Oid));

    assert_eq!(Reader::new(&[5, 1, 0]).null(), Err(BerError::Null));
    let mut reader = Reader::new(&[5, 0, 0]);
    assert_eq!(reader.null(), Ok(()));
    assert_eq!(reader.finish(), Err(BerError::Trailing));
}

#[test]
fn positions_are_those_in_the_datagram() {
    let octets = [0x30, 7, 2, 1, 3, 4, 2, 0xaa, 0xbb];
    let mut message = Reader::new(&octets).element(tag::SEQUENCE).unwrap();
    assert_eq!(message.integer(), Ok(3));
    let text = message.element(tag::OCTET_STRING).unwrap();
    assert_eq!((text.range(), text.rest()), (7..9, &[0xaa, 0xbb][..]));
    assert_eq!(message.finish(), Ok(()));
}

#[test]
fn identifiers_that_have_no_encoding_get_one() {
    assert_eq!(written(|out| push_oid(out, &[])), [6, 1, 0]);
    assert_eq!(written(|out| push_oid(out, &[1])), [6, 1, 40]);
    assert_eq!(read_oid(&written(|out| push_oid(out, &[7, u32::MAX]))).as_deref(), Ok(&[2, u32::MAX][..]));
}
