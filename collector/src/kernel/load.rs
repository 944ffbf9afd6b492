//! Loads the object, and tells apart what a kernel cannot do, what this process may not do, and what is broken.

use std::{error::Error, fs, io};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapError},
    programs::{BtfTracePoint, FExit, Iter, Program, ProgramError},
};

use lbstatd_ebpf_abi::ABSENT;
use rustix::system::{sysinfo, uname};

use super::{Hook, HookState, KernelError, log, offsets};

/// Programs in the kernel.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) hooks: Vec<Hook>,
    /// Inode number of the network namespace of this process.
    pub(super) namespace: u32,
}

/// Loads every program and attaches the tracepoints. Iterators are attached for each run.
pub(super) fn load(bytes: &[u8]) -> Result<Loaded, KernelError> {
    let offsets = offsets::running_kernel()?;
    let log_level = log::level();
    let mut ebpf = EbpfLoader::new()
        .override_global("OFFSETS", &offsets, true)
        .override_global("AYA_LOG_LEVEL", &log_level, true)
        .map_max_entries("OUTBOUND", max_outgoing())
        // Socket storage is made and used by the programs alone.
        .allow_unsupported_maps()
        .load(bytes)
        .map_err(load_error)?;
    let btf = Btf::from_sys_fs().map_err(object)?;

    let tracepoint = |ebpf: &mut Ebpf, name| {
        let program: &mut BtfTracePoint = program(ebpf, name)?.try_into()?;
        program.load(name, &btf)?;
        program.attach().map(drop)
    };
    let iterator = |ebpf: &mut Ebpf, name, kind| {
        let program: &mut Iter = program(ebpf, name)?.try_into()?;
        program.load(kind, &btf)
    };
    required("inet_sock_set_state", tracepoint(&mut ebpf, "inet_sock_set_state"))?;
    let destroy = tracepoint(&mut ebpf, "tcp_destroy_sock");
    let retransmit_synack = tracepoint(&mut ebpf, "tcp_retransmit_synack");
    // Its program finds what the function returns behind so many arguments; behind any others it would see nothing.
    let accept = match offsets.accept_arguments {
        2 | 4 | ABSENT => state(exit(&mut ebpf, "inet_csk_accept", &btf)),
        arguments => HookState::Unsupported(format!("this kernel's function takes {arguments} arguments")),
    };
    required("iter_tcp", iterator(&mut ebpf, "iter_tcp", "tcp"))?;
    let task = iterator(&mut ebpf, "iter_task", "task");
    let task_file = iterator(&mut ebpf, "iter_task_file", "task_file");

    let hooks = vec![
        Hook { name: "inet_sock_set_state", state: HookState::Healthy },
        Hook { name: "tcp_destroy_sock", state: state(destroy) },
        Hook { name: "tcp_retransmit_synack", state: state(retransmit_synack) },
        Hook { name: "inet_csk_accept", state: accept },
        Hook { name: "iter_tcp", state: HookState::Healthy },
        Hook { name: "iter_task", state: state(task) },
        Hook { name: "iter_task_file", state: state(task_file) },
    ];
    Ok(Loaded { ebpf, hooks, namespace: offsets.namespace })
}

/// How many outgoing connections can be counted at a time: one for each 32 KiB of memory, which is less than a proxied
/// connection takes. The kernel needs 16 bytes for each from the start, and 192 more for each that is open.
fn max_outgoing() -> u32 {
    let memory = sysinfo();
    let connections = (memory.totalram as u64 * u64::from(memory.mem_unit)) >> 15;
    u32::try_from(connections).unwrap_or(u32::MAX).clamp(1 << 16, 1 << 20)
}

/// Attaches a program that does nothing beside `inet_sock_set_state`.
pub(super) fn attach_nothing(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    let btf = Btf::from_sys_fs().map_err(object)?;
    let nothing: &mut BtfTracePoint =
        program(ebpf, "nothing").and_then(|program| program.try_into()).map_err(object)?;
    nothing.load("inet_sock_set_state", &btf).map_err(object)?;
    nothing.attach().map(drop).map_err(object)
}

fn exit(ebpf: &mut Ebpf, name: &str, btf: &Btf) -> Result<(), ProgramError> {
    let program: &mut FExit = program(ebpf, name)?.try_into()?;
    program.load(name, btf)?;
    program.attach().map(drop)
}

/// Takes a map out of the object.
pub(super) fn map(ebpf: &mut Ebpf, name: &str) -> Result<Map, KernelError> {
    ebpf.take_map(name).ok_or_else(|| object(format!("it has no map {name}")))
}

/// An error that only a wrong object explains.
pub(super) fn object(reason: impl ToString) -> KernelError {
    KernelError::Object(reason.to_string())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, ProgramError> {
    ebpf.program_mut(name).ok_or_else(|| ProgramError::InvalidName { name: name.to_owned() })
}

fn state(result: Result<(), ProgramError>) -> HookState {
    match result {
        Ok(()) => HookState::Healthy,
        Err(error @ (ProgramError::Btf(_) | ProgramError::LoadError { .. })) => HookState::Unsupported(reason(&error)),
        Err(error) => HookState::Failed(reason(&error)),
    }
}

fn required(name: &'static str, result: Result<(), ProgramError>) -> Result<(), KernelError> {
    result.map_err(|error| match permission(&error) {
        Some(refusal) => refused(name, refusal),
        None => unsupported(name.to_owned(), reason(&error)),
    })
}

fn load_error(error: EbpfError) -> KernelError {
    match (&error, permission(&error)) {
        (EbpfError::MapError(MapError::CreateError { name, .. }), Some(refusal)) => {
            refused(&format!("map {name}"), refusal)
        }
        (_, Some(refusal)) => refused("loading", refusal),
        (EbpfError::MapError(MapError::CreateError { name, io_error }), None) => {
            unsupported(format!("map {name}"), io_error.to_string())
        }
        (
            EbpfError::ParseError(_) | EbpfError::BtfError(_) | EbpfError::RelocationError(_) | EbpfError::NoBTF,
            None,
        ) => object(reason(&error)),
        _ => unsupported("the programs".to_owned(), reason(&error)),
    }
}

fn unsupported(what: String, reason: String) -> KernelError {
    KernelError::Unsupported { release: uname().release().to_string_lossy().into_owned(), what, reason }
}

fn refused(what: &str, reason: io::Error) -> KernelError {
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        KernelError::LockedDown { what: what.to_owned() }
    } else {
        KernelError::NotPermitted { what: what.to_owned(), reason }
    }
}

/// The refusal of a right that lies at the bottom of an error, if that is its cause.
fn permission(error: &(dyn Error + 'static)) -> Option<io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::PermissionDenied
            && let Some(code) = io.raw_os_error()
        {
            return Some(io::Error::from_raw_os_error(code));
        }
        cause = error.source();
    }
    None
}

/// One line for an error: its own words and its causes', or what the verifier said last.
fn reason(error: &(dyn Error + 'static)) -> String {
    if let Some(ProgramError::LoadError { io_error, verifier_log }) = error.downcast_ref() {
        let log = verifier_log.to_string();
        let verdict = log
            .lines()
            .rfind(|line| !line.trim().is_empty() && !is_statistics(line))
            .unwrap_or("no word from the verifier");
        return format!("{io_error}: {}", verdict.trim());
    }
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words.replace('\n', " ")
}

/// The verifier ends its log with figures about its own work.
fn is_statistics(line: &str) -> bool {
    ["processed ", "verification time", "stack depth", "insns processed"].iter().any(|start| line.starts_with(start))
}
