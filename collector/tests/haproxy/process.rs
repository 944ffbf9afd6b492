//! A private HAProxy for one test: its own folder, sockets and ports, and gone when the test ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a test waits for something that is due at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder for sockets and configurations.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A running HAProxy; dropping it kills it.
pub(crate) struct Haproxy {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Haproxy {
    /// Runs HAProxy in the foreground with its stats socket at `socket`, and waits until that answers.
    pub(crate) fn start(socket: &Path, level: &str, global: &str, sections: &str) -> Self {
        let config = socket.with_extension("cfg");
        let path = socket.display();
        let text = format!(
            "global\n  stats socket {path} mode 600 level {level}\n{global}\n\
             defaults\n  mode http\n  timeout client 9s\n  timeout server 9s\n  timeout connect 9s\n{sections}\n"
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(socket.with_extension("log")).unwrap();
        let mut child = Command::new("/usr/sbin/haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("HAProxy is installed: apt-get install haproxy");
        let end = Instant::now() + PATIENCE;
        while UnixStream::connect(socket).is_err() {
            let ended = child.try_wait().unwrap();
            let log = || std::fs::read_to_string(socket.with_extension("log")).unwrap();
            assert!(ended.is_none(), "HAProxy ended: {}", log());
            assert!(Instant::now() < end, "HAProxy does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, socket: socket.to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What HAProxy says to these commands, read without any of our code.
    pub(crate) fn says(&self, commands: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{commands}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of the loopback that is free now; nothing keeps it so, but the kernel hands out others first.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map(|address| address.port()).unwrap()
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
