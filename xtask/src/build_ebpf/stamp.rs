//! What the committed object was made from, and by what.

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The contents of `BUILD.toml`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Stamp {
    /// SHA-256 of the sources.
    pub(super) sources: String,
    /// SHA-256 of the object.
    pub(super) object: String,
    /// The compiler's release.
    pub(super) rustc: String,
    /// The compiler's commit.
    pub(super) commit: String,
    /// The compiler's LLVM.
    pub(super) llvm: String,
    /// bpf-linker's version.
    pub(super) bpf_linker: String,
}

impl Stamp {
    pub(super) fn from_toml(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    pub(super) fn to_toml(&self) -> Result<String> {
        Ok(format!(
            "# Written by `cargo xtask build-ebpf`; checked by `cargo xtask build-ebpf --check`.\n{}",
            toml::to_string(self)?
        ))
    }
}

/// SHA-256 over everything that makes the object, in a fixed order, whatever the folder.
pub(super) fn sources_hash(root: &Path) -> Result<String> {
    let mut paths = vec![PathBuf::from("ebpf/Cargo.toml"), PathBuf::from("ebpf-abi/Cargo.toml")];
    for folder in ["ebpf/src", "ebpf-abi/src"] {
        collect(root, Path::new(folder), &mut paths)?;
    }
    paths.sort();
    let mut sum = Sha256::new();
    let mut part = |name: &str, bytes: &[u8]| {
        sum.update(format!("{name}\0{}\0", bytes.len()));
        sum.update(bytes);
    };
    for path in paths {
        let bytes = fs::read(root.join(&path)).with_context(|| path.display().to_string())?;
        part(&path.to_string_lossy(), &bytes);
    }
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("Cargo.lock")?;
    for package in ebpf_packages(&lock)? {
        part("package", package.as_bytes());
    }
    Ok(hex(&sum.finalize()))
}

pub(super) fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn collect(root: &Path, folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder)).with_context(|| folder.display().to_string())? {
        let entry = entry.with_context(|| folder.display().to_string())?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

/// The versions of the packages whose code ends up in the object: aya's for the kernel side. (What their macros are
/// made of does not.)
fn ebpf_packages(lock: &str) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let lock: Lock = toml::from_str(lock).context("Cargo.lock")?;
    let kernel_side =
        |name: &str| name.starts_with("aya-ebpf") || name.starts_with("aya-log-ebpf") || name == "aya-log-common";
    Ok(lock
        .package
        .into_iter()
        .filter(|package| kernel_side(&package.name))
        .map(|package| format!("{} {}", package.name, package.version))
        .collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    })
}
