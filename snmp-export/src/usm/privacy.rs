//! Privacy: AES in CFB mode with 128-bit feedback (RFC 3826), and the longer keys that vendors agree on.
//!
//! RFC 3826 knows 128 bits only. For 192 and 256 bits a localized key may be too short, and two drafts that never became
//! RFCs make it longer in different ways: draft-blumenthal-aes-usm-04, which net-snmp calls `AES-192` and `AES-256`, and
//! draft-reeder-snmpv3-usm-3desede-00, which Cisco uses and net-snmp calls `AES-192-C` and `AES-256-C`. The messages look
//! the same; only keys differ. DES is left out: its 56 bits hide nothing today.

use std::fmt;
use std::str::FromStr;

use aes::{Aes128, Aes192, Aes256};
use cfb_mode::cipher::{InnerIvInit, KeyInit};
use cfb_mode::{Decryptor, Encryptor};

use super::auth::AuthProtocol;
use super::keys::{Key, stretch};

/// A privacy protocol of USM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PrivProtocol {
    /// CFB128-AES-128 (RFC 3826).
    Aes128,
    /// With 192 bits, keys extended as Blumenthal says.
    Aes192,
    /// With 192 bits, keys extended as Reeder says.
    Aes192Reeder,
    /// With 256 bits, keys extended as Blumenthal says.
    Aes256,
    /// With 256 bits, keys extended as Reeder says.
    Aes256Reeder,
}

/// The text names no privacy protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no privacy protocol: AES-128, AES-192, AES-256 and, for Cisco's keys, AES-192-C and AES-256-C are")]
pub struct UnknownPrivProtocol(String);

/// Length of msgPrivacyParameters, in octets (RFC 3826 section 3.1.2.1).
pub(crate) const SALT_LENGTH: usize = 8;

impl PrivProtocol {
    /// All of them, weakest first.
    pub const ALL: [Self; 5] = [Self::Aes128, Self::Aes192, Self::Aes192Reeder, Self::Aes256, Self::Aes256Reeder];

    /// Its name, as net-snmp's options take it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128 => "AES-128",
            Self::Aes192 => "AES-192",
            Self::Aes192Reeder => "AES-192-C",
            Self::Aes256 => "AES-256",
            Self::Aes256Reeder => "AES-256-C",
        }
    }

    /// Length of its keys, in octets.
    pub fn key_length(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 | Self::Aes192Reeder => 24,
            Self::Aes256 | Self::Aes256Reeder => 32,
        }
    }

    /// The key of a user at one engine, from the Ku of the privacy passphrase. Both are made with the hash of the user's
    /// authentication protocol.
    pub fn localize(self, ku: &Key, auth: AuthProtocol, engine_id: &[u8]) -> Key {
        let mut key = ku.localize(auth, engine_id);
        let mut last = key.clone();
        while key.octets().len() < self.key_length() {
            last = match self {
                Self::Aes128 | Self::Aes192 | Self::Aes256 => auth.hash([key.octets()]),
                // The key so far is taken for a passphrase.
                Self::Aes192Reeder | Self::Aes256Reeder => stretch(auth, last.octets()).localize(auth, engine_id),
            };
            key = key.followed_by(&last);
        }
        key.first(self.key_length())
    }
}

impl fmt::Display for PrivProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Takes net-snmp's names in any case, with or without dashes: `AES`, `AES128`, `aes-256`, `AES256C`.
impl FromStr for PrivProtocol {
    type Err = UnknownPrivProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_uppercase().replace('-', "").as_str() {
            "AES" | "AES128" => Ok(Self::Aes128),
            "AES192" => Ok(Self::Aes192),
            "AES192C" => Ok(Self::Aes192Reeder),
            "AES256" => Ok(Self::Aes256),
            "AES256C" => Ok(Self::Aes256Reeder),
            _ => Err(UnknownPrivProtocol(text.to_owned())),
        }
    }
}

/// A localized key made ready to encrypt and decrypt: its rounds' keys are derived once.
#[derive(Clone)]
pub(crate) enum Cipher {
    Aes128(Box<Aes128>),
    Aes192(Box<Aes192>),
    Aes256(Box<Aes256>),
}

/// What the initialization vector of a message is made of (RFC 3826 section 3.1.2.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Iv {
    /// snmpEngineBoots and snmpEngineTime of the authoritative engine, as the message has them.
    pub(crate) boots: u32,
    pub(crate) time: u32,
    /// msgPrivacyParameters.
    pub(crate) salt: [u8; SALT_LENGTH],
}

impl Iv {
    fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&self.boots.to_be_bytes());
        octets[4..8].copy_from_slice(&self.time.to_be_bytes());
        octets[8..].copy_from_slice(&self.salt);
        octets
    }
}

impl Cipher {
    /// None if the key has not the protocol's length.
    pub(crate) fn new(protocol: PrivProtocol, key: &Key) -> Option<Self> {
        fn keyed<C: KeyInit>(key: &Key) -> Option<Box<C>> {
            C::new_from_slice(key.octets()).ok().map(Box::new)
        }
        match protocol {
            PrivProtocol::Aes128 => keyed(key).map(Self::Aes128),
            PrivProtocol::Aes192 | PrivProtocol::Aes192Reeder => keyed(key).map(Self::Aes192),
            PrivProtocol::Aes256 | PrivProtocol::Aes256Reeder => keyed(key).map(Self::Aes256),
        }
    }

    /// Encrypts in place; the length stays.
    pub(crate) fn encrypt(&self, iv: Iv, octets: &mut [u8]) {
        let iv = iv.octets().into();
        match self {
            Self::Aes128(cipher) => Encryptor::inner_iv_init(&**cipher, &iv).encrypt(octets),
            Self::Aes192(cipher) => Encryptor::inner_iv_init(&**cipher, &iv).encrypt(octets),
            Self::Aes256(cipher) => Encryptor::inner_iv_init(&**cipher, &iv).encrypt(octets),
        }
    }

    /// Decrypts in place. Whatever the octets are, they become something: whether it makes sense shows later.
    pub(crate) fn decrypt(&self, iv: Iv, octets: &mut [u8]) {
        let iv = iv.octets().into();
        match self {
            Self::Aes128(cipher) => Decryptor::inner_iv_init(&**cipher, &iv).decrypt(octets),
            Self::Aes192(cipher) => Decryptor::inner_iv_init(&**cipher, &iv).decrypt(octets),
            Self::Aes256(cipher) => Decryptor::inner_iv_init(&**cipher, &iv).decrypt(octets),
        }
    }
}

/// Without the key.
impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes128(_) => "Cipher(AES-128)",
            Self::Aes192(_) => "Cipher(AES-192)",
            Self::Aes256(_) => "Cipher(AES-256)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// `openssl enc -aes-N-cfb -nosalt` of OpenSSL 3.0, with the key 00 01 02 … and the vector of these boots, time
    /// and salt, of 40 octets `a`.
    #[test]
    fn octets_are_encrypted_as_openssl_does() {
        let iv = Iv { boots: 1, time: 2, salt: [0, 0, 0, 0, 0, 0, 0, 3] };
        for (protocol, expected) in [
            (PrivProtocol::Aes128, "b7ff06d90ba524de35c72c1205764ff9ebfbd0d5b8ec838de668a674c95306ca99dc2b9a7db2aed8"),
            (PrivProtocol::Aes192, "1fe57fbdcc89936200b6ce4821dec57f18caf9fe51e2f41b734d68561699d06d3efada5c135746b5"),
            (PrivProtocol::Aes256, "ad21f6b8995f1110c3da9e873a2fad1d2c6fb36d32c6b99de8af57ec8d2de99684ab1831e411687f"),
        ] {
            let key: Vec<u8> = (0..32).take(protocol.key_length()).collect();
            let cipher = Cipher::new(protocol, &key.into()).unwrap();
            let mut octets = [b'a'; 40];
            cipher.encrypt(iv, &mut octets);
            assert_eq!(hex(&octets), expected, "{protocol}");
            cipher.decrypt(iv, &mut octets);
            assert_eq!(octets, [b'a'; 40]);
        }
        assert!(Cipher::new(PrivProtocol::Aes128, &vec![0; 20].into()).is_none());
    }

    /// Computed with Python's hashlib by what the two drafts say; the passphrase and the engine are RFC 3414's.
    #[test]
    fn short_keys_are_extended_as_the_drafts_say() {
        let engine_id = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        for (auth, protocol, expected) in EXTENDED {
            let ku = Key::from_passphrase(auth, b"maplesyrup").unwrap();
            assert_eq!(hex(protocol.localize(&ku, auth, &engine_id).octets()), expected, "{auth} {protocol}");
        }
    }

    #[rustfmt::skip] // A key to a line.
    const EXTENDED: [(AuthProtocol, PrivProtocol, &str); 8] = [
        (AuthProtocol::Sha1, PrivProtocol::Aes128, "6695febc9288e36282235fc7151f1284"),
        (AuthProtocol::Sha1, PrivProtocol::Aes192, "6695febc9288e36282235fc7151f128497b38f3f505e07eb"),
        (AuthProtocol::Sha1, PrivProtocol::Aes192Reeder, "6695febc9288e36282235fc7151f128497b38f3f9b8b6d78"),
        (AuthProtocol::Sha1, PrivProtocol::Aes256, "6695febc9288e36282235fc7151f128497b38f3f505e07eb9af25568fa1f5dbe"),
        (AuthProtocol::Sha1, PrivProtocol::Aes256Reeder, "6695febc9288e36282235fc7151f128497b38f3f9b8b6d78936ba6e7d19dfd9c"),
        (AuthProtocol::Sha224, PrivProtocol::Aes256, "0bd8827c6e29f8065e08e09237f177e410f69b90e1782be682075674e82d9bf0"),
        (AuthProtocol::Sha224, PrivProtocol::Aes256Reeder, "0bd8827c6e29f8065e08e09237f177e410f69b90e1782be68207567422c34be4"),
        (AuthProtocol::Sha256, PrivProtocol::Aes256Reeder, "8982e0e549e866db361a6b625d84cccc11162d453ee8ce3a6445c2d6776f0f8b"),
    ];

    proptest! {
        #[test]
        fn what_is_encrypted_is_decrypted(
            octets in prop::collection::vec(any::<u8>(), 0..200), key: [u8; 32], boots: u32, time: u32, salt: [u8; 8],
        ) {
            for protocol in PrivProtocol::ALL {
                let cipher = Cipher::new(protocol, &key[..protocol.key_length()].to_vec().into()).unwrap();
                let mut message = octets.clone();
                cipher.encrypt(Iv { boots, time, salt }, &mut message);
                prop_assert!(octets.len() < 16 || message != octets);
                cipher.decrypt(Iv { boots, time, salt }, &mut message);
                prop_assert_eq!(&message, &octets);
            }
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for protocol in PrivProtocol::ALL {
            assert_eq!(protocol.name().parse(), Ok(protocol));
            assert_eq!(protocol.name().replace('-', "").to_lowercase().parse(), Ok(protocol));
        }
        for text in ["", "DES", "AES-C", "AES-512"] {
            assert!(text.parse::<PrivProtocol>().is_err(), "{text}");
        }
    }
}
