//! Sockets that are no HAProxy: whatever they send, a reading is whole or an error, in time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lbstatd::haproxy::{COMMAND, Client, Limits, ReadError, Reading};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::process::{Folder, PATIENCE};

const REAL: &str =
    concat!(include_str!("../haproxy-2.6/oper.show_info.txt"), include_str!("../haproxy-2.6/oper.show_stat.txt"));

/// What a server does with a connection, once it has read the command.
#[derive(Clone)]
pub(crate) enum Manner {
    /// Sends this and closes.
    Sends(Vec<u8>),
    /// Sends this in pieces of this many bytes, each on its own, and closes.
    Pieces(Vec<u8>, usize),
    /// Sends this, and then nothing.
    Stalls(Vec<u8>),
    /// Sends this again and again.
    Endless(Vec<u8>),
}

/// A server of its own manners; dropping it closes it.
pub(crate) struct Server {
    task: JoinHandle<()>,
    pub(crate) path: PathBuf,
}

impl Server {
    pub(crate) fn start(path: &Path, manner: Manner) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, manner.clone()));
            }
        });
        Self { task, path: path.to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whatever fails here, fails because the client has gone.
async fn serve(mut stream: UnixStream, manner: Manner) {
    let mut command = vec![0; COMMAND.len()];
    let _ = stream.read_exact(&mut command).await;
    assert_eq!(command, COMMAND);
    match manner {
        Manner::Sends(answer) => {
            let _ = stream.write_all(&answer).await;
        }
        Manner::Pieces(answer, size) => {
            for piece in answer.chunks(size) {
                let _ = stream.write_all(piece).await;
                tokio::task::yield_now().await;
            }
        }
        Manner::Stalls(answer) => {
            let _ = stream.write_all(&answer).await;
            // Until the client gives up.
            let _ = stream.read(&mut command).await;
        }
        Manner::Endless(answer) => while stream.write_all(&answer).await.is_ok() {},
    }
}

async fn read(manner: Manner, limits: Limits) -> Result<Reading, ReadError> {
    let folder = Folder::new();
    let server = Server::start(&folder.path("s"), manner);
    let mut client = Client::new(&server.path, limits);
    let reading = tokio::time::timeout(PATIENCE, client.read()).await.expect("a reading has a deadline");
    if let Err(error) = &reading {
        let text = error.to_string();
        assert!(text.contains(server.path.to_str().unwrap()) && !text.contains('\n'), "{text}");
    }
    reading
}

fn patient() -> Limits {
    Limits { deadline: PATIENCE, ..Limits::default() }
}

fn hasty() -> Limits {
    Limits { deadline: Duration::from_millis(100), ..Limits::default() }
}

#[tokio::test]
async fn pieces_of_any_size_make_a_whole() {
    let whole = read(Manner::Sends(REAL.into()), patient()).await.unwrap();
    assert_eq!(whole.servers.len(), 20);
    for size in [1, 7, 4096, 16384] {
        assert_eq!(read(Manner::Pieces(REAL.into(), size), patient()).await.as_ref(), Ok(&whole), "{size}");
    }
}

#[tokio::test]
async fn a_cut_answer_is_no_answer() {
    for missing in [1, 2, 3, 10, 500, 5000, REAL.len() - 1] {
        let part = &REAL[..REAL.len() - missing];
        let error = read(Manner::Sends(part.into()), patient()).await.unwrap_err();
        assert!(error.to_string().contains("the output ends within the response"), "{error}");
        let error = read(Manner::Stalls(part.into()), hasty()).await.unwrap_err();
        assert!(matches!(error, ReadError::TimedOut { .. }), "{error}");
    }
    // Only the end of the connection ends an answer.
    let error = read(Manner::Stalls(REAL.into()), hasty()).await.unwrap_err();
    assert!(error.to_string().contains(&format!("({} bytes came)", REAL.len())), "{error}");
}

#[tokio::test]
async fn garbage_is_refused_at_its_line() {
    let mut garbage = vec![b'x'; 10_000_000];
    for (manner, expected) in [
        (Manner::Sends(garbage.clone()), "line 1 of `show info`: `xxx"),
        (Manner::Sends(b"\n\n".into()), "line 1 of `show info`: `` is not how this response begins"),
        (
            Manner::Sends(REAL.replace("www,FRONTEND,,,0,", "www,FRONTEND,,,0").into()),
            "line 2 of `show stat`: it has 128",
        ),
        (Manner::Sends(format!("{REAL}x").into()), "something follows the empty line"),
    ] {
        let error = read(manner, patient()).await.unwrap_err();
        assert!(matches!(error, ReadError::Garbled { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    // Garbage that begins well, in a field that nothing reads.
    garbage.splice(..0, b"Name: HAProxy\nnobody: ".iter().copied());
    let error = read(Manner::Sends(garbage), patient()).await.unwrap_err();
    assert!(error.to_string().contains("line 2 of `show info`: the output ends"), "{error}");
}

#[tokio::test]
async fn silence_and_endless_output_are_bounded() {
    let error = read(Manner::Stalls(Vec::new()), hasty()).await.unwrap_err();
    assert!(error.to_string().contains("no whole answer") && error.to_string().contains("(0 bytes came)"), "{error}");
    let limits = Limits { answer: 1 << 20, ..patient() };
    let error = read(Manner::Endless(b"Name: HAProxy\n".repeat(1000)), limits).await.unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { limit: 1_048_576, .. }), "{error}");
    let exact = Limits { answer: REAL.len(), ..patient() };
    assert!(read(Manner::Sends(REAL.into()), exact).await.is_ok());
    let short = Limits { answer: REAL.len() - 1, ..patient() };
    assert!(matches!(read(Manner::Sends(REAL.into()), short).await, Err(ReadError::TooLarge { .. })));
}

#[tokio::test]
async fn refusals_are_quoted() {
    for refusal in ["Permission denied\n\n", "Unknown command, but maybe one of the following ones:\n  help\n\n"] {
        let error = read(Manner::Sends(refusal.into()), patient()).await.unwrap_err();
        let first = refusal.lines().next().unwrap();
        assert!(error.to_string().contains(&format!("refuses `show info`: `{first}`")), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_closes_at_once_is_an_error() {
    let folder = Folder::new();
    let listener = UnixListener::bind(folder.path("s")).unwrap();
    let closing = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    for _ in 0..20 {
        let error = Client::new(folder.path("s"), patient()).read().await.unwrap_err();
        assert!(matches!(error, ReadError::Closed { .. }), "{error}");
    }
    closing.abort();
}

#[tokio::test]
async fn a_queue_that_nobody_empties_is_an_error() {
    let folder = Folder::new();
    let (path, mut waiting) = (folder.path("s"), Vec::new());
    let _listener = UnixListener::bind(&path).unwrap();
    let error = Client::new(&path, hasty()).read().await.unwrap_err();
    assert!(matches!(error, ReadError::TimedOut { received: 0, .. }), "{error}");
    while let Ok(stream) = UnixStream::connect(&path).await {
        waiting.push(stream);
    }
    let error = Client::new(&path, hasty()).read().await.unwrap_err();
    assert!(error.to_string().contains("its queue is full"), "{error}");
}

#[tokio::test]
async fn a_path_that_is_no_socket_says_what_it_is() {
    let folder = Folder::new();
    let read = |name| {
        let path = folder.path(name);
        async move { Client::new(path, patient()).read().await.unwrap_err() }
    };
    assert!(matches!(read("none").await, ReadError::Missing { .. }));
    std::fs::write(folder.path("file"), "").unwrap();
    assert!(matches!(read("file").await, ReadError::NotASocket { .. }));
    drop(std::os::unix::net::UnixListener::bind(folder.path("left")).unwrap());
    let error = read("left").await;
    assert!(matches!(error, ReadError::NotListening { .. }) && error.means_gone(), "{error}");
    let long = Client::new("/x".repeat(100), patient()).read().await.unwrap_err();
    assert!(matches!(long, ReadError::Io { .. }), "{long}");
}
