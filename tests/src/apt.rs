//! An apt of its own, for packages of any release of Debian: it knows one source and no installed package, and the
//! host's own apt hears nothing of it. Nobody need be root.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::run;

/// What says that a line of apt's sources is Debian's; in package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

pub(crate) struct Apt {
    place: TempDir,
    options: Vec<OsString>,
}

/// Does this with an apt that knows Debian's `suite`, from the first mirror where it succeeds. `package` is for the
/// error alone.
pub(crate) fn from_a_mirror<T>(package: &str, suite: &str, attempt: impl Fn(&Apt) -> Result<T>) -> Result<T> {
    let mut last = None;
    for mirror in mirrors()? {
        match Apt::of(suite, &mirror).and_then(|apt| attempt(&apt)) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error.context(format!("{package} of {suite} from {mirror}"))),
        }
    }
    Err(last.context("apt's configuration names no mirror for this release of Debian")?)
}

/// Unpacks a package's files into a folder, as in a system's root.
pub(crate) fn unpack(file: &Path, root: &Path) -> Result<()> {
    succeed("dpkg", &["-x".into(), file.into(), root.into()], &[]).map(drop)
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

impl Apt {
    /// With the mirror's current list of packages.
    fn of(suite: &str, mirror: &str) -> Result<Self> {
        if !Path::new(KEYRING).is_file() {
            bail!("there is no {KEYRING}");
        }
        let place = TempDir::with_prefix("lbstatd-apt-")?;
        let folder = place.path();
        for needed in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(needed))?;
        }
        let (sources, status) = (folder.join("sources.list"), folder.join("status"));
        fs::write(&sources, format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))?;
        fs::write(&status, "")?;
        let apt = Self { options: options(folder, sources, status), place };
        succeed("apt-get", &apt.options, &["update"])?;
        Ok(apt)
    }

    /// The package's file and those of all packages it depends on.
    pub(crate) fn download_with_all_it_needs(&self, package: &str) -> Result<Vec<PathBuf>> {
        succeed("apt-get", &self.options, &["install", "-y", "--download-only", package])?;
        let archives = fs::read_dir(self.place.path().join("cache/archives"))?;
        let files = archives.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
        Ok(files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "deb")).collect())
    }

    /// The package's file alone.
    pub(crate) fn download(&self, package: &str) -> Result<PathBuf> {
        // It writes into the current folder, and names the file with the version.
        let folder = TempDir::with_prefix_in("download-", self.place.path())?.keep();
        let output =
            run("apt-get", |command| command.args(&self.options).args(["download", package]).current_dir(&folder))?;
        if !output.status.success() {
            bail!("apt-get download {package} failed: {}", reason(&output.stderr));
        }
        let file =
            fs::read_dir(&folder)?.next().with_context(|| format!("apt-get download {package} brought nothing"))?;
        Ok(file?.path())
    }

    /// The names of the packages that this one depends on itself.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let said = succeed("apt-cache", &self.options, &["depends", package])?;
        let names = said.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(names.map(str::to_owned).collect())
    }
}

fn options(folder: &Path, sources: PathBuf, status: PathBuf) -> Vec<OsString> {
    let folders = [
        ("Dir::Etc::sourcelist", sources),
        ("Dir::Etc::sourceparts", "-".into()),
        ("Dir::Etc::preferencesparts", "-".into()),
        ("Dir::State", folder.to_owned()),
        ("Dir::State::lists", folder.join("lists")),
        ("Dir::State::status", status),
        ("Dir::Cache", folder.join("cache")),
    ];
    let mut options: Vec<OsString> = vec!["-q".into()];
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
    options
}

/// What the program printed.
fn succeed(program: &str, options: &[OsString], more: &[&str]) -> Result<String> {
    let output = run(program, |command| command.args(options).args(more).env("LC_ALL", "C"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    bail!("{program} {} failed: {}", more.join(" "), reason(&output.stderr))
}

fn reason(stderr: &str) -> &str {
    stderr.lines().find(|line| line.starts_with("E:")).unwrap_or(stderr.trim())
}
