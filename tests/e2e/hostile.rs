//! A stats socket that sends anything but what HAProxy sends.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lbstatd_tests::{Haproxy, HaproxyConfig, Lbstatd, LbstatdConfig, wait_until};
use tempfile::TempDir;

use crate::exposition::Exposition;
use crate::zoo::DEFAULTS;

/// What a socket does with an answer of HAProxy.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    /// Passes it on.
    Honest,
    /// Passes it on in pieces of 4 KiB, with pauses, so that no single read holds it all.
    Pieces,
    /// Ends in the middle of the last row of `show stat`.
    CutRow,
    /// Ends behind the last row, without the empty line.
    NoEnd,
    /// Sends 10 MB of letters without a newline.
    Garbage,
    /// Sends 10 MB of digits and commas.
    Digits,
    /// Sends octets that are no text.
    Binary,
    /// Says nothing, and stays connected.
    Silent,
    /// Ends without a word.
    Ends,
    /// Refuses the command, as HAProxy does one it does not know.
    Refuses,
    /// Sends letters where a number should be.
    NoNumber,
    /// Leaves fields out of a row.
    ShortRow,
}

/// A stats socket that answers with what a HAProxy once said, according to its mood.
struct Impostor {
    dir: TempDir,
    mood: Arc<Mutex<Mood>>,
}

impl Impostor {
    fn start(info: String, stat: String) -> Self {
        let dir = TempDir::with_prefix("lbstatd-impostor-").unwrap();
        let mood = Arc::new(Mutex::new(Mood::Honest));
        let listener = UnixListener::bind(dir.path().join("stats.sock")).unwrap();
        let moods = mood.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (moods, info, stat) = (moods.clone(), info.clone(), stat.clone());
                // A client that leaves early is no error.
                thread::spawn(move || drop(serve(stream, &moods, &info, &stat)));
            }
        });
        Self { dir, mood }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("stats.sock")
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

fn serve(mut stream: UnixStream, moods: &Mutex<Mood>, info: &str, stat: &str) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let mood = *moods.lock().unwrap();
    let mut answer = Vec::new();
    for command in line.trim_end().split(';') {
        let said = match command.trim() {
            "show info" => info,
            "show stat" => stat,
            other => panic!("a command that HAProxy was not asked before: {other:?}"),
        };
        answer.extend_from_slice(said.as_bytes());
        answer.push(b'\n');
    }
    if let Some(answer) = spoil(mood, answer) {
        for piece in answer.chunks(4096) {
            stream.write_all(piece)?;
            if mood == Mood::Pieces {
                thread::sleep(Duration::from_millis(1));
            }
        }
    } else {
        // Until the client gives up.
        std::io::copy(&mut stream, &mut std::io::sink())?;
    }
    Ok(())
}

fn spoil(mood: Mood, honest: Vec<u8>) -> Option<Vec<u8>> {
    let text = String::from_utf8(honest).unwrap();
    Some(match mood {
        Mood::Honest | Mood::Pieces => text.into_bytes(),
        Mood::CutRow => text.as_bytes()[..text.len() - 40].to_vec(),
        Mood::NoEnd => text.trim_end().as_bytes().to_vec(),
        Mood::Garbage => vec![b'x'; 10_000_000],
        Mood::Digits => b"12345,".repeat(1_700_000),
        Mood::Binary => (0..1_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect(),
        Mood::Silent => return None,
        Mood::Ends => Vec::new(),
        Mood::Refuses => {
            b"Unknown command: 'show', but maybe one of the following ones is a better match:\n\n".to_vec()
        }
        Mood::NoNumber => {
            text.replace(",OPEN,", ",OPEN,,,,,,,,,one,").replace("Uptime_sec: ", "Uptime_sec: x").into_bytes()
        }
        Mood::ShortRow => {
            let row = text.lines().find(|line| line.starts_with("www,FRONTEND,")).unwrap();
            text.replace(row, "www,FRONTEND,1,2,3").into_bytes()
        }
    })
}

#[test]
fn nothing_that_a_socket_sends_stops_it_or_changes_a_number() {
    let listen = lbstatd_tests::address();
    let proxies: String = (0..200).map(|n| format!("backend b{n}\n    server s {listen}\n")).collect();
    let sections = format!("{DEFAULTS}\nfrontend www\n    bind {listen}\n    default_backend b0\n{proxies}");
    let haproxy = Haproxy::start(HaproxyConfig { sections, ..HaproxyConfig::default() }).unwrap();
    let (info, stat) = (haproxy.command("show info").unwrap(), haproxy.command("show stat").unwrap());
    assert!(stat.len() > 16_384, "a single read could hold it");
    let impostor = Impostor::start(info, stat);
    let mut lbstatd = Lbstatd::start(&LbstatdConfig::new(impostor.socket())).unwrap();
    let labels = format!("{{source=\"haproxy\",target=\"{}\"}}", impostor.socket().display());
    let up = format!("lbstatd_up{labels}");
    let page = || Exposition::of(&lbstatd);
    let honest = wait_until("honest answers", page, |page| page.get(&up) == Some(1.0)).unwrap();
    assert_eq!(honest.family("haproxy_server_sessions_total").count(), 200);

    for mood in [
        Mood::CutRow,
        Mood::NoEnd,
        Mood::Garbage,
        Mood::Digits,
        Mood::Binary,
        Mood::Silent,
        Mood::Ends,
        Mood::Refuses,
        Mood::NoNumber,
        Mood::ShortRow,
    ] {
        impostor.set(mood);
        let what = format!("{mood:?} to be noticed");
        let spoilt = wait_until(&what, page, |page| page.get(&up) == Some(0.0)).unwrap();
        assert_same(&honest, &spoilt, mood);
        let reason = spoilt.family("lbstatd_source_error_info").find(|(labels, _)| labels.contains("haproxy"));
        assert!(reason.is_some_and(|(labels, _)| labels.len() < 600), "{mood:?}: {reason:?}");

        impostor.set(Mood::Pieces);
        let what = format!("recovery from {mood:?}");
        let pieces = wait_until(&what, page, |page| page.get(&up) == Some(1.0)).unwrap();
        assert_same(&honest, &pieces, Mood::Pieces);
    }
    assert!(lbstatd.is_running().unwrap());
    assert!(!lbstatd.log().contains("panicked"), "{}", lbstatd.log());
}

/// All that comes from HAProxy is as it was; what it once said never changes here.
fn assert_same(honest: &Exposition, now: &Exposition, mood: Mood) {
    let of = |page: &Exposition| -> Vec<(String, f64)> {
        let series = page.series.iter().filter(|(series, _)| series.starts_with("haproxy_"));
        series.map(|(series, value)| (series.clone(), *value)).collect()
    };
    assert_eq!(of(honest), of(now), "{mood:?}");
}
