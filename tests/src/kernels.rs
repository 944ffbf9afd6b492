//! The kernels that Debian's releases ship for virtual machines, each unpacked into a folder of its own.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::apt::{from_a_mirror, unpack};
use crate::unpacked::kept;

/// Kernel versions and the releases of Debian that ship them.
pub const KERNELS: [(&str, &str); 3] = [("5.10", "bullseye"), ("6.1", "bookworm"), ("6.12", "trixie")];

/// Depends on the newest of the kernels for virtual machines, which are 30 MB each, and have BTF like all of Debian's.
const NEWEST: &str = "linux-image-cloud-amd64";

/// The bootable image of the kernel of this version, such as `6.1`; it takes ten seconds the first time, and is kept.
///
/// # Errors
/// When Debian ships no such kernel, or it cannot be had here.
pub fn debian_kernel(version: &str) -> Result<PathBuf> {
    let suite = KERNELS.iter().find(|(shipped, _)| *shipped == version).map(|(_, suite)| *suite);
    let suite = suite.with_context(|| format!("Debian does not ship Linux {version}"))?;
    let root = kept(&format!("linux-{version}-{suite}"), |place| {
        from_a_mirror(NEWEST, suite, |apt| {
            let names = apt.dependencies(NEWEST)?;
            let name = names.iter().find(|name| name.starts_with("linux-image-"));
            let name = name.with_context(|| format!("{NEWEST} depends on no kernel, but on {names:?}"))?;
            unpack(&apt.download(name)?, place)
        })
    })?;
    let boot = root.join("boot");
    let files = fs::read_dir(&boot).with_context(|| format!("cannot read {}", boot.display()))?;
    let mut images = files
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"vmlinuz-")));
    images.next().with_context(|| format!("no vmlinuz in {}", boot.display()))
}
