//! Parser for the response to `show servers state`, which tells the addresses of servers at level `user` too.
//!
//! It is a line with the version of its format, `1`, a header that begins with `# `, a line for each server, fields
//! separated by single spaces, and an empty line.

use std::net::{IpAddr, SocketAddr};

use super::Destination;
use super::parse::{Fault, Garbled, Response, shortened};

/// The one version of the format there is (`SRV_STATE_FILE_VERSION` in HAProxy's sources).
const VERSION: &[u8] = b"1";

/// Reads the response to `show servers state` off the front of `output`; gives what follows it, too. A server without an
/// IP address and a port, such as one whose name is not resolved yet, is not among those it gives.
///
/// # Errors
/// When a whole response does not stand there.
pub fn parse_servers(output: &[u8]) -> Result<(Vec<Destination>, &[u8]), Garbled> {
    let mut lines = Lines { rest: output, number: 0 };
    servers(&mut lines).map(|servers| (servers, lines.rest)).map_err(|fault| Garbled {
        response: Response::ShowServersState,
        line: lines.number,
        fault,
    })
}

struct Lines<'a> {
    rest: &'a [u8],
    /// Number of the line read last, from 1.
    number: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a [u8], Fault> {
        self.number += 1;
        let end = self.rest.iter().position(|octet| *octet == b'\n').ok_or(Fault::Cut)?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(line)
    }
}

fn servers(lines: &mut Lines<'_>) -> Result<Vec<Destination>, Fault> {
    let version = lines.next()?;
    if version != VERSION {
        return Err(not_the_start(version));
    }
    let header = lines.next()?;
    let header = header.strip_prefix(b"# ").ok_or_else(|| Fault::Start(shortened(header)))?;
    let names: Vec<&[u8]> = fields(header).collect();
    let place = |name: &'static str| {
        let mut places = names.iter().enumerate().filter(|(_, found)| **found == name.as_bytes());
        let (place, _) = places.next().ok_or(Fault::Missing(name))?;
        if places.next().is_some() { Err(Fault::Twice(name)) } else { Ok(place) }
    };
    let [proxy, server, address, port] =
        [place("be_name")?, place("srv_name")?, place("srv_addr")?, place("srv_port")?];
    let mut destinations = Vec::new();
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            return Ok(destinations);
        }
        let row: Vec<&[u8]> = fields(line).collect();
        if row.len() != names.len() {
            return Err(Fault::Fields { found: row.len(), expected: names.len() });
        }
        let text = |place: usize| String::from_utf8_lossy(row[place]).into_owned();
        if let Some(address) = socket_address(row[address], row[port]) {
            destinations.push(Destination { proxy: text(proxy), server: text(server), address });
        }
    }
}

fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    // Some versions end lines with a space.
    line.strip_suffix(b" ").unwrap_or(line).split(|octet| *octet == b' ')
}

fn socket_address(address: &[u8], port: &[u8]) -> Option<SocketAddr> {
    let address: IpAddr = str::from_utf8(address).ok()?.parse().ok()?;
    let port: u16 = str::from_utf8(port).ok()?.parse().ok()?;
    (port != 0).then(|| SocketAddr::new(address, port))
}

/// HAProxy before 1.6 does not know the command.
fn not_the_start(line: &[u8]) -> Fault {
    let refused = [&b"Unknown command"[..], b"Permission denied", b"Command not found", b"Can't"];
    let refused = refused.iter().any(|words| line.starts_with(words));
    if refused { Fault::Refused(shortened(line)) } else { Fault::Start(shortened(line)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const HEADER: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_port\n";

    fn read(rows: &str) -> Result<Vec<String>, String> {
        let output = format!("{HEADER}{rows}\nrest");
        let (servers, rest) = parse_servers(output.as_bytes()).map_err(|error| error.to_string())?;
        assert_eq!(rest, b"rest");
        Ok(servers.iter().map(|s| format!("{}/{} {}", s.proxy, s.server, s.address)).collect())
    }

    #[test]
    fn servers_have_an_address_and_a_port() {
        let rows =
            "3 app 1 one 127.0.0.1 2 8080\n3 app 2 two ::1 2 80\n3 app 3 three - 0 80\n4 b 1 four 10.0.0.1 2 0\n";
        assert_eq!(read(rows).unwrap(), ["app/one 127.0.0.1:8080", "app/two [::1]:80"]);
        assert_eq!(read("").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn anything_else_is_named_with_its_line() {
        let fields = "line 3 of `show servers state`: it has 2 fields, the header has 7";
        assert_eq!(read("3 app\n").unwrap_err(), fields);
        for (output, error) in [
            (&b"1\n"[..], "line 2 of `show servers state`: the output ends within the response"),
            (b"2\n", "line 1 of `show servers state`: `2` is not how this response begins"),
            (b"1\n# be_name srv_name srv_addr\n\n", "line 2 of `show servers state`: field srv_port is missing"),
            (
                b"Unknown command: `show servers state`\n\n",
                "line 1 of `show servers state`: HAProxy says `Unknown command: `show servers state``",
            ),
        ] {
            assert_eq!(parse_servers(output).unwrap_err().to_string(), error);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(servers in vec(("[a-z.:_-]{1,12}", "[a-z0-9.:_-]{1,12}", any::<[u8; 4]>(), 1_u16..), 0..20)) {
            let rows: String = servers.iter().map(|(proxy, server, address, port)| {
                format!("1 {proxy} 2 {server} {} 2 {port}\n", IpAddr::from(*address))
            }).collect();
            let expected: Vec<String> = servers.iter().map(|(proxy, server, address, port)| {
                format!("{proxy}/{server} {}:{port}", IpAddr::from(*address))
            }).collect();
            prop_assert_eq!(read(&rows), Ok(expected));
        }

        #[test]
        fn any_octets_are_read_or_refused(octets in vec(prop_oneof![Just(b' '), Just(b'\n'), any::<u8>()], 0..200), whole: bool) {
            let output = if whole { [HEADER.as_bytes(), &octets, b"\n\n"].concat() } else { octets };
            if let Ok((_, rest)) = parse_servers(&output) {
                prop_assert!(output.ends_with(rest));
            }
        }

        #[test]
        fn a_cut_answer_is_refused(keep in 0_usize..HEADER.len() + 40) {
            let output = format!("{HEADER}3 app 1 one 127.0.0.1 2 8080\n\n");
            let cut = &output.as_bytes()[..keep.min(output.len() - 1)];
            let refused = matches!(parse_servers(cut), Err(Garbled { fault: Fault::Cut, .. }));
            prop_assert!(refused);
        }
    }
}
