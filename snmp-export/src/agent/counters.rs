//! What the agent counts, as the `snmp` group shows it (RFC 3418, and RFC 1213 for those it made obsolete).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of all workers together. On the wire they are Counter32: modulo 2^32.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages delivered to the agent: snmpInPkts.
    pub in_packets: AtomicU64,
    /// Messages sent: snmpOutPkts.
    pub out_packets: AtomicU64,
    /// Messages of a version that is not served: snmpInBadVersions.
    pub in_bad_versions: AtomicU64,
    /// Messages with an unknown community: snmpInBadCommunityNames.
    pub in_bad_community_names: AtomicU64,
    /// Messages whose community does not allow what they ask for: snmpInBadCommunityUses.
    pub in_bad_community_uses: AtomicU64,
    /// Messages that could not be decoded: snmpInASNParseErrs.
    pub in_parse_errors: AtomicU64,
    /// Values sent for Get and GetNext: snmpInTotalReqVars.
    pub in_request_variables: AtomicU64,
    /// Get requests taken: snmpInGetRequests.
    pub in_gets: AtomicU64,
    /// GetNext requests taken: snmpInGetNexts.
    pub in_get_nexts: AtomicU64,
    /// Set requests taken: snmpInSetRequests.
    pub in_sets: AtomicU64,
    /// Responses with tooBig: snmpOutTooBigs.
    pub out_too_bigs: AtomicU64,
    /// Responses with noSuchName: snmpOutNoSuchNames.
    pub out_no_such_names: AtomicU64,
    /// Responses: snmpOutGetResponses.
    pub out_responses: AtomicU64,
    /// Requests dropped because not even an empty response would have fitted: snmpSilentDrops.
    pub silent_drops: AtomicU64,
}

type CounterOf = fn(&Counters) -> &AtomicU64;

/// Arc below 1.3.6.1.2.1.11, and the counter that stands there.
pub(super) const SNMP_GROUP: [(u32, CounterOf); 14] = [
    (1, |counters| &counters.in_packets),
    (2, |counters| &counters.out_packets),
    (3, |counters| &counters.in_bad_versions),
    (4, |counters| &counters.in_bad_community_names),
    (5, |counters| &counters.in_bad_community_uses),
    (6, |counters| &counters.in_parse_errors),
    (13, |counters| &counters.in_request_variables),
    (15, |counters| &counters.in_gets),
    (16, |counters| &counters.in_get_nexts),
    (17, |counters| &counters.in_sets),
    (20, |counters| &counters.out_too_bigs),
    (21, |counters| &counters.out_no_such_names),
    (28, |counters| &counters.out_responses),
    (31, |counters| &counters.silent_drops),
];

/// Counts one more.
pub(crate) fn tally(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// A counter as SNMP shows it.
pub(crate) fn counter32(counter: &AtomicU64) -> lbstats::Value<'static> {
    lbstats::Value::Counter32(u32::try_from(counter.load(Relaxed) & 0xffff_ffff).unwrap_or_default())
}
