//! `cargo xtask mib`: writes the MIB modules that the schema gives, or checks the committed ones.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail if a committed module is not what the schema gives
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.check { check() } else { write() }
}

/// Fails if a committed module is not what the schema gives.
pub(crate) fn check() -> anyhow::Result<()> {
    for (path, text) in modules() {
        let shown = path.display();
        let committed = std::fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))?;
        if committed != text {
            bail!("{shown} is not what the schema gives: run `cargo xtask mib` and commit the file");
        }
    }
    Ok(())
}

fn write() -> anyhow::Result<()> {
    for (path, text) in modules() {
        let shown = path.display();
        std::fs::write(&path, text).with_context(|| format!("cannot write {shown}"))?;
        println!("wrote {shown}");
    }
    Ok(())
}

/// Each module with its place. The files have no extension: so net-snmp, libsmi and pysmi find a module by its name.
fn modules() -> [(PathBuf, String); 2] {
    let mibs = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("mibs");
    lbstats::mib::modules(None).map(|(name, text)| (mibs.join(name), text))
}
