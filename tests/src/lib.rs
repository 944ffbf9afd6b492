//! The test bed: private HAProxy, snmpd, Prometheus and lbstatd processes, the traffic for them, and the packages they
//! come from.
//!
//! Everything started here listens on loopback addresses or in networks of its own, keeps its files in a temporary
//! directory, and ends with the value that stands for it. Errors name what was tried and show the end of the program's
//! own log.

mod apt;
mod backend;
mod churn;
mod detour;
mod haproxy;
mod kernels;
mod lbstatd;
mod loopback;
mod netns;
pub mod packages;
mod process;
mod prometheus;
mod segment;
mod snmp;
mod snmpd;
mod snmptrapd;
mod traffic;
mod tun;
mod unpacked;
mod versions;
mod wait;

pub use backend::{Backend, Reply};
pub use churn::{Churn, Shaken};
pub use detour::{Detour, Passed};
pub use haproxy::{Haproxy, HaproxyConfig, Level, stats_command};
pub use kernels::{KERNELS, debian_kernel};
pub use lbstatd::{Lbstatd, LbstatdConfig, lbstatd_binary};
pub use loopback::{address, http_get, local_address};
pub use netns::Netns;
pub use process::{Output, Process, run};
pub use prometheus::{Prometheus, promtool_check};
pub use segment::Segment;
pub use smoltcp::wire::TcpControl;
pub use snmp::{Answer, Snmp, SnmpValue, Varbind};
pub use snmpd::{MONITOR, PassPersist, Snmpd};
pub use snmptrapd::{Snmptrapd, Told};
pub use traffic::Connection;
pub use tun::Tun;
pub use unpacked::{Program, kept, unpacked};
pub use versions::haproxy_release;
pub use wait::{wait_for, wait_until};
