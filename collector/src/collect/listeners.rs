//! The kernel's listeners, named by what HAProxy says it listens on.
//!
//! A listener has a row if HAProxy names its address or if its socket belongs to HAProxy. Where two frontends share an
//! address the kernel spreads connections over both, and nobody can tell whose they are: the row has no name then.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use lbstats::schema::LISTENER;
use lbstats::{Field, Table, TableBuilder};

use crate::haproxy::Listen;
use crate::kernel::Listener;

/// The rows, in the order of the sample.
pub(super) fn join<'a>(sample: &[Listener], listens: impl IntoIterator<Item = &'a Listen>) -> Table {
    let names = names(listens);
    let mut builder = TableBuilder::new(&LISTENER);
    for listener in sample {
        let name = names.get(&place(listener.address)).copied();
        // HAProxy's addresses are those of its own network namespace, whose sockets are found through its process.
        let is_named = name.is_some() && listener.namespace == 0;
        if !listener.owned && !is_named {
            continue;
        }
        let (proxy, address) = (name.unwrap_or_default(), listener.address.to_string());
        let row = builder.push(|_, column| match column.source {
            "proxy" => Field::Text(proxy.as_bytes()),
            "address" => Field::Text(address.as_bytes()),
            "accepted" => Field::Number(listener.accepted),
            "open" => Field::Number(listener.open),
            "bytes_received" => Field::Number(listener.bytes_received),
            "bytes_acked" => Field::Number(listener.bytes_acked),
            "backlog" => Field::Number(listener.backlog),
            "backlog_limit" => Field::Number(listener.backlog_limit),
            "drops" => Field::Number(listener.drops),
            "sockets" => Field::Number(listener.sockets.into()),
            other => unreachable!("the schema's column {other} of listeners has no value"),
        });
        row.expect("counters of the kernel and names of a bounded answer fit their columns");
    }
    builder.finish().0
}

/// The frontend of each address; empty where there is more than one.
fn names<'a>(listens: impl IntoIterator<Item = &'a Listen>) -> HashMap<(IpAddr, u16), &'a str> {
    let mut names = HashMap::new();
    for listen in listens {
        let name = names.entry(place(listen.address)).or_insert(&*listen.proxy);
        if *name != listen.proxy {
            *name = "";
        }
    }
    names
}

/// What makes two addresses the same: HAProxy prints no scope and no flow label, and IPv4 may come mapped into IPv6.
fn place(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str, owned: bool) -> Listener {
        Listener {
            owned,
            accepted: 1,
            open: 2,
            bytes_received: 3,
            bytes_acked: 4,
            backlog: 5,
            backlog_limit: 6,
            drops: 7,
            sockets: 8,
            ..Listener::new(0, address.parse().unwrap())
        }
    }

    fn rows(sample: &[Listener], listens: &[(&str, &str)]) -> Vec<String> {
        let listens: Vec<Listen> = listens
            .iter()
            .map(|(proxy, address)| Listen { proxy: (*proxy).to_owned(), address: address.parse().unwrap() })
            .collect();
        let table = join(sample, &listens);
        let text = |column, row| String::from_utf8_lossy(table.text(column, row).unwrap()).into_owned();
        (0..table.len()).map(|row| format!("{} {}", text(0, row), text(1, row))).collect()
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
    fn every_counter_stands_in_its_column() {
        let table = join(&[listener("127.0.0.1:80", true)], &[]);
        let numbers: Vec<_> = (2..10).map(|column| table.number(column, 0).unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
