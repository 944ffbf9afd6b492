//! Notifications: what happened between two snapshots, told to SNMP managers as `alTrap` of EXCELIANCE-MIB.
//!
//! [`detect`] is pure: [`status`] judges HAProxy's rows and [`pressure`] the kernel's listeners, [`damp`] decides when a
//! change is told. [`send`] brings the events to the receivers, each in its [`dialect`].

pub mod damp;
pub mod detect;
pub mod dialect;
mod event;
pub mod pressure;
pub mod send;
mod settings;
pub mod status;

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use tokio::sync::broadcast;
use tracing::info;

pub use event::{Class, Event, Kind, display_string};
pub use settings::{Community, Level, NotifySettings, Receiver, Security};

use crate::faces::Faces;
use crate::publish::Published;
use detect::Detector;
use dialect::Dialect;
use send::{Peer, Requests};

/// Begins to tell these receivers of what happens; does nothing where there are none.
///
/// # Errors
/// What is wrong with a receiver.
pub fn start(
    receivers: &[Receiver],
    settings: NotifySettings,
    faces: &Faces,
    published: &Arc<Published>,
) -> anyhow::Result<()> {
    if receivers.is_empty() {
        return Ok(());
    }
    let (events, _) = broadcast::channel(send::QUEUE);
    let requests = Requests::from_random(getrandom::u32().context("no random number for notifications")?);
    for (place, receiver) in receivers.iter().enumerate() {
        let dialect = dialect(receiver)?;
        let same = receivers[..place].iter().filter(|before| before.to == receiver.to).count();
        let target = if same == 0 { receiver.to.to_string() } else { format!("{} ({})", receiver.to, same + 1) };
        let state = faces.add("notifications", target);
        tokio::spawn(send::serve(Peer::new(receiver, dialect, requests.clone()), state, events.subscribe()));
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
