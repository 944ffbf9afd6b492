//! snmpd's `pass_persist`: requests as lines on one pipe, answers as lines on another.
//!
//! snmpd reads an answer without a time limit, takes exactly as many lines as it expects, and reads one line too many
//! or too few as the answer to its next request. So every request gets its answer, whatever it looks like, and no value
//! is longer than a line of snmpd's.

use std::io::{self, BufRead, ErrorKind, Write};
use std::str;
use std::time::Instant;

use lbstats::{Oid, Value};

use crate::spelled::{Spelled, push_decimal};
use crate::view::View;
use crate::walks::Walks;

/// The longest line of a request that is looked at, in octets; an OID of 128 arcs has 1,408.
const MAX_LINE: usize = 4096;
/// The longest value snmpd reads as one line (its STRMAX, less the line feed and the NUL), in octets.
const MAX_VALUE: usize = 4094;

const NONE: &[u8] = b"NONE\n";

/// Answers requests until the input ends, or nobody reads the output any more.
///
/// `newest` is asked at the start of a walk and for a get. It must not block, and neither should anything else that
/// runs on this thread: snmpd as a whole waits for the answer. Each answer is one write and one flush.
///
/// # Errors
/// When reading or writing fails.
pub fn serve(
    mut input: impl BufRead,
    mut output: impl Write,
    mut walks: Walks,
    mut newest: impl FnMut() -> View,
) -> io::Result<()> {
    let (mut line, mut answer) = (Vec::with_capacity(MAX_LINE), Vec::with_capacity(2 * MAX_VALUE));
    let (mut asked, mut found, mut answered) = (Oid::default(), Oid::default(), Spelled::default());
    let mut after_set = false;
    while read_line(&mut input, &mut line)? {
        answer.clear();
        match &line[..] {
            b"PING" => answer.extend_from_slice(b"PONG\n"),
            b"get" => {
                if !read_line(&mut input, &mut line)? {
                    break;
                }
                let value = parse_oid(&line, &mut asked).then(|| walks.get(Instant::now(), &asked, &mut newest));
                answered.assign(&asked);
                push_varbind(&mut answer, answered.text(), value.flatten());
            }
            b"getnext" => {
                if !read_line(&mut input, &mut line)? {
                    break;
                }
                // A walk asks for what follows the answer before.
                let goes_on = line == answered.text() && !line.is_empty();
                let value = (goes_on || parse_oid(&line, &mut asked))
                    .then(|| if goes_on { answered.oid() } else { &asked })
                    .and_then(|oid| walks.next(Instant::now(), oid, &mut found, &mut newest));
                answered.assign(&found);
                push_varbind(&mut answer, answered.text(), value);
            }
            b"set" => {
                if !read_line(&mut input, &mut line)? || !read_line(&mut input, &mut line)? {
                    break;
                }
                answer.extend_from_slice(b"not-writable\n");
            }
            // The rest of the value: snmpd sends an empty line behind it, and line feeds within it as they are.
            _ if after_set => continue,
            _ => answer.extend_from_slice(NONE),
        }
        after_set = answer == b"not-writable\n";
        match output.write_all(&answer).and_then(|()| output.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            result => result?,
        }
    }
    Ok(())
}

/// Reads a line without its end, LF or CRLF; too long a one becomes empty, which nothing takes for a request. False at
/// the end of the input, where a line without an end is none.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    loop {
        let available = match input.fill_buf() {
            Ok([]) => return Ok(false),
            Ok(available) => available,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = memchr::memchr(b'\n', available);
        let part = &available[..end.unwrap_or(available.len())];
        // One octet more than a line may have tells that it is too long.
        line.extend_from_slice(&part[..part.len().min(MAX_LINE + 1 - line.len())]);
        let taken = part.len() + usize::from(end.is_some());
        input.consume(taken);
        if end.is_some() {
            break;
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    if line.len() > MAX_LINE {
        line.clear();
    }
    Ok(true)
}

/// Whether the line is an OID, and then that in `oid`.
fn parse_oid(line: &[u8], oid: &mut Oid) -> bool {
    !line.is_empty() && str::from_utf8(line).is_ok_and(|text| oid.parse_into(text).is_ok())
}

/// OID, type and value on a line each, or NONE.
fn push_varbind(answer: &mut Vec<u8>, oid: &[u8], value: Option<Value<'_>>) {
    let Some(value) = value else { return answer.extend_from_slice(NONE) };
    answer.extend_from_slice(oid);
    match value {
        Value::Integer(number) => {
            answer.extend_from_slice(if number < 0 { b"\ninteger\n-" } else { b"\ninteger\n" });
            push_decimal(answer, u64::from(number.unsigned_abs()));
        }
        Value::Counter32(number) => {
            answer.extend_from_slice(b"\ncounter\n");
            push_decimal(answer, u64::from(number));
        }
        Value::Counter64(number) => {
            answer.extend_from_slice(b"\ncounter64\n");
            push_decimal(answer, number);
        }
        Value::Gauge32(number) => {
            answer.extend_from_slice(b"\ngauge\n");
            push_decimal(answer, u64::from(number));
        }
        Value::TimeTicks(ticks) => {
            answer.extend_from_slice(b"\ntimeticks\n");
            push_decimal(answer, u64::from(ticks));
        }
        Value::ObjectIdentifier(arcs) => {
            answer.extend_from_slice(b"\nobjectid\n");
            for arc in arcs {
                answer.push(b'.');
                push_decimal(answer, u64::from(*arc));
            }
        }
        Value::OctetString(octets) => {
            answer.extend_from_slice(b"\nstring\n");
            push_string(answer, octets);
        }
    }
    answer.push(b'\n');
}

/// The octets without those that end a line or a C string, and no more of them than snmpd reads as one line.
fn push_string(answer: &mut Vec<u8>, octets: &[u8]) {
    let start = answer.len();
    answer.extend(octets.iter().filter(|octet| !matches!(octet, b'\r' | b'\n' | 0)).take(MAX_VALUE + 1));
    if answer.len() - start > MAX_VALUE {
        answer.truncate(start + MAX_VALUE);
        // A cut through a character takes all of it away; other octets stay as they are.
        if let Err(error) = str::from_utf8(&answer[start..])
            && error.error_len().is_none()
        {
            answer.truncate(start + error.valid_up_to());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;
    use std::sync::Arc;

    use super::*;
    use crate::sample::{self, Ids};
    use expect_test::expect;
    use lbstats::schema::{LBSTATS_ROOTS, PROCESS};
    use lbstats::{Field, TableBuilder};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// What each request got, one write a request.
    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl Write for Writes {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.push(octets.to_vec());
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn view() -> View {
        View::new(Arc::new(sample::snapshot(&Ids { frontends: vec![(1, 2), (1, 10)], ..Ids::default() })))
    }

    /// The view of a process whose description is this.
    fn described(text: &[u8]) -> View {
        let mut processes = TableBuilder::new(&PROCESS);
        let description = |column: &lbstats::Column| match column.source {
            "description" => Field::Text(text),
            _ => Field::Absent,
        };
        processes.push(|_, column| description(column)).unwrap();
        let mut snapshot = lbstats::Snapshot::empty();
        snapshot.processes = Arc::new(processes.finish().0);
        View::new(Arc::new(snapshot))
    }

    fn talk(input: &[u8], view: &View) -> Vec<Vec<u8>> {
        let mut writes = Writes::default();
        serve(input, &mut writes, Walks::default(), || view.clone()).unwrap();
        writes.0
    }

    fn text(input: &str) -> String {
        talk(input.as_bytes(), &view()).into_iter().map(|answer| String::from_utf8(answer).unwrap()).collect()
    }

    #[test]
    fn requests_are_answered_as_snmpd_expects() {
        expect![[r#"
            PONG
            .1.3.6.1.4.1.23263.4.3.1.3.2.1.1.1.2
            integer
            1
            .1.3.6.1.4.1.23263.4.3.1.3.2.1.3.1.10
            string
            name-1
            .1.3.6.1.4.1.23263.4.3.1.3.2.1.4.1.2
            counter64
            3
            NONE
            not-writable
            NONE
            PONG
        "#]]
        .assert_eq(&text(concat!(
            "PING\n",
            "getnext\n.1.3.6.1.4.1.23263\n",
            "get\n.1.3.6.1.4.1.23263.4.3.1.3.2.1.3.1.10\n",
            "getnext\r\n.1.3.6.1.4.1.23263.4.3.1.3.2.1.3.1.10\r\n",
            "get\n.1.3.6.1.4.1.23263.4.3.1.3.2.1.3.1\n",
            "set\n.1.3.6.1.4.1.23263.4.3.1.3.2.1.3.1.10\nstring get\n",
            "getnext\n.1.3.6.1.4.1.58750.4.3.1.3.2.1.13.1.10\n",
            "PING\n",
        )));
    }

    #[test]
    fn a_set_is_answered_once_however_many_lines_its_value_has() {
        for value in ["integer 7\n", "string \"x y\"\n\n", "string \"x\ny\r\n\n\"\n\n"] {
            assert_eq!(
                text(&format!("PING\nset\n.1.3\n{value}PING\nx\n")),
                "PONG\nnot-writable\nPONG\nNONE\n",
                "{value:?}"
            );
        }
    }

    #[test]
    fn what_is_no_request_is_answered_once() {
        let long = format!("{}\n", "1.".repeat(3000));
        for junk in
            ["\n", "ping\n", "PING \n", "bulk\n", "get\n\n", "get\nx\n", "getnext\n1..3\n", "getnext\n1.-3\n", &long]
        {
            assert_eq!(text(&format!("{junk}PING\n")), "NONE\nPONG\n", "{junk:?}");
        }
        assert_eq!(text(&format!("get\n{long}PING\n")), "NONE\nPONG\n");
        assert_eq!(talk(b"\xff\xfe\nget\n\xff\n\0\nPING\n", &view()), [NONE, NONE, NONE, b"PONG\n"]);
    }

    #[test]
    fn the_input_may_end_anywhere() {
        let input = "PING\nget\n.1.3\nset\n.1.3\ninteger 1\n";
        for end in 0..=input.len() {
            let complete = [5, 14, input.len()].iter().filter(|&&at| at <= end).count();
            assert_eq!(talk(&input.as_bytes()[..end], &view()).len(), complete, "{:?}", &input[..end]);
        }
    }

    /// The value line for a description of these octets.
    fn line_of(octets: &[u8]) -> Vec<u8> {
        let mut oid = Oid::from(LBSTATS_ROOTS[0]);
        oid.extend(&[1, 1, 51, 1]);
        let head = format!("{oid}\nstring\n");
        let answer = talk(format!("get\n{oid}\n").as_bytes(), &described(octets)).remove(0);
        let line = answer.strip_prefix(head.as_bytes()).unwrap_or_else(|| panic!("{}", answer.escape_ascii()));
        line.strip_suffix(b"\n").expect("an answer ends its line").to_vec()
    }

    #[test]
    fn strings_fit_into_one_line_of_snmpd() {
        assert_eq!(line_of(b""), b"");
        assert_eq!(line_of(b" \"a\\b\" \xff "), b" \"a\\b\" \xff ");
        assert_eq!(line_of(b"a\r\nb\0c\n"), b"abc");
        assert_eq!(line_of(&[b'x'; 5000]), [b'x'; 4094]);
        assert_eq!(line_of("é".repeat(2047).as_bytes()), "é".repeat(2047).as_bytes());
        assert_eq!(line_of(format!("x{}", "é".repeat(2500)).as_bytes()), format!("x{}", "é".repeat(2046)).as_bytes());
        assert_eq!(line_of(&[0xc3; 5000]), [0xc3; 4094]);
    }

    proptest! {
        #[test]
        fn any_octets_get_one_answer_a_request(input in vec(prop_oneof![
            Just(b"PING\n".to_vec()),
            Just(b"get\n.1.3.6.1.4.1.23263.4.3.1.3.2.1.3.1.10\n".to_vec()),
            "getnext\n\\.1\\.3(\\.[0-9]{1,10}){0,140}\n".prop_map(String::into_bytes),
            vec(any::<u8>(), 0..40),
            Just(b"set\n".to_vec()),
        ], 0..12), piece in 1_usize..50) {
            let input = input.concat();
            let answers = talk(&input, &view());
            for answer in &answers {
                let lines = answer.iter().filter(|octet| **octet == b'\n').count();
                let whole = answer.ends_with(b"\n") && match lines {
                    1 => [&b"PONG\n"[..], NONE, b"not-writable\n"].contains(&&answer[..]),
                    lines => lines == 3,
                };
                prop_assert!(whole, "{}", answer.escape_ascii());
            }
            // However the pipe cuts the input, the answers are the same.
            let mut writes = Writes::default();
            let pipe = BufReader::with_capacity(piece, &input[..]);
            serve(pipe, &mut writes, Walks::default(), view).unwrap();
            prop_assert_eq!(writes.0, answers);
        }

        #[test]
        fn no_string_breaks_the_line(octets in vec(any::<u8>(), 0..5000)) {
            let line = line_of(&octets);
            prop_assert!(line.len() <= MAX_VALUE && !line.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)));
            let kept: Vec<u8> = octets.into_iter().filter(|octet| !matches!(octet, b'\r' | b'\n' | 0)).collect();
            prop_assert!(kept.starts_with(&line) && line.len() + 4 > kept.len().min(MAX_VALUE));
        }
    }
}
