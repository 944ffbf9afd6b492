//! The HAProxy of the demo, its servers and its clients.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use lbstatd_tests::{Backend, Connection, Haproxy, HaproxyConfig, Reply, address, local_address};

const QUERY: usize = 200;
const ROW: usize = 4_000;

/// Starts the servers, HAProxy, and clients that never rest.
pub(super) fn start() -> Result<Haproxy> {
    let (www, api, database) = (local_address()?, local_address()?, local_address()?);
    let haproxy = Haproxy::start(HaproxyConfig {
        global: "    node demo\n    description lbstatd at work\n".to_owned(),
        sections: sections(www, api, database)?,
        ..HaproxyConfig::default()
    })?;
    thread::spawn(move || browse(www, &["/", "/style.css", "/missing.png"], 4));
    thread::spawn(move || browse(api, &["/v1/items", "/v1/denied"], 1));
    thread::spawn(move || hold(database));
    Ok(haproxy)
}

fn sections(www: SocketAddr, api: SocketAddr, database: SocketAddr) -> Result<String> {
    let page = Backend::start(Reply::Http { body: 12_000 })?.address();
    let item = Backend::start(Reply::Http { body: 700 })?.address();
    let rows = Backend::start(Reply::Bytes { request: QUERY, reply: ROW })?.address();
    let nobody = address();
    Ok(format!(
        "\
defaults
    mode http
    timeout connect 5s
    timeout client 1m
    timeout server 1m
    option socket-stats

frontend www
    id 10
    bind {www}
    default_backend web

frontend api
    id 11
    bind {api}
    http-request deny if {{ path /v1/denied }}
    default_backend items

listen database
    id 12
    mode tcp
    bind {database}
    server primary {rows} check
    server replica {rows} backup

backend web
    id 20
    server web1 {page} check
    server web2 {page} check weight 2
    server broken {nobody} check inter 1s
    server retired {page} disabled

backend items
    id 21
    server item1 {item} maxconn 20
"
    ))
}

/// Opens connection after connection and asks for these paths on each, as often as told.
fn browse(frontend: SocketAddr, paths: &[&str], times: usize) {
    loop {
        // A failed attempt is followed by the next one: while HAProxy stops there is nobody to talk to.
        if let Ok(mut connection) = Connection::open(frontend) {
            let _ = paths
                .iter()
                .cycle()
                .take(times * paths.len())
                .try_for_each(|path| connection.request(path).map(|_| ()));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Keeps five connections open, uses one after the other, and each ten times.
fn hold(frontend: SocketAddr) {
    loop {
        let mut connections: Vec<Connection> = (0..5).filter_map(|_| Connection::open(frontend).ok()).collect();
        for _ in 0..10 {
            for connection in &mut connections {
                let _ = connection.send(&[b'q'; QUERY]).and_then(|()| connection.receive(ROW));
                thread::sleep(Duration::from_millis(50));
            }
        }
        // Without a connection this would spin.
        thread::sleep(Duration::from_millis(50));
    }
}
