//! A session in progress: its timers, its registrations, its notifications, and what its face shows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use snmp_export::agentx::{CloseReason, ErrorStatus, Event, Session, SessionError};
use snmp_export::{View, Walks};
use tokio::sync::oneshot;

use super::Settings;
use super::connection::Connection;
use super::notifier::{NotifyError, Queued};
use super::serving::Ended;
use crate::backoff::Backoff;
use crate::faces::FaceState;

/// How long the master may take to open the session and to answer registrations.
pub(super) const OPENING: Duration = Duration::from_secs(5);
/// Pause before a refused registration is tried again: a dead session of ours holds it until the master reaps that.
const REGISTER: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);
/// Silence after which the master is asked for a sign of life.
const SILENCE: Duration = Duration::from_secs(3);
/// How long it may take for that before it counts as stopped. It keeps its session: most that stop go on.
pub(super) const SIGN: Duration = Duration::from_secs(2);
/// How long it may be stopped before another session is tried.
pub(super) const STOPPED: Duration = Duration::from_secs(28);
/// How long a notification waits for its response.
const RESPONSE: Duration = Duration::from_secs(10);

/// A session and its connection.
pub(super) struct Running {
    pub(super) connection: Connection,
    session: Session,
    /// What is to be sent.
    out: Vec<u8>,
    state: Arc<FaceState>,
    shown: Shown,
    began: Instant,
    /// When the last PDU came.
    heard: Instant,
    /// When a sign of life was asked for, since then.
    pinged: Option<Instant>,
    /// When registrations are tried again.
    register_at: Option<Instant>,
    register_backoff: Backoff,
    unanswered: Vec<Unanswered>,
}

/// A notification that was sent.
struct Unanswered {
    packet: u32,
    until: Instant,
    outcome: oneshot::Sender<Result<(), NotifyError>>,
}

/// What the face shows of this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Nothing yet.
    Nothing,
    /// It is registered.
    Up,
    /// A part of it is not registered.
    Refused,
    /// The master gives no sign of life.
    Stopped,
}

impl Running {
    pub(super) fn begin(connection: Connection, settings: &Settings, state: Arc<FaceState>) -> Self {
        let mut out = Vec::new();
        let subtrees = settings.tree.roots().iter().cloned();
        let session =
            Session::open(subtrees, Walks::default(), concat!("lbstatd ", env!("CARGO_PKG_VERSION")), &mut out);
        let now = Instant::now();
        Self {
            connection,
            session,
            out,
            state,
            shown: Shown::Nothing,
            began: now,
            heard: now,
            pinged: None,
            register_at: None,
            register_backoff: Backoff::new(REGISTER),
            unanswered: Vec::new(),
        }
    }

    /// Sends what is to be sent.
    pub(super) fn send(&mut self) -> Result<(), Ended> {
        if self.out.is_empty() {
            return Ok(());
        }
        Ok(self.connection.send(&mut self.out)?)
    }

    /// What the next PDU was that has come whole; what is to be sent for it waits for [`Running::send`].
    pub(super) fn receive(&mut self, now: Instant, newest: &mut impl FnMut() -> View) -> Result<Option<Event>, Ended> {
        let Some((length, event)) = self.session.receive(self.connection.unread(), now, newest, &mut self.out)? else {
            return Ok(None);
        };
        self.connection.consume(length);
        (self.heard, self.pinged) = (now, None);
        if self.shown == Shown::Stopped {
            self.show();
        }
        Ok(Some(event))
    }

    /// Every registration has its response; true if it is the first time that all went well.
    pub(super) fn registered(&mut self, now: Instant) -> bool {
        self.show();
        if !self.session.is_complete() {
            self.register_at = Some(now + self.register_backoff.pause());
            return false;
        }
        true
    }

    /// Shows how the session stands.
    fn show(&mut self) {
        let refused = self.session.refused().next();
        let refused = refused.map(|(subtree, error)| (subtree.to_string(), error));
        match refused {
            Some((subtree, ErrorStatus::DUPLICATE_REGISTRATION)) => self.state.down(format!(
                "the master agent has {subtree} from somebody else: remove its pass_persist line or other subagent"
            )),
            Some((subtree, error)) => self.state.down(format!("the master agent refused {subtree}: {error}")),
            None if self.shown == Shown::Stopped => self.state.up_again(),
            None => self.state.up(),
        }
        let refused = self.session.refused().next().is_some();
        self.shown = if refused { Shown::Refused } else { Shown::Up };
    }

    /// Does what is due, and says how long nothing will be.
    pub(super) fn keep_time(&mut self, now: Instant) -> Result<Duration, Ended> {
        for sent in self.unanswered.extract_if(.., |sent| sent.until <= now) {
            let _ = sent.outcome.send(Err(NotifyError::NoAnswer));
        }
        let mut next = self.unanswered.iter().map(|sent| sent.until).min();
        let mut due = |at: Instant| {
            next = Some(next.map_or(at, |next| next.min(at)));
            at <= now
        };
        if self.shown == Shown::Nothing {
            if due(self.began + OPENING) {
                return Err(Ended::NoOpening);
            }
        } else if let Some(pinged) = self.pinged {
            if due(pinged + SIGN + STOPPED) {
                return Err(Ended::Stopped);
            }
            if self.shown != Shown::Stopped && due(pinged + SIGN) {
                self.shown = Shown::Stopped;
                self.state.down("the master agent gives no sign of life");
            }
        } else if due(self.heard + SILENCE) && self.session.ping(&mut self.out).is_some() {
            self.pinged = Some(now);
            due(now + SIGN);
        }
        if self.register_at.is_some_and(&mut due) {
            self.register_at = None;
            self.session.register(&mut self.out);
        }
        Ok(next.map_or(SILENCE, |next| next.saturating_duration_since(now)))
    }

    /// Whether a notification may be sent: the session is there, and the master lives.
    pub(super) fn takes_notifications(&self) -> bool {
        matches!(self.shown, Shown::Up | Shown::Refused)
    }

    /// Has a notification sent.
    pub(super) fn notify(&mut self, queued: Queued, now: Instant) {
        match self.session.notify(&queued.notification, &mut self.out) {
            Some(packet) => {
                self.unanswered.push(Unanswered { packet, until: now + RESPONSE, outcome: queued.outcome });
            }
            None => drop(queued.outcome.send(Err(NotifyError::Full))),
        }
    }

    /// The response to a ping or a notification.
    pub(super) fn notified(&mut self, packet: u32, error: ErrorStatus) {
        let Some(place) = self.unanswered.iter().position(|sent| sent.packet == packet) else { return };
        let sent = self.unanswered.remove(place);
        let taken = error == ErrorStatus::NO_ERROR;
        let _ = sent.outcome.send(if taken { Ok(()) } else { Err(NotifyError::Refused(error)) });
    }

    /// Tells the master that the session is over, if it can still hear that.
    pub(super) fn end(mut self, result: &Result<(), Ended>) {
        for sent in self.unanswered.drain(..) {
            let _ = sent.outcome.send(Err(NotifyError::NoAnswer));
        }
        let reason = match result {
            Ok(()) => CloseReason::SHUTDOWN,
            Err(Ended::NoOpening | Ended::Stopped) => CloseReason::TIMEOUTS,
            Err(Ended::Session(SessionError::Version(_) | SessionError::TooLong(_))) => CloseReason::PARSE_ERROR,
            Err(Ended::Session(_)) => CloseReason::OTHER,
            Err(_) => return,
        };
        self.session.close(reason, &mut self.out);
        let _ = self.send();
    }
}
