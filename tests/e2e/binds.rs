//! Every kind of bind at once: what each frontend's clients do is counted there and nowhere else, and what the kernel's
//! TCP does not see is said not to be.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::io::{Read, Write as _};
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::path::Path;

use anyhow::{Context, Result};
use lbstatd_tests::{
    Connection, Haproxy, HaproxyConfig, Lbstatd, LbstatdConfig, Netns, Process, Program, unpacked, wait_until,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::kernel::dump_of;
use crate::skip::{self, skipped};
use crate::versions::version;
use crate::zoo::DEFAULTS;

/// Addresses of the kernel, and where clients connect to each.
type Addresses = &'static [(&'static str, &'static [&'static str])];

/// Frontends, what they bind, and the kernel's addresses of that.
const FRONTENDS: &[(&str, &str, Addresses)] = &[
    (
        "range",
        "127.0.0.1:8001-8005",
        &[
            ("127.0.0.1:8001", &["127.0.0.1:8001"]),
            ("127.0.0.1:8002", &["127.0.0.1:8002"]),
            ("127.0.0.1:8003", &[]),
            ("127.0.0.1:8004", &["127.0.0.1:8004"]),
            ("127.0.0.1:8005", &["127.0.0.1:8005"]),
        ],
    ),
    (
        "several",
        "127.0.0.1:8010,127.0.0.2:8010,[::1]:8011",
        &[
            ("127.0.0.1:8010", &["127.0.0.1:8010"]),
            ("127.0.0.2:8010", &["127.0.0.2:8010"]),
            ("[::1]:8011", &["[::1]:8011"]),
        ],
    ),
    (PROXIED, "127.0.0.1:8020 accept-proxy", &[("127.0.0.1:8020", &["127.0.0.1:8020"])]),
    ("dual", ":::8030 v4v6", &[("[::]:8030", &["127.0.0.1:8030", "[::1]:8030"])]),
    ("six", ":::8040 v6only", &[("[::]:8040", &["[::1]:8040"])]),
    ("four", "*:8040", &[("0.0.0.0:8040", &["127.0.0.1:8040", "127.0.0.2:8040"])]),
    ("wild", "*:8050", &[("0.0.0.0:8050", &["127.0.0.1:8050", "127.0.0.3:8050"])]),
    ("specific", "127.0.0.2:8050", &[("127.0.0.2:8050", &["127.0.0.2:8050"])]),
    (SHARDS, "127.0.0.1:8060 shards by-thread", &[("127.0.0.1:8060", &["127.0.0.1:8060"])]),
    ("device", "127.0.0.1:8070 interface lo", &[("127.0.0.1:8070", &["127.0.0.1:8070"])]),
    ("inherited", "fd@9", &[("127.0.0.1:8080", &["127.0.0.1:8080"])]),
    (MIXED, "127.0.0.1:8090", &[("127.0.0.1:8090", &["127.0.0.1:8090"])]),
    (UNIX, "", &[]),
    (LISTEN, "127.0.0.1:8100", &[("127.0.0.1:8100", &["127.0.0.1:8100"])]),
    (ELSEWHERE, "", &[("127.0.0.1:8110", &["127.0.0.1:8110"])]),
    (QUIC, "127.0.0.1:8443", &[("127.0.0.1:8443", &["127.0.0.1:8443"])]),
];

/// Clients begin with a line that is no HTTP.
const PROXIED: &str = "proxied";
/// A socket for each of the two threads.
const SHARDS: &str = "shards";
/// Listens on a Unix-domain socket, too.
const MIXED: &str = "mixed";
/// Listens on Unix-domain sockets only, one with a path and one without.
const UNIX: &str = "unix";
/// Frontend and backend in one.
const LISTEN: &str = "listen";
/// Listens in another network namespace than HAProxy is in.
const ELSEWHERE: &str = "elsewhere";
/// Listens on UDP, too, where HAProxy can.
const QUIC: &str = "quic";

const PROXY_LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1024 80\r\n";

/// Listens on 127.0.0.1:8080 as descriptor 9, and becomes the program that its arguments name.
const INHERIT: &str = "
import os, socket, sys
listener = socket.create_server(('127.0.0.1', 8080))
os.dup2(listener.fileno(), 9)
os.execvp(sys.argv[1], sys.argv[1:])
";

#[test]
fn haproxy_2_6_counts_every_bind_by_itself() {
    every_bind("2.6", false);
}

#[test]
fn haproxy_3_0_counts_every_bind_by_itself_and_tells_quic_from_tcp() {
    every_bind("3.0", true);
}

fn every_bind(release: &str, quic: bool) {
    let test = format!("HAProxy {release}: every kind of bind");
    if !rustix::process::geteuid().is_root() {
        return skipped(&test, "only root can make a network of its own");
    }
    let Some(program) = version(release) else { return };
    let folder = TempDir::with_prefix("lbstatd-binds-").unwrap();
    let openssl = quic.then(|| Openssl::with_certificate(folder.path()));
    // Every port of it is free, and wildcards bind nothing of the host's.
    let (netns, elsewhere) = (Netns::start().unwrap(), Netns::start().unwrap());
    netns.enter(|| count_every_bind(&test, program, folder.path(), openssl, &elsewhere)).unwrap();
}

fn count_every_bind(test: &str, program: Program, folder: &Path, openssl: Option<Openssl>, elsewhere: &Netns) {
    let quic = openssl.is_some();
    let haproxy = Haproxy::start_with(
        program.started_by("python3", &["-c", INHERIT]),
        HaproxyConfig {
            global: if quic { "    limited-quic\n".to_owned() } else { String::new() },
            sections: sections(folder, elsewhere, quic),
            ..HaproxyConfig::default()
        },
    )
    .unwrap();
    let Some(lbstatd) = skip::with_ebpf(test, LbstatdConfig::new(haproxy.socket())) else { return };
    let mut expected = Expected::before_any_client(quic);
    becomes(&lbstatd, &expected);

    // Each client does something else: one connection more than the one before, and more requests on each.
    let mut times = 0;
    for (frontend, _, addresses) in FRONTENDS {
        for (address, clients) in *addresses {
            for client in *clients {
                times += 1;
                for _ in 0..times {
                    let talk = || talk(client.parse().unwrap(), *frontend == PROXIED, times);
                    let bytes = if *frontend == ELSEWHERE { elsewhere.enter(talk).unwrap() } else { talk() };
                    expected.add(frontend, address, bytes);
                }
            }
        }
    }
    ask(UnixStream::connect(folder.join(MIXED)).unwrap());
    expected.add_beyond_tcp(MIXED);
    ask(UnixStream::connect(folder.join(UNIX)).unwrap());
    ask(UnixStream::connect_addr(&abstract_address(folder)).unwrap());
    let _client = openssl.map(|openssl| {
        expected.add_beyond_tcp(QUIC);
        openssl.connect("127.0.0.1:8443")
    });
    becomes(&lbstatd, &expected);
    lbstatd.wait_fresh().unwrap();
    becomes(&lbstatd, &expected);
}

/// What has to be shown: listeners by frontend and address, and frontends by name; nothing else.
struct Expected {
    listeners: BTreeMap<String, Listener>,
    frontends: BTreeMap<String, Frontend>,
}

#[derive(Debug, Default, PartialEq)]
struct Listener {
    accepted: u64,
    open: u64,
    received: u64,
    acked: u64,
    sockets: u64,
}

/// Counts are absent where the kernel sees nothing of a frontend.
#[derive(Debug, Default, PartialEq)]
struct Frontend {
    listeners: u64,
    accepted: Option<u64>,
    by_haproxy: Option<u64>,
    /// What HAProxy counts and the kernel does not see.
    untracked: Option<u64>,
    uncounted: String,
}

impl Expected {
    fn before_any_client(quic: bool) -> Self {
        let (mut listeners, mut frontends) = (BTreeMap::new(), BTreeMap::new());
        for (frontend, _, addresses) in FRONTENDS {
            for (address, _) in *addresses {
                let sockets = if *frontend == SHARDS { 2 } else { 1 };
                listeners.insert(key(frontend, address), Listener { sockets, ..Listener::default() });
            }
            let count = (!addresses.is_empty()).then_some(0);
            let uncounted = match *frontend {
                MIXED | UNIX => "it listens on a Unix-domain socket, which is not TCP",
                QUIC if quic => "it listens on QUIC, which is not TCP",
                _ => "",
            };
            let balance = Frontend {
                listeners: addresses.len() as u64,
                accepted: count,
                by_haproxy: count,
                untracked: count,
                uncounted: uncounted.to_owned(),
            };
            frontends.insert((*frontend).to_owned(), balance);
        }
        Self { listeners, frontends }
    }

    /// A connection with so many bytes sent and received.
    fn add(&mut self, frontend: &str, address: &str, (sent, received): (u64, u64)) {
        let listener = self.listeners.get_mut(&key(frontend, address)).unwrap();
        listener.accepted += 1;
        listener.received += sent;
        listener.acked += received;
        let frontend = self.frontends.get_mut(frontend).unwrap();
        for count in [&mut frontend.accepted, &mut frontend.by_haproxy] {
            *count.as_mut().unwrap() += 1;
        }
    }

    /// A connection that shows in HAProxy's count alone.
    fn add_beyond_tcp(&mut self, frontend: &str) {
        let frontend = self.frontends.get_mut(frontend).unwrap();
        for count in [&mut frontend.by_haproxy, &mut frontend.untracked] {
            *count.as_mut().unwrap() += 1;
        }
    }
}

fn key(frontend: &str, address: &str) -> String {
    format!("{frontend} {address}")
}

/// Waits until exactly these rows are shown.
fn becomes(lbstatd: &Lbstatd, expected: &Expected) {
    let observe = || -> Result<Vec<String>> {
        let dump: Value = serde_json::from_str(&dump_of(lbstatd, "json"))?;
        let rows = |table: &str| dump["tables"][table].as_array().with_context(|| format!("no {table}"));
        let listeners = rows("kernelListeners")?.iter().map(listener).collect();
        let frontends = rows("kernelFrontends")?.iter().map(frontend).collect();
        Ok([differences(&expected.listeners, listeners), differences(&expected.frontends, frontends)].concat())
    };
    wait_until("exactly what clients did", observe, Vec::is_empty).unwrap();
}

fn differences<T: Debug + PartialEq>(expected: &BTreeMap<String, T>, seen: Vec<(String, T)>) -> Vec<String> {
    let is_seen = |key: &String, row: &T| seen.iter().any(|(seen_key, seen)| seen_key == key && seen == row);
    let missing = expected.iter().filter(|(key, row)| !is_seen(key, row)).map(|row| format!("missing: {row:?}"));
    let others = seen.iter().filter(|(key, row)| expected.get(key) != Some(row)).map(|row| format!("there: {row:?}"));
    missing.chain(others).collect()
}

fn listener(row: &Value) -> (String, Listener) {
    let number = |column: &str| row[column].as_u64().unwrap_or_else(|| panic!("no {column}: {row}"));
    let text = |column: &str| row[column].as_str().unwrap_or_default();
    let listener = Listener {
        accepted: number("accepted"),
        open: number("open"),
        received: number("bytes_received"),
        acked: number("bytes_acked"),
        sockets: number("sockets"),
    };
    (key(text("proxy"), text("address")), listener)
}

fn frontend(row: &Value) -> (String, Frontend) {
    let number = |column: &str| row[column].as_u64();
    let text = |column: &str| row[column].as_str().unwrap_or_default();
    let frontend = Frontend {
        listeners: number("listeners").unwrap_or_else(|| panic!("no listeners: {row}")),
        accepted: number("accepted"),
        by_haproxy: number("connections"),
        untracked: number("untracked"),
        uncounted: text("uncounted").to_owned(),
    };
    (text("proxy").to_owned(), frontend)
}

fn sections(folder: &Path, elsewhere: &Netns, quic: bool) -> String {
    let mut sections = DEFAULTS.to_owned();
    let mut proxy = |name: &str, binds: &[String]| {
        let _ = writeln!(sections, "{} {name}", if name == LISTEN { "listen" } else { "frontend" });
        for bind in binds.iter().filter(|bind| !bind.is_empty()) {
            let _ = writeln!(sections, "    bind {bind}");
        }
        sections.push_str("    http-request return status 200 content-type text/plain string ok\n");
    };
    for (name, bind, _) in FRONTENDS {
        let more = match *name {
            MIXED => vec![folder.join(MIXED).display().to_string()],
            UNIX => vec![folder.join(UNIX).display().to_string(), format!("abns@{}", abstract_name(folder))],
            ELSEWHERE => vec![format!("127.0.0.1:8110 namespace {}", elsewhere.name())],
            QUIC if quic => vec![format!("quic4@127.0.0.1:8443 ssl crt {} alpn h3", certificate(folder))],
            _ => Vec::new(),
        };
        proxy(name, &[vec![(*bind).to_owned()], more].concat());
    }
    sections
}

/// The abstract address that belongs to nobody else.
fn abstract_name(folder: &Path) -> String {
    folder.file_name().unwrap().to_string_lossy().into_owned()
}

/// As HAProxy binds it: padded with zeros to the full length.
fn abstract_address(folder: &Path) -> UnixAddr {
    let mut name = abstract_name(folder).into_bytes();
    name.resize(107, 0);
    UnixAddr::from_abstract_name(name).unwrap()
}

fn certificate(folder: &Path) -> String {
    folder.join("certificate.pem").display().to_string()
}

/// One connection with so many requests; the bytes sent and received on it.
fn talk(address: SocketAddr, proxied: bool, requests: u64) -> (u64, u64) {
    let mut connection = Connection::open(address).unwrap();
    if proxied {
        connection.send(PROXY_LINE).unwrap();
    }
    for number in 1..=requests {
        assert_eq!(connection.request(&format!("/{number}")).unwrap(), 200);
    }
    connection.end().unwrap()
}

/// One request and its answer.
fn ask(mut stream: UnixStream) {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A program that speaks QUIC: Debian 13's.
struct Openssl(Program, std::path::PathBuf);

impl Openssl {
    /// And a certificate for HAProxy in this folder.
    fn with_certificate(folder: &Path) -> Self {
        let program = Program::in_root(&unpacked("openssl", "trixie").unwrap(), "usr/bin/openssl").unwrap();
        let (key, pem) = (folder.join("key.pem"), certificate(folder));
        let made = program.run(|command| {
            command.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=test".split(' '));
            command.arg("-config").arg("/dev/null").arg("-keyout").arg(&key).arg("-out").arg(&pem)
        });
        let made = made.unwrap();
        assert!(made.status.success(), "{made:?}");
        let both = [std::fs::read(&pem).unwrap(), std::fs::read(&key).unwrap()].concat();
        std::fs::write(&pem, both).unwrap();
        Self(program, folder.to_owned())
    }

    /// A connection that lives as long as the program.
    fn connect(&self, address: &str) -> Process {
        let client = self.0.start(self.1.join("client.log"), |command| {
            command.args(["s_client", "-quic", "-ign_eof", "-alpn", "h3", "-connect", address])
        });
        client.unwrap()
    }
}
