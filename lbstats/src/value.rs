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
    /// OCTET STRING, not necessarily UTF-8.
    OctetString(&'a [u8]),
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
        assert_eq!(Value::OctetString(b"").to_string(), "\"\"");
        assert_eq!(Value::OctetString(b"a \"b\"").to_string(), r#"STRING: "a \"b\"""#);
        assert_eq!(Value::OctetString(&[0xc3, 0xa9]).to_string(), "Hex-STRING: C3 A9 ");
        let long = Value::OctetString(&[0xff; 17]).to_string();
        assert_eq!(long, format!("Hex-STRING: {}\nFF ", "FF ".repeat(16)));
    }
}
