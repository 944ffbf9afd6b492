//! The identity of the daemon's SNMP engine, and how often it has started, kept on disk (RFC 3414 section 2.2).
//!
//! A message of SNMPv3 is fresh if it names the engine's present start and time. So a start that was used must never be
//! used again: it is on the disk before anything is answered, and an engine that cannot be written is none.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::{Deserialize, Serialize};
use snmp_export::usm::{Engine, EngineId};

/// Where it is kept, below the state directory.
const FILE: &str = "snmp-engine.toml";
const LOCK: &str = "snmp-engine.lock";
/// The end of snmpEngineBoots: no message is fresh then.
const LATCHED: u32 = i32::MAX as u32;

const COMMENT: &str = "\
# Identity of lbstatd's SNMP engine, and how often it has started. SNMPv3 users are bound to the identity: if this file is
# lost, they have to be added again. Never copy it to another host, and never restore an older copy.
";

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Kept {
    engine_id: String,
    boots: u32,
}

/// An engine that is running; nobody else can run it before this is dropped.
#[derive(Debug)]
pub struct Running {
    /// The engine.
    pub engine: Engine,
    _lock: File,
}

/// Starts the engine of this state directory once more. It is made if there is none.
///
/// # Errors
/// In one line: when the directory cannot be written, the file is none of ours, or another daemon runs the engine.
pub fn start(state: &Path) -> anyhow::Result<Running> {
    make_directory(state)?;
    let lock = lock(&state.join(LOCK), FlockOperation::NonBlockingLockExclusive).with_context(|| {
        format!("{}: another lbstatd runs this SNMP engine, or it cannot be locked", state.display())
    })?;
    let kept = read_or_make(state)?;
    let id = id_of(&kept, state)?;
    if kept.boots >= LATCHED {
        tracing::error!(
            "the SNMP engine has started {LATCHED} times and takes no SNMPv3 message for fresh any more: remove {} and add \
             all users again",
            state.join(FILE).display()
        );
    }
    let boots = kept.boots.saturating_add(1).min(LATCHED);
    write(state, &Kept { boots, ..kept })?;
    Ok(Running { engine: Engine::start(id, boots), _lock: lock })
}

/// The identity of this state directory's engine. It is made if there is none.
///
/// # Errors
/// As [`start`].
pub fn identity(state: &Path) -> anyhow::Result<EngineId> {
    make_directory(state)?;
    id_of(&read_or_make(state)?, state)
}

/// The identity of this state directory's engine, if it has one; nothing is made.
///
/// # Errors
/// When the file cannot be read or is none of ours.
pub fn known_identity(state: &Path) -> anyhow::Result<Option<EngineId>> {
    read(state)?.map(|kept| id_of(&kept, state)).transpose()
}

fn make_directory(state: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state).with_context(|| {
        format!("cannot make the state directory {}: make it, for the account that lbstatd runs as", state.display())
    })
}

fn read(state: &Path) -> anyhow::Result<Option<Kept>> {
    let path = state.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text)
            .map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.message().replace('\n', " "))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn read_or_make(state: &Path) -> anyhow::Result<Kept> {
    if let Some(kept) = read(state)? {
        return Ok(kept);
    }
    let mut random = [0; 12];
    getrandom::fill(&mut random).context("no random octets for the SNMP engine's identity")?;
    let kept = Kept { engine_id: EngineId::from_random(random).to_string(), boots: 0 };
    write(state, &kept)?;
    Ok(kept)
}

fn id_of(kept: &Kept, state: &Path) -> anyhow::Result<EngineId> {
    kept.engine_id.parse().with_context(|| state.join(FILE).display().to_string())
}

fn write(state: &Path, kept: &Kept) -> anyhow::Result<()> {
    replace(&state.join(FILE), &format!("{COMMENT}{}", toml::to_string(kept)?))
}

/// Replaces a file by one with this text that only its owner may read: the folder's owner, where root writes. After a
/// crash at any time it is the old one or the new one, whole; on return it is the new one for good.
///
/// # Errors
/// In one line, with the path; nothing has changed then.
pub fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().with_context(|| format!("{} names no file", path.display()))?.to_owned();
    name.push(".new");
    let new = folder.join(name);
    let write = || -> std::io::Result<()> {
        // What a crash has left.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        if rustix::process::geteuid().is_root() {
            let owner = fs::metadata(folder)?;
            std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| {
        format!("cannot write {}: its folder has to belong to the account that lbstatd runs as", path.display())
    })
}

/// Opens a file, making it if there is none, and locks it until it is closed. A symbolic link is refused: root locks files in
/// a folder that is not root's.
///
/// # Errors
/// When it cannot be opened or locked.
pub fn lock(path: &Path, how: FlockOperation) -> anyhow::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR);
    let file = File::from(file.with_context(|| format!("cannot open {}", path.display()))?);
    flock(&file, how).with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::*;

    fn boots(running: &Running) -> u32 {
        running.engine.clock(Instant::now()).boots
    }

    #[test]
    fn each_start_is_another_of_the_same_engine() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert_eq!(known_identity(&state).unwrap(), None);
        let id = identity(&state).unwrap();
        assert_eq!(known_identity(&state).unwrap().as_ref(), Some(&id));
        for expected in 1..4 {
            let running = start(&state).unwrap();
            assert_eq!((running.engine.id(), boots(&running)), (&id, expected));
            assert_eq!(identity(&state).unwrap(), id);
        }
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(state.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(identity(&dir.path().join("other")).unwrap(), id);
    }

    #[test]
    fn one_engine_runs_once() {
        let dir = tempfile::tempdir().unwrap();
        let running = start(dir.path()).unwrap();
        let error = format!("{:#}", start(dir.path()).unwrap_err());
        assert!(error.contains("another lbstatd runs this SNMP engine"), "{error}");
        drop(running);
        assert_eq!(boots(&start(dir.path()).unwrap()), 2);
    }

    #[test]
    fn no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join(LOCK), dir.path().join("elsewhere"));
        std::os::unix::fs::symlink(&target, link).unwrap();
        assert!(start(dir.path()).is_err());
        assert!(!target.exists());
    }

    #[test]
    fn the_last_start_is_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let id = identity(dir.path()).unwrap();
        let write = |boots: u32| fs::write(dir.path().join(FILE), format!("engine-id = \"{id}\"\nboots = {boots}\n"));
        for (kept, expected) in [(LATCHED - 1, LATCHED), (LATCHED, LATCHED), (u32::MAX, LATCHED)] {
            write(kept).unwrap();
            assert_eq!(boots(&start(dir.path()).unwrap()), expected);
        }
    }

    #[test]
    fn what_cannot_be_kept_does_not_start() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        for text in ["", "engine-id = 3", "engine-id = \"80\"\nboots = 1\n", "engine-id = \"8000000001\"\nboots = -1\n"]
        {
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = format!("{:#}", start(dir.path()).unwrap_err());
            assert!(error.contains(FILE) && !error.contains('\n'), "{error}");
        }
        fs::write(&file, "").unwrap();
        for state in [&file, Path::new("/proc/nothing")] {
            let error = format!("{:#}", start(state).unwrap_err());
            assert!(error.contains(&state.display().to_string()) && !error.contains('\n'), "{error}");
        }
    }
}
