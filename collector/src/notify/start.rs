//! Starts what tells: the watch over the snapshots, and a task for each receiver.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use tokio::sync::broadcast;
use tracing::info;

use super::detect::Detector;
use super::dialect::Dialect;
use super::event::{Event, Kind, display_string};
use super::send::{self, Peer, Requests};
use super::settings::{Community, NotifySettings, Receiver, Security};
use super::through_agentx;
use crate::agentx::Notifier;
use crate::faces::Faces;
use crate::publish::Published;

/// Begins to tell these receivers, and snmpd where there is a session with it, of what happens; does nothing where there
/// are none.
///
/// # Errors
/// What is wrong with a receiver.
pub fn start(
    receivers: &[Receiver],
    settings: &NotifySettings,
    notifier: Option<Notifier>,
    faces: &Faces,
    published: &Arc<Published>,
) -> anyhow::Result<()> {
    let notifier = notifier.filter(|_| settings.agentx);
    if receivers.is_empty() && notifier.is_none() {
        return Ok(());
    }
    let (events, _) = broadcast::channel(send::QUEUE);
    if let Some(notifier) = notifier {
        let state = faces.add("notifications", "agentx");
        tokio::spawn(through_agentx::serve(notifier, state, events.subscribe()));
    }
    let requests = Requests::from_random(getrandom::u32().context("no random number for notifications")?);
    for (place, receiver) in receivers.iter().enumerate() {
        let peer = Peer::new(receiver, dialect(receiver)?, requests.clone());
        let same = receivers[..place].iter().filter(|before| before.to == receiver.to).count();
        // No two faces have one name.
        let target = if same == 0 { receiver.to.to_string() } else { format!("{} ({})", receiver.to, same + 1) };
        tokio::spawn(send::serve(peer, faces.add("notifications", target), events.subscribe()));
    }
    tokio::spawn(watch(published.clone(), Detector::new(settings.rules()), Instant::now(), events));
    Ok(())
}

fn dialect(receiver: &Receiver) -> anyhow::Result<Dialect> {
    Ok(match &receiver.security {
        Security::V1(Community(community)) => Dialect::V1(community.clone().into_bytes()),
        Security::V2c(Community(community)) if receiver.inform => Dialect::V2cInform(community.clone().into_bytes()),
        Security::V2c(Community(community)) => Dialect::V2cTrap(community.clone().into_bytes()),
        Security::V3 { .. } => anyhow::bail!("no v3 yet"),
    })
}

/// Takes each snapshot that is published, and tells of what happened since the one before, until the daemon ends.
/// `started` is what uptimes count from.
async fn watch(
    published: Arc<Published>,
    mut detector: Detector,
    started: Instant,
    events: broadcast::Sender<Arc<Event>>,
) {
    let mut changes = published.changes();
    while changes.changed().await.is_ok() {
        for event in detector.step(&published.load(), started.elapsed()) {
            let name = event.kind.map_or("message", Kind::name);
            info!("{name}: {}", display_string(&event.message));
            // An error is that nobody listens.
            let _ = events.send(Arc::new(event));
        }
    }
}
