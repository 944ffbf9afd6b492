//! Finds, or installs, what the kernel programs are built with: a compiler that has its own sources at hand, and the
//! bpf-linker that fits the compiler's LLVM.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

use super::{parent, root, stamp::Stamp};

/// The version of bpf-linker that is used, and the LLVM releases it can work with.
pub(super) const BPF_LINKER: &str = "0.10.3";
const LLVM: [&str; 3] = ["20", "21", "22"];

const OVERRIDE: &str = "LBSTATD_EBPF_RUSTC";
const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// A compiler that can build `core`, and the cargo beside it.
pub(super) struct Toolchain {
    pub(super) rustc: PathBuf,
    pub(super) cargo: PathBuf,
    pub(super) sysroot: PathBuf,
    pub(super) release: String,
    pub(super) commit: String,
    /// Full version, `22.1.8`.
    pub(super) llvm: String,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, LLVM {})", self.rustc.display(), self.release, self.llvm)
    }
}

impl Toolchain {
    /// Whether this is the compiler that made the recorded object.
    pub(super) fn is(&self, recorded: &Stamp) -> bool {
        self.release == recorded.rustc && self.commit == recorded.commit && self.llvm == recorded.llvm
    }

    fn llvm_major(&self) -> &str {
        self.llvm.split('.').next().unwrap_or_default()
    }

    /// Asks a compiler who it is, and whether it is fit.
    fn probe(rustc: &Path) -> Result<Self> {
        let about = output(Command::new(rustc).arg("-vV"))?;
        let field = |name: &str| {
            let line = about.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.map(str::to_owned).with_context(|| format!("{} does not tell its {name}", rustc.display()))
        };
        let sysroot = PathBuf::from(output(Command::new(rustc).args(["--print", "sysroot"]))?);
        let toolchain = Self {
            rustc: rustc.to_path_buf(),
            cargo: rustc.with_file_name("cargo"),
            release: field("release")?,
            commit: field("commit-hash")?,
            llvm: field("LLVM version")?,
            sysroot,
        };
        ensure!(
            toolchain.sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists(),
            "{toolchain} has no sources of `core`"
        );
        ensure!(toolchain.cargo.exists(), "{toolchain} has no cargo beside it");
        ensure!(
            LLVM.contains(&toolchain.llvm_major()),
            "{toolchain}: bpf-linker {BPF_LINKER} needs LLVM {}",
            LLVM.join(", ")
        );
        Ok(toolchain)
    }
}

/// The compilers here that are fit, best first.
pub(super) fn find() -> Vec<Toolchain> {
    candidates().iter().filter_map(|rustc| Toolchain::probe(rustc).ok()).collect()
}

/// A fit compiler: one that is here, or Debian's after installing it.
pub(super) fn find_or_install() -> Result<Toolchain> {
    if let Some(rustc) = std::env::var_os(OVERRIDE) {
        return Toolchain::probe(Path::new(&rustc)).with_context(|| format!("{OVERRIDE} names an unfit compiler"));
    }
    if let Some(toolchain) = find().into_iter().next() {
        return Ok(toolchain);
    }
    install()?;
    Toolchain::probe(Path::new(DEBIAN_RUSTC)).context("the compiler just installed is unfit")
}

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

fn candidates() -> Vec<PathBuf> {
    if let Some(rustc) = std::env::var_os(OVERRIDE) {
        return vec![rustc.into()];
    }
    let rustup = ["nightly", "stable"].into_iter().filter_map(|channel| {
        output(Command::new("rustup").args(["which", "--toolchain", channel, "rustc"])).ok().map(PathBuf::from)
    });
    rustup.chain([PathBuf::from(DEBIAN_RUSTC)]).collect()
}

fn install() -> Result<()> {
    let command = format!("apt-get update && apt-get install -y --no-install-recommends {}", PACKAGES.join(" "));
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let is_debian = system.lines().any(|line| line == "ID=debian");
    if !is_debian {
        bail!(
            "no Rust compiler here has its sources: run `rustup toolchain install nightly --component rust-src`, or set {OVERRIDE}"
        );
    }
    if !is_root()? {
        bail!("no Rust compiler here has its sources: run `sudo sh -c '{command}'`, or set {OVERRIDE}");
    }
    println!("no Rust compiler here has its sources; installing Debian's: {command}");
    let started = Instant::now();
    let status = Command::new("sh").args(["-c", &command]).env("DEBIAN_FRONTEND", "noninteractive").status()?;
    ensure!(status.success(), "installing {} failed, see above", PACKAGES.join(" "));
    println!("installed in {:.0} s", started.elapsed().as_secs_f32());
    Ok(())
}

fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    Ok(status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0")))
}

/// The linker, built on first use. It finds the compiler's LLVM in the folder `lib` next to its own.
pub(super) fn bpf_linker(toolchain: &Toolchain) -> Result<PathBuf> {
    let llvm = toolchain.llvm_major();
    let folder = root().join(format!("target/ebpf-tools/llvm-{llvm}"));
    let linker = folder.join("bin/bpf-linker");
    let version = output(Command::new(&linker).arg("--version")).unwrap_or_default();
    if version.split_whitespace().last() != Some(BPF_LINKER) {
        println!("building bpf-linker {BPF_LINKER} for LLVM {llvm} (once, two to five minutes)");
        let started = Instant::now();
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            // Outside of the checkout, whose configuration is not meant for it.
            .current_dir("/")
            .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--force", "--no-default-features"])
            .args(["--features", &format!("llvm-{llvm},rust-llvm-{llvm}"), "--root"])
            .arg(&folder)
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .env_remove("CARGO_TARGET_DIR")
            .status()
            .context("running cargo install")?;
        ensure!(status.success(), "installing bpf-linker failed, see above");
        println!("built in {:.0} s", started.elapsed().as_secs_f32());
    }
    link_llvm(toolchain, &folder.join("lib"))?;
    Ok(linker)
}

/// Puts a link to the compiler's own LLVM where the linker looks for it.
fn link_llvm(toolchain: &Toolchain, folder: &Path) -> Result<()> {
    let llvm = find_llvm(toolchain)?;
    let name = llvm.file_name().context("a library has a name")?;
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let link = folder.join(name);
    match std::os::unix::fs::symlink(&llvm, &link) {
        // Two builds at once: the other one made it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.with_context(|| link.display().to_string()),
    }
}

fn find_llvm(toolchain: &Toolchain) -> Result<PathBuf> {
    let mut folders = vec![toolchain.sysroot.join("lib"), PathBuf::from("/usr/lib64")];
    let usr_lib = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    folders.extend(usr_lib.filter(|path| path.to_string_lossy().ends_with("-linux-gnu")));
    // `libLLVM.so.22.1-rust-1.96.0-stable` from rustup, `libLLVM.so.22.1` or `libLLVM-22.so` from distributions.
    let major = toolchain.llvm_major();
    let names = [format!("libLLVM.so.{major}."), format!("libLLVM-{major}")];
    let mut found: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten())
        .filter(|entry| names.iter().any(|name| entry.file_name().to_string_lossy().starts_with(name)))
        .map(|entry| entry.path())
        .collect();
    found.sort_by_key(|path| !path.starts_with(parent(&toolchain.rustc).unwrap_or(path)));
    found
        .into_iter()
        .next()
        .with_context(|| format!("no libLLVM of {toolchain} in {folders:?}: install its LLVM library"))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
