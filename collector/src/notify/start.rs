//! Starts what tells: the watch over the snapshots, and a task for each receiver.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast;
use tracing::{info, warn};

use super::detect::Detector;
use super::dialect::{Account, Dialect};
use super::event::{Event, Kind, display_string};
use super::send::{self, Peer, Requests};
use super::settings::{Community, NotifySettings, Receiver, Security};
use super::through_agentx;
use crate::agentx::Notifier;
use crate::faces::Faces;
use crate::publish::Published;
use crate::snmpv3::Snmpv3;

/// What notifications are made of, and how they get out.
#[derive(Debug)]
pub struct Ways<'a> {
    /// Where events come from.
    pub published: &'a Arc<Published>,
    /// Where each receiver shows how it fares.
    pub faces: &'a Faces,
    /// The session with snmpd, if there is one.
    pub notifier: Option<Notifier>,
    /// SNMPv3, if it is running.
    pub snmpv3: Option<Arc<Snmpv3>>,
}

/// Begins to tell these receivers, and snmpd where there is a session with it, of what happens. SIGUSR1 sends all of them
/// a test.
///
/// # Errors
/// When the signal cannot be caught, or there are no random numbers.
pub fn start(receivers: &[Receiver], settings: &NotifySettings, ways: Ways<'_>) -> anyhow::Result<()> {
    let Ways { published, faces, notifier, snmpv3 } = ways;
    let (events, _) = broadcast::channel(send::QUEUE);
    let started = Instant::now();
    let notifier = notifier.filter(|_| settings.agentx);
    if !receivers.is_empty() || notifier.is_some() {
        tokio::spawn(watch(published.clone(), Detector::new(settings.rules()), started, events.clone()));
    }
    if let Some(notifier) = notifier {
        let state = faces.add("notifications", "agentx");
        tokio::spawn(through_agentx::serve(notifier, state, events.subscribe()));
    }
    let requests = Requests::from_random(getrandom::u32().context("no random number for notifications")?);
    for (place, receiver) in receivers.iter().enumerate() {
        let peer = Peer::new(receiver, dialect(receiver, snmpv3.as_ref()), requests.clone());
        let same = receivers[..place].iter().filter(|before| before.to == receiver.to).count();
        // No two faces have one name.
        let target = if same == 0 { receiver.to.to_string() } else { format!("{} ({})", receiver.to, same + 1) };
        tokio::spawn(send::serve(peer, faces.add("notifications", target), events.subscribe()));
    }
    let signals = signal(SignalKind::user_defined1()).context("cannot catch SIGUSR1")?;
    tokio::spawn(test(signals, started, events));
    Ok(())
}

fn dialect(receiver: &Receiver, snmpv3: Option<&Arc<Snmpv3>>) -> Dialect {
    let octets = |community: &Community| community.0.clone().into_bytes();
    match &receiver.security {
        Security::V1(community) => Dialect::V1(octets(community)),
        Security::V2c(community) if receiver.inform => Dialect::V2cInform(octets(community)),
        Security::V2c(community) => Dialect::V2cTrap(octets(community)),
        Security::V3 { user, level } => {
            let account = Account { snmpv3: snmpv3.cloned(), user: user.clone(), level: *level };
            if receiver.inform { Dialect::V3Inform(account, None) } else { Dialect::V3Trap(account) }
        }
    }
}

/// At each signal, tells all receivers that this is a test.
async fn test(mut signals: Signal, started: Instant, events: broadcast::Sender<Arc<Event>>) {
    while signals.recv().await.is_some() {
        let message = "Test of the notifications of lbstatd".to_owned();
        let event = Event { kind: None, name: String::new(), message, uptime: started.elapsed() };
        match events.send(Arc::new(event)) {
            Ok(receivers) => info!("SIGUSR1: a test goes to {receivers} receivers of notifications"),
            Err(_) => warn!("SIGUSR1: there are no receivers of notifications; [[trap]] in lbstatd.toml makes one"),
        }
    }
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
