//! What HAProxy prints on its stats socket: read or refused, whole and as each of its three responses.
#![no_main]

use lbstatd::haproxy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let _ = haproxy::parse(octets);
    let _ = haproxy::parse_info(octets);
    let _ = haproxy::parse_with_servers(octets);
    if let Ok((_, rest)) = haproxy::parse_servers(octets) {
        assert!(octets.ends_with(rest));
    }
    if let Ok((stat, rest)) = haproxy::parse_stat(octets) {
        assert!(octets.ends_with(rest));
        for table in [&stat.frontends, &stat.backends, &stat.servers] {
            for row in 1..table.len() {
                assert!(table.index(row - 1).lt(table.index(row)), "rows ascend");
            }
        }
    }
});
