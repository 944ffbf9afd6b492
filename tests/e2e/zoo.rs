//! A HAProxy whose configuration holds one of each kind.

use lbstatd_tests::{Backend, Connection, Haproxy, HaproxyConfig, Level, Reply, address, wait_until};
use std::net::SocketAddr;

/// The lines that most tests begin their sections with.
pub(crate) const DEFAULTS: &str = "\
defaults
    mode http
    timeout connect 10s
    timeout client 1m
    timeout server 1m
    option socket-stats
";

/// HAProxy, and where its frontends listen.
pub(crate) struct Zoo {
    pub(crate) haproxy: Haproxy,
    pub(crate) www: SocketAddr,
    pub(crate) listen: SocketAddr,
}

/// Starts it and waits until the health checks have settled.
pub(crate) fn start(level: Level) -> Zoo {
    let server = Backend::start(Reply::Http { body: 100 }).unwrap().address();
    let (nobody, www, odd, listen) = (address(), address(), address(), address());
    let global = r#"
    node lb-node-1
    description 'Edge "load balancer", site Ä; \ 100 %'
"#;
    let sections = format!(
        "{DEFAULTS}
frontend www
    id 10
    bind {www} name plain
    default_backend app
frontend odd.name:with-every_mark
    bind {odd}
    maxconn 17
    rate-limit sessions 1000
    default_backend app
frontend switched_off
    disabled
    bind {odd}
backend app
    server plain {server}
    server maint {server} disabled
    server spare {server} backup
    server down {nobody} check inter 200ms
    server slow {server} check inter 200ms rise 1 fall 1 slowstart 100s weight 100
    server limited {server} maxconn 10 maxqueue 5 id 2147483647
    server tracked {server} track app/slow
backend down_and_out
    server a:b.c-d {nobody} check inter 200ms
backend empty
    id 2147483647
listen both
    id 9
    bind {listen}
    server one {server} weight 7 id 10
    server two {server} id 9
"
    );
    let haproxy = Haproxy::start(HaproxyConfig { level, global: global.to_owned(), sections }).unwrap();
    let becomes = |row: &str, column: &str, wanted: fn(&str) -> bool| {
        let observe = || Ok(field(&haproxy.command("show stat")?, row, column));
        wait_until(&format!("{column} of {row} to be as wanted"), observe, |seen| wanted(seen)).unwrap();
    };
    becomes("app,down,", "status", |status| status == "DOWN");
    becomes("down_and_out,BACKEND,", "status", |status| status == "DOWN");
    // It comes back at its next check, and then slowly.
    becomes("app,slow,", "status", |status| status == "UP");
    haproxy.command("set server app/slow health down").unwrap();
    becomes("app,slow,", "throttle", |percent| !percent.is_empty());
    Zoo { haproxy, www, listen }
}

/// Of the row that begins so; the columns that are asked for come before any that may hold a comma.
fn field(stat: &str, row: &str, column: &str) -> String {
    let place = stat.lines().next().and_then(|header| header.split(',').position(|name| name == column));
    let line = stat.lines().find(|line| line.starts_with(row));
    line.zip(place).and_then(|(line, place)| line.split(',').nth(place)).unwrap_or_default().to_owned()
}

impl Zoo {
    /// Some requests, good ones and bad ones.
    pub(crate) fn traffic(&self) {
        for address in [self.www, self.listen] {
            for path in ["/a", "/missing", "/b?c=d"] {
                Connection::open(address).unwrap().request(path).unwrap();
            }
        }
    }
}
