//! Forwards what the kernel programs log to `tracing`, target `lbstatd::kernel`. The programs are loaded with their log
//! off unless somebody listens to that target, and then it costs nothing.

use std::{io, os::fd::AsFd};

use ::log::{Level, Log, Metadata, Record};
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;
use tracing::{debug, error, info, warn};

/// The log of the kernel programs, waiting to be forwarded.
pub struct KernelLog(EbpfLogger<Forward>);

impl KernelLog {
    /// Takes the log's ring buffer out of the object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Option<Self> {
        if level() == OFF {
            return None;
        }
        EbpfLogger::init_with_logger(ebpf, Forward).ok().map(Self)
    }

    /// Forwards every line, for ever. Ends only with an error of the file descriptor.
    ///
    /// # Errors
    /// The runtime's, when it cannot watch the descriptor.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its IO driver.
    pub async fn forward(self) -> io::Result<()> {
        let mut log = self.0;
        #[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor's life")]
        // SAFETY: the `AsyncFd` owns the descriptor, which stays open and the same until it is dropped.
        let ready = unsafe { AsyncFd::register(log.as_fd().try_clone_to_owned()?)? };
        loop {
            let mut guard = ready.readable().await?;
            // Cleared before reading: a line that comes in between wakes the task again.
            guard.clear_ready();
            log.flush();
        }
    }
}

/// aya-log's number for a log that is off.
const OFF: u8 = 0;

/// What the programs shall log: aya-log's level number.
pub(super) fn level() -> u8 {
    if tracing::enabled!(target: "lbstatd::kernel", tracing::Level::DEBUG) { aya_log::Level::Debug as u8 } else { OFF }
}

struct Forward;

impl Log for Forward {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        match record.level() {
            Level::Error => error!(target: "lbstatd::kernel", "{}", record.args()),
            Level::Warn => warn!(target: "lbstatd::kernel", "{}", record.args()),
            Level::Info => info!(target: "lbstatd::kernel", "{}", record.args()),
            Level::Debug | Level::Trace => debug!(target: "lbstatd::kernel", "{}", record.args()),
        }
    }

    fn flush(&self) {}
}
