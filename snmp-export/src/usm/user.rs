//! Users: who may ask, with which keys, from which security level on.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use lbstats::Oid;

use super::auth::{AuthProtocol, Authenticator};
use super::engine::EngineId;
use super::keys::Key;
use super::message::Protection;
use super::privacy::{Cipher, PrivProtocol, SALT_LENGTH};
use crate::agent::Subtrees;

/// How well messages are protected (RFC 3411 section 3.4.3); more is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecurityLevel {
    /// Not at all.
    NoAuthNoPriv,
    /// Against forgery and replay.
    AuthNoPriv,
    /// And against being read.
    AuthPriv,
}

/// The text names no security level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no security level: noAuthNoPriv, authNoPriv and authPriv are")]
pub struct UnknownSecurityLevel(String);

impl SecurityLevel {
    /// Its name, as net-snmp's option `-l` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoAuthNoPriv => "noAuthNoPriv",
            Self::AuthNoPriv => "authNoPriv",
            Self::AuthPriv => "authPriv",
        }
    }
}

impl fmt::Display for SecurityLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Takes the names in any case.
impl FromStr for SecurityLevel {
    type Err = UnknownSecurityLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::NoAuthNoPriv, Self::AuthNoPriv, Self::AuthPriv];
        let found = all.into_iter().find(|level| level.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| UnknownSecurityLevel(text.to_owned()))
    }
}

/// The secrets of a user, localized to one engine or not yet localized (Ku).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The authentication protocol and its key.
    pub auth: (AuthProtocol, Key),
    /// The privacy protocol and its key; localized, it is as long as the protocol wants it.
    pub privacy: Option<(PrivProtocol, Key)>,
}

impl Keys {
    /// These Ku localized to an engine.
    #[must_use]
    pub fn localize(&self, engine_id: &EngineId) -> Self {
        let (auth, key) = &self.auth;
        let engine_id = engine_id.octets();
        Self {
            auth: (*auth, key.localize(*auth, engine_id)),
            privacy: self.privacy.as_ref().map(|(protocol, ku)| (*protocol, protocol.localize(ku, *auth, engine_id))),
        }
    }
}

/// A user as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// msgUserName: 1 to 32 octets of UTF-8.
    pub name: String,
    /// Localized keys; none for a user who cannot be authenticated.
    pub keys: Option<Keys>,
    /// Messages below this level are answered with authorizationError.
    pub level: SecurityLevel,
    /// The subtrees it may read; if there is none, what everybody may.
    pub view: Vec<Oid>,
}

/// Why an account cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// RFC 3414 section 2.4.
    #[error("the name of an SNMPv3 user has 1 to 32 octets")]
    Name,
    /// A key's length does not fit its protocol.
    #[error("the {0} key of user {1} has not the length of its protocol's keys")]
    KeyLength(&'static str, String),
    /// The level that is demanded needs keys that there are not.
    #[error("user {1} has no keys for {0}")]
    Level(SecurityLevel, String),
}

/// A user with its keys made ready.
#[derive(Clone, Debug)]
pub struct User {
    name: String,
    level: SecurityLevel,
    view: Option<Subtrees>,
    auth: Option<Authenticator>,
    cipher: Option<Cipher>,
}

impl User {
    /// Makes the keys of an account ready.
    ///
    /// # Errors
    /// As [`AccountError`] says.
    pub fn new(account: &Account) -> Result<Self, AccountError> {
        let name = account.name.clone();
        if !(1..=32).contains(&name.len()) {
            return Err(AccountError::Name);
        }
        let (auth, cipher) = match &account.keys {
            None => (None, None),
            Some(Keys { auth: (protocol, key), .. }) if key.octets().len() != protocol.key_length() => {
                return Err(AccountError::KeyLength("authentication", name));
            }
            Some(Keys { auth: (auth, key), privacy }) => {
                let cipher = privacy.as_ref().map(|(protocol, key)| Cipher::new(*protocol, key));
                let cipher = match cipher {
                    Some(None) => return Err(AccountError::KeyLength("privacy", name)),
                    other => other.flatten(),
                };
                (Some(Authenticator::new(*auth, key)), cipher)
            }
        };
        let view = (!account.view.is_empty()).then(|| Subtrees::new(account.view.iter().cloned()));
        let user = Self { name, level: account.level, view, auth, cipher };
        if user.level > user.highest_level() {
            return Err(AccountError::Level(user.level, user.name));
        }
        Ok(user)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lowest level it may ask at.
    pub fn level(&self) -> SecurityLevel {
        self.level
    }

    /// The highest level that it has keys for.
    pub fn highest_level(&self) -> SecurityLevel {
        match (&self.auth, &self.cipher) {
            (None, _) => SecurityLevel::NoAuthNoPriv,
            (Some(_), None) => SecurityLevel::AuthNoPriv,
            (Some(_), Some(_)) => SecurityLevel::AuthPriv,
        }
    }

    /// The subtrees it may read; none if that is not up to the user.
    pub fn view(&self) -> Option<&Subtrees> {
        self.view.as_ref()
    }

    pub(crate) fn auth(&self) -> Option<&Authenticator> {
        self.auth.as_ref()
    }

    pub(crate) fn cipher(&self) -> Option<&Cipher> {
        self.cipher.as_ref()
    }

    /// What protects its messages at this level; none if it has no keys for that.
    pub(crate) fn protection(&self, level: SecurityLevel, salt: [u8; SALT_LENGTH]) -> Option<Protection<'_>> {
        Some(match level {
            SecurityLevel::NoAuthNoPriv => Protection::None,
            SecurityLevel::AuthNoPriv => Protection::Auth(self.auth.as_ref()?),
            SecurityLevel::AuthPriv => Protection::AuthPriv(self.auth.as_ref()?, self.cipher.as_ref()?, salt),
        })
    }
}

/// All users of the engine, by name.
#[derive(Clone, Debug, Default)]
pub struct Users(HashMap<String, Arc<User>>);

impl Users {
    /// The user of this name.
    pub fn of_name(&self, name: &str) -> Option<&Arc<User>> {
        self.0.get(name)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<User> for Users {
    fn from_iter<T: IntoIterator<Item = User>>(users: T) -> Self {
        Self(users.into_iter().map(|user| (user.name.clone(), Arc::new(user))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(auth: usize, privacy: Option<usize>, level: SecurityLevel) -> Account {
        let privacy = privacy.map(|length| (PrivProtocol::Aes128, Key::from(vec![2; length])));
        let keys = Some(Keys { auth: (AuthProtocol::Sha256, Key::from(vec![1; auth])), privacy });
        Account { name: "monitor".to_owned(), keys, level, view: Vec::new() }
    }

    #[test]
    fn an_account_needs_a_name_and_keys_that_fit_its_level() {
        let user = User::new(&account(32, Some(16), SecurityLevel::AuthPriv)).unwrap();
        assert_eq!(user.highest_level(), SecurityLevel::AuthPriv);
        let error = |account: &Account| User::new(account).unwrap_err().to_string();
        assert_eq!(
            error(&account(20, None, SecurityLevel::AuthNoPriv)),
            "the authentication key of user monitor has not the length of its protocol's keys"
        );
        assert_eq!(
            error(&account(32, Some(32), SecurityLevel::AuthPriv)),
            "the privacy key of user monitor has not the length of its protocol's keys"
        );
        assert_eq!(error(&account(32, None, SecurityLevel::AuthPriv)), "user monitor has no keys for authPriv");
        for name in [String::new(), "n".repeat(33)] {
            let account = Account { name, keys: None, level: SecurityLevel::NoAuthNoPriv, view: Vec::new() };
            assert_eq!(User::new(&account).unwrap_err(), AccountError::Name);
        }
    }

    #[test]
    fn no_key_is_shown() {
        let account = account(32, Some(16), SecurityLevel::AuthPriv);
        let shown = format!("{account:?} {:?}", User::new(&account).unwrap());
        assert!(shown.contains("Key(32 octets)") && !shown.contains("1, 1") && !shown.contains("2, 2"), "{shown}");
    }
}
