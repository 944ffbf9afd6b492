//! What the kernel says of a process.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Time that the living threads of a process have run on a processor, in user and kernel mode; to the nanosecond, from
/// the scheduler (`/proc/PID/task/TID/schedstat`, first field).
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    cpu_of_threads(pid, |_| true)
}

/// The same of the threads of this name only; nothing if there are none.
pub(super) fn cpu_of_thread(pid: u32, name: &str) -> Result<Duration> {
    cpu_of_threads(pid, |thread| thread == name)
}

fn cpu_of_threads(pid: u32, wanted: impl Fn(&str) -> bool) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        if !wanted(fs::read_to_string(task.join("comm"))?.trim_end()) {
            continue;
        }
        let text = fs::read_to_string(task.join("schedstat"))?;
        let nanoseconds = text.split(' ').next().context("an empty schedstat")?.parse()?;
        sum += Duration::from_nanos(nanoseconds);
    }
    Ok(sum)
}

/// Memory of a process in MB, as `/proc/PID/status` has it under this name (`VmRSS`, `VmHWM`).
pub(super) fn memory(pid: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kibibytes: f64 = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no such line")?.parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}

/// The only child of a process.
pub(super) fn child_of(pid: u32) -> Result<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let mut children = children.split_ascii_whitespace();
    let child = children.next().with_context(|| format!("process {pid} has no child"))?;
    anyhow::ensure!(children.next().is_none(), "process {pid} has several children");
    Ok(child.parse()?)
}
