//! The daemon as a library: sources, the tick that joins them into snapshots, and the faces that are not SNMP.

mod accept;
pub mod agentx;
mod backoff;
pub mod collect;
pub mod commands;
pub mod config;
pub mod control;
pub mod faces;
pub mod haproxy;
pub mod http;
pub mod kernel;
pub mod notify;
pub mod privileges;
pub mod prometheus;
pub mod publish;
pub mod snmp_agent;
pub mod snmp_engine;
pub mod snmpv3;
pub mod users;
