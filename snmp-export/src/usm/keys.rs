//! Keys: from a passphrase to a key that is good for one user at one engine only.
//!
//! RFC 3414 section 2.6 and appendix A.2, with the hashes of RFC 7860 as well: a passphrase is stretched to a key Ku, and
//! Ku localized to an engine. Who steals a localized key cannot read other engines with it.

use std::fmt;

use zeroize::Zeroizing;

use super::auth::AuthProtocol;

/// The shortest passphrase that RFC 3414 section 11.2 allows, in octets.
pub const SHORTEST_PASSPHRASE: usize = 8;

/// How many octets of the repeated passphrase are hashed (RFC 3414 appendix A.2).
const STRETCH: usize = 1 << 20;

/// A secret: shown nowhere, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<Vec<u8>>);

/// The passphrase is shorter than RFC 3414 section 11.2 allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a passphrase must have at least {SHORTEST_PASSPHRASE} characters (RFC 3414 section 11.2)")]
pub struct PassphraseTooShort;

impl Key {
    /// Ku: the key a passphrase stands for, at whatever engine.
    ///
    /// # Errors
    /// When the passphrase has less than [`SHORTEST_PASSPHRASE`] octets.
    pub fn from_passphrase(protocol: AuthProtocol, passphrase: &[u8]) -> Result<Self, PassphraseTooShort> {
        if passphrase.len() < SHORTEST_PASSPHRASE {
            return Err(PassphraseTooShort);
        }
        Ok(stretch(protocol, passphrase))
    }

    /// Kul: this Ku at one engine.
    #[must_use]
    pub fn localize(&self, protocol: AuthProtocol, engine_id: &[u8]) -> Self {
        protocol.hash([self.octets(), engine_id, self.octets()])
    }

    /// The octets themselves, to be stored where nobody else can read them.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// A key with these octets behind its own.
    pub(crate) fn followed_by(&self, more: &Self) -> Self {
        Self(Zeroizing::new([self.octets(), more.octets()].concat()))
    }

    /// The first octets of it.
    pub(crate) fn first(&self, length: usize) -> Self {
        Self(Zeroizing::new(self.octets()[..length].to_vec()))
    }
}

/// What a passphrase is stretched to; Reeder's extension does the same with a key.
pub(crate) fn stretch(protocol: AuthProtocol, secret: &[u8]) -> Key {
    let repeated = std::iter::repeat_n(secret, STRETCH / secret.len());
    protocol.hash(repeated.chain([&secret[..STRETCH % secret.len()]]))
}

impl From<Vec<u8>> for Key {
    fn from(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }
}

/// Without a single octet of it.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} octets)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// RFC 3414 appendix A.3.2 for SHA-1. The others: the same passphrase and engine through Python's hashlib, with
    /// the 1048576 octets written out.
    #[test]
    fn the_passphrase_of_the_rfc_becomes_its_keys() {
        let engine_id = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        for (protocol, ku, kul) in VECTORS {
            let key = Key::from_passphrase(protocol, b"maplesyrup").unwrap();
            assert_eq!(hex(key.octets()), ku, "{protocol}");
            assert_eq!(hex(key.localize(protocol, &engine_id).octets()), kul, "{protocol}");
        }
    }

    #[rustfmt::skip] // A key to a line.
    const VECTORS: [(AuthProtocol, &str, &str); 5] = [
        (AuthProtocol::Sha1,
            "9fb5cc0381497b3793528939ff788d5d79145211",
            "6695febc9288e36282235fc7151f128497b38f3f"),
        (AuthProtocol::Sha224,
            "282a5867ee9aac639ad59df9572c7d3ac0fbc13a905b6df07dbbf00b",
            "0bd8827c6e29f8065e08e09237f177e410f69b90e1782be682075674"),
        (AuthProtocol::Sha256,
            "ab51014d1e077f6017df2b12bee5f5aa72993177e9bb569c4dff5a4ca0b4afac",
            "8982e0e549e866db361a6b625d84cccc11162d453ee8ce3a6445c2d6776f0f8b"),
        (AuthProtocol::Sha384,
            "e06eccdf2c68a06ed034723c9c26e0db3b669e1e2efed49150b55377a2e98f383c86fb836857444654b287c93f51ff64",
            "3b298f16164a11184279d5432bf169e2d2a48307de02b3d3f7e2b4f36eb6f0455a53689a3937eea07319a633d2ccba78"),
        (AuthProtocol::Sha512,
            "7e4396de5aadc77be853819b98c9406265b3a9c37cc3176569847a4e4f6fba63dd3a73d04924d31a63f95a601f9385af6be4ed1b37f87d040f7c6ed6f8d38a91",
            "22a5a36cedfcc085807a128d7bc6c2382167ad6c0dbc5fdff856740f3d84c099ad1ea87a8db096714d9788bd544047c9021e4229ce27e4c0a69250adfcffbb0b"),
    ];

    #[test]
    fn short_passphrases_are_refused_and_keys_are_not_shown() {
        assert_eq!(Key::from_passphrase(AuthProtocol::Sha1, b"1234567"), Err(PassphraseTooShort));
        let key = Key::from_passphrase(AuthProtocol::Sha1, b"12345678").unwrap();
        assert_eq!(format!("{key:?}"), "Key(20 octets)");
    }
}
