//! The kernel's listeners, named by what HAProxy says it listens on.
//!
//! A listener has a row if HAProxy names its address or if its socket belongs to HAProxy. Where two frontends share an
//! address the kernel spreads connections over both, and nobody can tell whose they are: the row has no name then.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lbstats::schema::LISTENER;
use lbstats::{Field, Table, TableBuilder};

use super::histograms::Histograms;
use super::windows::{Peaks, Recent};
use crate::haproxy::Listen;
use crate::kernel::Listener;

/// The windows over which the peaks of the queues are shown.
const WINDOWS: [Duration; 3] = [Duration::from_secs(10), MINUTE, LONGEST];
const LONGEST: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);

/// Listeners that are not in a sample, of which the windows are kept nevertheless.
const MAX_ABSENT: usize = 1024;

/// A network namespace and an address in it.
pub(super) type Key = (u32, SocketAddr);

/// What is kept of the listeners from one sample to the next.
#[derive(Default)]
pub(super) struct Listeners(HashMap<Key, Kept>);

/// What is kept of one listener.
#[derive(Default)]
struct Kept {
    /// When it was sampled last, and what it had accepted then.
    last: Option<(Duration, u64)>,
    backlog: Peaks,
    syn_backlog: Peaks,
    /// Connections accepted a second, from one sample to the next.
    rate: Peaks,
    /// Of the histograms, in order.
    recent: [Recent; 4],
}

/// What of a row comes from more than one sample.
struct Derived {
    /// By [`WINDOWS`].
    backlog_peaks: [u64; 3],
    syn_backlog_peaks: [u64; 3],
    accept_rate_peak: u64,
    histograms: Histograms<4>,
}

/// The frontend of each address.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    /// Empty where there is more than one.
    names: HashMap<(IpAddr, u16), &'a str>,
    /// Where HAProxy's own sockets listen.
    owned: HashSet<(IpAddr, u16)>,
}

impl Listeners {
    /// The rows of a sample, in order; `now` is the time since the daemon began.
    pub(super) fn join(&mut self, sample: &[Listener], names: &Names<'_>, now: Duration) -> Table {
        let mut before = std::mem::take(&mut self.0);
        let mut builder = TableBuilder::new(&LISTENER);
        for listener in sample {
            let name = names.of(listener);
            if !listener.owned && name.is_none() {
                continue;
            }
            let key = (listener.namespace, listener.address);
            let mut kept = before.remove(&key).unwrap_or_default();
            let derived = kept.add(listener, now);
            self.0.insert(key, kept);
            push(&mut builder, listener, name.unwrap_or_default(), &derived);
        }
        // One that is gone for a restart of HAProxy comes back with its peaks.
        let recent = |kept: &Kept| kept.last.is_some_and(|(then, _)| now.saturating_sub(then) <= LONGEST);
        self.0.extend(before.into_iter().filter(|(_, kept)| recent(kept)).take(MAX_ABSENT));
        builder.finish().0
    }
}

impl Kept {
    fn add(&mut self, listener: &Listener, now: Duration) -> Derived {
        self.backlog.add(now, backlog_peak(listener), LONGEST);
        self.syn_backlog.add(now, syn_backlog_peak(listener), LONGEST);
        if let Some((then, accepted)) = self.last {
            self.rate.add(
                now,
                per_second(listener.accepted.saturating_sub(accepted), now.saturating_sub(then)),
                MINUTE,
            );
        }
        self.last = Some((now, listener.accepted));
        let histograms = [
            ("handshake", Some(&listener.handshake)),
            ("rtt", Some(&listener.rtt)),
            ("lifetime", Some(&listener.lifetime)),
            ("accept_wait", listener.accept_wait.as_ref()),
        ];
        Derived {
            backlog_peaks: WINDOWS.map(|window| self.backlog.over(now, window)),
            syn_backlog_peaks: WINDOWS.map(|window| self.syn_backlog.over(now, window)),
            accept_rate_peak: self.rate.over(now, MINUTE),
            histograms: Histograms::take(histograms, &mut self.recent, now),
        }
    }
}

impl<'a> Names<'a> {
    /// The names that HAProxy gives, for the listeners of this sample.
    pub(super) fn new(listens: impl IntoIterator<Item = &'a Listen>, sample: &[Listener]) -> Self {
        let mut names = HashMap::new();
        for listen in listens {
            let name = names.entry(place(listen.address)).or_insert(&*listen.proxy);
            if *name != listen.proxy {
                *name = "";
            }
        }
        let owned = sample.iter().filter(|listener| listener.owned).map(|listener| place(listener.address)).collect();
        Self { names, owned }
    }

    /// The frontend of a listener; empty if there is more than one, none if HAProxy names none. In another network
    /// namespace, and where HAProxy's own socket with this address is known, somebody else's has no name.
    pub(super) fn of(&self, listener: &Listener) -> Option<&'a str> {
        let place = place(listener.address);
        let is_its = listener.owned || (listener.namespace == 0 && !self.owned.contains(&place));
        self.names.get(&place).copied().filter(|_| is_its)
    }

    /// Whether several frontends listen on the address.
    pub(super) fn is_shared(&self, address: SocketAddr) -> bool {
        self.names.get(&place(address)).is_some_and(|name| name.is_empty())
    }
}

/// What makes two addresses the same: HAProxy prints no scope and no flow label, and IPv4 may come mapped into IPv6.
pub(super) fn place(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

fn per_second(count: u64, time: Duration) -> u64 {
    let rate = u128::from(count) * 1_000_000 / time.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// The columns of an index that say which address it is: see [`LISTENER`].
pub(super) struct AddressColumns {
    kind: u64,
    octets: Vec<u8>,
    port: u64,
    text: String,
}

impl AddressColumns {
    pub(super) fn of(address: SocketAddr) -> Self {
        let (kind, octets) = match address {
            SocketAddr::V4(v4) => (1, v4.ip().octets().to_vec()),
            SocketAddr::V6(v6) if v6.scope_id() == 0 => (2, v6.ip().octets().to_vec()),
            // RFC 4001, ipv6z: with the zone index.
            SocketAddr::V6(v6) => (4, [&v6.ip().octets()[..], &v6.scope_id().to_be_bytes()].concat()),
        };
        Self { kind, octets, port: address.port().into(), text: address.to_string() }
    }

    /// The field of a column, if it is one of these.
    pub(super) fn field(&self, source: &str) -> Option<Field<'_>> {
        match source {
            "address_type" => Some(Field::Number(self.kind)),
            "address_octets" => Some(Field::Text(&self.octets)),
            "port" => Some(Field::Number(self.port)),
            "address" => Some(Field::Text(self.text.as_bytes())),
            _ => None,
        }
    }
}

fn push(builder: &mut TableBuilder, listener: &Listener, proxy: &str, derived: &Derived) {
    let address = AddressColumns::of(listener.address);
    let row = builder.push(|_, column| {
        if let Some(field) = address.field(column.source).or_else(|| derived.histograms.field(column.source)) {
            return field;
        }
        match column.source {
            "proxy" => Field::Text(proxy.as_bytes()),
            "synack_retransmits" => listener.synack_retransmits.map_or(Field::Absent, Field::Number),
            "overflows" => listener.overflows.map_or(Field::Absent, Field::Number),
            "accept_rate_peak" => Field::Number(derived.accept_rate_peak),
            "backlog_peak_10s" => Field::Number(derived.backlog_peaks[0]),
            "backlog_peak_1m" => Field::Number(derived.backlog_peaks[1]),
            "backlog_peak_5m" => Field::Number(derived.backlog_peaks[2]),
            "syn_backlog_peak_10s" => Field::Number(derived.syn_backlog_peaks[0]),
            "syn_backlog_peak_1m" => Field::Number(derived.syn_backlog_peaks[1]),
            "syn_backlog_peak_5m" => Field::Number(derived.syn_backlog_peaks[2]),
            source => Field::Number(number(listener, source)),
        }
    });
    row.expect("counters of the kernel and names of a bounded answer fit their columns");
}

/// The peak since the last sample: it cannot be below what is there now, even where the kernel tells none.
fn backlog_peak(listener: &Listener) -> u64 {
    listener.backlog_peak.max(listener.backlog)
}

fn syn_backlog_peak(listener: &Listener) -> u64 {
    listener.syn_backlog_peak.max(listener.syn_backlog)
}

fn number(listener: &Listener, source: &str) -> u64 {
    match source {
        "namespace" => listener.namespace.into(),
        "accepted" => listener.accepted,
        "open" => listener.open,
        "closed_by_peer" => listener.closed_by_peer,
        "closed_by_us" => listener.closed_by_us,
        "resets_received" => listener.resets_received,
        "resets_sent" => listener.resets_sent,
        "timed_out" => listener.timed_out,
        "bytes_received" => listener.bytes_received,
        "bytes_acked" => listener.bytes_acked,
        "segments_received" => listener.segments_received,
        "segments_sent" => listener.segments_sent,
        "retransmits" => listener.retransmits,
        "backlog" => listener.backlog,
        "backlog_limit" => listener.backlog_limit,
        "backlog_peak" => backlog_peak(listener),
        "syn_backlog" => listener.syn_backlog,
        "syn_backlog_peak" => syn_backlog_peak(listener),
        "drops" => listener.drops,
        "sockets" => listener.sockets.into(),
        other => unreachable!("the schema's column {other} of listeners has no value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str, owned: bool) -> Listener {
        let mut listener = Listener::new(0, address.parse().unwrap());
        listener.owned = owned;
        listener
    }

    fn listens(listens: &[(&str, &str)]) -> Vec<Listen> {
        let listen =
            |(proxy, address): &(&str, &str)| Listen { proxy: (*proxy).to_owned(), address: address.parse().unwrap() };
        listens.iter().map(listen).collect()
    }

    fn rows(sample: &[Listener], named: &[(&str, &str)]) -> Vec<String> {
        let listens = listens(named);
        let table = Listeners::default().join(sample, &Names::new(&listens, sample), Duration::ZERO);
        let text = |source, row| {
            String::from_utf8_lossy(table.text(LISTENER.place(source).unwrap(), row).unwrap()).into_owned()
        };
        (0..table.len()).map(|row| format!("{} {}", text("proxy", row), text("address", row))).collect()
    }

    #[test]
    fn a_row_for_what_haproxy_names_or_owns_and_for_nothing_else() {
        let sample = [listener("127.0.0.1:22", false), listener("127.0.0.1:80", false), listener("127.0.0.1:81", true)];
        let named = [("www", "127.0.0.1:80"), ("gone", "127.0.0.1:99")];
        assert_eq!(rows(&sample, &named), ["www 127.0.0.1:80", " 127.0.0.1:81"]);
        assert_eq!(rows(&sample, &[]), [" 127.0.0.1:81"]);
    }

    #[test]
    fn addresses_are_compared_as_the_kernel_means_them() {
        let sample = [listener("0.0.0.0:80", true), listener("[::]:80", true), listener("[fe80::1%2]:80", true)];
        let named = [("four", "0.0.0.0:80"), ("six", "[::]:80"), ("link", "[fe80::1]:80")];
        assert_eq!(rows(&sample, &named), ["four 0.0.0.0:80", "six [::]:80", "link [fe80::1%2]:80"]);
        let mapped = [("mapped", "[::ffff:127.0.0.1]:80")];
        assert_eq!(rows(&[listener("127.0.0.1:80", false)], &mapped), ["mapped 127.0.0.1:80"]);
    }

    #[test]
    fn a_shared_address_has_no_name() {
        let sample = [listener("127.0.0.1:80", true)];
        let twice = [("a", "127.0.0.1:80"), ("a", "127.0.0.1:80")];
        assert_eq!(rows(&sample, &twice), ["a 127.0.0.1:80"]);
        let shared = [("a", "127.0.0.1:80"), ("b", "127.0.0.1:80"), ("a", "127.0.0.1:80")];
        assert_eq!(rows(&sample, &shared), [" 127.0.0.1:80"]);
        assert_eq!(rows(&[listener("127.0.0.1:80", false)], &shared), [" 127.0.0.1:80"]);
    }

    #[test]
    fn in_another_namespace_only_haproxys_own_sockets_are_named() {
        let elsewhere = |owned| Listener { namespace: 4_026_531_999, ..listener("127.0.0.1:80", owned) };
        let named = [("www", "127.0.0.1:80")];
        assert_eq!(rows(&[listener("127.0.0.1:80", true), elsewhere(false)], &named), ["www 127.0.0.1:80"]);
        let both = ["www 127.0.0.1:80", "www 127.0.0.1:80"];
        assert_eq!(rows(&[listener("127.0.0.1:80", true), elsewhere(true)], &named), both);
        // HAProxy is there and not here.
        assert_eq!(rows(&[listener("127.0.0.1:80", false), elsewhere(true)], &named), ["www 127.0.0.1:80"]);
    }

    #[test]
    fn every_column_has_a_value_and_stands_in_its_place() {
        let mut one = listener("127.0.0.1:80", true);
        (one.accepted, one.open, one.drops, one.sockets) = (1, 2, 7, 8);
        (one.backlog, one.backlog_limit, one.backlog_peak, one.overflows) = (5, 128, 129, Some(4));
        (one.syn_backlog, one.syn_backlog_peak) = (9, 11);
        one.handshake.buckets[2] = 3;
        one.lifetime.buckets[0] = 1;
        let table = Listeners::default().join(&[one], &Names::default(), Duration::ZERO);
        let number = |source: &str| table.number(LISTENER.place(source).unwrap(), 0);
        for (source, expected) in [
            ("namespace", 0),
            ("address_type", 1),
            ("port", 80),
            ("accepted", 1),
            ("open", 2),
            ("drops", 7),
            ("sockets", 8),
            ("backlog", 5),
            ("backlog_limit", 128),
            ("backlog_peak", 129),
            ("backlog_peak_5m", 129),
            ("syn_backlog", 9),
            ("syn_backlog_peak", 11),
            ("syn_backlog_peak_10s", 11),
            ("syn_backlog_peak_1m", 11),
            ("syn_backlog_peak_5m", 11),
            ("overflows", 4),
            ("handshake_p50", 28),
            ("handshake_p99", 31),
            ("lifetime_p50", 512),
        ] {
            assert_eq!(number(source), Some(expected), "{source}");
        }
        assert_eq!(number("rtt_p50"), None);
        assert_eq!(table.histogram(LISTENER.place("handshake").unwrap(), 0).unwrap().count(), 3);
        // What the kernel does not let be seen.
        assert_eq!((number("synack_retransmits"), number("accept_wait_p99")), (None, None));
        assert_eq!(table.histogram(LISTENER.place("accept_wait").unwrap(), 0), None);
    }

    #[test]
    fn a_listener_that_comes_back_still_has_its_peak() {
        let mut listeners = Listeners::default();
        let mut one = listener("127.0.0.1:80", true);
        one.backlog_peak = 99;
        let mut at = |second, sample: &[Listener]| {
            let table = listeners.join(sample, &Names::default(), Duration::from_secs(second));
            let peak = LISTENER.place("backlog_peak_5m").unwrap();
            (!table.is_empty()).then(|| table.number(peak, 0).unwrap())
        };
        assert_eq!(at(0, std::slice::from_ref(&one)), Some(99));
        assert_eq!(at(1, &[]), None);
        one.backlog_peak = 1;
        assert_eq!(at(2, std::slice::from_ref(&one)), Some(99));
    }

    #[test]
    fn the_highest_rate_of_a_minute_stays() {
        let mut listeners = Listeners::default();
        let mut one = listener("127.0.0.1:80", true);
        let mut rate = |at: u64, accepted: u64| {
            one.accepted = accepted;
            let table = listeners.join(std::slice::from_ref(&one), &Names::default(), Duration::from_millis(at));
            table.number(LISTENER.place("accept_rate_peak").unwrap(), 0).unwrap()
        };
        // What was there before the first sample came at nobody knows which rate.
        assert_eq!(rate(0, 1000), 0);
        assert_eq!(rate(100, 1050), 500);
        assert_eq!(rate(1100, 1060), 500);
        assert_eq!(rate(61_000, 1060), 10);
    }
}
