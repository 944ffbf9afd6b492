//! The control socket: how the other commands read the daemon's snapshots.
//!
//! A client connects to the Unix socket and sends one line: `snapshot` for the newest one, `follow` for the newest one
//! and each one after it (those published while the client was busy are left out). An answer is a frame: the length in
//! four octets, high one first, and an encoded [`Snapshot`]. Nothing can be changed through the socket.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as BlockingListener, UnixStream as BlockingStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use lbstats::Snapshot;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::accept;
use crate::publish::Published;

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/lbstatd/control.sock";

/// Clients served at once; more wait in the accept queue.
const CLIENTS: usize = 64;
/// How long a client may take to say what it wants, and to take a frame.
const DEADLINE: Duration = Duration::from_secs(5);
/// A larger frame is none of ours: 20,000 servers make about 4 MiB.
const MAX_FRAME: u32 = 1 << 30;

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: BlockingListener,
    path: PathBuf,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens on `path`, with these permissions (as for chmod). A file that a dead daemon left is replaced.
///
/// # Errors
/// In one line, naming the path, the reason and the remedy. Another daemon that answers there is one.
pub fn bind(path: &Path, mode: u32) -> anyhow::Result<Listener> {
    let shown = path.display();
    if BlockingStream::connect(path).is_ok() {
        bail!("another lbstatd answers on {shown}: stop it, or give this one its own socket with --control");
    }
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        let socket = std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type());
        if !socket {
            bail!("{shown} is there and is no socket: remove it, or choose another path with --control");
        }
        std::fs::remove_file(path)
            .with_context(|| format!("cannot remove the socket a dead lbstatd left at {shown}"))?;
    }
    let socket = BlockingListener::bind(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "create its directory",
            _ => "choose a directory this user may write to",
        };
        anyhow::anyhow!("cannot listen for commands on {shown}: {error}: {remedy}, or give another path with --control")
    })?;
    let listener = Listener { socket, path: path.to_owned() };
    listener.socket.set_nonblocking(true)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {shown}"))?;
    Ok(listener)
}

/// Serves until dropped.
///
/// # Errors
/// The runtime's, when it cannot watch the socket.
pub async fn serve(listener: Listener, published: Arc<Published>) -> io::Result<Infallible> {
    let socket = UnixListener::from_std(listener.socket.try_clone()?)?;
    let serve = |(stream, _)| {
        let published = published.clone();
        async move {
            if let Err(error) = answer(stream, &published).await {
                tracing::debug!("control socket: {error}");
            }
        }
    };
    Ok(accept::each(CLIENTS, "a command", || socket.accept(), serve).await)
}

async fn answer(stream: UnixStream, published: &Published) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(64));
    timeout(DEADLINE, reader.read_line(&mut line)).await??;
    let follow = match line.trim_end() {
        "snapshot" => false,
        "follow" => true,
        _ => return Err(io::Error::other("unknown command")),
    };
    let mut changes = published.changes();
    // The client sends nothing more: a read that ends says that it left.
    let mut gone = reader.into_inner();
    gone.set_limit(1);
    loop {
        changes.mark_unchanged();
        let frame = published.load().encode();
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        timeout(DEADLINE, async {
            writer.write_all(&length.to_be_bytes()).await?;
            writer.write_all(&frame).await
        })
        .await??;
        if !follow {
            return Ok(());
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            _ = gone.read_u8() => return Ok(()),
        }
    }
}

/// A command's connection to the daemon; blocking.
#[derive(Debug)]
pub struct Client {
    stream: BlockingStream,
    path: PathBuf,
}

impl Client {
    /// Asks the daemon at `path` for its newest snapshot, or with `follow` for all from the newest on.
    ///
    /// # Errors
    /// In one line, naming the path, the reason and the remedy.
    pub fn connect(path: &Path, follow: bool) -> anyhow::Result<Self> {
        let shown = path.display();
        let mut stream = BlockingStream::connect(path).map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => "see control-mode in lbstatd.toml, and the mode of its directory",
                _ => "start the daemon with `lbstatd run`, or name its socket with --control",
            };
            anyhow::anyhow!("no lbstatd answers on {shown}: {error}: {remedy}")
        })?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let command: &[u8] = if follow { b"follow\n" } else { b"snapshot\n" };
        stream.write_all(command).with_context(|| format!("cannot ask the lbstatd on {shown}"))?;
        Ok(Self { stream, path: path.to_owned() })
    }

    /// The daemon's process id; none where it is in a PID namespace that this process does not see.
    pub fn daemon(&self) -> Option<u32> {
        let credentials = rustix::net::sockopt::socket_peercred(&self.stream).ok()?;
        u32::try_from(credentials.pid.as_raw_pid()).ok().filter(|pid| *pid != 0)
    }

    /// The next snapshot.
    ///
    /// # Errors
    /// When the daemon stopped, sent nothing for longer than `patience` (none: for ever), or is of another version.
    pub fn next(&mut self, patience: Option<Duration>) -> anyhow::Result<Snapshot> {
        let shown = self.path.display().to_string();
        self.read_frame(patience).with_context(|| format!("lost the lbstatd on {shown}"))
    }

    fn read_frame(&mut self, patience: Option<Duration>) -> anyhow::Result<Snapshot> {
        self.stream.set_read_timeout(patience)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > MAX_FRAME {
            bail!("it announced a snapshot of {length} octets");
        }
        self.stream.set_read_timeout(Some(DEADLINE))?;
        let mut frame = Vec::new();
        // `take` and not a buffer of the announced length: a liar gets no memory.
        (&self.stream).take(u64::from(length)).read_to_end(&mut frame)?;
        Ok(Snapshot::decode(&frame)?)
    }
}
