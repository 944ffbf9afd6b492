//! What can keep the kernel's counters away, each with its remedy.

use std::io;

use thiserror::Error;

use super::btf::BtfError;

/// Why the kernel programs cannot run, or a sample failed. One line each: what, why, and what to do.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The process may not use BPF.
    #[error(
        "the kernel refuses BPF to this process ({what}: {reason}): run it as root or give it CAP_BPF and CAP_PERFMON"
    )]
    NotPermitted {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// The kernel is locked down against BPF.
    #[error(
        "the kernel is locked down to `confidentiality`, which forbids BPF programs that read kernel memory ({what}): \
         boot with lockdown=integrity or run without eBPF"
    )]
    LockedDown {
        /// What was tried.
        what: String,
    },
    /// The kernel publishes no type information.
    #[error("{path}: {reason}: the kernel counters need a kernel built with CONFIG_DEBUG_INFO_BTF=y")]
    NoBtf {
        /// Where it should be.
        path: &'static str,
        /// The error of the read.
        reason: io::Error,
    },
    /// The network namespace of this process is unknown.
    #[error("{path}: {reason}: mount /proc")]
    Namespace {
        /// What was looked at.
        path: &'static str,
        /// The error of the look-up.
        reason: io::Error,
    },
    /// The kernel keeps its sockets in a form that the programs do not know.
    #[error("{0}: the kernel counters need Linux 5.12 or newer; please report this kernel's version")]
    Fields(BtfError),
    /// The object file with the programs is damaged or of another version.
    #[error("the object with the kernel programs cannot be used: {0}: build it anew with `cargo xtask build-ebpf`")]
    Object(String),
    /// The kernel did not take a program or map that is needed.
    #[error("this kernel (Linux {release}) cannot load {what}: {reason}; the kernel counters need Linux 5.12 or newer")]
    Unsupported {
        /// The running kernel, as `uname -r` says.
        release: String,
        /// Program or map.
        what: String,
        /// The kernel's answer and the last line of the verifier's.
        reason: String,
    },
    /// The kernel does not measure how long its BPF programs run.
    #[error(
        "the run time of the kernel programs is not measured: {reason}: give this process CAP_SYS_ADMIN until it has \
         loaded them, or `sysctl kernel.bpf_stats_enabled=1`"
    )]
    NotMeasured {
        /// The kernel's answer.
        reason: io::Error,
    },
    /// Reading the counters failed.
    #[error("reading the kernel counters failed: {what}: {reason}: restart the daemon if this persists")]
    Sample {
        /// What was read.
        what: &'static str,
        /// The kernel's answer.
        reason: String,
    },
}
