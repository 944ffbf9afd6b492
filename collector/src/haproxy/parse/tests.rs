//! The parsers against real output of HAProxy 2.6, cut and changed at every place, and against a second, naive reader.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const INFO: &str = include_str!("../../../tests/haproxy-2.6/oper.show_info.txt");
const STAT: &str = include_str!("../../../tests/haproxy-2.6/oper.show_stat.txt");
const USER_INFO: &str = include_str!("../../../tests/haproxy-2.6/user.show_info.txt");
const USER_STAT: &str = include_str!("../../../tests/haproxy-2.6/user.show_stat.txt");

const USER_SERVERS: &str = include_str!("../../../tests/haproxy-2.6/user.show_servers_state.txt");

/// A whole output, small enough to be cut at every place, with every kind of row and quoting.
const SMALL: &str = "Name: HAProxy\nVersion: 2.6.12\nProcess_num: 1\nPid: 4711\nUptime_sec: 9\nnode: n\n\
    description: \"a \"\"q\"\", b\n\n# pxname,svname\nName: x\"\nStopping: 0\nBuild info: x\n\n\
    # pxname,svname,scur,status,pid,iid,sid,type,addr,last_chk,-,scur,\n\
    www,FRONTEND,3,OPEN,1,2,0,0,,,-,7,\n\
    www,sock-1,3,OPEN,1,2,1,3,127.0.0.1:80,,-,7,\n\
    app,\"a,b\",-1,\"UP \"\"1/2\"\"\",1,3,1,2,10.0.0.1:80,\"x\n\ny, z\",-,7,\n\
    app,BACKEND,2,UP,1,3,0,1,,,-,7,\n\n";

#[test]
fn a_real_reading_is_whole() {
    let reading = parse(format!("{INFO}{STAT}").as_bytes()).unwrap();
    assert_eq!(reading.pid, Some(pid(INFO)));
    assert_eq!((reading.process_number, reading.processes, reading.stopping, reading.duplicates), (1, 1, false, 0));
    let rows = [&reading.process, &reading.frontends, &reading.backends, &reading.servers].map(Table::len);
    assert_eq!(rows, [1, 7, 9, 20]);
    let description = PROCESS.place("description").unwrap();
    assert_eq!(reading.process.text(description, 0), Some(&b"Edge load balancer, site A"[..]));
    let listens: Vec<String> = reading.listens.iter().map(|l| format!("{} {}", l.proxy, l.address)).collect();
    assert_eq!(
        listens,
        [
            "www 127.0.0.1:18100",
            "www 127.0.0.1:18101",
            "www_ssl 127.0.0.1:18102",
            "tcp_in 127.0.0.1:18103",
            "name-with.odd:chars 127.0.0.1:18104",
            "both 127.0.0.1:18105",
            "auto_listen 127.0.0.1:18106",
            "stats 127.0.0.1:18107",
        ]
    );
}

#[test]
fn level_user_gives_all_but_the_addresses() {
    let reading = parse(format!("{USER_INFO}{USER_STAT}").as_bytes()).unwrap();
    assert_eq!([&reading.frontends, &reading.backends, &reading.servers].map(Table::len), [7, 9, 20]);
    assert_eq!(reading.listens, []);
}

#[test]
fn servers_have_the_same_addresses_at_both_levels() {
    let told = parse(format!("{INFO}{STAT}").as_bytes()).unwrap().destinations.unwrap();
    assert_eq!(told.len(), 20);
    let hidden = format!("{USER_INFO}{USER_STAT}");
    assert_eq!(parse(hidden.as_bytes()).unwrap().destinations, None);
    let asked = parse_with_servers(format!("{hidden}{USER_SERVERS}").as_bytes()).unwrap().destinations.unwrap();
    let sorted = |mut servers: Vec<Destination>| {
        servers.sort_by(|a, b| (&a.proxy, &a.server).cmp(&(&b.proxy, &b.server)));
        servers
    };
    assert_eq!(sorted(asked), sorted(told));
    // HAProxy before 1.6 does not know the command.
    let refused = parse_with_servers(format!("{hidden}Unknown command: `show servers state`\n\n").as_bytes());
    assert_eq!(refused.unwrap().destinations, Some(Vec::new()));
    let trailing = parse_with_servers(format!("{hidden}{USER_SERVERS}x").as_bytes()).unwrap_err();
    assert_eq!(trailing.fault, Fault::Trailing);
}

#[test]
fn listeners_that_are_not_of_tcp_are_told_apart() {
    let rows = "# pxname,svname,iid,sid,type,addr,proto\n\
        www,FRONTEND,2,0,0,,\nwww,a,2,1,3,127.0.0.1:443,tcpv4\nwww,b,2,2,3,127.0.0.1:443,quic4\n\
        www,c,2,3,3,unix,unix_stream\nwww,d,2,4,3,,\nwww,e,2,5,3,Success,\n\
        app,one,3,1,2,127.0.0.1:0,\napp,two,3,2,2,127.0.0.1:+80,\napp,three,3,3,2,unix,\n\n";
    let (stat, _) = parse_stat(rows.as_bytes()).unwrap();
    assert_eq!(stat.listens.len(), 1);
    let bound: Vec<Bound> = stat.unnamed.iter().map(|unnamed| unnamed.bound).collect();
    assert_eq!(bound, [Bound::Quic, Bound::Unix, Bound::Other]);
    assert_eq!(stat.destinations, []);
}

#[test]
fn every_cell_is_what_a_naive_reader_finds() {
    for output in [format!("{INFO}{STAT}"), format!("{USER_INFO}{USER_STAT}"), SMALL.to_owned()] {
        compare(&parse(output.as_bytes()).unwrap(), output.as_bytes());
    }
}

#[test]
fn output_cut_anywhere_is_an_error() {
    let real = format!("{INFO}{STAT}");
    for whole in [real.as_bytes(), SMALL.as_bytes()] {
        for end in 0..whole.len() {
            let error = parse(&whole[..end]).expect_err("a part of the output");
            assert!(matches!(error.fault, Fault::Cut), "cut at {end}: {error}");
        }
        assert!(parse(whole).is_ok());
    }
}

#[test]
fn what_stands_in_quotes_is_no_structure() {
    let reading = parse(SMALL.as_bytes()).unwrap();
    let description = PROCESS.place("description").unwrap();
    let expected = "a \"q\", b\n\n# pxname,svname\nName: x";
    assert_eq!(reading.process.text(description, 0), Some(expected.as_bytes()));
    assert_eq!(reading.servers.text(SERVER.place("svname").unwrap(), 0), Some(&b"a,b"[..]));
    assert_eq!(reading.servers.text(SERVER.place("status").unwrap(), 0), Some(&b"UP \"1/2\""[..]));
    assert_eq!(reading.servers.number(SERVER.place("scur").unwrap(), 0), None, "-1 is HAProxy's never");
}

#[test]
fn a_module_column_does_not_pass_for_one_of_haproxys_own() {
    let reading = parse(SMALL.as_bytes()).unwrap();
    assert_eq!(reading.frontends.number(FRONTEND.place("scur").unwrap(), 0), Some(3));
}

#[test]
fn octets_are_carried_as_they_are() {
    let mut output = SMALL.as_bytes().to_vec();
    let at = output.windows(4).position(|four| four == b"OPEN").unwrap();
    output[at..at + 4].copy_from_slice(b"\0\xff\xc3\r");
    let reading = parse(&output).unwrap();
    assert_eq!(reading.frontends.text(FRONTEND.place("status").unwrap(), 0), Some(&b"\0\xff\xc3\r"[..]));
}

#[test]
fn listeners_have_every_form_of_address() {
    let cases = [
        ("127.0.0.1:80", Some("127.0.0.1:80")),
        ("0.0.0.0:80", Some("0.0.0.0:80")),
        ("[::1]:80", Some("[::1]:80")),
        ("[::]:80", Some("[::]:80")),
        ("[::ffff:127.0.0.1]:80", Some("[::ffff:127.0.0.1]:80")),
        ("unix", None),
        ("", None),
        ("Address family not supported by protocol", None),
    ];
    for (printed, expected) in cases {
        let reading = parse(SMALL.replace("127.0.0.1:80", printed).as_bytes()).unwrap();
        let found: Vec<String> = reading.listens.iter().map(|listen| listen.address.to_string()).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{printed}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let cases = [
        ("www,FRONTEND,3,", "www,FRONTEND,3,,", "line 2 of `show stat`: it has 14 fields, the header has 13"),
        ("www,FRONTEND,3,", "www,FRONTEND,", "line 2 of `show stat`: it has 12 fields, the header has 13"),
        ("www,FRONTEND,3,", "www,FRONTEND,3x,", "line 2 of `show stat`: field scur holds `3x`, which is no number"),
        ("www,sock-1,3,", ",sock-1,3,", "line 3 of `show stat`: field pxname is missing"),
        ("app,BACKEND,2,UP,1,3,0,1", "app,BACKEND,2,UP,1,,0,1", "line 7 of `show stat`: field iid is missing"),
        ("app,BACKEND,2,UP,1,3,0,1", "app,BACKEND,2,UP,1,3,x,1", "line 7 of `show stat`: field sid is missing"),
        ("app,BACKEND,2,UP,1,3,0,1", "app,BACKEND,2,UP,1,3,0,", "line 7 of `show stat`: field type is missing"),
        ("app,BACKEND,2,UP,1,3,0,1", "app,BACKEND,2,UP,1,3,0,4", "line 7 of `show stat`: field type holds `4`"),
        ("app,BACKEND,2,UP", "app,BACKEND,2,U\"P", "line 7 of `show stat`: a quote stands where none can be"),
        (",iid,", ",jid,", "line 1 of `show stat`: field iid is missing"),
        (",addr,", ",scur,", "line 1 of `show stat`: field scur is there twice"),
        ("# pxname", "# qxname", "line 1 of `show stat`: `# qxname,svname,scur"),
        ("node: n\n", "node\n", "line 6 of `show info`: it is not a name, a colon and a value"),
        ("node: n\n", "Pid: 1\n", "line 6 of `show info`: field Pid is there twice"),
        (
            "Uptime_sec: 9",
            "Uptime_sec: 1e3",
            "line 13 of `show info`: field Uptime_sec holds `1e3`, which is no number",
        ),
        ("Name: HAProxy", "Nane: HAProxy", "line 1 of `show info`: `Nane: HAProxy` is not how this response begins"),
    ];
    for (from, to, expected) in cases {
        // The first header of the small output stands in quotes: the last one is meant.
        let (before, after) = SMALL.rsplit_once(from).unwrap();
        let error = parse(format!("{before}{to}{after}").as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}, but {expected} was due");
    }
    let error = parse(format!("{SMALL}\n").as_bytes()).unwrap_err();
    assert_eq!(error, Garbled { response: Response::ShowStat, line: 9, fault: Fault::Trailing });
}

#[test]
fn a_refusal_is_recognised_in_either_place() {
    let (info, _) = SMALL.split_once("# pxname,svname,scur").unwrap();
    for refusal in
        ["Permission denied\n\n", "Unknown command, but maybe one of the following ones matches:\n  help\n\n"]
    {
        for output in [refusal.to_owned(), format!("{info}{refusal}")] {
            let fault = parse(output.as_bytes()).unwrap_err().fault;
            assert_eq!(fault, Fault::Refused(refusal.lines().next().unwrap().to_owned()));
        }
    }
}

#[test]
fn a_repeated_row_is_counted_and_left_out() {
    let row = "www,FRONTEND,3,OPEN,1,2,0,0,,,-,7,\n";
    let output = SMALL.replace(row, &format!("{row}{}", row.replace(",3,", ",4,")));
    let reading = parse(output.as_bytes()).unwrap();
    assert_eq!((reading.frontends.len(), reading.duplicates), (1, 1));
    assert_eq!(reading.frontends.number(FRONTEND.place("scur").unwrap(), 0), Some(3));
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic(output in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse_info(&output);
        let _ = parse_stat(&output);
        let _ = parse(&[SMALL.as_bytes(), &output].concat());
    }

    #[test]
    fn octets_of_the_syntax_never_panic(output in "(Name: |# pxname,|[a,\"\n 0-9-]){0,60}") {
        let _ = parse(output.as_bytes());
    }

    /// What is read from changed output is read as a naive reader reads it, whole: nothing is left out in silence.
    #[test]
    fn changed_output_is_refused_or_read_right(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&b"\n,\"\0a9-: #\xff"[..])), 1..4),
        swap in any::<bool>(),
    ) {
        let mut output = SMALL.as_bytes().to_vec();
        for (place, octet) in changes {
            let at = place.index(output.len());
            if swap { output[at] = octet } else { output.insert(at, octet) }
        }
        if let Ok(reading) = parse(&output) {
            compare(&reading, &output);
        }
    }

    #[test]
    fn real_output_with_a_change_is_refused_or_read_right(place: prop::sample::Index, octet: u8) {
        let mut output = format!("{INFO}{STAT}").into_bytes();
        let at = place.index(output.len());
        output[at] = octet;
        if let Ok(reading) = parse(&output) {
            compare(&reading, &output);
        }
    }
}

/// Raw values by name.
type Fields = HashMap<String, Vec<u8>>;

/// Every cell of the tables, and the number of rows, against [`naive`].
fn compare(reading: &Reading, output: &[u8]) {
    let (info, rows) = naive(output);
    compare_row(&reading.process, 0, &info);
    let mut seen = 0;
    for (kind, table) in [("0", &reading.frontends), ("1", &reading.backends), ("2", &reading.servers)] {
        let rows: Vec<_> = rows.iter().filter(|row| row["type"] == kind.as_bytes()).collect();
        let mut taken = std::collections::HashSet::new();
        for row in rows {
            let index: Vec<u32> =
                table.schema().columns[..table.schema().index].iter().map(|c| arc(row, c.source)).collect();
            let place = table.row_at(&index).expect("the row of the output is in the table");
            if taken.insert(place) {
                compare_row(table, place, row);
            } else {
                seen += 1;
            }
        }
        assert_eq!(taken.len(), table.len());
    }
    assert_eq!(seen, reading.duplicates);
}

fn compare_row(table: &Table, row: usize, fields: &Fields) {
    for (place, column) in table.schema().columns.iter().enumerate() {
        let raw = fields.get(column.source).map_or(&b""[..], Vec::as_slice);
        let expected = if place < table.schema().index {
            Some(arc(fields, column.source).to_string())
        } else {
            Some(String::from_utf8_lossy(raw).into_owned()).filter(|text| !text.is_empty())
        };
        let found = table.text(place, row).map(|text| String::from_utf8_lossy(text).into_owned());
        let found = found.or_else(|| table.number(place, row).map(|number| number.to_string()));
        // Leading zeros and HAProxy's -1 are the only forms that do not come back as they stood.
        let same = found == expected
            || found.is_none() && raw.first() == Some(&b'-')
            || found.as_deref().is_some_and(|found| trimmed(found) == trimmed(&expected.clone().unwrap_or_default()));
        assert!(same, "{} of row {row}: {found:?} for {expected:?}", column.source);
    }
}

fn trimmed(number: &str) -> &str {
    number.trim_start_matches('0')
}

fn arc(fields: &Fields, name: &str) -> u32 {
    let text = fields.get(name).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
    text.parse().unwrap_or(1)
}

fn pid(info: &str) -> u32 {
    info.lines().find_map(|line| line.strip_prefix("Pid: ")).unwrap().parse().unwrap()
}

/// The same output read another way: octet by octet, all into maps of owned fields.
fn naive(output: &[u8]) -> (Fields, Vec<Fields>) {
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    let mut quoted = false;
    for (at, &octet) in output.iter().enumerate() {
        // A quote opens a field only where a field begins.
        let opens = matches!(output[..at], [.., b','] | [.., b'\n']) || output[..at].ends_with(b": ");
        if octet == b'"' && (quoted || opens) {
            quoted = !quoted;
        } else if octet == b'"' && output[at - 1] == b'"' {
            quoted = true;
        }
        if octet == b'\n' && !quoted {
            lines.push(Vec::new());
        } else {
            lines.last_mut().unwrap().push(octet);
        }
    }
    let blank = lines.iter().position(Vec::is_empty).unwrap();
    let mut info = HashMap::new();
    for line in &lines[..blank] {
        let colon = line.iter().position(|octet| *octet == b':').unwrap();
        let value = line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]);
        info.insert(String::from_utf8_lossy(&line[..colon]).into_owned(), unquoted(value));
    }
    let header: Vec<String> =
        split(&lines[blank + 1][2..]).iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let own = header.iter().position(|name| name == "-").unwrap_or(header.len());
    let rows = lines[blank + 2..].iter().take_while(|line| !line.is_empty());
    (info, rows.map(|line| header[..own].iter().cloned().zip(split(line)).collect()).collect())
}

fn split(line: &[u8]) -> Vec<Vec<u8>> {
    let mut fields = vec![Vec::new()];
    let mut quoted = false;
    for &octet in line {
        quoted ^= octet == b'"';
        if octet == b',' && !quoted {
            fields.push(Vec::new());
        } else {
            fields.last_mut().unwrap().push(octet);
        }
    }
    fields.iter().map(|field| unquoted(field)).collect()
}

fn unquoted(field: &[u8]) -> Vec<u8> {
    match field {
        [b'"', inner @ .., b'"'] => String::from_utf8_lossy(inner).replace("\"\"", "\"").into_bytes(),
        _ => field.to_vec(),
    }
}
