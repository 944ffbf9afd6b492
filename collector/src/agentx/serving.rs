//! The thread of the subagent: session after session, for as long as the daemon runs.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use snmp_export::agentx::{Event, SessionError};

use super::Settings;
use super::connection::{Connection, wait};
use super::master::Master;
use super::notifier::{Mailbox, NotifyError, Queued};
use super::running::{OPENING, Running, SIGN, STOPPED};
use crate::backoff::Backoff;
use crate::faces::FaceState;
use crate::publish::Published;

/// Pause before a connection is tried again: a master that comes back is found within a second, and one that is not
/// there costs nothing worth mentioning.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);
/// How long a notification is kept while there is no session.
pub(super) const KEEP: Duration = Duration::from_secs(30);
/// Notifications kept.
const KEPT: usize = 64;

/// What the thread has.
#[derive(Debug)]
pub(super) struct Serving {
    settings: Settings,
    published: Arc<Published>,
    state: Arc<FaceState>,
    mailbox: Mailbox,
    /// Notifications that wait for a session, and until when, oldest first.
    kept: VecDeque<(Instant, Queued)>,
    /// What was wrong the last time, so that it is logged once.
    reported: String,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("cannot connect: {error}{}", mend(error))]
    Connect { error: io::Error },
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("the master agent closed the connection")]
    Eof,
    #[error("the master agent did not take what was sent to it")]
    Full,
    #[error("the master agent misbehaves: {0}")]
    Session(#[from] SessionError),
    #[error("the master agent did not open a session within {} s", OPENING.as_secs())]
    NoOpening,
    #[error("the master agent gave no sign of life for {} s", (SIGN + STOPPED).as_secs())]
    Stopped,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Eof,
            ErrorKind::TimedOut => Self::Full,
            _ => Self::Broken(error),
        }
    }
}

impl Serving {
    pub(super) fn new(settings: Settings, published: Arc<Published>, state: Arc<FaceState>, mailbox: Mailbox) -> Self {
        Self { settings, published, state, mailbox, kept: VecDeque::new(), reported: String::new() }
    }

    /// Until it is told to stop.
    pub(super) fn run(mut self) {
        let mut backoff = Backoff::new(PAUSE);
        while !self.mailbox.stopping() {
            let sessions = self.state.connects.load(Relaxed);
            let Err(ended) = self.session() else { break };
            self.report(&ended);
            if self.state.connects.load(Relaxed) > sessions {
                backoff.reset();
            }
            self.pause(backoff.pause());
        }
        self.state.down("the subagent has stopped");
    }

    /// One session, from its connection on; it ends well only when it is told to stop.
    fn session(&mut self) -> Result<(), Ended> {
        let connection = Connection::open(&self.settings.master).map_err(|error| Ended::Connect { error })?;
        let mut running = Running::begin(connection, &self.settings, self.state.clone());
        let result = self.serve(&mut running);
        running.end(&result);
        if result.is_ok() {
            tracing::info!("AgentX: closed the session with {}", self.settings.master);
        }
        result
    }

    fn serve(&mut self, running: &mut Running) -> Result<(), Ended> {
        loop {
            if self.mailbox.rung() {
                if self.mailbox.stopping() {
                    return Ok(());
                }
                self.take_mail();
            }
            let now = Instant::now();
            let rest = running.keep_time(now)?;
            if running.takes_notifications() {
                self.kept.drain(..).for_each(|(_, queued)| running.notify(queued, now));
            }
            running.send()?;
            if running.connection.receive()? {
                self.answer(running)?;
            } else {
                running.connection.wait(self.mailbox.event(), self.next_expiry(now).min(rest))?;
                self.expire(Instant::now());
            }
        }
    }

    /// Answers everything that has come.
    fn answer(&mut self, running: &mut Running) -> Result<(), Ended> {
        let (settings, published) = (&self.settings, &self.published);
        let mut newest = || settings.view(published);
        let now = Instant::now();
        while let Some(event) = running.receive(now, &mut newest)? {
            match event {
                Event::Answered { varbinds } => {
                    self.state.requests.fetch_add(1, Relaxed);
                    self.state.varbinds.fetch_add(u64::from(varbinds), Relaxed);
                }
                Event::Refused(_) => drop(self.state.refused.fetch_add(1, Relaxed)),
                Event::Registered => {
                    if running.registered(now) {
                        self.reported.clear();
                        tracing::info!("AgentX: registered with {}", self.settings.master);
                    }
                }
                Event::Response { packet, error } => running.notified(packet, error),
                Event::Opened | Event::Ignored => {}
            }
            // An answer goes out before the next request is looked at, so that what waits to be sent stays small.
            running.send()?;
        }
        Ok(())
    }

    /// Shows why there is no session, and logs it unless that is what was logged before.
    fn report(&mut self, ended: &Ended) {
        let mut reason = ended.to_string();
        if matches!((ended, &self.settings.master), (Ended::Connect { .. }, Master::Tcp(_))) {
            reason = reason.replace("agentXSocket /var/agentx/master", "agentXSocket tcp:ADDR:PORT");
        }
        if reason != self.reported {
            tracing::warn!("AgentX: {}: {reason}", self.settings.master);
        }
        self.state.down(reason.as_str());
        self.reported = reason;
    }

    /// Waits before the next attempt.
    fn pause(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        loop {
            let now = Instant::now();
            self.expire(now);
            if now >= end || self.mailbox.stopping() {
                return;
            }
            // If that fails, there is nothing to wait with, and a busy loop would be worse.
            if wait([self.mailbox.event()], end - now).is_err() {
                std::thread::sleep(end - now);
            }
            if self.mailbox.rung() {
                self.take_mail();
            }
        }
    }

    /// Takes over what was handed in; the oldest make room.
    fn take_mail(&mut self) {
        while let Some(queued) = self.mailbox.take() {
            if self.kept.len() == KEPT
                && let Some((_, oldest)) = self.kept.pop_front()
            {
                let _ = oldest.outcome.send(Err(NotifyError::Full));
            }
            self.kept.push_back((Instant::now() + KEEP, queued));
        }
    }

    /// Gives up the notifications that have waited for too long.
    fn expire(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|(until, _)| *until <= now)
            && let Some((_, queued)) = self.kept.pop_front()
        {
            let _ = queued.outcome.send(Err(NotifyError::NoSession));
        }
    }

    fn next_expiry(&self, now: Instant) -> Duration {
        self.kept.front().map_or(Duration::MAX, |(until, _)| until.saturating_duration_since(now))
    }
}

/// What to do about a connection that cannot be made.
fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            ": put `agentXPerms 0660 0755 root lbstatd` into snmpd.conf, in front of `master agentx`, and restart snmpd"
        }
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            ": is snmpd running, with `master agentx` and `agentXSocket /var/agentx/master` in snmpd.conf?"
        }
        _ => "",
    }
}
