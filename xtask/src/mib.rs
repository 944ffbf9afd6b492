//! `cargo xtask mib`: writes the MIB modules and the reference of metrics that the schema gives, or checks the committed
//! ones.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail if a committed file is not what the schema gives
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.check { check() } else { write() }
}

/// Fails if a committed file is not what the schema gives.
pub(crate) fn check() -> anyhow::Result<()> {
    for (path, text) in files() {
        let shown = path.display();
        let committed = std::fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))?;
        if committed != text {
            bail!("{shown} is not what the schema gives: run `cargo xtask mib` and commit the file");
        }
    }
    Ok(())
}

fn write() -> anyhow::Result<()> {
    for (path, text) in files() {
        let shown = path.display();
        std::fs::write(&path, text).with_context(|| format!("cannot write {shown}"))?;
        println!("wrote {shown}");
    }
    Ok(())
}

/// Each file with its place. Modules have no extension: so net-snmp, libsmi and pysmi find one by its name.
fn files() -> impl Iterator<Item = (PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("");
    let mibs = root.join("mibs");
    let modules = lbstats::mib::modules(None).map(|(name, text)| (mibs.join(name), text));
    modules.into_iter().chain([(root.join("docs/metrics.md"), lbstats::reference::metrics())])
}
