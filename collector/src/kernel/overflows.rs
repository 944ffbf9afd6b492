//! Which of a listener's drops were overflows of its accept queue.
//!
//! The kernel counts drops per listener (`sk_drops`), for whatever reason, and overflows per network namespace
//! (`ListenOverflows`), each of which is a drop as well. The two meet where it is certain whose the overflows are: all
//! drops of an interval were overflows, or one listener only had a full queue. Where it is not, the listeners that had
//! one say so for good, because a sum with an unknown part is unknown.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::SocketAddr,
};

use super::Listener;

const NETSTAT: &str = "/proc/net/netstat";

/// What has been told apart so far, for the network namespace of this process.
#[derive(Default)]
pub(super) struct Overflows {
    /// `ListenOverflows` at the last sample; `None` if the kernel does not show it.
    host: Option<u64>,
    /// Overflows not attributed yet, of this interval and the one before: the counters are not read at one moment.
    pool: [u64; 2],
    listeners: HashMap<SocketAddr, State>,
}

#[derive(Default)]
struct State {
    /// Drops at the last sample.
    drops: u64,
    /// Drops of this interval and the one before that are not known to be overflows.
    pending: [u64; 2],
    /// Whether a socket's queue was full, in the same intervals.
    full: [bool; 2],
    overflows: u64,
    unknown: bool,
}

impl Overflows {
    pub(super) fn begin() -> Self {
        Self { host: listen_overflows(), ..Self::default() }
    }

    /// Fills in [`Listener::overflows`]. `full` are the addresses of this process's namespace where a queue was full
    /// since the last sample.
    pub(super) fn tell_apart(&mut self, listeners: &mut [Listener], full: &[SocketAddr]) {
        self.attribute(listen_overflows(), listeners, full);
    }

    fn attribute(&mut self, host: Option<u64>, listeners: &mut [Listener], full: &[SocketAddr]) {
        let (Some(now), Some(before)) = (host, self.host) else { return };
        self.host = host;
        self.pool = [now.saturating_sub(before), self.pool[0]];
        for listener in listeners.iter().filter(|listener| listener.namespace == 0) {
            let state = self.listeners.entry(listener.address).or_default();
            state.pending = [listener.drops.saturating_sub(state.drops), state.pending[0]];
            state.full = [full.contains(&listener.address), state.full[0]];
            state.drops = listener.drops;
        }
        self.settle();
        for listener in listeners.iter_mut().filter(|listener| listener.namespace == 0) {
            listener.overflows =
                self.listeners.get(&listener.address).filter(|state| !state.unknown).map(|state| state.overflows);
        }
        // One that is shown no more and comes back begins anew, as an unknown one does not.
        if self.listeners.len() > 2 * listeners.len() + 64 {
            let shown: HashSet<SocketAddr> =
                listeners.iter().filter(|listener| listener.namespace == 0).map(|listener| listener.address).collect();
            self.listeners.retain(|address, _| shown.contains(address));
        }
    }

    fn settle(&mut self) {
        let pool: u64 = self.pool.iter().sum();
        let pending: u64 = self.listeners.values().map(State::pending).sum();
        if pool == 0 || pending == 0 {
            return;
        }
        let mut suspects: Vec<&mut State> = if pool == pending {
            self.listeners.values_mut().filter(|state| state.pending() > 0).collect()
        } else {
            self.listeners.values_mut().filter(|state| state.is_suspect()).collect()
        };
        if let [only] = &mut suspects[..] {
            let taken = only.take(pool);
            self.take(taken);
        } else if pool == pending {
            for state in suspects {
                state.take(u64::MAX);
            }
            self.pool = [0; 2];
        } else {
            suspects.into_iter().for_each(|state| state.unknown = true);
        }
    }

    fn take(&mut self, mut n: u64) {
        for pool in self.pool.iter_mut().rev() {
            let taken = n.min(*pool);
            *pool -= taken;
            n -= taken;
        }
    }
}

impl State {
    fn pending(&self) -> u64 {
        self.pending.iter().sum()
    }

    /// Whether its queue was full in an interval whose drops are not accounted for.
    fn is_suspect(&self) -> bool {
        self.pending.iter().zip(self.full).any(|(&pending, full)| pending > 0 && full)
    }

    /// Takes up to so many of the pending drops for overflows; tells how many.
    fn take(&mut self, limit: u64) -> u64 {
        let mut left = limit;
        for pending in self.pending.iter_mut().rev() {
            let taken = left.min(*pending);
            *pending -= taken;
            left -= taken;
        }
        self.overflows += limit - left;
        limit - left
    }
}

fn listen_overflows() -> Option<u64> {
    parse(&fs::read_to_string(NETSTAT).ok()?)
}

/// Two lines for each group: names, then values.
fn parse(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(name, _)| *name == "ListenOverflows")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn step(overflows: &mut Overflows, host: u64, drops: &[u64], full: &[u16]) -> Vec<Option<u64>> {
        let mut listeners: Vec<_> =
            (1..).zip(drops).map(|(port, &drops)| Listener { drops, ..Listener::new(0, address(port)) }).collect();
        let full: Vec<_> = full.iter().copied().map(address).collect();
        overflows.attribute(Some(host), &mut listeners, &full);
        listeners.iter().map(|listener| listener.overflows).collect()
    }

    fn begin() -> Overflows {
        Overflows { host: Some(100), ..Overflows::default() }
    }

    #[test]
    fn all_drops_or_one_full_queue_is_certain() {
        let mut overflows = begin();
        assert_eq!(step(&mut overflows, 100, &[0, 0], &[]), [Some(0), Some(0)]);
        assert_eq!(step(&mut overflows, 107, &[3, 4], &[1, 2]), [Some(3), Some(4)]);
        // 5 drops of the second listener had another reason.
        assert_eq!(step(&mut overflows, 109, &[5, 9], &[1]), [Some(5), Some(4)]);
        assert_eq!(step(&mut overflows, 109, &[5, 9], &[]), [Some(5), Some(4)]);
    }

    #[test]
    fn counters_read_at_different_moments_meet_in_the_next_interval() {
        let mut overflows = begin();
        assert_eq!(step(&mut overflows, 102, &[5], &[1]), [Some(2)]);
        assert_eq!(step(&mut overflows, 109, &[9], &[1]), [Some(9)]);
    }

    #[test]
    fn what_is_not_certain_is_unknown_for_good() {
        let mut overflows = begin();
        assert_eq!(step(&mut overflows, 104, &[3, 4, 0], &[1, 2]), [None, None, Some(0)]);
        assert_eq!(step(&mut overflows, 104, &[3, 4, 0], &[]), [None, None, Some(0)]);
    }

    #[test]
    fn netstat_is_read_by_name() {
        let text =
            "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 333\nIpExt: InNoRoutes\nIpExt: 0\n";
        assert_eq!(parse(text), Some(22));
        assert_eq!(parse("TcpExt: ListenDrops\nTcpExt: 1\n"), None);
        assert_eq!(parse("TcpExt: ListenOverflows\n"), None);
        assert!(listen_overflows().is_some());
    }
}
