//! Debian packages of any release, unpacked into folders of their own: nothing is installed, and nobody need be root.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::process::{Output, Process, run};

/// What says that a line of apt's sources is Debian's; in package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The folder that holds `package` of Debian's `suite` and everything it depends on, as in a system's root; it takes
/// ten seconds the first time.
///
/// # Errors
/// When there is no apt, no mirror of Debian in its configuration, or no such package there.
pub fn unpacked(package: &str, suite: &str) -> Result<PathBuf> {
    kept(&format!("{package}-{suite}"), |place| {
        let mut last = None;
        for mirror in mirrors()? {
            match fill(place, package, suite, &mirror) {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error.context(format!("{package} of {suite} from {mirror}"))),
            }
        }
        Err(last.context("apt's configuration names no mirror for this release of Debian")?)
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

/// Where this system gets its own packages from; a mirror holds all releases.
fn mirrors() -> Result<BTreeSet<String>> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename.context("/etc/os-release has no VERSION_CODENAME")?.trim_matches('"');
    let targets = run("apt-get", |command| {
        command.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Identifier: Packages"])
    })?;
    let pairs = targets.stdout.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.filter(|(_, suite)| *suite == codename).map(|(mirror, _)| mirror.to_owned()).collect())
}

/// An apt that knows one source and no installed package, and so brings the package with all it needs.
fn fill(root: &Path, package: &str, suite: &str, mirror: &str) -> Result<()> {
    if !Path::new(KEYRING).is_file() {
        bail!("there is no {KEYRING}");
    }
    let place = TempDir::with_prefix("lbstatd-apt-")?;
    let place = place.path();
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(place.join(folder))?;
    }
    let (sources, status) = (place.join("sources.list"), place.join("status"));
    fs::write(&sources, format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))?;
    fs::write(&status, "")?;
    let folders = [
        ("Dir::Etc::sourcelist", sources),
        ("Dir::Etc::sourceparts", "-".into()),
        ("Dir::Etc::preferencesparts", "-".into()),
        ("Dir::State", place.to_owned()),
        ("Dir::State::lists", place.join("lists")),
        ("Dir::State::status", status),
        ("Dir::Cache", place.join("cache")),
    ];
    let mut options: Vec<OsString> = vec!["-q".into(), "-y".into()];
    for (name, value) in folders {
        let mut option = OsString::from(format!("{name}="));
        option.push(value);
        options.extend(["-o".into(), option]);
    }
    // The folder is ours alone: no locks, and no user of apt's own for the download. A source that cannot be reached is
    // an error, and not after minutes.
    for option in [
        "APT::Install-Recommends=false",
        "Debug::NoLocking=1",
        "APT::Sandbox::User=root",
        "APT::Update::Error-Mode=any",
        "Acquire::http::Timeout=20",
    ] {
        options.extend(["-o".into(), option.into()]);
    }
    succeed("apt-get", &options, &["update"])?;
    succeed("apt-get", &options, &["install", "--download-only", package])?;
    for file in fs::read_dir(place.join("cache/archives"))? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            succeed("dpkg", &["-x".into(), file.into(), root.into()], &[])?;
        }
    }
    Ok(())
}

fn succeed(program: &str, options: &[OsString], more: &[&str]) -> Result<()> {
    let output = run(program, |command| command.args(options).args(more).env("LC_ALL", "C"))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = output.stderr.lines().find(|line| line.starts_with("E:")).unwrap_or(output.stderr.trim());
    bail!("{program} {} failed: {reason}", more.join(" "))
}
