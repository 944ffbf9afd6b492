//! A virtual machine that boots, prints and switches itself off.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use lbstatd_tests::Process;
use tempfile::TempDir;

/// Far longer than a boot and all tests take on a processor that is emulated.
const DEADLINE: Duration = Duration::from_secs(600);

/// Boots this kernel with this file system, waits until the machine is off, and returns what it printed.
pub(super) fn boot(kernel: &Path, initramfs: &[u8]) -> Result<String> {
    let dir = TempDir::with_prefix("lbstatd-vm-")?;
    let archive = dir.path().join("initramfs.cpio");
    std::fs::write(&archive, initramfs)?;
    // Killed with this value, and by the kernel if this process ends without it.
    let mut qemu = Process::start("qemu-system-x86_64", dir.path().join("console"), |command| {
        command
            // No KVM: most machines that run tests are virtual themselves.
            .args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1G"])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(&archive)
            // A sample of the kernel walks the whole table of connections, whose size goes with the memory's.
            .args(["-append", "console=ttyS0 quiet panic=-1 thash_entries=1024"])
    })?;
    let start = Instant::now();
    while qemu.is_running()? {
        if start.elapsed() > DEADLINE {
            bail!("the machine is not off after {} s; it printed:\n{}", DEADLINE.as_secs(), qemu.log());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let console = qemu.log().replace('\r', "");
    ensure!(!console.is_empty(), "the machine printed nothing: is {} a kernel?", kernel.display());
    Ok(console)
}
