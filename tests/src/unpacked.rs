//! Debian packages of any release, unpacked into folders of their own: nothing is installed, and nobody need be root.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::apt::{from_a_mirror, unpack};
use crate::process::{Output, Process, run};

/// The folder that holds `package` of Debian's `suite` and everything it depends on, as in a system's root; it takes
/// ten seconds the first time.
///
/// # Errors
/// When there is no apt, no mirror of Debian in its configuration, or no such package there.
pub fn unpacked(package: &str, suite: &str) -> Result<PathBuf> {
    kept(&format!("{package}-{suite}"), |place| {
        from_a_mirror(package, suite, |apt| {
            apt.download_with_all_it_needs(package)?.iter().try_for_each(|file| unpack(file, place))
        })
    })
}

/// A folder of this name in cargo's target folder: made the first time with what `fill` puts there, and kept. Whoever
/// asks meanwhile waits.
///
/// # Errors
/// Those of `fill`; then there is no such folder.
pub fn kept(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let target = target_folder()?;
    let kept = target.join(name);
    let lock = target.join(format!("{name}.lock"));
    let lock = File::create(&lock).with_context(|| format!("cannot write {}", lock.display()))?;
    // Until the file is closed.
    flock(&lock, FlockOperation::LockExclusive).context("cannot lock")?;
    if kept.is_dir() {
        return Ok(kept);
    }
    let place = TempDir::with_prefix_in(format!("{name}-"), &target)?;
    fill(place.path())?;
    fs::rename(place.keep(), &kept).with_context(|| format!("cannot make {}", kept.display()))?;
    Ok(kept)
}

/// A program, and what stands before its own arguments.
#[derive(Clone, Debug)]
pub struct Program {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// One of `PATH` or of the system's folders.
    pub fn named(name: &str) -> Self {
        Self { program: name.into(), arguments: Vec::new() }
    }

    /// One that another program starts, and is known by that one's process id.
    pub fn behind(name: &str, arguments: &[&str]) -> Self {
        Self { program: name.into(), arguments: arguments.iter().map(OsString::from).collect() }
    }

    /// One of an unpacked root; the root's own loader takes the root's own libraries for it, and nobody changes roots.
    ///
    /// # Errors
    /// When there is no loader.
    pub fn in_root(root: &Path, path: &str) -> Result<Self> {
        let (program, architecture) = loader(root)?;
        let mut libraries = root.join("lib").join(&architecture).into_os_string();
        libraries.push(":");
        libraries.push(root.join("usr/lib").join(&architecture));
        Ok(Self { program, arguments: vec!["--library-path".into(), libraries, root.join(path).into()] })
    }

    /// The same, started by another one of `PATH` that takes its name and arguments after its own, and becomes it.
    pub fn started_by(self, name: &str, arguments: &[&str]) -> Self {
        let before = arguments.iter().map(OsString::from);
        let arguments = before.chain([self.program.into_os_string()]).chain(self.arguments).collect();
        Self { program: name.into(), arguments }
    }

    /// Starts it with its outputs in `log`, as [`Process::start`] does.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, log: PathBuf, configure: impl FnOnce(&mut Command) -> &mut Command) -> Result<Process> {
        Process::start(&self.program, log, |command| configure(command.args(&self.arguments)))
    }

    /// Runs it to its end, as [`run`] does.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, configure: impl FnOnce(&mut Command) -> &mut Command) -> Result<Output> {
        run(&self.program, |command| configure(command.args(&self.arguments)))
    }
}

/// The loader of a root, and the name of the architecture's folder it is in.
fn loader(root: &Path) -> Result<(PathBuf, OsString)> {
    for parent in ["lib", "usr/lib"] {
        for folder in fs::read_dir(root.join(parent)).into_iter().flatten().flatten() {
            for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                if file.file_name().as_encoded_bytes().starts_with(b"ld-linux") {
                    return Ok((file.path(), folder.file_name()));
                }
            }
        }
    }
    bail!("no loader (ld-linux…) in {}", root.display())
}

/// Cargo's target folder, which this program is in.
fn target_folder() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    // Cargo marks the folder for programs that make backups.
    let target = here.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    Ok(target.with_context(|| format!("{} is not in a target folder of cargo's", here.display()))?.to_owned())
}
