//! Authentication: which protocols there are, their hashes, and message authentication codes made with them.
//!
//! HMAC-MD5-96 is left out: RFC 3414 wants it for nothing but backward compatibility, MD5 has been unfit for new uses
//! since RFC 6151, and every manager that speaks USM speaks SHA.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit};
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

use super::keys::Key;

/// An authentication protocol of USM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuthProtocol {
    /// HMAC-SHA-96 (RFC 3414 section 7).
    Sha1,
    /// HMAC-128-SHA-224 (RFC 7860).
    Sha224,
    /// HMAC-192-SHA-256 (RFC 7860).
    Sha256,
    /// HMAC-256-SHA-384 (RFC 7860).
    Sha384,
    /// HMAC-384-SHA-512 (RFC 7860).
    Sha512,
}

/// The text names no authentication protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no authentication protocol: SHA, SHA-224, SHA-256, SHA-384 and SHA-512 are")]
pub struct UnknownAuthProtocol(String);

/// The longest hash and the longest authentication code, in octets.
const LONGEST_HASH: usize = 64;

impl AuthProtocol {
    /// All of them, weakest first.
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// Its name in net-snmp's options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA",
            Self::Sha224 => "SHA-224",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        }
    }

    /// Length of its hash, and so of its keys, in octets.
    pub fn key_length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Length of its codes in msgAuthenticationParameters, in octets.
    pub fn code_length(self) -> usize {
        match self {
            Self::Sha1 => 12,
            Self::Sha224 => 16,
            Self::Sha256 => 24,
            Self::Sha384 => 32,
            Self::Sha512 => 48,
        }
    }

    /// The hash of all parts, one after the other.
    pub(crate) fn hash<'a>(self, parts: impl IntoIterator<Item = &'a [u8]>) -> Key {
        fn of<'a, D: Digest>(parts: impl IntoIterator<Item = &'a [u8]>) -> Key {
            let mut hash = D::new();
            parts.into_iter().for_each(|part| hash.update(part));
            Key::from(hash.finalize().to_vec())
        }
        match self {
            Self::Sha1 => of::<Sha1>(parts),
            Self::Sha224 => of::<Sha224>(parts),
            Self::Sha256 => of::<Sha256>(parts),
            Self::Sha384 => of::<Sha384>(parts),
            Self::Sha512 => of::<Sha512>(parts),
        }
    }
}

impl fmt::Display for AuthProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Takes net-snmp's names in any case, with or without the dash: `SHA`, `SHA1`, `sha-256`, `SHA256`.
impl FromStr for AuthProtocol {
    type Err = UnknownAuthProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_uppercase().replace('-', "").as_str() {
            "SHA" | "SHA1" => Ok(Self::Sha1),
            "SHA224" => Ok(Self::Sha224),
            "SHA256" => Ok(Self::Sha256),
            "SHA384" => Ok(Self::Sha384),
            "SHA512" => Ok(Self::Sha512),
            _ => Err(UnknownAuthProtocol(text.to_owned())),
        }
    }
}

/// A localized key made ready to authenticate messages: the key's half of the HMAC is done once.
#[derive(Clone)]
pub(crate) struct Authenticator {
    protocol: AuthProtocol,
    mac: Mac,
}

#[derive(Clone)]
enum Mac {
    Sha1(Hmac<Sha1>),
    Sha224(Hmac<Sha224>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl Authenticator {
    pub(crate) fn new(protocol: AuthProtocol, key: &Key) -> Self {
        fn keyed<M: KeyInit>(key: &[u8]) -> M {
            M::new_from_slice(key).expect("HMAC takes keys of any length")
        }
        let mac = match protocol {
            AuthProtocol::Sha1 => Mac::Sha1(keyed(key.octets())),
            AuthProtocol::Sha224 => Mac::Sha224(keyed(key.octets())),
            AuthProtocol::Sha256 => Mac::Sha256(keyed(key.octets())),
            AuthProtocol::Sha384 => Mac::Sha384(keyed(key.octets())),
            AuthProtocol::Sha512 => Mac::Sha512(keyed(key.octets())),
        };
        Self { protocol, mac }
    }

    pub(crate) fn protocol(&self) -> AuthProtocol {
        self.protocol
    }

    /// Writes the code of a message into its place there, which must hold as many octets as the protocol's codes have.
    pub(crate) fn sign(&self, message: &mut [u8], place: std::ops::Range<usize>) {
        let code = self.code(message, &place);
        message[place].copy_from_slice(&code[..self.protocol.code_length()]);
    }

    /// Whether the message has the right code in this place of it; false as well if that has not the code's length.
    /// Takes the same time whatever octets differ.
    pub(crate) fn verify(&self, message: &[u8], place: std::ops::Range<usize>) -> bool {
        let length = self.protocol.code_length();
        place.len() == length && self.code(message, &place)[..length].ct_eq(&message[place]).into()
    }

    /// The code is that of the message with zeros in the code's place (RFC 3414 sections 6.3.2 and 7.3.2).
    fn code(&self, message: &[u8], place: &std::ops::Range<usize>) -> [u8; LONGEST_HASH] {
        fn of<M: hmac::Mac + Clone>(mac: &M, parts: [&[u8]; 3]) -> [u8; LONGEST_HASH] {
            let mut mac = mac.clone();
            parts.iter().for_each(|part| mac.update(part));
            let hash = mac.finalize().into_bytes();
            let mut code = [0; LONGEST_HASH];
            code[..hash.len()].copy_from_slice(&hash);
            code
        }
        let zeros = [0; LONGEST_HASH];
        let parts = [&message[..place.start], &zeros[..place.len()], &message[place.end..]];
        match &self.mac {
            Mac::Sha1(mac) => of(mac, parts),
            Mac::Sha224(mac) => of(mac, parts),
            Mac::Sha256(mac) => of(mac, parts),
            Mac::Sha384(mac) => of(mac, parts),
            Mac::Sha512(mac) => of(mac, parts),
        }
    }
}

/// Without the key.
impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authenticator").field(&self.protocol).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key and text of RFC 4231 section 4.3, with the code's place behind the text: the codes are those of
    /// `openssl dgst -shaN -hmac Jefe` (OpenSSL 3.0) of the text and as many zeros.
    #[test]
    fn codes_are_hmac_of_the_message_with_zeros_in_their_place() {
        for protocol in AuthProtocol::ALL {
            let authenticator = Authenticator::new(protocol, &Key::from(b"Jefe".to_vec()));
            let length = protocol.code_length();
            let mut message = b"what do ya want for nothing?".to_vec();
            let place = message.len()..message.len() + length;
            message.resize(place.end, 0);
            authenticator.sign(&mut message, place.clone());
            let code: String = message[place.clone()].iter().map(|octet| format!("{octet:02x}")).collect();
            assert_eq!(code, expected(protocol), "{protocol}");
            assert!(authenticator.verify(&message, place.clone()));

            for at in 0..message.len() {
                message[at] ^= 1;
                assert!(!authenticator.verify(&message, place.clone()), "{protocol}: octet {at}");
                message[at] ^= 1;
            }
            for wrong in [place.start..place.end - 1, place.start + 1..place.end, place.end..place.end, 0..0] {
                assert!(!authenticator.verify(&message, wrong));
            }
        }
    }

    fn expected(protocol: AuthProtocol) -> &'static str {
        match protocol {
            AuthProtocol::Sha1 => "aa87f5041b8bbbdc50c45812",
            AuthProtocol::Sha224 => "321db5a08a65be290bc591cc00ee4539",
            AuthProtocol::Sha256 => "d52e4454ef9e6ec35d3663487825b0ca1f91c97427053894",
            AuthProtocol::Sha384 => "4cd3ddaaf7df7aee137f2488c04aa00f3f630d47b47bab2f1fdc2821902c0905",
            AuthProtocol::Sha512 => {
                "4aecf19ffcf38ecdcfc92332ae3d0a407cf931dd305e76dfc3a3027fecb35a80e46ba614481b879db15141d609280f71"
            }
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for protocol in AuthProtocol::ALL {
            assert_eq!(protocol.name().parse(), Ok(protocol));
            assert_eq!(protocol.name().replace('-', "").to_lowercase().parse(), Ok(protocol));
        }
        for text in ["", "MD5", "SHA-3", "SHA 256"] {
            assert!(text.parse::<AuthProtocol>().is_err(), "{text}");
        }
    }
}
