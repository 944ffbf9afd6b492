//! Who may ask, and what is shown to them.

use std::fmt;

use lbstats::Oid;
use subtle::{Choice, ConstantTimeEq};

/// A community name. It is a password: never printed, and compared in a time that does not tell where it differs.
#[derive(Clone, PartialEq, Eq)]
pub struct Community(Vec<u8>);

impl Community {
    /// The community of this name.
    pub fn new(name: impl Into<Vec<u8>>) -> Self {
        Self(name.into())
    }

    /// Its name, for a message that is sent.
    pub fn name(&self) -> &[u8] {
        &self.0
    }

    /// Whether one of these has this name; takes as long whichever it is. The length of a name is no secret.
    pub(super) fn is_one_of(name: &[u8], communities: &[Self]) -> bool {
        let none = Choice::from(0);
        communities.iter().fold(none, |found, community| found | community.0.ct_eq(name)).into()
    }
}

impl fmt::Debug for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Community(..)")
    }
}

/// A MIB view: the objects in some subtrees (RFC 3415 section 2.4, without exclusions and masks).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subtrees(Vec<Oid>);

impl Subtrees {
    /// Everything.
    pub fn all() -> Self {
        Self(vec![Oid::default()])
    }

    /// These subtrees; none shows nothing.
    pub fn new(roots: impl IntoIterator<Item = Oid>) -> Self {
        let mut roots: Vec<Oid> = roots.into_iter().collect();
        roots.sort();
        // What is below another stands behind it.
        roots.dedup_by(|below, root| below.starts_with(root));
        Self(roots)
    }

    /// Which subtree an object is in.
    pub(super) fn holding(&self, oid: &[u32]) -> Option<usize> {
        let place = self.0.partition_point(|root| **root <= *oid).checked_sub(1)?;
        oid.starts_with(&self.0[place]).then_some(place)
    }

    /// The root of the first subtree above `oid`.
    pub(super) fn after(&self, oid: &[u32]) -> Option<&Oid> {
        self.0.get(self.0.partition_point(|root| **root <= *oid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oids(texts: &[&str]) -> Vec<Oid> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn communities_are_found_and_not_printed() {
        let communities = ["public", "s3cret"].map(Community::new);
        for (name, there) in [("public", true), ("s3cret", true), ("", false), ("publi", false), ("Public", false)] {
            assert_eq!(Community::is_one_of(name.as_bytes(), &communities), there, "{name}");
        }
        assert!(!Community::is_one_of(b"", &[]));
        assert!(!format!("{communities:?}").contains("s3cret"));
    }

    #[test]
    fn subtrees_hold_what_is_below_them() {
        let subtrees = Subtrees::new(oids(&["1.3.6.1.4", "1.3.6.1.2.1", "1.3.6.1.2.1.1", "1.3.6.1.2.1"]));
        assert_eq!(subtrees, Subtrees(oids(&["1.3.6.1.2.1", "1.3.6.1.4"])));
        for (oid, holding, after) in [
            ("1.3.6.1.2", None, Some("1.3.6.1.2.1")),
            ("1.3.6.1.2.1", Some(0), Some("1.3.6.1.4")),
            ("1.3.6.1.2.1.1.1.0", Some(0), Some("1.3.6.1.4")),
            ("1.3.6.1.2.2", None, Some("1.3.6.1.4")),
            ("1.3.6.1.4.1", Some(1), None),
            ("1.3.6.1.40", None, None),
        ] {
            let oid: Oid = oid.parse().unwrap();
            assert_eq!(
                (subtrees.holding(&oid), subtrees.after(&oid)),
                (holding, after.map(|text| text.parse().unwrap()).as_ref()),
                "{oid}"
            );
        }
        assert_eq!(Subtrees::all().holding(&[]), Some(0));
        assert_eq!(Subtrees::new([]).holding(&[1]), None);
    }
}
