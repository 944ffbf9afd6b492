//! What snmpd sends to `pass_persist`: every answer is whole lines, and getnext goes up.
#![no_main]

use std::sync::LazyLock;

use lbstats::Oid;
use libfuzzer_sys::fuzz_target;
use snmp_export::{View, Walks, pass_persist};

mod frontends;

static VIEW: LazyLock<View> = LazyLock::new(|| frontends::view([2, 9, 10, 2_147_483_647], b"line\r\nfeed\0"));

fuzz_target!(|octets: &[u8]| {
    let mut answers = Vec::new();
    pass_persist::serve(octets, &mut answers, Walks::default(), || VIEW.clone()).expect("memory is read and written");
    let text = String::from_utf8(answers).expect("nothing here is not UTF-8");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !matches!(line, "PONG" | "NONE" | "not-writable") {
            let oid: Oid = line.parse().expect("what is no word is an OID");
            assert!(VIEW.get(&oid).is_some(), "{oid}");
            assert!(matches!(lines.next(), Some("integer" | "counter" | "counter64" | "gauge" | "string")));
            assert!(lines.next().is_some(), "a value follows its type");
        }
    }

    // The same octets as one getnext.
    if let Ok(oid) = String::from_utf8_lossy(octets).parse::<Oid>() {
        let mut found = Oid::default();
        if VIEW.next(&oid, &mut found).is_some() {
            assert!(found > oid);
        }
    }
});
