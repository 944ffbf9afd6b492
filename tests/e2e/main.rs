//! End-to-end tests: the real HAProxy, snmpd, net-snmp tools and Prometheus around the real `lbstatd`.
//!
//! Everything is private to its test, so all of them run side by side. `cargo xtask test` installs what they need and
//! builds `lbstatd` before; alone they run with `cargo build -p lbstatd && cargo test -p lbstatd-tests --test e2e`.

#![expect(clippy::unwrap_used, reason = "all of this is tests, where a failure is a panic with its reason")]

mod exposition;
mod hostile;
mod kernel;
mod mib;
mod outages;
mod protocol;
mod reading;
mod scrape;
mod signals;
mod skip;
mod tap;
mod usage;
mod walk;
mod zoo;
