//! The machine's whole file system: an archive that the kernel unpacks into memory, in the format of cpio's `newc`
//! (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lbstatd_tests::run;

/// An archive in the making.
#[derive(Clone, Default)]
pub(super) struct Initramfs {
    bytes: Vec<u8>,
    there: BTreeSet<String>,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

impl Initramfs {
    /// A folder, and those above it. `path` is absolute.
    pub(super) fn folder(&mut self, path: &str) {
        if path.is_empty() || path == "/" || self.there.contains(path) {
            return;
        }
        self.above(path);
        self.entry(path, FOLDER | 0o755, &[]);
    }

    /// A file of these bytes.
    pub(super) fn file(&mut self, path: &str, permissions: u32, bytes: &[u8]) {
        self.above(path);
        self.entry(path, FILE | permissions, bytes);
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &str, to: &str) {
        self.above(path);
        self.entry(path, LINK | 0o777, to.as_bytes());
    }

    /// A program of this system at `path`, and the libraries it needs where its loader looks for them.
    pub(super) fn program(&mut self, path: &str, program: &Path) -> Result<()> {
        self.file(path, 0o755, &without_debug_information(program)?);
        let output = run("ldd", |command| command.arg(program))?;
        // A static program has none, and ldd fails.
        for library in output.stdout.lines().filter_map(library) {
            if !self.there.contains(library) {
                let bytes = fs::read(library).with_context(|| library.to_owned())?;
                self.file(library, 0o755, &bytes);
            }
        }
        Ok(())
    }

    /// The archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn above(&mut self, path: &str) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        self.there.insert(path.to_owned());
        let name = path.trim_start_matches('/');
        let inode = self.there.len();
        // Magic number, inode, mode, uid, gid, links, time, size, the numbers of two devices, length of the name with
        // its zero, no checksum.
        let header = format!(
            "070701{inode:08X}{mode:08X}{0:08X}{0:08X}{1:08X}{0:08X}{size:08X}{0:08X}{0:08X}{0:08X}{0:08X}{length:08X}{0:08X}",
            0,
            1,
            size = bytes.len(),
            length = name.len() + 1,
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// Header with name, and contents, each begin at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A path behind `=>`, or alone, before the address where it would be mapped.
fn library(line: &str) -> Option<&str> {
    let path = line.split_once("=> ").map_or(line, |(_, path)| path).trim();
    let path = path.split_once(" (").map_or(path, |(path, _)| path);
    path.starts_with('/').then_some(path)
}

/// A fifth of the size, which the machine would have to copy. Where there is no strip (it comes with the C linker), it
/// copies all.
fn without_debug_information(program: &Path) -> Result<Vec<u8>> {
    let place = tempfile::TempDir::with_prefix("lbstatd-vm-")?;
    let stripped = place.path().join("stripped");
    let done = run("strip", |command| command.arg("--strip-debug").arg("-o").arg(&stripped).arg(program));
    let path = if done.is_ok_and(|output| output.status.success()) { &stripped } else { program };
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let executable = fs::metadata(program)?.permissions().mode() & 0o100 != 0;
    ensure!(executable, "{} is no program", program.display());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpio_reads_what_was_written() {
        let mut archive = Initramfs::default();
        archive.file("/one/two/file", 0o644, b"12345");
        archive.link("/one/link", "two/file");
        let bytes = archive.finish();
        let header = |at: usize| std::str::from_utf8(&bytes[at..at + 110]).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert!(header(0).starts_with("070701") && bytes[110..].starts_with(b"one\0"));
        let place = bytes.windows(13).position(|name| name == b"one/two/file\0").unwrap();
        assert_eq!(&header(place - 110)[54..62], "00000005");
        assert_eq!(&header(place - 110)[14..22], "000081A4");
        // 110 octets of header and 13 of the name, and one to the next multiple of four.
        assert_eq!(&bytes[place + 14..place + 19], b"12345");
    }

    #[test]
    fn libraries_are_found_in_what_ldd_prints() {
        assert_eq!(library("\tlibc.so.6 => /lib/libc.so.6 (0x00007f)"), Some("/lib/libc.so.6"));
        assert_eq!(library("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)"), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(library("\tlinux-vdso.so.1 (0x00007ffd)"), None);
        assert_eq!(library("\tstatically linked"), None);
    }
}
