//! From one snapshot to the next: what is worth a notification.
//!
//! No IO and no clock: a step takes a snapshot and the time since the daemon began, and gives the events. Objects are
//! known by process, name of the proxy and name of the server, so that a reload, which may give them other numbers,
//! changes nothing. Rows of a source that does not answer are the last ones it gave, and say nothing; so do those of a
//! process that is on its way out.

use std::collections::HashSet;
use std::time::Duration;

use lbstats::schema::PROCESS;
use lbstats::{Snapshot, SourceKind};

use super::damp::{Change, Damper, Limits, Seen};
use super::event::{Class, Event, Kind};
use super::pressure::{self, Pressure, Thresholds};
use super::status::{self, Row};

/// What is told, and from when on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Kinds that are never told.
    pub off: HashSet<Kind>,
    /// How long a server, backend or frontend must be in another state before that is told.
    pub hold: Duration,
    /// How long a surge or flood must be over before that is told.
    pub quiet: Duration,
    /// Sessions in percent of a frontend's limit at or below which it is open again.
    pub open_below: u32,
    /// What counts as a surge and as a flood.
    pub thresholds: Thresholds,
    /// How much is told.
    pub limits: Limits,
}

/// Remembers what was told.
#[derive(Debug)]
pub struct Detector {
    rules: Rules,
    damper: Damper,
    pressure: Pressure,
    /// Reused for the key of each row.
    key: Vec<u8>,
}

impl Detector {
    /// Has seen nothing yet: what the first snapshots show was so already.
    pub fn new(rules: Rules) -> Self {
        let damper = Damper::new(rules.limits);
        Self { rules, damper, pressure: Pressure::default(), key: Vec::new() }
    }

    /// Takes the next snapshot, at `now` since the start of the daemon; events in the order in which to tell them.
    pub fn step(&mut self, snapshot: &Snapshot, now: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        self.haproxy(snapshot, now, &mut events);
        self.kernel(snapshot, now, &mut events);
        self.damper.sweep(now);
        events
    }

    fn haproxy(&mut self, snapshot: &Snapshot, now: Duration, events: &mut Vec<Event>) {
        let several = snapshot.processes.len() > 1;
        let hold = [self.rules.hold; 2];
        let fresh = |process| is_fresh(snapshot, process);
        status::rows(snapshot, self.rules.open_below, fresh, |row| {
            key(&mut self.key, row.class, row.process, &[row.proxy, row.server]);
            let Some(change) = self.damper.look(&self.key, row.seen, hold, now) else { return };
            let message = || if several { in_process(&row, change.bad) } else { row.message(change.bad) };
            events.extend(event(&self.rules, row.class, change, &row.name(), message, now));
        });
    }

    fn kernel(&mut self, snapshot: &Snapshot, now: Duration, events: &mut Vec<Event>) {
        let kernel = snapshot.sources.iter().find(|source| source.kind == SourceKind::Ebpf);
        let fresh = kernel.is_some_and(|source| source.error.is_none());
        let Rules { thresholds, quiet, .. } = self.rules;
        for (name, frontend) in self.pressure.step(pressure::listeners(&snapshot.listeners), &thresholds, now) {
            let shown = String::from_utf8_lossy(name);
            for (class, seen) in
                [(Class::Surge, frontend.surge(&thresholds)), (Class::SynFlood, frontend.flood(&thresholds))]
            {
                key(&mut self.key, class, 0, &[name]);
                let seen = if fresh { seen } else { Seen::Unknown };
                // The bad must not hold: it is a peak of a moment, and its end takes long enough.
                let Some(change) = self.damper.look(&self.key, seen, [quiet, Duration::ZERO], now) else { continue };
                let message = || match class {
                    Class::Surge => frontend.surge_message(&shown, change.bad),
                    _ => frontend.flood_message(&shown, change.bad),
                };
                events.extend(event(&self.rules, class, change, &shown, message, now));
            }
        }
    }
}

fn event(
    rules: &Rules,
    class: Class,
    change: Change,
    name: &str,
    message: impl FnOnce() -> String,
    uptime: Duration,
) -> Option<Event> {
    let kind = class.kind(change.bad);
    if rules.off.contains(&kind) {
        return None;
    }
    let mut message = message();
    if change.changes > 1 {
        message.push_str(&format!(", after {} changes", change.changes));
    }
    if change.flaps {
        let hold = humantime::format_duration(rules.limits.flap_hold);
        message.push_str(&format!("; it changes often: the next notification comes when it has held well for {hold}"));
    }
    Some(Event { kind: Some(kind), name: name.to_owned(), message, uptime })
}

fn in_process(row: &Row<'_>, bad: bool) -> String {
    format!("{} in process {}", row.message(bad), row.process)
}

/// The key of an object. No name holds a NUL octet.
fn key(key: &mut Vec<u8>, class: Class, process: u32, names: &[&[u8]]) {
    key.clear();
    key.push(class as u8);
    key.extend_from_slice(&process.to_be_bytes());
    for name in names {
        key.extend_from_slice(name);
        key.push(0);
    }
}

/// Whether the rows of this process are those it has now. With several sockets, a process has the number of its
/// socket's place; with `nbproc` the sockets may be listed in another order, and then one that does not answer holds up
/// the notifications of another process.
fn is_fresh(snapshot: &Snapshot, process: u32) -> bool {
    let mut sockets = snapshot.sources.iter().filter(|source| source.kind == SourceKind::Haproxy);
    let source = match sockets.clone().count() {
        0 | 1 => sockets.next(),
        _ => sockets.nth((process as usize).saturating_sub(1)),
    };
    source.is_none_or(|source| source.error.is_none()) && !is_stopping(snapshot, process)
}

/// Whether it has given its listeners away and waits for its last connections.
fn is_stopping(snapshot: &Snapshot, process: u32) -> bool {
    let table = &snapshot.processes;
    let stopping = table.row_at(&[process]).and_then(|row| table.number(PROCESS.place("Stopping")?, row));
    stopping.is_some_and(|stopping| stopping != 0)
}

#[cfg(test)]
mod tests;
