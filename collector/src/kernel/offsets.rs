//! The fields that the kernel programs read, and where the running kernel keeps them.

use std::{fs, os::unix::fs::MetadataExt};

use lbstatd_ebpf_abi::{ABSENT, Offsets};

use super::{
    KernelError,
    btf::{Btf, BtfError},
};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const NAMESPACE: &str = "/proc/self/ns/net";

/// Finds every field in the running kernel's type information.
///
/// # Errors
/// [`KernelError::NoBtf`] if the kernel publishes none, [`KernelError::Fields`] if it lacks a field that is needed.
pub(super) fn running_kernel() -> Result<Offsets, KernelError> {
    let bytes = fs::read(VMLINUX).map_err(|reason| KernelError::NoBtf { path: VMLINUX, reason })?;
    let namespace = fs::metadata(NAMESPACE).map_err(|reason| KernelError::Namespace { path: NAMESPACE, reason })?.ino();
    let mut offsets = Btf::parse(&bytes).and_then(|btf| find(&btf)).map_err(KernelError::Fields)?;
    // The kernel numbers namespaces with 32 bits.
    offsets.namespace = u32::try_from(namespace).unwrap_or_default();
    Ok(offsets)
}

fn find(btf: &Btf<'_>) -> Result<Offsets, BtfError> {
    let field = |structure, path, size| btf.member(structure, path, size);
    let optional = |structure, path, size| field(structure, path, size).unwrap_or(ABSENT);
    Ok(Offsets {
        family: field("sock_common", "skc_family", 2)?,
        state: field("sock_common", "skc_state", 1)?,
        port: field("sock_common", "skc_num", 2)?,
        ip4: field("sock_common", "skc_rcv_saddr", 4)?,
        ip6: optional("sock_common", "skc_v6_rcv_saddr", 16),
        remote_ip4: field("sock_common", "skc_daddr", 4)?,
        remote_ip6: optional("sock_common", "skc_v6_daddr", 16),
        remote_port: field("sock_common", "skc_dport", 2)?,
        cookie: field("sock_common", "skc_cookie", 8)?,
        flags: field("sock_common", "skc_flags", 8)?,
        net: optional("sock_common", "skc_net.net", 8),
        net_inum: optional("net", "ns.inum", 4),
        drops: field("sock", "sk_drops", 4)?,
        backlog: field("sock", "sk_ack_backlog", 4)?,
        backlog_limit: field("sock", "sk_max_ack_backlog", 4)?,
        error: field("sock", "sk_err", 4)?,
        syn_backlog: field("inet_connection_sock", "icsk_accept_queue.qlen", 4)?,
        srtt: field("tcp_sock", "srtt_us", 4)?,
        segments_in: field("tcp_sock", "segs_in", 4)?,
        data_segments_in: field("tcp_sock", "data_segs_in", 4)?,
        segments_out: field("tcp_sock", "segs_out", 4)?,
        retransmits: field("tcp_sock", "total_retrans", 4)?,
        bytes_received: field("tcp_sock", "bytes_received", 8)?,
        bytes_acked: field("tcp_sock", "bytes_acked", 8)?,
        snd_una: field("tcp_sock", "snd_una", 4)?,
        write_seq: field("tcp_sock", "write_seq", 4)?,
        delivered: field("tcp_sock", "delivered", 4)?,
        socket_sk: optional("socket", "sk", 8),
        tgid: optional("task_struct", "tgid", 4),
        pid: optional("task_struct", "pid", 4),
        parent: optional("task_struct", "real_parent", 8),
        leader: optional("task_struct", "group_leader", 8),
        comm: optional("task_struct", "comm", 16),
        thread_pid: optional("task_struct", "thread_pid", 8),
        level: optional("pid", "level", 4),
        numbers: btf.place("pid", "numbers").unwrap_or(ABSENT),
        number: optional("upid", "nr", 4),
        number_namespace: optional("upid", "ns", 8),
        number_size: btf.size_of("upid").unwrap_or(ABSENT),
        sock_dead: btf.enumerator("sock_flags", "SOCK_DEAD")?,
        sock_done: btf.enumerator("sock_flags", "SOCK_DONE")?,
        namespace: 0,
        accept_arguments: btf.parameters("inet_csk_accept").unwrap_or(ABSENT),
    })
}
