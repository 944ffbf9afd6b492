//! A stats socket between lbstatd and HAProxy that notes what HAProxy answered.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use crate::reading::Reading;

/// Passes everything on in both directions, as long as this process lives.
pub(crate) struct Tap {
    dir: TempDir,
    answers: Arc<Mutex<Vec<String>>>,
}

impl Tap {
    /// In front of HAProxy's own socket.
    pub(crate) fn start(haproxy: PathBuf) -> Self {
        let dir = TempDir::with_prefix("lbstatd-tap-").unwrap();
        let answers = Arc::new(Mutex::new(Vec::new()));
        let listener = UnixListener::bind(dir.path().join("stats.sock")).unwrap();
        let notes = answers.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Without HAProxy, the client sees an end as soon as it connects.
                if let Ok(server) = UnixStream::connect(&haproxy) {
                    connect(client, server, notes.clone());
                }
            }
        });
        Self { dir, answers }
    }

    /// Path of the socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("stats.sock")
    }

    /// Each `show info` and the `show stat` that followed it, oldest first.
    pub(crate) fn readings(&self) -> Vec<Reading> {
        let answers = self.answers.lock().unwrap();
        answers
            .windows(2)
            .filter(|pair| pair[0].starts_with("Name: ") && pair[1].starts_with("# pxname,"))
            .map(|pair| Reading::new(&pair[0], &pair[1]))
            .collect()
    }
}

fn connect(client: UnixStream, server: UnixStream, notes: Arc<Mutex<Vec<String>>>) {
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let _ = note(server, &client, &notes);
        let _ = client.shutdown(Shutdown::Both);
    });
}

/// Notes an answer before its last byte is passed on, so that nothing is published that is not noted.
fn note(mut server: UnixStream, mut client: &UnixStream, notes: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut buffer = [0; 16_384];
    let mut answer = String::new();
    loop {
        let count = server.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        // Nothing in these tests' configurations makes HAProxy split a character between two writes.
        answer.push_str(&String::from_utf8_lossy(&buffer[..count]));
        while let Some((complete, rest)) = answer.split_once("\n\n") {
            // In interactive mode a prompt follows each answer.
            notes.lock().unwrap().push(complete.trim_start_matches(['>', ' ', '\n']).to_owned());
            answer = rest.to_owned();
        }
        client.write_all(&buffer[..count])?;
    }
}
