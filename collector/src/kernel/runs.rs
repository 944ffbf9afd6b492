//! How often the kernel ran the programs: it says so in `/proc/self/fdinfo` of each program's descriptor.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use aya::{
    Ebpf,
    sys::{Stats, enable_stats},
};

use super::KernelError;

/// The kernel's account of one program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramRuns {
    /// The hook's name.
    pub name: String,
    /// Runs, and their time, while `kernel.bpf_stats_enabled` or `BPF_ENABLE_STATS` was on.
    pub runs: u64,
    /// Time spent in those runs.
    pub time: Duration,
    /// Runs skipped because the program would have interrupted itself (`recursion_misses`). What a skipped run would
    /// have counted is counted later.
    pub missed: u64,
}

/// The administrator's switch for what [`measure`] does as long as its descriptor lives.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Lets the kernel measure the runs of all its BPF programs, whoever loaded them, until the descriptor is closed; it
/// takes some 50 ns of each run. None if the administrator has switched that on already.
pub(super) fn measure() -> Result<Option<OwnedFd>, KernelError> {
    if fs::read_to_string(SWITCH).is_ok_and(|switch| switch.trim() == "1") {
        return Ok(None);
    }
    enable_stats(Stats::RunTime).map(Some).map_err(|error| KernelError::NotMeasured { reason: error.io_error })
}

pub(super) fn read(ebpf: &Ebpf) -> Vec<ProgramRuns> {
    let mut all: Vec<ProgramRuns> = ebpf
        .programs()
        .filter_map(|(name, program)| {
            let descriptor = program.fd().ok()?.as_fd().as_raw_fd();
            let text = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
            Some(parse(name, &text))
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// A field that the kernel lacks counts as 0.
fn parse(name: &str, text: &str) -> ProgramRuns {
    let number = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok()).unwrap_or(0)
    };
    ProgramRuns {
        name: name.to_owned(),
        runs: number("run_cnt"),
        time: Duration::from_nanos(number("run_time_ns")),
        missed: number("recursion_misses"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_is_read_by_name_whatever_surrounds_it() {
        let text =
            "pos:\t0\nprog_type:\t26\nrun_time_ns:\t1500\nrun_cnt:\t3\nrecursion_misses:\t2\nverified_insns:\t9\n";
        let expected = ProgramRuns { name: "x".into(), runs: 3, time: Duration::from_nanos(1500), missed: 2 };
        assert_eq!(parse("x", text), expected);
        assert_eq!(parse("x", "run_cnt: many\n"), ProgramRuns { name: "x".into(), ..ProgramRuns::default() });
    }
}
