//! `cargo xtask build-ebpf`: builds the kernel programs and refreshes the object that `lbstatd` carries.
//!
//! The object is committed, so that building `lbstatd` itself needs nothing but stable Rust. Building the object needs
//! a compiler with its own sources (`core` is built for the kernel's target) and bpf-linker; both are found or
//! installed here. The bytes depend on sources, compiler and linker alone, not on the folder, so anybody can check
//! that the committed object is what the sources say.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

mod stamp;
mod strip;
mod toolchain;

use stamp::Stamp;
use toolchain::Toolchain;

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail if the committed object does not belong to the sources; change nothing
    #[arg(long)]
    check: bool,
    /// With --check: compare hashes, and never build
    #[arg(long, requires = "check")]
    no_build: bool,
}

const OBJECT: &str = "ebpf/prebuilt/lbstatd.bpf.o";
const STAMP: &str = "ebpf/prebuilt/BUILD.toml";

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.check {
        return check(!args.no_build);
    }
    let built = build()?;
    write(OBJECT, &built.object)?;
    write(STAMP, built.stamp.to_toml()?.as_bytes())?;
    println!("{OBJECT}: {} bytes, recorded in {STAMP}", built.object.len());
    Ok(())
}

/// An object fresh from the sources.
pub(crate) struct Built {
    /// The object, without debug information.
    pub(crate) object: Vec<u8>,
    stamp: Stamp,
}

/// Builds the kernel programs from source, installing what that needs.
pub(crate) fn build() -> Result<Built> {
    let toolchain = toolchain::find_or_install()?;
    let linker = toolchain::bpf_linker(&toolchain)?;
    build_with(&toolchain, &linker)
}

/// Checks the committed object against the sources and, with `may_build`, against a build by the recorded compiler, if
/// that is here.
fn check(may_build: bool) -> Result<()> {
    let text =
        fs::read_to_string(root().join(STAMP)).with_context(|| format!("{STAMP}: run `cargo xtask build-ebpf`"))?;
    let recorded = Stamp::from_toml(&text).with_context(|| format!("{STAMP}: run `cargo xtask build-ebpf`"))?;
    let object = fs::read(root().join(OBJECT)).with_context(|| format!("{OBJECT}: run `cargo xtask build-ebpf`"))?;
    ensure!(
        recorded.sources == stamp::sources_hash(root())?,
        "{OBJECT} does not belong to the sources: run `cargo xtask build-ebpf` and commit ebpf/prebuilt"
    );
    ensure!(
        recorded.object == stamp::hash(&object),
        "{OBJECT} is not the file that {STAMP} records: run `cargo xtask build-ebpf` and commit ebpf/prebuilt"
    );
    println!("{OBJECT} belongs to the sources");
    if !may_build {
        return Ok(());
    }
    match toolchain::find().into_iter().find(|toolchain| toolchain.is(&recorded)) {
        Some(toolchain) => {
            let linker = toolchain::bpf_linker(&toolchain)?;
            let built = build_with(&toolchain, &linker)?;
            ensure!(
                built.object == object,
                "{OBJECT} differs from a fresh build by the same compiler: run `cargo xtask build-ebpf` and see what made the difference"
            );
            println!("{OBJECT} equals a fresh build, byte for byte");
        }
        None => {
            println!(
                "not built anew: it was made by rustc {} ({}), which is not here",
                recorded.rustc, recorded.commit
            );
        }
    }
    Ok(())
}

fn build_with(toolchain: &Toolchain, linker: &Path) -> Result<Built> {
    let sources = stamp::sources_hash(root())?;
    println!("building the kernel programs with {toolchain} (the first time a minute or two: `core` is built as well)");
    let started = Instant::now();
    let target = root().join("target/ebpf");
    forget_other_sources(&target, &sources)?;
    let mut path = vec![parent(linker)?.to_path_buf(), parent(&toolchain.rustc)?.to_path_buf()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let status = Command::new(&toolchain.cargo)
        .current_dir(root())
        .args(["build", "--locked", "--release", "-Z", "build-std=core", "--target", TARGET, "-p", CRATE])
        .arg("--target-dir")
        .arg(&target)
        .env("PATH", std::env::join_paths(path)?)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain)?.join("\x1f"))
        // Of the cargo that runs this, meant for another compiler, or able to change the bytes.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("LD_LIBRARY_PATH")
        .status()
        .with_context(|| format!("running {}", toolchain.cargo.display()))?;
    ensure!(status.success(), "building the kernel programs failed, see above");
    let path = target.join(TARGET).join("release").join(CRATE);
    let object = fs::read(&path).with_context(|| path.display().to_string())?;
    let object = strip::debug_information(&object).with_context(|| path.display().to_string())?;
    println!("built in {:.1} s", started.elapsed().as_secs_f32());
    let stamp = Stamp {
        sources,
        object: stamp::hash(&object),
        rustc: toolchain.release.clone(),
        commit: toolchain.commit.clone(),
        llvm: toolchain.llvm.clone(),
        bpf_linker: toolchain::BPF_LINKER.to_owned(),
    };
    Ok(Built { object, stamp })
}

/// Makes cargo compile our crates anew if the last build was of other sources. It would judge by the files' times, which
/// a restored or copied file can set back.
fn forget_other_sources(target: &Path, sources: &str) -> Result<()> {
    let marker = target.join("sources.sha256");
    if fs::read_to_string(&marker).is_ok_and(|last| last == sources) {
        return Ok(());
    }
    let fingerprints = target.join(TARGET).join("release/.fingerprint");
    for entry in fs::read_dir(&fingerprints).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(CRATE) {
            fs::remove_dir_all(entry.path()).with_context(|| entry.path().display().to_string())?;
        }
    }
    fs::create_dir_all(target).and_then(|()| fs::write(&marker, sources)).with_context(|| marker.display().to_string())
}

const TARGET: &str = "bpfel-unknown-none";
const CRATE: &str = "lbstatd-ebpf";

/// The compiler's flags. The prefixes that would tell where the sources lay are replaced: they end up in the object.
fn flags(toolchain: &Toolchain) -> Result<Vec<String>> {
    let remap = |path: &Path, name: &str| format!("--remap-path-prefix={}={name}", path.display());
    Ok(vec![
        // Which registers aya-ebpf knows by name; the object itself is the same for every little-endian machine.
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        // The instructions of Linux 5.1: half registers, which counters of 32 bits and flags want.
        "-Ctarget-cpu=v3".to_owned(),
        // The kernel's type information is made from the debug information.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        remap(root(), "/lbstatd"),
        remap(&cargo_home()?, "/cargo"),
        remap(&toolchain.sysroot, "/rust"),
    ])
}

fn cargo_home() -> Result<PathBuf> {
    match (std::env::var_os("CARGO_HOME"), std::env::home_dir()) {
        (Some(home), _) => Ok(home.into()),
        (None, Some(home)) => Ok(home.join(".cargo")),
        (None, None) => bail!("no home folder is known: set HOME or CARGO_HOME"),
    }
}

fn write(path: &str, bytes: &[u8]) -> Result<()> {
    let path = root().join(path);
    fs::create_dir_all(parent(&path)?)
        .and_then(|()| fs::write(&path, bytes))
        .with_context(|| path.display().to_string())
}

fn parent(path: &Path) -> Result<&Path> {
    path.parent().with_context(|| format!("{} has no folder", path.display()))
}

/// The checkout.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the xtask crate lies in the workspace")
}
