//! End-to-end tests: the real HAProxy, snmpd, net-snmp tools and Prometheus around the real `lbstatd`.
//!
//! Everything is private to its test, so all of them run side by side. `cargo xtask test` installs what they need and
//! builds `lbstatd` before; alone they run with `cargo build -p lbstatd && cargo test -p lbstatd-tests --test e2e`.

#![expect(clippy::unwrap_used, reason = "all of this is tests, where a failure is a panic with its reason")]

mod agent;
mod agentx;
mod binds;
mod churn;
mod dashboards;
mod exposition;
mod faces;
mod flood;
mod hang;
mod hostile;
mod kernel;
mod managers;
mod mib;
mod network;
mod nobody;
mod notify;
mod outages;
mod privileges;
mod protocol;
mod reading;
mod scrape;
mod several;
mod signals;
mod skip;
mod tap;
mod telemetry;
mod usage;
mod v3;
mod versions;
mod walk;
mod zoo;
