//! The releases of HAProxy that Debian's releases ship: the system's own, and the others in folders of their own.

use anyhow::{Context, Result, bail};

use crate::unpacked::{Program, unpacked};

/// HAProxy's releases and the releases of Debian that ship them.
const SUITES: [(&str, &str); 3] = [("2.2", "bullseye"), ("2.6", "bookworm"), ("3.0", "trixie")];

/// The HAProxy of this release, such as `2.6`: the system's if it is one, else Debian's, unpacked.
///
/// # Errors
/// When it cannot be had here, or does not run.
pub fn haproxy_release(release: &str) -> Result<Program> {
    let system = Program::named("haproxy");
    if check(&system, release).is_ok() {
        return Ok(system);
    }
    let suite = SUITES.iter().find(|(shipped, _)| *shipped == release).map(|(_, suite)| suite);
    let root = unpacked("haproxy", suite.with_context(|| format!("Debian does not ship HAProxy {release}"))?)?;
    let haproxy = Program::in_root(&root, "usr/sbin/haproxy")?;
    check(&haproxy, release)?;
    Ok(haproxy)
}

fn check(haproxy: &Program, release: &str) -> Result<()> {
    let output = haproxy.run(|command| command.arg("-v"))?;
    // `HA-Proxy version 2.2.9-2+deb11u6`, and without the hyphen in newer ones.
    let version = output.stdout.split(' ').nth(2).unwrap_or_default();
    if version.strip_prefix(release).is_none_or(|rest| !rest.starts_with('.')) {
        bail!("HAProxy is no {release}: {}{}", output.stdout, output.stderr);
    }
    Ok(())
}
