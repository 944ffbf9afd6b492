//! The numeric form of an OID: what is read prints to something that reads the same.
#![no_main]

use lbstats::Oid;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(oid) = text.parse::<Oid>() {
        assert_eq!(oid.to_string().parse::<Oid>().as_ref(), Ok(&oid));
        assert!(oid.len() <= 128);
    }
});
