//! SNMP values, as a face sends them.

use std::fmt;

/// The value of one varbind (RFC 2578 section 7.1), borrowing its octets from the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// INTEGER: -2147483648 to 2147483647.
    Integer(i32),
    /// Counter32: wraps at 2^32.
    Counter32(u32),
    /// Counter64: wraps at 2^64.
    Counter64(u64),
    /// Gauge32, and Unsigned32, which looks the same on the wire: 0 to 4294967295.
    Gauge32(u32),
    /// TimeTicks: hundredths of a second, wraps at 2^32.
    TimeTicks(u32),
    /// OCTET STRING, not necessarily UTF-8.
    OctetString(&'a [u8]),
    /// OBJECT IDENTIFIER, of at most 128 arcs.
    ObjectIdentifier(&'a [u32]),
}

/// The form of net-snmp's tools, as `STRING: "www"` or `Counter64: 17`.
///
/// As net-snmp's, a string that is not printable becomes `Hex-STRING: 00 FF `.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Integer(number) => write!(f, "INTEGER: {number}"),
            Value::Counter32(number) => write!(f, "Counter32: {number}"),
            Value::Counter64(number) => write!(f, "Counter64: {number}"),
            Value::Gauge32(number) => write!(f, "Gauge32: {number}"),
            Value::TimeTicks(ticks) => write!(f, "Timeticks: ({ticks}) {}", Uptime(*ticks)),
            Value::ObjectIdentifier(arcs) => {
                f.write_str("OID: ")?;
                arcs.iter().try_for_each(|arc| write!(f, ".{arc}"))
            }
            Value::OctetString(b"") => f.write_str("\"\""),
            Value::OctetString(octets) if octets.iter().all(|b| is_printable(*b)) => {
                f.write_str("STRING: \"")?;
                for &octet in *octets {
                    if matches!(octet, b'"' | b'\\') {
                        f.write_str("\\")?;
                    }
                    fmt::Write::write_char(f, char::from(octet))?;
                }
                f.write_str("\"")
            }
            Value::OctetString(octets) => {
                f.write_str("Hex-STRING: ")?;
                // Sixteen to a line, as net-snmp's `snprint_hexstring`.
                octets.chunks(16).enumerate().try_for_each(|(line, octets)| {
                    f.write_str(if line == 0 { "" } else { "\n" })?;
                    octets.iter().try_for_each(|octet| write!(f, "{octet:02X} "))
                })
            }
        }
    }
}

/// Ticks as net-snmp's `uptimeString` prints them: `12:34:56.78`, with the days before it from the first one on.
struct Uptime(u32);

impl fmt::Display for Uptime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, hundredths) = (self.0 / 100, self.0 % 100);
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        match days {
            0 => {}
            1 => f.write_str("1 day, ")?,
            _ => write!(f, "{days} days, ")?,
        }
        write!(f, "{hours}:{minutes:02}:{:02}.{hundredths:02}", seconds % 60)
    }
}

/// What net-snmp's `snprint_octet_string` takes for text: C's `isprint` and `isspace` in the C locale.
fn is_printable(octet: u8) -> bool {
    matches!(octet, 0x20..=0x7e | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_the_tools_do() {
        assert_eq!(Value::Integer(-1).to_string(), "INTEGER: -1");
        assert_eq!(Value::Counter64(u64::MAX).to_string(), "Counter64: 18446744073709551615");
        assert_eq!(Value::Gauge32(u32::MAX).to_string(), "Gauge32: 4294967295");
        assert_eq!(Value::TimeTicks(360_102).to_string(), "Timeticks: (360102) 1:00:01.02");
        assert_eq!(Value::TimeTicks(8_640_000).to_string(), "Timeticks: (8640000) 1 day, 0:00:00.00");
        assert_eq!(Value::TimeTicks(u32::MAX).to_string(), "Timeticks: (4294967295) 497 days, 2:27:52.95");
        assert_eq!(Value::ObjectIdentifier(&[1, 3, 6]).to_string(), "OID: .1.3.6");
        assert_eq!(Value::OctetString(b"").to_string(), "\"\"");
        assert_eq!(Value::OctetString(b"a \"b\"").to_string(), r#"STRING: "a \"b\"""#);
        assert_eq!(Value::OctetString(&[0xc3, 0xa9]).to_string(), "Hex-STRING: C3 A9 ");
        let long = Value::OctetString(&[0xff; 17]).to_string();
        assert_eq!(long, format!("Hex-STRING: {}\nFF ", "FF ".repeat(16)));
    }
}
