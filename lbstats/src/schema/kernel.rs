//! What the kernel counts: for each address that HAProxy listens on, for each frontend against what HAProxy counts
//! itself, and for each address that HAProxy connects to.
//!
//! Metrics are `haproxy_kernel_*`. Percentiles are for SNMP, which has no histograms; Prometheus gets these.

use super::Module::Lbstatd;
use super::Syntax::{Address, AddressType, Counter64, Gauge32, Integer, Port, Text, Unsigned};
use super::{TableSchema, counter, counter_of, extra, gauge, gauge_of, histogram, metric, mib};
use crate::schema::MetricKind::Info;

/// Units of the bounds of the histogram of lifetimes, in microseconds: from 1 ms to 2.4 h.
const LIFETIME: u32 = 64;

const CLOSED: &str = "haproxy_kernel_connections_closed_total";
const CLOSED_HELP: &str = "Connections that ended, by kind: peer (the client closed first), local (HAProxy closed first), reset_received, reset_sent, timed_out (the client vanished)";
const QUEUE_PEAK: &str = "haproxy_kernel_accept_queue_peak";
const SYN_QUEUE_PEAK: &str = "haproxy_kernel_syn_queue_peak";
const SYN_QUEUE_PEAK_HELP: &str = "Most handshakes under way at once, within the window";
const QUEUE_PEAK_HELP: &str = "Most connections that waited at once for HAProxy to accept them, within the window; a full queue holds one more than its limit";

/// What the kernel counts for each address that HAProxy listens on.
#[rustfmt::skip] // A table reads as one: a column to a line.
pub static LISTENER: TableSchema = TableSchema {
    name: "kernelListeners",
    module: Lbstatd,
    arc: 1,
    row: "an address that HAProxy listens on",
    index: 4,
    labels: &[("proxy", "proxy"), ("address", "address"), ("namespace", "namespace")],
    columns: &[
        mib(1, "lbstatdListenerNamespace", Unsigned, "namespace", None, "Network namespace: 0 is that of the daemon, else the inode number by which the kernel names it"),
        mib(2, "lbstatdListenerAddressType", AddressType, "address_type", None, "Type of the local address"),
        mib(3, "lbstatdListenerAddress", Address, "address_octets", None, "Local address; all zeros for a wildcard"),
        mib(4, "lbstatdListenerPort", Port, "port", None, "Local port"),
        mib(5, "lbstatdListenerFrontend", Text, "proxy", None, "Name of the frontend; empty where HAProxy does not tell, or where several share the address"),
        mib(6, "lbstatdListenerAddressText", Text, "address", None, "Local address and port, as text"),
        mib(7, "lbstatdListenerAccepted", Counter64, "accepted", counter("haproxy_kernel_connections_accepted_total"), "Connections whose handshake the kernel completed"),
        mib(8, "lbstatdListenerOpen", Gauge32, "open", gauge("haproxy_kernel_connections_open"), "Connections established and not closed yet, those in the accept queue included"),
        mib(9, "lbstatdListenerClosedByPeer", Counter64, "closed_by_peer", counter_of(CLOSED, "kind", "peer"), CLOSED_HELP),
        mib(10, "lbstatdListenerClosedByUs", Counter64, "closed_by_us", counter_of(CLOSED, "kind", "local"), CLOSED_HELP),
        mib(11, "lbstatdListenerResetsReceived", Counter64, "resets_received", counter_of(CLOSED, "kind", "reset_received"), CLOSED_HELP),
        mib(12, "lbstatdListenerResetsSent", Counter64, "resets_sent", counter_of(CLOSED, "kind", "reset_sent"), CLOSED_HELP),
        mib(13, "lbstatdListenerTimedOut", Counter64, "timed_out", counter_of(CLOSED, "kind", "timed_out"), CLOSED_HELP),
        mib(14, "lbstatdListenerBytesReceived", Counter64, "bytes_received", counter("haproxy_kernel_received_bytes_total"), "Bytes of payload received in order from clients"),
        mib(15, "lbstatdListenerBytesAcked", Counter64, "bytes_acked", counter("haproxy_kernel_acked_bytes_total"), "Bytes of payload sent to clients and acknowledged by them"),
        mib(16, "lbstatdListenerSegmentsReceived", Counter64, "segments_received", counter("haproxy_kernel_received_segments_total"), "TCP segments received from clients, those without payload included"),
        mib(17, "lbstatdListenerSegmentsSent", Counter64, "segments_sent", counter("haproxy_kernel_sent_segments_total"), "TCP segments sent to clients, those without payload and retransmissions included"),
        mib(18, "lbstatdListenerRetransmits", Counter64, "retransmits", counter("haproxy_kernel_retransmitted_segments_total"), "TCP segments sent to clients again after a loss or a time-out"),
        mib(19, "lbstatdListenerSynAckRetransmits", Counter64, "synack_retransmits", counter("haproxy_kernel_synack_retransmits_total"), "SYN-ACKs sent again because the client did not complete the handshake in time; absent where the kernel does not let it be seen"),
        mib(20, "lbstatdListenerBacklog", Gauge32, "backlog", gauge("haproxy_kernel_accept_queue_length"), "Connections waiting for HAProxy to accept them"),
        mib(21, "lbstatdListenerBacklogLimit", Gauge32, "backlog_limit", gauge("haproxy_kernel_accept_queue_limit"), "Connections that may wait to be accepted (backlog, bounded by net.core.somaxconn)"),
        mib(22, "lbstatdListenerBacklogPeak", Gauge32, "backlog_peak", gauge_of(QUEUE_PEAK, "window", "sample"), QUEUE_PEAK_HELP),
        mib(23, "lbstatdListenerBacklogPeak10s", Gauge32, "backlog_peak_10s", gauge_of(QUEUE_PEAK, "window", "10s"), QUEUE_PEAK_HELP),
        mib(24, "lbstatdListenerBacklogPeak1m", Gauge32, "backlog_peak_1m", gauge_of(QUEUE_PEAK, "window", "1m"), QUEUE_PEAK_HELP),
        mib(25, "lbstatdListenerBacklogPeak5m", Gauge32, "backlog_peak_5m", gauge_of(QUEUE_PEAK, "window", "5m"), QUEUE_PEAK_HELP),
        mib(26, "lbstatdListenerSynBacklog", Gauge32, "syn_backlog", gauge("haproxy_kernel_syn_queue_length"), "Handshakes under way: SYN received, SYN-ACK sent, no ACK yet"),
        mib(27, "lbstatdListenerSynBacklogPeak", Gauge32, "syn_backlog_peak", gauge_of(SYN_QUEUE_PEAK, "window", "sample"), SYN_QUEUE_PEAK_HELP),
        mib(28, "lbstatdListenerDrops", Counter64, "drops", counter("haproxy_kernel_listener_drops_total"), "Connection attempts and packets that the listening socket dropped: full accept queue, SYNs, aborted handshakes (sk_drops)"),
        mib(29, "lbstatdListenerOverflows", Counter64, "overflows", counter("haproxy_kernel_accept_queue_overflows_total"), "Of the drops, those because the accept queue was full; absent where that cannot be told for certain"),
        mib(30, "lbstatdListenerSockets", Gauge32, "sockets", gauge("haproxy_kernel_listener_sockets"), "Listening sockets on this address, several with SO_REUSEPORT"),
        mib(31, "lbstatdListenerAcceptRatePeak", Gauge32, "accept_rate_peak", gauge("haproxy_kernel_accepted_per_second_peak"), "Highest rate of accepted connections between two samples of the last minute, a second"),
        mib(32, "lbstatdListenerHandshakeP50", Gauge32, "handshake_p50", None, "Median of the handshake round trips of the last minute, in microseconds"),
        mib(33, "lbstatdListenerHandshakeP90", Gauge32, "handshake_p90", None, "90th percentile of the handshake round trips of the last minute, in microseconds"),
        mib(34, "lbstatdListenerHandshakeP99", Gauge32, "handshake_p99", None, "99th percentile of the handshake round trips of the last minute, in microseconds"),
        mib(35, "lbstatdListenerRttP50", Gauge32, "rtt_p50", None, "Median of the smoothed round trip times of connections that ended in the last minute, in microseconds"),
        mib(36, "lbstatdListenerRttP90", Gauge32, "rtt_p90", None, "90th percentile of the smoothed round trip times of connections that ended in the last minute, in microseconds"),
        mib(37, "lbstatdListenerRttP99", Gauge32, "rtt_p99", None, "99th percentile of the smoothed round trip times of connections that ended in the last minute, in microseconds"),
        mib(38, "lbstatdListenerLifetimeP50", Gauge32, "lifetime_p50", None, "Median of the lifetimes of connections that ended in the last minute, in microseconds, at most 4294967295"),
        mib(39, "lbstatdListenerLifetimeP90", Gauge32, "lifetime_p90", None, "90th percentile of the lifetimes of connections that ended in the last minute, in microseconds, at most 4294967295"),
        mib(40, "lbstatdListenerLifetimeP99", Gauge32, "lifetime_p99", None, "99th percentile of the lifetimes of connections that ended in the last minute, in microseconds, at most 4294967295"),
        mib(41, "lbstatdListenerAcceptWaitP50", Gauge32, "accept_wait_p50", None, "Median of the times that connections of the last minute waited to be accepted, in microseconds"),
        mib(42, "lbstatdListenerAcceptWaitP90", Gauge32, "accept_wait_p90", None, "90th percentile of the times that connections of the last minute waited to be accepted, in microseconds"),
        mib(43, "lbstatdListenerAcceptWaitP99", Gauge32, "accept_wait_p99", None, "99th percentile of the times that connections of the last minute waited to be accepted, in microseconds"),
        mib(44, "lbstatdListenerSynBacklogPeak10s", Gauge32, "syn_backlog_peak_10s", gauge_of(SYN_QUEUE_PEAK, "window", "10s"), SYN_QUEUE_PEAK_HELP),
        mib(45, "lbstatdListenerSynBacklogPeak1m", Gauge32, "syn_backlog_peak_1m", gauge_of(SYN_QUEUE_PEAK, "window", "1m"), SYN_QUEUE_PEAK_HELP),
        mib(46, "lbstatdListenerSynBacklogPeak5m", Gauge32, "syn_backlog_peak_5m", gauge_of(SYN_QUEUE_PEAK, "window", "5m"), SYN_QUEUE_PEAK_HELP),
        histogram("handshake", 1, "haproxy_kernel_handshake_seconds", "Round trip of the handshake, from the SYN-ACK to the client's ACK, of accepted connections"),
        histogram("rtt", 1, "haproxy_kernel_rtt_seconds", "Smoothed round trip time (srtt) to clients when their connections ended"),
        histogram("lifetime", LIFETIME, "haproxy_kernel_connection_duration_seconds", "Time from the handshake to the end of connections that ended"),
        histogram("accept_wait", 1, "haproxy_kernel_accept_wait_seconds", "Time from the handshake to HAProxy's accept; absent where the kernel does not let it be measured"),
    ],
};

/// Each frontend's connections as the kernel and as HAProxy count them.
#[rustfmt::skip] // A table reads as one: a column to a line.
pub static KERNEL_FRONTEND: TableSchema = TableSchema {
    name: "kernelFrontends",
    module: Lbstatd,
    arc: 2,
    row: "a frontend whose connections the kernel and HAProxy count",
    index: 2,
    labels: &[("proxy", "proxy")],
    columns: &[
        mib(1, "lbstatdFrontendProcessID", Integer, "process", None, "Number of the worker process, as lbFrontendProcessID; the first, if several have a frontend of this name"),
        mib(2, "lbstatdFrontendID", Integer, "iid", None, "Identifier of the frontend, as lbFrontendID"),
        mib(3, "lbstatdFrontendName", Text, "proxy", None, "Name of the frontend"),
        mib(4, "lbstatdFrontendListeners", Gauge32, "listeners", gauge("haproxy_kernel_frontend_listeners"), "Addresses of the frontend on which the kernel counts connections"),
        mib(5, "lbstatdFrontendAccepted", Counter64, "accepted", counter("haproxy_kernel_frontend_accepted_total"), "Connections whose handshake the kernel completed on all addresses of the frontend, since the daemon knows both counts"),
        mib(6, "lbstatdFrontendConnections", Counter64, "connections", counter("haproxy_kernel_frontend_haproxy_connections_total"), "Connections that HAProxy accepted (conn_tot), since the daemon knows both counts; goes on where HAProxy begins again after a reload"),
        mib(7, "lbstatdFrontendUnaccepted", Gauge32, "unaccepted", gauge("haproxy_kernel_frontend_unaccepted_connections"), "Connections that the kernel completed and HAProxy did not accept: those that wait in accept queues, because HAProxy is slow, at its maxconn or stopped, and those that were gone before"),
        mib(8, "lbstatdFrontendUntracked", Gauge32, "untracked", gauge("haproxy_kernel_frontend_untracked_connections"), "Connections that HAProxy accepted and the kernel did not count: QUIC, and addresses that are not among the frontend's listeners here"),
        mib(9, "lbstatdFrontendUnread", Gauge32, "unread", gauge("haproxy_kernel_frontend_unread_connections"), "Connections that a HAProxy accepted after the last reading of its counters and before its end or reload: estimated when the counters begin again, from what the kernel completed and nobody accepted or waits for"),
        mib(10, "lbstatdFrontendUncounted", Text, "uncounted", metric("haproxy_kernel_frontend_uncounted_info", Info("reason")), "Why the kernel counts none or not all of the frontend's connections; absent if it counts all"),
    ],
};

const FAILED: &str = "haproxy_kernel_server_connect_failures_total";
const FAILED_HELP: &str = "Connections to the address that could not be established, by kind: refused (a reset came back), timed_out (nobody answered before the kernel or HAProxy gave up), unreachable (the network said so), other (anything else, such as no free local port)";
const SERVER_CLOSED: &str = "haproxy_kernel_server_connections_closed_total";
const SERVER_CLOSED_HELP: &str = "Established connections that ended, by kind: peer (the server closed first), local (HAProxy closed first), reset_received, reset_sent, timed_out (the server vanished)";

/// What the kernel counts for each address that HAProxy connects to.
#[rustfmt::skip] // A table reads as one: a column to a line.
pub static KERNEL_SERVER: TableSchema = TableSchema {
    name: "kernelServers",
    module: Lbstatd,
    arc: 3,
    row: "an address that HAProxy connects to",
    index: 4,
    labels: &[("proxy", "proxy"), ("server", "server"), ("address", "address"), ("namespace", "namespace")],
    columns: &[
        mib(1, "lbstatdServerNamespace", Unsigned, "namespace", None, "Network namespace: 0 is that of the daemon, else the inode number by which the kernel names it"),
        mib(2, "lbstatdServerAddressType", AddressType, "address_type", None, "Type of the remote address"),
        mib(3, "lbstatdServerAddress", Address, "address_octets", None, "Remote address"),
        mib(4, "lbstatdServerPort", Port, "port", None, "Remote port"),
        mib(5, "lbstatdServerBackend", Text, "proxy", None, "Names of the backends with a server at this address, with commas between them; empty for an address that belongs to no server: that of a check, of a name server, of a peer"),
        mib(6, "lbstatdServerName", Text, "server", None, "Names of the servers at this address, with commas between them"),
        mib(7, "lbstatdServerAddressText", Text, "address", None, "Remote address and port, as text"),
        mib(8, "lbstatdServerConnects", Counter64, "connects", counter("haproxy_kernel_server_connects_total"), "Connections to the address that were begun, health checks included"),
        mib(9, "lbstatdServerEstablished", Counter64, "established", counter("haproxy_kernel_server_connections_established_total"), "Connections to the address that were established"),
        mib(10, "lbstatdServerOpen", Gauge32, "open", gauge("haproxy_kernel_server_connections_open"), "Connections to the address established and not closed yet"),
        mib(11, "lbstatdServerRefused", Counter64, "refused", counter_of(FAILED, "kind", "refused"), FAILED_HELP),
        mib(12, "lbstatdServerConnectTimedOut", Counter64, "timed_out", counter_of(FAILED, "kind", "timed_out"), FAILED_HELP),
        mib(13, "lbstatdServerUnreachable", Counter64, "unreachable", counter_of(FAILED, "kind", "unreachable"), FAILED_HELP),
        mib(14, "lbstatdServerFailedOtherwise", Counter64, "failed_otherwise", counter_of(FAILED, "kind", "other"), FAILED_HELP),
        mib(15, "lbstatdServerClosedByPeer", Counter64, "closed_by_peer", counter_of(SERVER_CLOSED, "kind", "peer"), SERVER_CLOSED_HELP),
        mib(16, "lbstatdServerClosedByUs", Counter64, "closed_by_us", counter_of(SERVER_CLOSED, "kind", "local"), SERVER_CLOSED_HELP),
        mib(17, "lbstatdServerResetsReceived", Counter64, "resets_received", counter_of(SERVER_CLOSED, "kind", "reset_received"), SERVER_CLOSED_HELP),
        mib(18, "lbstatdServerResetsSent", Counter64, "resets_sent", counter_of(SERVER_CLOSED, "kind", "reset_sent"), SERVER_CLOSED_HELP),
        mib(19, "lbstatdServerTimedOut", Counter64, "closed_timed_out", counter_of(SERVER_CLOSED, "kind", "timed_out"), SERVER_CLOSED_HELP),
        mib(20, "lbstatdServerBytesReceived", Counter64, "bytes_received", counter("haproxy_kernel_server_received_bytes_total"), "Bytes of payload received in order from the address"),
        mib(21, "lbstatdServerBytesAcked", Counter64, "bytes_acked", counter("haproxy_kernel_server_acked_bytes_total"), "Bytes of payload sent to the address and acknowledged by it"),
        mib(22, "lbstatdServerSegmentsReceived", Counter64, "segments_received", counter("haproxy_kernel_server_received_segments_total"), "TCP segments received from the address, those without payload included"),
        mib(23, "lbstatdServerSegmentsSent", Counter64, "segments_sent", counter("haproxy_kernel_server_sent_segments_total"), "TCP segments sent to the address, those without payload and retransmissions included"),
        mib(24, "lbstatdServerRetransmits", Counter64, "retransmits", counter("haproxy_kernel_server_retransmitted_segments_total"), "TCP segments sent to the address again after a loss or a time-out, SYNs included, on connections that were established"),
        mib(25, "lbstatdServerAttempts", Counter64, "attempts", counter("haproxy_kernel_server_haproxy_attempts_total"), "Connections for traffic that HAProxy tried (connect of all servers at this address), since the daemon knows both counts; goes on where HAProxy begins again after a reload"),
        mib(26, "lbstatdServerUnattributed", Gauge32, "unattributed", gauge("haproxy_kernel_server_unattributed_connects"), "Connections begun since the daemon knows both counts that are no attempt for traffic: health checks and agent checks, and what other processes of HAProxy did"),
        mib(27, "lbstatdServerConnectP50", Gauge32, "connect_p50", None, "Median of the times to connect of the last minute, in microseconds"),
        mib(28, "lbstatdServerConnectP90", Gauge32, "connect_p90", None, "90th percentile of the times to connect of the last minute, in microseconds"),
        mib(29, "lbstatdServerConnectP99", Gauge32, "connect_p99", None, "99th percentile of the times to connect of the last minute, in microseconds"),
        mib(30, "lbstatdServerRttP50", Gauge32, "rtt_p50", None, "Median of the smoothed round trip times of connections that ended in the last minute, in microseconds"),
        mib(31, "lbstatdServerRttP90", Gauge32, "rtt_p90", None, "90th percentile of the smoothed round trip times of connections that ended in the last minute, in microseconds"),
        mib(32, "lbstatdServerRttP99", Gauge32, "rtt_p99", None, "99th percentile of the smoothed round trip times of connections that ended in the last minute, in microseconds"),
        mib(33, "lbstatdServerLifetimeP50", Gauge32, "lifetime_p50", None, "Median of the lifetimes of connections that ended in the last minute, in microseconds, at most 4294967295"),
        mib(34, "lbstatdServerLifetimeP90", Gauge32, "lifetime_p90", None, "90th percentile of the lifetimes of connections that ended in the last minute, in microseconds, at most 4294967295"),
        mib(35, "lbstatdServerLifetimeP99", Gauge32, "lifetime_p99", None, "99th percentile of the lifetimes of connections that ended in the last minute, in microseconds, at most 4294967295"),
        histogram("connect", 1, "haproxy_kernel_server_connect_seconds", "Time to connect, from the SYN to the established connection, of connections that were established"),
        histogram("rtt", 1, "haproxy_kernel_server_rtt_seconds", "Smoothed round trip time (srtt) to the address when connections ended"),
        histogram("lifetime", LIFETIME, "haproxy_kernel_server_connection_duration_seconds", "Time from the established connection to its end, of connections that ended"),
        extra("failures", Counter64, None, "Connections to the address that could not be established, of all kinds"),
    ],
};
