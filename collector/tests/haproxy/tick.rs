//! The tick while HAProxy comes, goes, hangs and comes back.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lbstatd::collect::{CollectError, Ebpf, Settings, run};
use lbstatd::haproxy::Limits;
use lbstatd::publish::Published;
use lbstats::schema::{LISTENER, PROCESS};
use lbstats::{Snapshot, SourceKind};
use rustix::process::Signal;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::hostile::{Manner, Server};
use super::process::{Folder, Haproxy, PATIENCE, free_port, local};

/// A running collection.
struct Collection {
    published: Arc<Published>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), CollectError>>,
}

impl Collection {
    fn start(sockets: &[&Path], interval: Duration, deadline: Duration, ebpf: Ebpf) -> Self {
        let (stop, stopped) = oneshot::channel();
        let settings = Settings {
            stats_sockets: sockets.iter().map(PathBuf::from).collect(),
            interval,
            limits: Limits { deadline, ..Limits::default() },
            ebpf,
            faces: Arc::default(),
        };
        let published = Published::new();
        let stopped = async { stopped.await.unwrap() };
        let task = tokio::spawn(run(settings, published.clone(), stopped));
        Self { published, stop, task }
    }

    fn quick(sockets: &[&Path]) -> Self {
        Self::start(sockets, Duration::from_millis(20), Duration::from_millis(300), Ebpf::Off)
    }

    /// The first snapshot from now on that is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut changes = self.published.changes();
        let wait = async {
            loop {
                let snapshot = self.published.load();
                if snapshot.generation > 0 && wanted(&snapshot) {
                    return snapshot;
                }
                changes.changed().await.unwrap();
            }
        };
        in_time(what, wait).await
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        assert_eq!(in_time("the end", self.task).await.unwrap(), Ok(()));
    }
}

async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} never came"))
}

fn up(snapshot: &Snapshot) -> bool {
    snapshot.sources[0].error.is_none()
}

/// A HAProxy with a frontend, a backend and a server, at level `user`.
fn haproxy(socket: &Path, global: &str) -> Haproxy {
    let bind = socket.with_extension("bind");
    let sections = format!("listen www\n  bind unix@{}\n  server a 127.0.0.1:1\n", bind.display());
    Haproxy::start(socket, "user", global, &sections)
}

fn pid(snapshot: &Snapshot) -> Option<u64> {
    snapshot.processes.number(PROCESS.place("Pid").unwrap(), 0)
}

#[tokio::test]
async fn haproxy_comes_goes_and_comes_back() {
    let folder = Folder::new();
    let socket = folder.path("s");
    // Within this interval nothing but the first tick and the attempts after failures can happen.
    let collection = Collection::start(&[&socket], Duration::from_secs(3600), Duration::from_secs(2), Ebpf::Off);
    let absent = collection.until("the first snapshot", |_| true).await;
    assert_eq!((absent.generation, absent.haproxy_read, absent.servers.len()), (1, None, 0));
    let error = absent.sources[0].error.clone().unwrap();
    assert!(error.contains(&format!("is HAProxy running with `stats socket {}`?", socket.display())), "{error}");
    let process = haproxy(&socket, "");
    let there = collection.until("HAProxy", up).await;
    assert_eq!(pid(&there), Some(process.pid().into()));
    assert_eq!([&there.frontends, &there.backends, &there.servers].map(|table| table.len()), [1, 1, 1]);
    assert!(there.generation > absent.generation);
    assert_eq!(there.haproxy_read, there.sources[0].succeeded);
    collection.stop().await;

    let collection = Collection::quick(&[&socket]);
    let before = collection.until("HAProxy", up).await;
    drop(process);
    let down = collection.until("the error", |snapshot| !up(snapshot)).await;
    let later = collection.until("a later one", |snapshot| snapshot.generation > down.generation + 3).await;
    assert!(later.sources[0].error.as_ref().unwrap().contains("nobody listens there"));
    assert!(Arc::ptr_eq(&later.servers, &down.servers) && Arc::ptr_eq(&later.processes, &down.processes));
    assert_eq!((later.haproxy_read, later.servers.len()), (down.haproxy_read, 1));
    assert!(later.haproxy_read >= before.haproxy_read && later.taken > later.haproxy_read.unwrap());
    assert!(later.sources[0].errors > 0 && later.sources[0].collections > later.sources[0].errors);

    let process = haproxy(&socket, "");
    let back = collection.until("HAProxy again", up).await;
    assert_eq!(pid(&back), Some(process.pid().into()));
    collection.stop().await;
}

#[tokio::test]
async fn a_stopped_haproxy_leaves_its_rows_and_recovers() {
    let folder = Folder::new();
    let process = haproxy(&folder.path("s"), "");
    let collection = Collection::quick(&[&process.socket]);
    collection.until("HAProxy", up).await;
    process.signal(Signal::STOP);
    let hanging = collection.until("the error", |snapshot| !up(snapshot)).await;
    assert!(hanging.sources[0].error.as_ref().unwrap().contains("HAProxy hangs"), "{:?}", hanging.sources);
    assert_eq!(hanging.servers.len(), 1);
    let later = collection.until("a later one", |snapshot| snapshot.generation > hanging.generation + 5).await;
    assert_eq!(later.haproxy_read, hanging.haproxy_read);
    process.signal(Signal::CONT);
    let back = collection.until("HAProxy again", up).await;
    assert!(back.haproxy_read > hanging.haproxy_read);
    collection.stop().await;
}

#[tokio::test]
async fn one_silent_socket_delays_nobody() {
    let folder = Folder::new();
    let silent = Server::start(&folder.path("silent"), Manner::Stalls(Vec::new()));
    let process = haproxy(&folder.path("s"), "");
    // The deadline is beyond the test's own: whoever waits for the silent one fails.
    let sockets: [&Path; 2] = [&silent.path, &process.socket];
    let collection = Collection::start(&sockets, Duration::from_millis(20), PATIENCE * 10, Ebpf::Off);
    let fresh = collection.until("ten readings", |snapshot| snapshot.sources[1].collections >= 10).await;
    assert_eq!(fresh.sources[1].error, None);
    assert_eq!((fresh.sources[0].collections, fresh.sources[0].succeeded), (1, None));
    let server: Vec<u32> = fresh.servers.index(0).collect();
    assert_eq!(server[0], 2, "the second socket's HAProxy is process 2 though the first one never answered");
    // And it stops while that reading hangs.
    collection.stop().await;
}

#[tokio::test]
async fn garbage_leaves_the_last_rows() {
    let folder = Folder::new();
    let socket = folder.path("s");
    let process = haproxy(&socket, "");
    let collection = Collection::quick(&[&socket]);
    collection.until("HAProxy", up).await;
    drop(process);
    std::fs::remove_file(&socket).unwrap();
    let server = Server::start(&socket, Manner::Sends(b"Name: HAProxy\nPid: 0\n\n# pxname,svname\n".into()));
    let garbled =
        |snapshot: &Snapshot| snapshot.sources[0].error.as_ref().is_some_and(|error| error.contains("garbled"));
    let snapshot = collection.until("the error", garbled).await;
    assert_eq!([&snapshot.frontends, &snapshot.backends, &snapshot.servers].map(|table| table.len()), [1, 1, 1]);
    assert!(pid(&snapshot).is_some_and(|pid| pid > 0));
    drop(server);
    collection.stop().await;
}

#[tokio::test]
async fn haproxies_side_by_side_have_rows_of_their_own() {
    let folder = Folder::new();
    let both: Vec<Haproxy> = ["one", "two"].map(|name| haproxy(&folder.path(name), "")).into();
    let second = format!("  stats socket {} mode 600 level user", folder.path("four").display());
    let three = haproxy(&folder.path("three"), &second);
    let sockets: [&Path; 4] = [&both[0].socket, &both[1].socket, &three.socket, &folder.path("four")];
    let collection = Collection::quick(&sockets);
    let all = |snapshot: &Snapshot| snapshot.sources.iter().all(|source| source.succeeded.is_some());
    let snapshot = collection.until("all of them", all).await;
    let pids: Vec<_> = (0..3).map(|row| snapshot.processes.number(PROCESS.place("Pid").unwrap(), row)).collect();
    let expected = [both[0].pid(), both[1].pid(), three.pid()].map(|pid| Some(pid.into()));
    assert_eq!((snapshot.processes.len(), pids), (3, expected.to_vec()));
    assert_eq!(snapshot.servers.len(), 3);
    let errors: Vec<_> = snapshot.sources.iter().map(|source| source.error.is_some()).collect();
    assert_eq!(errors, [false, false, false, true]);
    assert!(snapshot.sources[3].error.as_ref().unwrap().contains("the same HAProxy process"));
    collection.stop().await;
}

#[tokio::test]
async fn the_kernels_listeners_are_named_by_frontend() {
    let folder = Folder::new();
    let (named, unnamed) = (free_port(), free_port());
    let binds = format!(
        "frontend www\n  option socket-stats\n  bind 127.0.0.1:{named}\nfrontend quiet\n  bind 127.0.0.1:{unnamed}\n"
    );
    let process = Haproxy::start(&folder.path("s"), "operator", "", &binds);
    let interval = Duration::from_millis(50);
    let collection = Collection::start(&[&process.socket], interval, PATIENCE, Ebpf::Auto);
    let kernel = |snapshot: &Snapshot| {
        assert_eq!(snapshot.sources[1].kind, SourceKind::Ebpf);
        snapshot.sources[1].succeeded.is_some() || snapshot.sources[1].errors > 0
    };
    let snapshot = collection.until("the kernel", kernel).await;
    if let Some(error) = &snapshot.sources[1].error {
        eprintln!("NOT TESTED, this host gives no eBPF: {error}");
        return;
    }
    let row = |snapshot: &Snapshot, port: u16| {
        let address = local(port).to_string();
        let place = |name| LISTENER.place(name).unwrap();
        (0..snapshot.listeners.len())
            .find(|row| snapshot.listeners.text(place("address"), *row) == Some(address.as_bytes()))
            .map(|row| {
                let proxy = snapshot.listeners.text(place("proxy"), row).unwrap_or_default();
                (String::from_utf8(proxy.to_vec()).unwrap(), snapshot.listeners.number(place("accepted"), row))
            })
    };
    let both = |snapshot: &Snapshot| row(snapshot, named).is_some() && row(snapshot, unnamed).is_some();
    let snapshot = collection.until("both listeners", both).await;
    assert_eq!(row(&snapshot, named), Some(("www".to_owned(), Some(0))));
    assert_eq!(row(&snapshot, unnamed), Some((String::new(), Some(0))));
    assert_eq!(snapshot.listeners.len(), 2, "no listener of anybody else: {:?}", snapshot.listeners);
    let _connections: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(local(named)).unwrap()).collect();
    let counted = |snapshot: &Snapshot| row(snapshot, named) == Some(("www".to_owned(), Some(3)));
    let snapshot = collection.until("three connections", counted).await;
    assert_eq!(row(&snapshot, unnamed), Some((String::new(), Some(0))));
    collection.stop().await;
}
