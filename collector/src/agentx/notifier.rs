//! The way of a notification to the thread that holds the session, and of its outcome back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::event::{EventfdFlags, eventfd};
use snmp_export::agentx::{ErrorStatus, Notification};
use tokio::sync::oneshot;

/// Notifications that may wait to be taken over by the thread.
const QUEUE: usize = 64;

/// Hands notifications to the subagent's session. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct Notifier {
    queue: SyncSender<Queued>,
    bell: Arc<Bell>,
}

/// What becomes of a notification: the master took it, or why it did not. Resolves within a minute, whatever the master
/// does; may be dropped.
pub type Outcome = oneshot::Receiver<Result<(), NotifyError>>;

/// Why a notification did not reach the master.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// Too many wait already.
    #[error("{QUEUE} notifications wait for the AgentX master already")]
    Full,
    /// The subagent has stopped.
    #[error("the AgentX subagent has stopped")]
    Stopped,
    /// There was no session for as long as a notification is kept.
    #[error("there was no session with the AgentX master for {} s", super::serving::KEEP.as_secs())]
    NoSession,
    /// It was sent, and no response came before the session ended or the time was up.
    #[error("the AgentX master did not say whether it took the notification")]
    NoAnswer,
    /// The master answered with an error.
    #[error("the AgentX master refused the notification: {0}")]
    Refused(ErrorStatus),
}

/// A notification on its way, and who waits for its outcome.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) notification: Notification,
    pub(super) outcome: oneshot::Sender<Result<(), NotifyError>>,
}

/// The thread's end.
#[derive(Debug)]
pub(super) struct Mailbox {
    queue: Receiver<Queued>,
    bell: Arc<Bell>,
}

/// Wakes the thread where it waits for its socket.
#[derive(Debug)]
struct Bell {
    event: OwnedFd,
    rung: AtomicBool,
    stop: AtomicBool,
}

pub(super) fn channel() -> io::Result<(Notifier, Mailbox)> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let bell = Arc::new(Bell { event, rung: AtomicBool::new(false), stop: AtomicBool::new(false) });
    let (sender, queue) = sync_channel(QUEUE);
    Ok((Notifier { queue: sender, bell: bell.clone() }, Mailbox { queue, bell }))
}

impl Notifier {
    /// Queues a notification. It is kept for half a minute while there is no session, as when snmpd restarts.
    ///
    /// # Errors
    /// [`NotifyError::Full`] and [`NotifyError::Stopped`]; the others come through the [`Outcome`].
    pub fn send(&self, notification: Notification) -> Result<Outcome, NotifyError> {
        let (outcome, receiver) = oneshot::channel();
        self.queue.try_send(Queued { notification, outcome }).map_err(|error| match error {
            std::sync::mpsc::TrySendError::Full(_) => NotifyError::Full,
            std::sync::mpsc::TrySendError::Disconnected(_) => NotifyError::Stopped,
        })?;
        self.bell.ring();
        Ok(receiver)
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.bell.stop.store(true, Ordering::Release);
        self.bell.ring();
    }
}

impl Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        // Full is rung as well.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }
}

impl Mailbox {
    /// Whether the bell was rung since it was asked the last time; no system call unless it was.
    pub(super) fn rung(&self) -> bool {
        if !self.bell.rung.load(Ordering::Acquire) {
            return false;
        }
        self.bell.rung.store(false, Ordering::Release);
        let _ = rustix::io::read(&self.bell.event, &mut [0; 8]);
        true
    }

    /// Readable from when the bell is rung until [`Mailbox::rung`] is asked.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.bell.event.as_fd()
    }

    /// Whether the thread is to end.
    pub(super) fn stopping(&self) -> bool {
        self.bell.stop.load(Ordering::Acquire)
    }

    /// The next notification that waits.
    pub(super) fn take(&self) -> Option<Queued> {
        self.queue.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification() -> Notification {
        Notification::new(None, &[1, 3, 6, 1, 4, 1, 23263, 3, 1002])
    }

    #[test]
    fn the_bell_rings_until_it_was_heard() {
        let (notifier, mailbox) = channel().unwrap();
        assert!(!mailbox.rung() && !mailbox.stopping());
        let outcome = notifier.send(notification()).unwrap();
        assert!(mailbox.rung() && !mailbox.rung());
        mailbox.take().unwrap().outcome.send(Err(NotifyError::NoAnswer)).unwrap();
        assert_eq!(outcome.blocking_recv().unwrap(), Err(NotifyError::NoAnswer));
        notifier.stop();
        assert!(mailbox.rung() && mailbox.stopping() && mailbox.take().is_none());
    }

    #[test]
    fn the_queue_has_a_bound_and_an_end() {
        let (notifier, mailbox) = channel().unwrap();
        let outcomes: Vec<Outcome> = (0..QUEUE).map(|_| notifier.send(notification()).unwrap()).collect();
        assert_eq!(notifier.send(notification()).unwrap_err(), NotifyError::Full);
        drop(mailbox);
        assert_eq!(notifier.send(notification()).unwrap_err(), NotifyError::Stopped);
        assert!(outcomes.into_iter().all(|outcome| outcome.blocking_recv().is_err()));
    }
}
