//! What the kernel says of a process.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// Time that the living threads of a process have run on a processor, in user and kernel mode; to the nanosecond, from
/// the scheduler (`/proc/PID/task/TID/schedstat`, first field).
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        sum += cpu_of_task(&task?.path())?;
    }
    Ok(sum)
}

/// The same of its one thread of this name.
pub(super) fn cpu_of_thread(pid: u32, name: &str) -> Result<Duration> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        if fs::read_to_string(path.join("comm"))?.trim_end() == name {
            return cpu_of_task(&path);
        }
    }
    anyhow::bail!("process {pid} has no thread {name}")
}

fn cpu_of_task(task: &Path) -> Result<Duration> {
    let text = fs::read_to_string(task.join("schedstat"))?;
    Ok(Duration::from_nanos(text.split(' ').next().context("an empty schedstat")?.parse()?))
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
