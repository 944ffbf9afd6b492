//! What the programs must know of the running kernel's structures.

/// Where the running kernel keeps the fields that the programs read, in bytes from the start of the structure, found by
/// name in the kernel's BTF. [`ABSENT`] where this kernel lacks an optional one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Offsets {
    /// `sock_common.skc_family`, u16.
    pub family: u32,
    /// `sock_common.skc_state`, u8.
    pub state: u32,
    /// `sock_common.skc_num`, u16.
    pub port: u32,
    /// `sock_common.skc_rcv_saddr`, u32.
    pub ip4: u32,
    /// `sock_common.skc_v6_rcv_saddr`, 16 bytes; optional.
    pub ip6: u32,
    /// `sock_common.skc_daddr`, u32.
    pub remote_ip4: u32,
    /// `sock_common.skc_v6_daddr`, 16 bytes; optional.
    pub remote_ip6: u32,
    /// `sock_common.skc_dport`, u16 in network byte order.
    pub remote_port: u32,
    /// `sock_common.skc_cookie`, u64.
    pub cookie: u32,
    /// `sock_common.skc_flags`, unsigned long.
    pub flags: u32,
    /// `sock_common.skc_net.net`, pointer to `struct net`; optional.
    pub net: u32,
    /// `net.ns.inum`, u32; optional.
    pub net_inum: u32,
    /// `sock.sk_drops`, u32.
    pub drops: u32,
    /// `sock.sk_ack_backlog`, u32.
    pub backlog: u32,
    /// `sock.sk_max_ack_backlog`, u32.
    pub backlog_limit: u32,
    /// `sock.sk_err`, int.
    pub error: u32,
    /// `inet_connection_sock.icsk_accept_queue.qlen`, int.
    pub syn_backlog: u32,
    /// `tcp_sock.srtt_us`, u32: eight times the smoothed round-trip time.
    pub srtt: u32,
    /// `tcp_sock.segs_in`, u32.
    pub segments_in: u32,
    /// `tcp_sock.data_segs_in`, u32.
    pub data_segments_in: u32,
    /// `tcp_sock.segs_out`, u32.
    pub segments_out: u32,
    /// `tcp_sock.total_retrans`, u32.
    pub retransmits: u32,
    /// `tcp_sock.bytes_received`, u64.
    pub bytes_received: u32,
    /// `tcp_sock.bytes_acked`, u64.
    pub bytes_acked: u32,
    /// `tcp_sock.snd_una`, u32.
    pub snd_una: u32,
    /// `tcp_sock.write_seq`, u32.
    pub write_seq: u32,
    /// `tcp_sock.delivered`, u32.
    pub delivered: u32,
    /// `socket.sk`, pointer to `struct sock`; optional.
    pub socket_sk: u32,
    /// `task_struct.tgid`, u32; optional, as what follows.
    pub tgid: u32,
    /// `task_struct.pid`, u32.
    pub pid: u32,
    /// `task_struct.real_parent`, pointer to `struct task_struct`.
    pub parent: u32,
    /// `task_struct.group_leader`, likewise.
    pub leader: u32,
    /// `task_struct.comm`, 16 bytes.
    pub comm: u32,
    /// `task_struct.thread_pid`, pointer to `struct pid`.
    pub thread_pid: u32,
    /// `pid.level`, u32.
    pub level: u32,
    /// `pid.numbers`, an array of `struct upid`.
    pub numbers: u32,
    /// `upid.nr`, int.
    pub number: u32,
    /// `upid.ns`, pointer to `struct pid_namespace`.
    pub number_namespace: u32,
    /// Not an offset: size of `struct upid`.
    pub number_size: u32,
    /// Not an offset: the bit of `SOCK_DONE` in `flags`.
    pub sock_done: u32,
    /// Not an offset: the bit of `SOCK_DEAD` in `flags`.
    pub sock_dead: u32,
    /// Not an offset: inode number of the network namespace of user space.
    pub namespace: u32,
    /// Not an offset: how many arguments `inet_csk_accept` takes; its return value is behind them.
    pub accept_arguments: u32,
}

/// The offset of a field that the running kernel lacks.
pub const ABSENT: u32 = u32::MAX;
