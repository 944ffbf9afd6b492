//! Why a reading failed, in one line that says what to do.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::parse::{Fault, Garbled, Response};

/// Why a stats socket could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No such file.
    #[error("cannot connect to {}: there is no such socket: is HAProxy running with `stats socket {}`?", path.display(), path.display())]
    Missing {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The file's or a directory's mode forbids it.
    #[error("cannot connect to {}: permission denied: {remedy}", path.display())]
    Denied {
        /// Path of the socket.
        path: PathBuf,
        /// Who may connect, and what to change.
        remedy: String,
    },
    /// The socket's file is there, and nobody listens.
    #[error("cannot connect to {}: nobody listens there: HAProxy is not running, or has another `stats socket` path", path.display())]
    NotListening {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("cannot connect to {}: it is not a socket: give the path of a `stats socket` line", path.display())]
    NotASocket {
        /// Path of the file.
        path: PathBuf,
    },
    /// The queue of connections stayed full until the deadline.
    #[error("cannot connect to {} within {deadline:?}: its queue is full: HAProxy hangs, or has too many clients there", path.display())]
    Full {
        /// Path of the socket.
        path: PathBuf,
        /// The deadline of a reading.
        deadline: Duration,
    },
    /// The whole output was not there at the deadline.
    #[error("no whole answer on {} within {deadline:?} ({received} bytes came): HAProxy hangs, or all connections of its stats socket are taken", path.display())]
    TimedOut {
        /// Path of the socket.
        path: PathBuf,
        /// The deadline of a reading.
        deadline: Duration,
        /// Bytes that came in time.
        received: usize,
    },
    /// The output is longer than allowed.
    #[error("more than {limit} bytes on {}: it is no stats socket of HAProxy, or the limit is too low", path.display())]
    TooLarge {
        /// Path of the socket.
        path: PathBuf,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The connection was closed without a byte.
    #[error("{} was closed without an answer: HAProxy is stopping, or it is no stats socket of HAProxy", path.display())]
    Closed {
        /// Path of the socket.
        path: PathBuf,
    },
    /// HAProxy refused a command.
    #[error("HAProxy on {} refuses {command}: `{text}`: give the path of a `stats socket` (level `user` suffices), not of the master CLI", path.display())]
    Refused {
        /// Path of the socket.
        path: PathBuf,
        /// The command.
        command: Response,
        /// The first line of what HAProxy said.
        text: String,
    },
    /// The output is not what HAProxy prints.
    #[error("garbled answer on {}: {garbled}: is it a `stats socket` of HAProxy?", path.display())]
    Garbled {
        /// Path of the socket.
        path: PathBuf,
        /// What, and where.
        garbled: Garbled,
    },
    /// Anything else that the system refuses.
    #[error("cannot read {}: {reason}", path.display())]
    Io {
        /// Path of the socket.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
}

impl ReadError {
    /// What a failed connect means.
    pub(super) fn connecting(path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::PermissionDenied => Self::Denied { remedy: remedy(&path), path },
            io::ErrorKind::ConnectionRefused => match std::fs::metadata(&path) {
                Ok(file) if !file.file_type().is_socket() => Self::NotASocket { path },
                _ => Self::NotListening { path },
            },
            _ => Self::Io { path, reason: error.to_string() },
        }
    }

    /// What a parser's complaint means.
    pub(super) fn parsing(path: &Path, garbled: Garbled) -> Self {
        let path = path.to_owned();
        match garbled.fault {
            Fault::Refused(text) => Self::Refused { path, command: garbled.response, text },
            _ => Self::Garbled { path, garbled },
        }
    }

    /// Whether the process that made the socket is gone: nobody listens there any more.
    pub fn means_gone(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::NotListening { .. } | Self::NotASocket { .. })
    }
}

/// Who may connect to the socket, and which line of HAProxy's configuration lets us.
fn remedy(path: &Path) -> String {
    let own = name_of("/etc/passwd", rustix::process::geteuid().as_raw());
    let Ok(file) = std::fs::metadata(path) else {
        return format!("user {own} may not search its directory: let others search it, or move the socket");
    };
    let user = name_of("/etc/passwd", file.uid());
    let group = name_of("/etc/group", file.gid());
    let mode = file.mode() & 0o777;
    format!(
        "it belongs to {user}:{group}, mode {mode:03o}, and this is user {own}: \
         put `group GROUP mode 660` with a group of {own} on its `stats socket` line"
    )
}

/// Name of a user or group by its number; the number where there is none.
fn name_of(database: &str, id: u32) -> String {
    let id = id.to_string();
    let named = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    };
    std::fs::read_to_string(database).ok().and_then(|text| text.lines().find_map(named)).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connect_says_who_may_and_how() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        let error = ReadError::connecting(&path, &io::ErrorKind::PermissionDenied.into()).to_string();
        let start = format!("cannot connect to {}: permission denied: it belongs to ", path.display());
        assert!(error.starts_with(&start), "{error}");
        assert!(error.contains("mode 640") && error.contains("`stats socket` line"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn a_closed_directory_is_told_from_a_closed_socket() {
        let error = ReadError::connecting(Path::new("/no/such/s"), &io::ErrorKind::PermissionDenied.into());
        assert!(error.to_string().contains("may not search its directory"), "{error}");
    }

    #[test]
    fn names_come_from_the_database() {
        assert_eq!(name_of("/etc/passwd", 0), "root");
        assert_eq!(name_of("/etc/passwd", 4_000_000_000), "4000000000");
        assert_eq!(name_of("/no/such", 7), "7");
    }
}
