//! What the kernel's listeners say about surges and SYN floods, by frontend.
//!
//! A surge is an accept queue that fills up: HAProxy does not take connections as fast as they come. It is bad from a
//! share of the queue's limit on, or when connections were dropped because it was full. A SYN flood is connections that
//! are begun and not finished: SYNs dropped, a SYN queue that is nearly full, or more answers repeated than connections
//! completed. A surge makes all of these too, so while there is one nothing new is said about a flood.
//!
//! A frontend is as bad as the worst of its addresses. Columns that this daemon's kernel programs do not count are not
//! known, and taken for nothing.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use lbstats::Table;

use super::damp::Seen;
use super::status::percent;

/// What counts as a surge and as a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Share of the accept queue in use, in percent, from which on there is a surge.
    pub surge_on: u32,
    /// Share up to which there is none.
    pub surge_off: u32,
    /// Share of the SYN queue in use, in percent, from which on there is a flood; half of it ends one.
    pub flood_backlog: u32,
    /// SYNs dropped a second from which on there is a flood; half of it ends one.
    pub flood_drops: u32,
    /// SYN-ACKs repeated a second from which on there is a flood, if they are more than the connections completed; half
    /// of it ends one.
    pub flood_retransmits: u32,
}

/// Remembers the counters of each address.
#[derive(Debug, Default)]
pub struct Pressure {
    addresses: HashMap<(Vec<u8>, u64), Meter>,
    step: u64,
}

/// What the kernel says about one address at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listener<'a> {
    /// Name of the frontend; empty if that is not known.
    pub proxy: &'a [u8],
    /// The address.
    pub address: &'a [u8],
    /// Its network namespace.
    pub namespace: u64,
    /// Connections completed.
    pub accepted: u64,
    /// Connections in the accept queue: the most since the last sample, if that is known.
    pub backlog: u64,
    /// How many fit in; 0 of a listener that is closed or paused.
    pub limit: u64,
    /// Requests in the SYN queue, as `backlog`.
    pub syn_backlog: u64,
    /// Connection attempts dropped.
    pub drops: u64,
    /// Of these, those by a full accept queue, if that is known.
    pub overflows: Option<u64>,
    /// SYN-ACKs repeated.
    pub retransmits: u64,
}

/// How a frontend's listeners fare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// The address with the fullest accept queue.
    pub address: Vec<u8>,
    /// Connections in its accept queue, at most.
    pub backlog: u64,
    /// How many fit in.
    pub limit: u64,
    /// Connections dropped by full accept queues since the last step.
    pub overflows: u64,
    /// Requests in the SYN queue, in percent of what fits in.
    pub syn_backlog: u64,
    /// SYNs dropped a second, those by a full accept queue aside.
    pub drops: u64,
    /// SYN-ACKs repeated a second.
    pub retransmits: u64,
    /// Connections completed a second.
    pub accepted: u64,
}

/// Counters of one address that only grow.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    drops: u64,
    overflows: u64,
    retransmits: u64,
    accepted: u64,
}

#[derive(Debug)]
struct Meter {
    last: Counters,
    /// Whether overflows were told of; the last ones are those of then.
    told: bool,
    /// What came together since `begun`.
    sum: Counters,
    begun: Duration,
    /// Of the last second or more, a second.
    rates: Counters,
    step: u64,
}

/// Rates are those of at least so long.
const WINDOW: Duration = Duration::from_secs(1);

impl Pressure {
    /// Takes the listeners of a snapshot: how each frontend fares, by name, and by address where it has none.
    pub fn step<'a>(
        &mut self,
        listeners: impl Iterator<Item = Listener<'a>>,
        thresholds: &Thresholds,
        now: Duration,
    ) -> BTreeMap<&'a [u8], Frontend> {
        self.step += 1;
        let mut frontends = BTreeMap::new();
        for listener in listeners {
            let name = if listener.proxy.is_empty() { listener.address } else { listener.proxy };
            let seen = self.listener(&listener, thresholds, now);
            frontends.entry(name).and_modify(|frontend: &mut Frontend| frontend.add(&seen)).or_insert(seen);
        }
        let step = self.step;
        self.addresses.retain(|_, meter| meter.step == step);
        frontends
    }

    fn listener(&mut self, listener: &Listener<'_>, thresholds: &Thresholds, now: Duration) -> Frontend {
        let Listener { address, backlog, limit, .. } = *listener;
        let counters = Counters {
            drops: listener.drops,
            overflows: listener.overflows.unwrap_or_default(),
            retransmits: listener.retransmits,
            accepted: listener.accepted,
        };
        let place = (address.to_vec(), listener.namespace);
        let meter = self.addresses.entry(place).or_insert_with(|| Meter::new(counters, now));
        meter.step = self.step;
        let full = limit > 0 && percent(backlog, limit) >= u64::from(thresholds.surge_off);
        let overflows = meter.add(counters, now, listener.overflows.is_some(), full);
        let rates = meter.rates;
        Frontend {
            address: address.to_vec(),
            backlog,
            limit,
            overflows,
            syn_backlog: if limit > 0 { percent(listener.syn_backlog, limit) } else { 0 },
            drops: rates.drops.saturating_sub(rates.overflows),
            retransmits: rates.retransmits,
            accepted: rates.accepted,
        }
    }
}

/// The rows of [`lbstats::schema::LISTENER`]. What it has no column for is not known.
pub fn listeners(table: &Table) -> impl Iterator<Item = Listener<'_>> {
    let schema = table.schema();
    let number = move |source: &str, row| table.number(schema.place(source)?, row);
    let text =
        move |source: &str, row| schema.place(source).and_then(|place| table.text(place, row)).unwrap_or_default();
    (0..table.len()).map(move |row| Listener {
        proxy: text("proxy", row),
        address: text("address", row),
        namespace: number("namespace", row).unwrap_or_default(),
        accepted: number("accepted", row).unwrap_or_default(),
        backlog: number("backlog", row).max(number("backlog_peak", row)).unwrap_or_default(),
        limit: number("backlog_limit", row).unwrap_or_default(),
        syn_backlog: number("syn_backlog", row).max(number("syn_backlog_peak", row)).unwrap_or_default(),
        drops: number("drops", row).unwrap_or_default(),
        overflows: number("overflows", row),
        retransmits: number("synack_retransmits", row).unwrap_or_default(),
    })
}

impl Meter {
    fn new(counters: Counters, now: Duration) -> Self {
        let none = Counters::default();
        Self { last: counters, told: false, sum: none, begun: now, rates: none, step: 0 }
    }

    /// Adds what came since; gives the overflows among it. Counters that fell are those of another listener. Where it is
    /// not told how many of the drops were overflows, all were if the queue is `full`.
    fn add(&mut self, mut now: Counters, at: Duration, told: bool, full: bool) -> u64 {
        let drops = now.drops.saturating_sub(self.last.drops);
        let overflows = match (told, self.told) {
            (true, true) => now.overflows.saturating_sub(self.last.overflows),
            (true, false) => 0,
            (false, _) => {
                now.overflows = self.last.overflows;
                if full { drops } else { 0 }
            }
        };
        self.told |= told;
        self.sum.drops = self.sum.drops.saturating_add(drops);
        self.sum.overflows = self.sum.overflows.saturating_add(overflows);
        self.sum.retransmits =
            self.sum.retransmits.saturating_add(now.retransmits.saturating_sub(self.last.retransmits));
        self.sum.accepted = self.sum.accepted.saturating_add(now.accepted.saturating_sub(self.last.accepted));
        self.last = now;
        let elapsed = at.saturating_sub(self.begun);
        if elapsed >= WINDOW {
            let rate =
                |sum: u64| u64::try_from(u128::from(sum) * 1_000 / elapsed.as_millis().max(1)).unwrap_or(u64::MAX);
            let Counters { drops, overflows, retransmits, accepted } = self.sum;
            self.rates = Counters {
                drops: rate(drops),
                overflows: rate(overflows),
                retransmits: rate(retransmits),
                accepted: rate(accepted),
            };
            (self.sum, self.begun) = (Counters::default(), at);
        }
        overflows
    }
}

impl Frontend {
    /// Adds another listener of the frontend.
    fn add(&mut self, other: &Self) {
        let share = |of: &Self| percent(of.backlog, of.limit);
        if share(other) > share(self) {
            (self.backlog, self.limit) = (other.backlog, other.limit);
            self.address.clone_from(&other.address);
        }
        self.overflows = self.overflows.saturating_add(other.overflows);
        self.syn_backlog = self.syn_backlog.max(other.syn_backlog);
        self.drops = self.drops.saturating_add(other.drops);
        self.retransmits = self.retransmits.saturating_add(other.retransmits);
        self.accepted = self.accepted.saturating_add(other.accepted);
    }

    /// Whether there is a surge.
    pub fn surge(&self, thresholds: &Thresholds) -> Seen {
        // A listener without a limit is closed or paused.
        let share = if self.limit == 0 { 0 } else { percent(self.backlog, self.limit) };
        if share >= u64::from(thresholds.surge_on) || self.overflows > 0 {
            Seen::Bad
        } else if share <= u64::from(thresholds.surge_off) {
            Seen::Good
        } else {
            Seen::Neither
        }
    }

    /// Whether there is a SYN flood.
    pub fn flood(&self, thresholds: &Thresholds) -> Seen {
        let unanswered = if self.retransmits > self.accepted { self.retransmits } else { 0 };
        let measured = [
            (self.syn_backlog, thresholds.flood_backlog),
            (self.drops, thresholds.flood_drops),
            (unanswered, thresholds.flood_retransmits),
        ];
        if measured.iter().any(|(measured, threshold)| *measured >= u64::from(*threshold)) {
            if self.surge(thresholds) == Seen::Good { Seen::Bad } else { Seen::Neither }
        } else if measured.iter().all(|(measured, threshold)| *measured <= u64::from(*threshold) / 2) {
            Seen::Good
        } else {
            Seen::Neither
        }
    }

    /// What to say about a surge.
    pub fn surge_message(&self, name: &str, on: bool) -> String {
        let queue = format!(
            "{} of {} connections wait in the accept queue of {}",
            self.backlog,
            self.limit,
            String::from_utf8_lossy(&self.address)
        );
        match (on, self.overflows) {
            (true, 0) => format!("Surge on {name}: {queue}"),
            (true, overflows) => format!("Surge on {name}: {queue}, {overflows} were dropped"),
            (false, _) => format!("The surge on {name} is over: {queue}"),
        }
    }

    /// What to say about a SYN flood.
    pub fn flood_message(&self, name: &str, on: bool) -> String {
        if !on {
            return format!("The SYN flood on {name} is over");
        }
        format!(
            "SYN flood on {name}: SYN queue {} % full, {} SYNs dropped and {} SYN-ACKs repeated a second, \
             {} connections completed",
            self.syn_backlog, self.drops, self.retransmits, self.accepted
        )
    }
}

#[cfg(test)]
mod tests;
