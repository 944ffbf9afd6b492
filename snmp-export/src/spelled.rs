//! An OID with its text. Along a walk only the last arcs change: only those are written anew.

use lbstats::Oid;

/// An OID and its numeric form, with a leading dot.
#[derive(Debug, Default)]
pub(crate) struct Spelled {
    oid: Oid,
    text: Vec<u8>,
}

impl Spelled {
    /// Its arcs.
    pub(crate) fn oid(&self) -> &Oid {
        &self.oid
    }

    /// Its text; empty if it has no arcs.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Makes this another OID.
    pub(crate) fn assign(&mut self, arcs: &[u32]) {
        let common = self.oid.iter().zip(arcs).take_while(|(ours, other)| ours == other).count();
        for _ in common..self.oid.len() {
            let dot = self.text.iter().rposition(|octet| *octet == b'.').unwrap_or_default();
            self.text.truncate(dot);
        }
        for arc in &arcs[common..] {
            self.text.push(b'.');
            push_decimal(&mut self.text, u64::from(*arc));
        }
        self.oid.assign(arcs);
    }
}

/// Appends a number in decimal.
pub(crate) fn push_decimal(text: &mut Vec<u8>, mut number: u64) {
    if number < 10 {
        return text.push(digit(number));
    }
    let mut digits = [0; 20];
    let mut start = digits.len();
    while number > 0 {
        start -= 1;
        digits[start] = digit(number % 10);
        number /= 10;
    }
    text.extend_from_slice(&digits[start..]);
}

fn digit(number: u64) -> u8 {
    b"0123456789"[(number % 10) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_text_is_that_of_the_oid(oids in vec(vec(prop_oneof![0_u32..3, any::<u32>()], 0..6), 1..20)) {
            let mut spelled = Spelled::default();
            for arcs in &oids {
                spelled.assign(arcs);
                prop_assert_eq!(&spelled.oid()[..], &arcs[..]);
                prop_assert_eq!(str::from_utf8(spelled.text()), Ok(&*Oid::from(&arcs[..]).to_string()));
            }
        }

        #[test]
        fn decimals_are_as_the_standard_library_prints_them(number: u64, shift in 0_u32..64) {
            let mut text = Vec::new();
            push_decimal(&mut text, number >> shift);
            prop_assert_eq!(str::from_utf8(&text), Ok(&*(number >> shift).to_string()));
        }
    }
}
