//! pass_persist's protocol, spoken to `lbstatd pass-persist` as snmpd speaks it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use lbstatd_tests::{Level, lbstatd_binary, wait_for};

use crate::reading::{ROOTS, Reading};
use crate::zoo;

/// A child of ours in snmpd's place.
struct Responder {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Responder {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(lbstatd_binary().unwrap())
            .arg("pass-persist")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { input: child.stdin.take(), child, output }
    }

    fn ask(&mut self, lines: &str) {
        self.input.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    /// One answer: a single line that says there is none, or three lines.
    fn answer(&mut self) -> Vec<String> {
        let first = self.line();
        if first.starts_with('.') { vec![first, self.line(), self.line()] } else { vec![first] }
    }

    /// Ends standard input, and returns the exit code, what was left on standard output, and standard error.
    fn end(&mut self) -> (Option<i32>, String, String) {
        drop(self.input.take());
        let (mut rest, mut errors) = (String::new(), String::new());
        self.output.read_to_string(&mut rest).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code(), rest, errors)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn requests_are_answered_in_their_order_until_the_end() {
    let zoo = zoo::start(Level::User);
    let socket = zoo.haproxy.socket();
    let mut responder = Responder::start(&["--stats-socket", socket.to_str().unwrap()]);
    let root = ROOTS[0];
    responder.ask("PING\n");
    assert_eq!(responder.line(), "PONG\n");

    wait_for("the first snapshot", || {
        responder.ask(&format!("get\n{root}.2.1.3.1.10\n"));
        let answer = responder.answer();
        anyhow::ensure!(answer.len() == 3, "{answer:?}");
        Ok(())
    })
    .unwrap();
    let cases = [
        ("get", "2.1.3.1.10", "2.1.3.1.10", "string", "www"),
        ("get", "1.1.1.1", "1.1.1.1", "integer", "1"),
        ("get", "2.1.7.1.10", "2.1.7.1.10", "counter64", "0"),
        ("get", "4.1.24.1.9.10", "4.1.24.1.9.10", "counter", "0"),
        ("getnext", "2.1.3.1.9", "2.1.3.1.10", "string", "www"),
        ("getnext", "2.1.2.1.3", "2.1.2.1.9", "integer", "9"),
        ("getnext", "3.1.1.1.9", "3.1.1.1.2147483647", "integer", "1"),
    ];
    for (command, asked, oid, kind, value) in cases {
        responder.ask(&format!("{command}\n{root}.{asked}\n"));
        assert_eq!(responder.answer(), [format!("{root}.{oid}\n"), format!("{kind}\n"), format!("{value}\n")]);
    }
    // snmpd may write several requests before it reads.
    responder.ask(&format!("PING\nget\n{root}.2.1.3.1.77\ngetnext\n.1.3.6.1.4.1.58750.4.3.1.4\nPING\n"));
    assert_eq!([(); 4].map(|()| responder.line()), ["PONG\n", "NONE\n", "NONE\n", "PONG\n"]);
    responder.ask(&format!("set\n{root}.2.1.3.1.10\nstring \"other\"\n"));
    assert_eq!(responder.line(), "not-writable\n");
    responder.ask("PING\n");
    assert_eq!(responder.line(), "PONG\n");
    assert_eq!(responder.end(), (Some(0), String::new(), String::new()));
}

#[test]
fn getnext_from_the_root_visits_every_row_once_and_stops() {
    let zoo = zoo::start(Level::User);
    let socket = zoo.haproxy.socket();
    let mut responder = Responder::start(&["--stats-socket", socket.to_str().unwrap()]);
    let rows = Reading::of(&zoo.haproxy).rows();
    wait_for("the first snapshot", || {
        responder.ask(&format!("getnext\n{}\n", ROOTS[0]));
        anyhow::ensure!(responder.answer().len() == 3);
        Ok(())
    })
    .unwrap();
    let (mut oid, mut count) = (".1.3.6.1.4.1.23263\n".to_owned(), 0);
    loop {
        responder.ask(&format!("getnext\n{oid}"));
        match responder.answer().into_iter().next() {
            Some(next) if next.starts_with('.') => oid = next,
            end => break assert_eq!(end.as_deref(), Some("NONE\n")),
        }
        count += 1;
        assert!(count <= 2 * rows, "it goes round in circles at {oid}");
    }
    // One responder holds both roots; snmpd asks it only for what is below the line it was started for.
    assert_eq!(count, 2 * rows);
}

#[test]
fn nonsense_neither_stops_it_nor_puts_it_out_of_step() {
    let mut responder = Responder::start(&["--stats-socket", "/nonexistent/stats.sock"]);
    for nonsense in ["get\nrubbish\n", "getnext\n.1.3.99999999999999999999\n", "get\n\n", "getnext\n.1..3\n"] {
        responder.ask(nonsense);
        assert_eq!(responder.line(), "NONE\n", "{nonsense:?}");
    }
    responder.ask("PING\n");
    assert_eq!(responder.line(), "PONG\n");
    // A request cut by the end is no request.
    responder.ask("getnext\n");
    assert_eq!(responder.end(), (Some(0), String::new(), String::new()));
}
