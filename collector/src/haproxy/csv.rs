//! Records of HAProxy's CSV: quoting, and where a record, a response and the output end.
//!
//! HAProxy quotes a field if it holds a comma, a quote or an end of line, and doubles the quotes in it (`csv_enc` in
//! its sources). So a quote inside an unquoted field is no HAProxy output, and neither is an octet between a closing
//! quote and the next separator.

use std::borrow::Cow;

/// Why a record could not be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The output ends within it.
    Cut,
    /// A quote where none can stand.
    Quote,
}

/// Splits records off the front of a response.
pub(super) struct Records<'a> {
    pub(super) rest: &'a [u8],
    /// Line where the last record began, from 1.
    pub(super) line: usize,
    next_line: usize,
}

impl<'a> Records<'a> {
    pub(super) fn new(output: &'a [u8]) -> Self {
        Self { rest: output, line: 0, next_line: 1 }
    }

    /// Puts the fields of the next record into `fields`; false at the empty line that ends the response.
    ///
    /// # Errors
    /// [`Broken`]; [`Records::line`] then tells where.
    pub(super) fn next(&mut self, fields: &mut Vec<Cow<'a, [u8]>>) -> Result<bool, Broken> {
        fields.clear();
        let bytes = self.begin();
        if let Some(rest) = bytes.strip_prefix(b"\n") {
            self.rest = rest;
            return Ok(false);
        }
        let mut at = 0;
        loop {
            let (field, end) = self.field(bytes, at)?;
            fields.push(field);
            at = end + 1;
            if bytes[end] == b'\n' {
                self.rest = &bytes[at..];
                return Ok(true);
            }
        }
    }

    /// The next record as a name, `: ` and a value, as `show info` prints them; none at the empty line that ends the
    /// response, and a value of none where there is no colon.
    pub(super) fn next_pair(&mut self) -> Result<Option<Pair<'a>>, Broken> {
        let bytes = self.begin();
        if let Some(rest) = bytes.strip_prefix(b"\n") {
            self.rest = rest;
            return Ok(None);
        }
        let stop = bytes.iter().position(|byte| matches!(byte, b':' | b'\n' | b'"')).ok_or(Broken::Cut)?;
        match bytes[stop] {
            b':' => {}
            b'"' => return Err(Broken::Quote),
            _ => {
                self.rest = &bytes[stop + 1..];
                return Ok(Some((&bytes[..stop], None)));
            }
        }
        let start = stop + 1 + usize::from(bytes.get(stop + 1) == Some(&b' '));
        let (value, end) = if bytes.get(start) == Some(&b'"') {
            let (value, end) = self.field(bytes, start)?;
            (value, if bytes[end] == b'\n' { end } else { return Err(Broken::Quote) })
        } else {
            // A comma alone may stand without quotes here: nothing is separated by one.
            let stop = bytes[start..].iter().position(|byte| matches!(byte, b'\n' | b'"')).ok_or(Broken::Cut)?;
            let end = start + stop;
            (Cow::Borrowed(&bytes[start..end]), if bytes[end] == b'\n' { end } else { return Err(Broken::Quote) })
        };
        self.rest = &bytes[end + 1..];
        Ok(Some((&bytes[..stop], Some(value))))
    }

    fn begin(&mut self) -> &'a [u8] {
        self.line = self.next_line;
        self.next_line += 1;
        self.rest
    }

    /// The field that begins at `at`, and the place of the comma or end of line behind it.
    #[inline]
    fn field(&mut self, bytes: &'a [u8], at: usize) -> Result<(Cow<'a, [u8]>, usize), Broken> {
        // Fields are a few octets long: a plain loop beats a vectorised search. Digits and letters, which is nearly all
        // of it, take one comparison.
        for (length, &byte) in bytes[at..].iter().enumerate() {
            if byte <= b',' {
                match byte {
                    b',' | b'\n' => return Ok((Cow::Borrowed(&bytes[at..at + length]), at + length)),
                    b'"' if length == 0 => return self.quoted_field(bytes, at),
                    b'"' => return Err(Broken::Quote),
                    _ => {}
                }
            }
        }
        Err(Broken::Cut)
    }

    #[cold]
    fn quoted_field(&mut self, bytes: &'a [u8], at: usize) -> Result<(Cow<'a, [u8]>, usize), Broken> {
        let (field, end) = quoted(bytes, at + 1)?;
        self.next_line += bytes[at..end].iter().filter(|byte| **byte == b'\n').count();
        match bytes.get(end) {
            Some(b',' | b'\n') => Ok((field, end)),
            Some(_) => Err(Broken::Quote),
            None => Err(Broken::Cut),
        }
    }
}

/// The octets between the quotes of which the first one is behind us, and the place after the second.
fn quoted(bytes: &[u8], at: usize) -> Result<(Cow<'_, [u8]>, usize), Broken> {
    let mut end = at;
    let mut escaped = false;
    loop {
        end += bytes[end..].iter().position(|byte| *byte == b'"').ok_or(Broken::Cut)?;
        if bytes.get(end + 1) != Some(&b'"') {
            break;
        }
        escaped = true;
        end += 2;
    }
    let text = &bytes[at..end];
    let text = if escaped { Cow::Owned(undoubled(text)) } else { Cow::Borrowed(text) };
    Ok((text, end + 1))
}

/// A name, and its value.
pub(super) type Pair<'a> = (&'a [u8], Option<Cow<'a, [u8]>>);

fn undoubled(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(quote) = rest.iter().position(|byte| *byte == b'"') {
        plain.extend_from_slice(&rest[..=quote]);
        rest = &rest[quote + 2..];
    }
    plain.extend_from_slice(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(output: &str) -> Result<Vec<Vec<String>>, (usize, Broken)> {
        let (mut records, mut fields, mut all) = (Records::new(output.as_bytes()), Vec::new(), Vec::new());
        while records.next(&mut fields).map_err(|broken| (records.line, broken))? {
            all.push(fields.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect());
        }
        Ok(all)
    }

    #[test]
    fn quotes_hold_commas_ends_of_line_and_quotes() {
        let output = "a,\"b,c\",d\n\"say \"\"hi\"\"\n\n\",,\n\n";
        assert_eq!(
            split(output),
            Ok(vec![
                vec!["a".into(), "b,c".into(), "d".into()],
                vec!["say \"hi\"\n\n".into(), String::new(), String::new()]
            ])
        );
    }

    #[test]
    fn what_haproxy_never_prints_is_refused_with_its_line() {
        assert_eq!(split("a\n\"x\ny\"\nb\"c\n\n"), Err((4, Broken::Quote)));
        assert_eq!(split("a\n\"b\"c\n\n"), Err((2, Broken::Quote)));
        for cut in ["", "a", "a,", "a\n", "\"", "\"a", "\"a\"", "\"a\"\"", "\"a\"\n"] {
            assert!(matches!(split(cut), Err((_, Broken::Cut))), "{cut:?}");
        }
    }
}
