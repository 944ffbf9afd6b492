//! The programs the test bed and the demo need, and the Debian packages that bring them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program, or something else that a Debian package brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// Name of the package in Debian.
    pub name: &'static str,
    /// A program it brings; where that is found, from whatever source, the package is not needed. None if it is wanted
    /// for something else.
    pub program: Option<&'static str>,
}

/// What the demo starts.
pub const DEMO: &[Package] = &[program("haproxy", "haproxy"), program("snmp", "snmpbulkwalk")];

/// What the demo and the benchmarks start if they go through snmpd.
pub const SNMPD: &[Package] = &[program("snmpd", "snmpd")];

/// What the end-to-end tests start.
pub const TESTS: &[Package] = &[
    program("haproxy", "haproxy"),
    program("snmpd", "snmpd"),
    program("snmp", "snmpbulkwalk"),
    program("snmptrapd", "snmptrapd"),
    program("prometheus", "prometheus"),
    program("prometheus", "promtool"),
    program("smitools", "smilint"),
    program("libcap2-bin", "capsh"),
    program("iproute2", "ip"),
    program("python3", "python3"),
];

/// What boots other kernels, and what their first process is made of.
pub const VM: &[Package] = &[program("qemu-system-x86", "qemu-system-x86_64"), program("busybox-static", "busybox")];

const fn program(package: &'static str, program: &'static str) -> Package {
    Package { name: package, program: Some(program) }
}

/// Where programs are beside `PATH`: ordinary users have no sbin in theirs.
const SYSTEM_FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The program of this name in `PATH` or one of the system's folders.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Installs what is missing of these with apt-get, saying so.
///
/// # Errors
/// When something is missing and cannot be installed: the error holds the command to type, or names the programs.
pub fn ensure(wanted: &[Package]) -> Result<()> {
    let missing: Vec<Package> = wanted.iter().copied().filter(|package| !is_there(*package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    names.sort_unstable();
    names.dedup();
    if find_program("apt-get").is_none() {
        let programs: Vec<&str> = missing.iter().map(|package| package.program.unwrap_or(package.name)).collect();
        bail!("missing here: {}; install what brings them and try again", programs.join(", "));
    }
    let install = format!("apt-get install --no-install-recommends {}", names.join(" "));
    if !rustix::process::geteuid().is_root() {
        bail!("missing here: {}; install with `sudo {install}` and try again", names.join(", "));
    }
    println!("Installing Debian packages: {}", names.join(" "));
    install_with_apt(&names)?;
    match missing.iter().find(|package| !is_there(**package)) {
        Some(package) => bail!("`{install}` has not brought {}", package.program.unwrap_or(package.name)),
        None => Ok(()),
    }
}

fn is_there(package: Package) -> bool {
    match package.program {
        Some(program) => find_program(program).is_some(),
        None => is_installed(package.name),
    }
}

fn is_installed(package: &str) -> bool {
    let status = Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]).output();
    status.is_ok_and(|output| output.status.success() && output.stdout == b"installed")
}

fn install_with_apt(names: &[&str]) -> Result<()> {
    let _no_services = NoServices::set()?;
    if names.iter().all(|name| is_known(name)) && apt_get(&["install"], names).is_ok() {
        return Ok(());
    }
    // The list of packages is missing or too old.
    apt_get(&["update"], &[])?;
    apt_get(&["install"], names)
}

fn is_known(package: &str) -> bool {
    let policy = Command::new("apt-cache").args(["policy", package]).output();
    policy.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("Candidate:") && !text.contains("Candidate: (none)")
    })
}

fn apt_get(action: &[&str], names: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-y", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"]);
    command.args(action).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    if !names.is_empty() {
        command.arg("--no-install-recommends").args(names);
    }
    let line = format!("apt-get {} {}", action.join(" "), names.join(" "));
    println!("  {}", line.trim_end());
    let output = command.output().context("cannot start apt-get")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let reason = said.lines().find(|line| line.starts_with("E:")).unwrap_or("no reason given");
    bail!("`{}` failed: {reason}", line.trim_end())
}

/// Debian starts a package's service as soon as it is installed, unless this file says no (invoke-rc.d(8)). An existing
/// one is left alone: it is somebody's decision.
struct NoServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# No service starts while the packages for lbstatd's tests are installed.\nexit 101\n";

impl NoServices {
    fn set() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;

        if let Ok(text) = std::fs::read_to_string(POLICY) {
            // Ours if an earlier run was killed before it could remove it.
            return Ok(Self { ours: text == POLICY_TEXT });
        }
        let write = || {
            std::fs::write(POLICY, POLICY_TEXT)?;
            std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755))
        };
        write().with_context(|| format!("cannot write {POLICY}"))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs_and_packages() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-here").is_none());
        ensure(&[program("dash", "sh")]).unwrap();
    }
}
