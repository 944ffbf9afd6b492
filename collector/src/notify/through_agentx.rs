//! Notifications through the session with snmpd, which sends them to whoever it was told to (`trap2sink`, `informsink`).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::broadcast;
use tracing::warn;

use super::event::Event;
use crate::agentx::{Notification, Notifier, NotifyError};
use crate::faces::FaceState;

/// Hands on what the channel brings until it is closed, one after the other.
pub async fn serve(notifier: Notifier, state: Arc<FaceState>, mut events: broadcast::Receiver<Arc<Event>>) {
    state.up();
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                state.refused.fetch_add(missed, Relaxed);
                warn!("{missed} notifications to the AgentX master were given up: it does not keep up");
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        match hand_on(&notifier, &event).await {
            Ok(()) => {
                state.requests.fetch_add(1, Relaxed);
                state.varbinds.fetch_add(event.with_notification(|n| n.varbinds()), Relaxed);
                state.up_again();
            }
            // The daemon ends; so does this.
            Err(NotifyError::Stopped) => return,
            Err(error) => {
                state.refused.fetch_add(1, Relaxed);
                warn!("{error}");
                state.down(error.to_string());
            }
        }
    }
}

async fn hand_on(notifier: &Notifier, event: &Event) -> Result<(), NotifyError> {
    // The master's own uptime goes with it: managers compare it with what they poll from the master.
    let notification = event.with_notification(|told| {
        let objects = told.objects.iter();
        objects.fold(Notification::new(None, told.trap), |all, (name, value)| all.with(name, *value))
    });
    notifier.send(notification)?.await.unwrap_or(Err(NotifyError::Stopped))
}
