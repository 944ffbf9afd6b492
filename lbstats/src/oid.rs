//! Object identifiers.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

/// The most arcs an object identifier may have (RFC 2578 section 3.5).
const MAX_ARCS: usize = 128;

/// An object identifier: 0 to 128 arcs, each 0 to 2^32-1 (RFC 2578 section 3.5), ordered as SNMP orders them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(Vec<u32>);

/// Why a text is no object identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseOidError {
    /// An arc is empty, not decimal, or above 2^32-1.
    #[error("an arc is not a number from 0 to 4294967295")]
    Arc,
    /// More arcs than RFC 2578 allows.
    #[error("more than {MAX_ARCS} arcs")]
    TooLong,
}

impl Oid {
    /// Makes this the given arcs, keeping the memory it has.
    pub fn assign(&mut self, arcs: &[u32]) {
        self.0.clear();
        self.0.extend_from_slice(arcs);
    }

    /// Appends arcs.
    pub fn extend(&mut self, arcs: &[u32]) {
        self.0.extend_from_slice(arcs);
    }

    /// Makes this what `text` says, keeping the memory it has; the text is as for [`FromStr`].
    ///
    /// # Errors
    /// As [`ParseOidError`] says; the OID is then empty.
    pub fn parse_into(&mut self, text: &str) -> Result<(), ParseOidError> {
        self.0.clear();
        let text = text.strip_prefix('.').unwrap_or(text);
        if text.is_empty() {
            return Ok(());
        }
        let result = self.push_arcs(text);
        if result.is_err() {
            self.0.clear();
        }
        result
    }

    /// Appends the arcs of a text without a leading dot. A byte at a time: agents parse an OID a request.
    fn push_arcs(&mut self, text: &str) -> Result<(), ParseOidError> {
        let mut arc: Option<u32> = None;
        for byte in text.bytes().chain([b'.']) {
            match byte {
                b'0'..=b'9' => {
                    let longer =
                        arc.unwrap_or(0).checked_mul(10).and_then(|arc| arc.checked_add(u32::from(byte - b'0')));
                    arc = Some(longer.ok_or(ParseOidError::Arc)?);
                }
                b'.' if self.0.len() == MAX_ARCS => return Err(ParseOidError::TooLong),
                b'.' => self.0.push(arc.take().ok_or(ParseOidError::Arc)?),
                _ => return Err(ParseOidError::Arc),
            }
        }
        Ok(())
    }
}

impl Deref for Oid {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.0
    }
}

impl From<&[u32]> for Oid {
    fn from(arcs: &[u32]) -> Self {
        Self(arcs.to_vec())
    }
}

/// Takes the numeric form, with or without the leading dot; the empty text and a single dot are the empty OID.
impl FromStr for Oid {
    type Err = ParseOidError;

    fn from_str(text: &str) -> Result<Self, ParseOidError> {
        let mut oid = Self::default();
        oid.parse_into(text)?;
        Ok(oid)
    }
}

/// The numeric form with a leading dot, as net-snmp's `-On` prints it.
impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|arc| write!(f, ".{arc}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_both_forms_and_orders_by_arc() {
        let dotted: Oid = ".1.3.6".parse().unwrap();
        assert_eq!(dotted, "1.3.6".parse().unwrap());
        assert!(dotted < ".1.3.6.0".parse().unwrap());
        assert!(Oid::from_str(".1.3.9").unwrap() < Oid::from_str(".1.3.10").unwrap());
    }

    #[test]
    fn refuses_what_is_no_oid() {
        for text in ["1..3", "1.3.", "+1", "1.-3", "a", "1.4294967296", "1 3"] {
            assert_eq!(Oid::from_str(text), Err(ParseOidError::Arc), "{text}");
        }
        assert_eq!(Oid::from_str(&".1".repeat(129)), Err(ParseOidError::TooLong));
        assert_eq!(Oid::from_str(&".1".repeat(128)).unwrap().len(), 128);
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(arcs in prop::collection::vec(any::<u32>(), 0..=128)) {
            let oid = Oid::from(&arcs[..]);
            prop_assert_eq!(oid.to_string().parse::<Oid>(), Ok(oid));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _ = text.parse::<Oid>();
        }
    }
}
