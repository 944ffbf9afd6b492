//! The stats socket client and the tick with a real HAProxy, and with sockets that misbehave in every way we know.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod haproxy {
    pub(crate) mod hostile;
    pub(crate) mod process;
    mod reading;
    mod tick;
}
