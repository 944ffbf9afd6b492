//! The users of SNMPv3, in a file of their own.
//!
//! It holds keys and no passphrases. Keys of users who ask are localized to this daemon's engine and good for no other;
//! those of users as whom informs are sent are localized to one receiver, or good for any (Ku). Who reads the file can be
//! each of these users, so nobody but the daemon's account may.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use lbstats::Oid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use snmp_export::usm::{
    Account, AuthProtocol, EngineId, InformKeys, Informer, Key, Keys, PrivProtocol, SecurityLevel, User, Users,
};

use crate::snmp_engine;

const COMMENT: &str = "\
# SNMPv3 users of lbstatd, with their keys: written by `lbstatd user add` and `lbstatd user remove`.
";

/// All of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsersFile {
    /// The engine that the users' keys are localized to.
    pub engine_id: EngineId,
    /// Who may ask, and as whom traps are sent.
    pub users: Vec<Account>,
    /// As whom informs are sent.
    pub inform_users: Vec<InformUser>,
}

/// A user of receivers of informs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InformUser {
    /// Its name.
    pub name: String,
    /// The engine that its keys are localized to; none if they are Ku, good for any.
    pub engine_id: Option<EngineId>,
    /// Its keys, if it has some.
    pub keys: Option<Keys>,
}

/// The file as TOML has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    engine_id: Text<EngineId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    user: Vec<WrittenUser>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inform_user: Vec<WrittenUser>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenUser {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_id: Option<Text<EngineId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<Text<AuthProtocol>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_key: Option<HexKey>,
    #[serde(rename = "priv", skip_serializing_if = "Option::is_none")]
    privacy: Option<Text<PrivProtocol>>,
    #[serde(rename = "priv-key", skip_serializing_if = "Option::is_none")]
    privacy_key: Option<HexKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<Text<SecurityLevel>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    view: Vec<Text<Oid>>,
}

impl UsersFile {
    /// A file without users of this engine.
    pub fn new(engine_id: EngineId) -> Self {
        Self { engine_id, users: Vec::new(), inform_users: Vec::new() }
    }

    /// The users in a file; none if there is no such file.
    ///
    /// # Errors
    /// In one line, without any key: when it cannot be read, others may read it, or it is wrong.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let shown = path.display();
        let mode = match fs::metadata(path) {
            Ok(metadata) => metadata.permissions().mode(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read the SNMPv3 users in {shown}")),
        };
        ensure!(
            mode & 0o077 == 0,
            "{shown} holds keys and has mode {:04o}, so that others may read or change it: chmod 0600 {shown}",
            mode & 0o7777
        );
        let text = fs::read_to_string(path).with_context(|| {
            format!("cannot read the SNMPv3 users in {shown}: it has to belong to the account that lbstatd runs as")
        })?;
        let written: Written = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            anyhow::anyhow!("{shown}:{line}: {}", error.message().replace('\n', " "))
        })?;
        written.parse().with_context(|| shown.to_string()).map(Some)
    }

    /// Writes it, readable for its owner only.
    ///
    /// # Errors
    /// In one line, with the path.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let user = |account: &Account| WrittenUser {
            level: Some(Text(account.level)),
            view: account.view.iter().cloned().map(Text).collect(),
            ..WrittenUser::new(&account.name, account.keys.as_ref())
        };
        let inform_user = |user: &InformUser| WrittenUser {
            engine_id: user.engine_id.clone().map(Text),
            ..WrittenUser::new(&user.name, user.keys.as_ref())
        };
        let written = Written {
            engine_id: Text(self.engine_id.clone()),
            user: self.users.iter().map(user).collect(),
            inform_user: self.inform_users.iter().map(inform_user).collect(),
        };
        snmp_engine::replace(path, &format!("{COMMENT}{}", toml::to_string(&written)?))
    }

    /// The users with their keys made ready for this engine.
    ///
    /// # Errors
    /// When the keys are those of another engine, or one does not fit its protocol.
    pub fn ready(&self, engine_id: &EngineId) -> anyhow::Result<Users> {
        if self.engine_id != *engine_id {
            bail!(
                "the keys are localized to SNMP engine {}, and this is engine {engine_id}: remove the file and add the users \
                 again",
                self.engine_id
            );
        }
        Ok(self.users.iter().map(User::new).collect::<Result<_, _>>()?)
    }

    /// Who sends informs as this user at this level; none if there is no such user.
    ///
    /// # Errors
    /// When the user has no keys for the level.
    pub fn informer(&self, name: &str, level: SecurityLevel, random: u64) -> anyhow::Result<Option<Informer>> {
        let Some(user) = self.inform_users.iter().find(|user| user.name == name) else { return Ok(None) };
        let keys = match (user.keys.clone(), user.engine_id.clone()) {
            (None, _) => InformKeys::None,
            (Some(keys), None) => InformKeys::Anywhere(keys),
            (Some(keys), Some(engine_id)) => InformKeys::At(engine_id, keys),
        };
        Ok(Some(Informer::new(name, level, keys, random)?))
    }
}

impl Written {
    fn parse(self) -> anyhow::Result<UsersFile> {
        let mut users = Vec::new();
        for user in self.user {
            let keys = user.keys()?;
            ensure!(user.engine_id.is_none(), "user {}: engine-id stands at the top of the file", user.name);
            let Text(level) = user.level.with_context(|| format!("user {} has no level", user.name))?;
            let view = user.view.into_iter().map(|Text(oid)| oid).collect();
            let account = Account { name: user.name, keys, level, view };
            User::new(&account)?;
            ensure!(users.iter().all(|other: &Account| other.name != account.name), "two users {}", account.name);
            users.push(account);
        }
        let mut inform_users = Vec::new();
        for user in self.inform_user {
            let keys = user.keys()?;
            ensure!(user.level.is_none() && user.view.is_empty(), "inform-user {} has a level or view", user.name);
            let engine_id = user.engine_id.map(|Text(engine_id)| engine_id);
            let same = |other: &InformUser| other.name == user.name;
            ensure!(!inform_users.iter().any(same), "two users {} for informs", user.name);
            inform_users.push(InformUser { name: user.name, engine_id, keys });
        }
        let Text(engine_id) = self.engine_id;
        Ok(UsersFile { engine_id, users, inform_users })
    }
}

impl WrittenUser {
    fn new(name: &str, keys: Option<&Keys>) -> Self {
        let privacy = keys.and_then(|keys| keys.privacy.clone());
        Self {
            name: name.to_owned(),
            engine_id: None,
            auth: keys.map(|keys| Text(keys.auth.0)),
            auth_key: keys.map(|keys| HexKey(keys.auth.1.clone())),
            privacy: privacy.as_ref().map(|(protocol, _)| Text(*protocol)),
            privacy_key: privacy.map(|(_, key)| HexKey(key)),
            level: None,
            view: Vec::new(),
        }
    }

    fn keys(&self) -> anyhow::Result<Option<Keys>> {
        let name = &self.name;
        let pair = |key: &Option<HexKey>| key.as_ref().map(|HexKey(key)| key.clone());
        let auth = match (&self.auth, pair(&self.auth_key)) {
            (Some(Text(protocol)), Some(key)) => Some((*protocol, key)),
            (None, None) => None,
            _ => bail!("user {name}: auth and auth-key belong together"),
        };
        let privacy = match (&self.privacy, pair(&self.privacy_key)) {
            (Some(Text(protocol)), Some(key)) => Some((*protocol, key)),
            (None, None) => None,
            _ => bail!("user {name}: priv and priv-key belong together"),
        };
        match auth {
            Some(auth) => Ok(Some(Keys { auth, privacy })),
            None if privacy.is_none() => Ok(None),
            None => bail!("user {name}: there is no privacy without authentication"),
        }
    }
}

/// Something that is written as it shows itself, and read back from that.
struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: std::str::FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// A key in hexadecimal.
struct HexKey(Key);

impl Serialize for HexKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits: String = self.0.octets().iter().map(|octet| format!("{octet:02x}")).collect();
        serializer.serialize_str(&digits)
    }
}

impl<'de> Deserialize<'de> for HexKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octet = |pair: &[u8]| {
            let digit = |place: usize| pair.get(place).and_then(|digit| char::from(*digit).to_digit(16));
            u8::try_from(digit(0)? * 16 + digit(1)?).ok()
        };
        let octets: Option<Vec<u8>> = text.as_bytes().chunks(2).map(octet).collect();
        // Not a word of what stands there.
        octets.map(|octets| Self(octets.into())).ok_or_else(|| serde::de::Error::custom("a key is not hexadecimal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ku() -> Keys {
        let ku = |passphrase: &[u8]| Key::from_passphrase(AuthProtocol::Sha512, passphrase).unwrap();
        let privacy = (PrivProtocol::Aes256Reeder, ku(b"privacy phrase"));
        Keys { auth: (AuthProtocol::Sha512, ku(b"authentication")), privacy: Some(privacy) }
    }

    fn file() -> UsersFile {
        let engine_id = EngineId::from_random([5; 12]);
        let keys = Some(ku().localize(&engine_id));
        let view = vec!["1.3.6.1.4.1.23263".parse().unwrap()];
        let elsewhere: EngineId = "8000000001020304".parse().unwrap();
        UsersFile {
            users: vec![
                Account { name: "monitor".to_owned(), keys, level: SecurityLevel::AuthPriv, view },
                Account { name: "weak".to_owned(), keys: None, level: SecurityLevel::NoAuthNoPriv, view: Vec::new() },
            ],
            inform_users: vec![
                InformUser { name: "traps".to_owned(), engine_id: None, keys: Some(ku()) },
                InformUser {
                    name: "bound".to_owned(),
                    keys: Some(ku().localize(&elsewhere)),
                    engine_id: Some(elsewhere),
                },
            ],
            engine_id,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        assert_eq!(UsersFile::read(&path).unwrap(), None);
        let file = file();
        for _ in 0..2 {
            file.write(&path).unwrap();
            assert_eq!(UsersFile::read(&path).unwrap().as_ref(), Some(&file));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let users = file.ready(&file.engine_id).unwrap();
        assert_eq!(users.of_name("monitor").unwrap().highest_level(), SecurityLevel::AuthPriv);
        for (name, level, there) in [
            ("traps", SecurityLevel::AuthPriv, true),
            ("bound", SecurityLevel::AuthNoPriv, true),
            ("monitor", SecurityLevel::AuthPriv, false),
        ] {
            assert_eq!(file.informer(name, level, 1).unwrap().is_some(), there, "{name}");
        }
        let error = file.ready(&EngineId::from_random([6; 12])).unwrap_err().to_string();
        assert!(error.contains(&file.engine_id.to_string()) && error.contains("add the users again"), "{error}");
    }

    #[test]
    fn nobody_else_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        file().write(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = format!("{:#}", UsersFile::read(&path).unwrap_err());
            assert!(error.contains(&format!("mode {mode:04o}")) && error.contains("chmod 0600"), "{error}");
        }
    }

    #[test]
    fn mistakes_are_named_and_keys_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        file().write(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let key = good.lines().find_map(|line| line.strip_prefix("auth-key = ")).unwrap().trim_matches('"').to_owned();
        let written = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            fs::write(&path, good.replacen(from, to, 1)).unwrap();
            let error = format!("{:#}", UsersFile::read(&path).unwrap_err());
            assert!(error.contains("users.toml") && !error.contains('\n') && !error.contains(&key[..16]), "{error}");
            error
        };
        for (from, to, complaint) in [
            ("SHA-512", "MD5", "`MD5` is no authentication protocol"),
            ("AES-256-C", "DES", "`DES` is no privacy protocol"),
            ("AES-256-C", "AES", "privacy key of user monitor has not the length"),
            ("\"authPriv\"", "\"high\"", "`high` is no security level"),
            ("noAuthNoPriv", "authNoPriv", "user weak has no keys for authNoPriv"),
            (&key, &key[1..], "a key is not hexadecimal"),
            (&key, &format!("{}zz", &key[2..]), "a key is not hexadecimal"),
            (&key, &key[2..], "authentication key of user monitor has not the length"),
            ("auth-key", "auth-kex", "unknown field `auth-kex`"),
            ("auth = \"SHA-512\"\n", "", "auth and auth-key belong together"),
            ("\"weak\"", "\"monitor\"", "two users monitor"),
            ("\"bound\"", "\"traps\"", "two users traps for informs"),
            ("engine-id = \"8", "engine-id = \"x", "an engine ID is"),
            (".1.3.6.1.4.1.23263", "1.x", "an arc is not a number"),
        ] {
            let error = written(from, to);
            assert!(error.contains(complaint), "{error}");
        }
    }
}
