//! The user nobody, to see what somebody without rights sees.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lbstatd_tests::{lbstatd_binary, run};
use tempfile::TempDir;

use crate::skip::skipped;

/// No capability.
pub(crate) const NONE: &str = "-all";

/// setpriv's options: the user nobody, with these capabilities and no way to get more.
pub(crate) fn options(capabilities: &str) -> Vec<String> {
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--pdeathsig=KILL"];
    let sets = ["inh-caps", "ambient-caps", "bounding-set"].map(|set| format!("--{set}={capabilities}"));
    user.map(str::to_owned).into_iter().chain(sets).collect()
}

/// A folder that nobody may write to, with lbstatd in it: where it was built, nobody may not be able to go.
pub(crate) fn folder_with_lbstatd() -> (TempDir, PathBuf) {
    let dir = TempDir::with_prefix("lbstatd-nobody-").unwrap();
    set_mode(dir.path(), 0o777);
    let binary = dir.path().join("lbstatd");
    // Not by our own hand: a child started meanwhile by another test would hold the file open for writing, and a file
    // that is cannot be executed.
    let copied = run("cp", |command| command.arg(lbstatd_binary().unwrap()).arg(&binary)).unwrap();
    assert!(copied.status.success(), "{copied:?}");
    (dir, binary)
}

/// Reports the test as skipped if this process may not become somebody else.
pub(crate) fn is_out_of_reach(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(test, "only root can become somebody else");
    }
    !root
}

/// As chmod.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
