//! The AgentX subagent: serves the newest snapshot through a master agent such as snmpd, and comes back whenever it does.
//!
//! It has a thread of its own, so that a master that is stopped, slow or hostile makes nobody wait, and an answer waits
//! for no other task. The thread reads memory only: the newest snapshot is loaded without a lock.

mod connection;
mod master;
mod notifier;
mod running;
mod serving;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use snmp_export::{Tree, View};

use crate::faces::FaceState;
use crate::publish::Published;

pub use master::{Master, ParseMasterError};
pub use notifier::{Notifier, NotifyError, Outcome};
pub use snmp_export::agentx::Notification;

/// What the subagent is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the master listens.
    pub master: Master,
    /// What is served.
    pub tree: Arc<Tree>,
    /// Age of HAProxy's statistics above which nothing is served.
    pub max_age: Duration,
}

/// A running subagent. Dropped, it closes its session and ends, soon but unwatched; [`AgentX::stop`] waits for it.
#[derive(Debug)]
pub struct AgentX {
    notifier: Notifier,
    thread: Option<JoinHandle<()>>,
}

/// Starts the subagent.
///
/// # Errors
/// When its thread cannot be started; a master that is not there is no error.
pub fn start(settings: Settings, published: Arc<Published>, state: Arc<FaceState>) -> io::Result<AgentX> {
    let (notifier, mailbox) = notifier::channel()?;
    let serving = serving::Serving::new(settings, published, state, mailbox);
    let thread = thread::Builder::new().name("agentx".into()).spawn(move || serving.run())?;
    Ok(AgentX { notifier, thread: Some(thread) })
}

impl AgentX {
    /// Sends notifications through the session.
    pub fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Closes the session and waits until that is done, for a second or so at most.
    pub fn stop(mut self) {
        self.notifier.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for AgentX {
    fn drop(&mut self) {
        self.notifier.stop();
    }
}

impl Settings {
    /// What is served of a snapshot.
    fn view(&self, published: &Published) -> View {
        View::unless_older(published.load(), self.max_age).through(&self.tree)
    }
}
