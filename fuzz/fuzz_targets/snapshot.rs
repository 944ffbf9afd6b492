//! A snapshot from the control socket: what is taken is sound, goes there and back, and can be walked.
#![no_main]

use std::sync::{Arc, LazyLock};

use lbstats::{Oid, Snapshot};
use libfuzzer_sys::fuzz_target;
use snmp_export::View;

/// The varint with which every snapshot of this version begins.
static VERSION: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let octets = Snapshot::empty().encode();
    let end = octets.iter().position(|octet| octet & 0x80 == 0).expect("a varint ends");
    octets[..=end].to_vec()
});

fuzz_target!(|octets: &[u8]| {
    let _ = Snapshot::decode(octets);
    let Ok(snapshot) = Snapshot::decode(&[&VERSION, octets].concat()) else { return };
    assert_eq!(Snapshot::decode(&snapshot.encode()).as_ref(), Ok(&snapshot));
    let view = View::new(Arc::new(snapshot));
    let (mut oid, mut next) = (Oid::default(), Oid::default());
    while view.next(&oid, &mut next).is_some() {
        assert!(next > oid);
        std::mem::swap(&mut oid, &mut next);
    }
});
