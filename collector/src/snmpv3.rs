//! SNMPv3 of the daemon: its engine and its users, read at the start and again on SIGHUP.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use snmp_export::usm::{Informer, SecurityLevel, Usm};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Settings;
use crate::faces::Faces;
use crate::snmp_engine;
use crate::users::UsersFile;

/// A running engine and its users.
#[derive(Debug)]
pub struct Snmpv3 {
    usm: Arc<Usm>,
    path: PathBuf,
    /// As whom informs are sent.
    file: Mutex<UsersFile>,
    /// Keeps others from running the same engine.
    _engine: snmp_engine::Running,
}

impl Snmpv3 {
    /// Starts the engine if there is a file of users. What keeps it from starting is logged, and shows as the face
    /// `snmpv3`; versions 1 and 2c go on without it.
    pub fn start(settings: &Settings, faces: &Faces) -> Option<Arc<Self>> {
        let path = settings.snmp_users();
        let started = match UsersFile::read(&path) {
            Ok(None) => return None,
            Ok(Some(file)) => Self::of(&path, file, settings),
            Err(error) => Err(error),
        };
        let face = faces.add("snmpv3", path.display().to_string());
        match started {
            Ok(started) => {
                face.up();
                let engine = started.usm.engine();
                tracing::info!("SNMPv3 engine {}, users of {}", engine.id(), path.display());
                Some(Arc::new(started))
            }
            Err(error) => {
                tracing::error!("no SNMPv3: {error:#}");
                face.down(format!("{error:#}"));
                None
            }
        }
    }

    fn of(path: &Path, file: UsersFile, settings: &Settings) -> anyhow::Result<Self> {
        let running = snmp_engine::start(&settings.state_dir())?;
        let engine = running.engine.clone().with_max_size(u32::try_from(settings.snmp_max_size()).unwrap_or(u32::MAX));
        let users = file.ready(engine.id()).with_context(|| path.display().to_string())?;
        let usm = Arc::new(Usm::new(engine, users, random()?));
        Ok(Self { usm, path: path.to_owned(), file: Mutex::new(file), _engine: running })
    }

    /// The engine and its users, for the agent and for traps.
    pub fn usm(&self) -> &Arc<Usm> {
        &self.usm
    }

    /// Who sends informs as this user at this level.
    ///
    /// # Errors
    /// When there is no such user for informs, or it has no keys for the level.
    pub fn informer(&self, name: &str, level: SecurityLevel) -> anyhow::Result<Informer> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let informer = file.informer(name, level, random()?)?;
        informer.with_context(|| {
            let path = self.path.display();
            format!("{path} has no user {name} for informs: `lbstatd user add {name} --informs any` makes one")
        })
    }

    /// Reads the users again. What is wrong is logged, and changes nothing.
    pub fn reload(&self) {
        let read = || {
            let file = UsersFile::read(&self.path)?.unwrap_or_else(|| UsersFile::new(self.usm.engine().id().clone()));
            let users = file.ready(self.usm.engine().id()).with_context(|| self.path.display().to_string())?;
            anyhow::Ok((file, users))
        };
        match read() {
            Ok((file, users)) => {
                tracing::info!("{} SNMPv3 users of {}", file.users.len(), self.path.display());
                self.usm.replace_users(users);
                *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
            }
            Err(error) => tracing::error!("SNMPv3 users stay as they were: {error:#}"),
        }
    }
}

/// Reads the users again at each SIGHUP, for ever.
///
/// # Errors
/// When the signal cannot be caught.
pub fn reload_on_hangup(snmpv3: Option<Arc<Snmpv3>>) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match &snmpv3 {
                Some(snmpv3) => snmpv3.reload(),
                None => tracing::warn!("SIGHUP: SNMPv3 is not running, so there are no users to read again"),
            }
        }
    });
    Ok(())
}

fn random() -> anyhow::Result<u64> {
    getrandom::u64().context("no random number for SNMPv3")
}
