//! Which processes' sockets are HAProxy's.
//!
//! The stats socket tells a number, that of HAProxy's own process namespace, and the kernel tells who listens at its
//! other end, in ours. `iter/task` finds the processes that bear the number; here the right ones are chosen. `/proc` is
//! not asked: under systemd's `ProtectProc=` it hides the processes of other users.
//!
//! Processes that user space has asked for before stay known to the programs as long as they live: an old worker goes on
//! connecting to servers after a reload. So does the master of a worker, because the next worker is its child, and
//! connects before anybody can ask for it.

use aya::{
    Ebpf, Pod,
    maps::{HashMap, MapData},
};
use lbstatd_ebpf_abi::Found;

use super::{KernelError, failed, load, run_iterator};

/// A process, as its stats socket tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number, as it knows it itself: `Pid` of `show info`.
    pub pid: u32,
    /// Who began to listen on its stats socket (`SO_PEERCRED`): the process itself or its master, as this process sees
    /// it. Tells apart what bears the same number in several containers.
    pub peer: Option<u32>,
}

/// The processes asked for, in the programs' maps.
pub(super) struct Owners {
    /// By thread group; the value is the sample that last saw it alive.
    map: HashMap<MapData, u32, u64>,
    wanted: HashMap<MapData, u32, u32>,
    found: HashMap<MapData, u32, Found>,
    asked: Vec<Process>,
    /// The thread groups of `asked`, as the programs number them.
    current: Vec<u32>,
}

/// After this many samples the processes are looked for again: whoever is gone is forgotten before its number can be
/// another's.
const AGAIN: u64 = 64;
/// As [`AGAIN`], while one has not been found.
const AGAIN_SOON: u64 = 4;

impl Owners {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        Ok(Self {
            map: HashMap::try_from(load::map(ebpf, "OWNERS")?).map_err(load::object)?,
            wanted: HashMap::try_from(load::map(ebpf, "WANTED")?).map_err(load::object)?,
            found: HashMap::try_from(load::map(ebpf, "FOUND")?).map_err(load::object)?,
            asked: Vec::new(),
            current: Vec::new(),
        })
    }

    /// The thread groups of the processes that were asked for last.
    pub(super) fn current(&self) -> &[u32] {
        &self.current
    }

    /// Makes the programs know these processes. True if they are others than before. With `can_look` unset, the numbers
    /// are taken for those of the host.
    pub(super) fn update(
        &mut self,
        ebpf: &mut Ebpf,
        pass: u64,
        processes: &[Process],
        can_look: bool,
    ) -> Result<bool, KernelError> {
        let again = if self.current.len() < self.asked.len() { AGAIN_SOON } else { AGAIN };
        if processes == self.asked && !pass.is_multiple_of(again) {
            return Ok(false);
        }
        self.asked = processes.to_vec();
        let (current, masters) = if can_look && !processes.is_empty() {
            self.look_for(processes)?;
            run_iterator(ebpf, "iter_task")?;
            let found: Vec<(u32, Found)> = self.found.iter().filter_map(Result::ok).collect();
            choose(processes, &found)
        } else {
            (processes.iter().map(|process| process.pid).collect(), Vec::new())
        };
        let known: Vec<(u32, u64)> = self.map.iter().filter_map(Result::ok).collect();
        for (pid, seen) in known {
            let is_alive = can_look && seen == pass;
            if !current.contains(&pid) && !is_alive {
                // One that stays only marks sockets of a process that nobody asks for.
                let _ = self.map.remove(&pid);
            }
        }
        for pid in current.iter().chain(&masters) {
            self.map.insert(pid, pass, 0).map_err(failed("the owners' map"))?;
        }
        let changed = current != self.current;
        self.current = current;
        Ok(changed)
    }

    fn look_for(&mut self, processes: &[Process]) -> Result<(), KernelError> {
        clear(&mut self.wanted);
        clear(&mut self.found);
        for process in processes {
            let peer = process.peer.unwrap_or(0);
            self.wanted.insert(process.pid, peer, 0).map_err(failed("the map of wanted processes"))?;
        }
        Ok(())
    }
}

/// Removes every entry that can be removed.
pub(super) fn clear<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>) {
    let keys: Vec<K> = map.keys().filter_map(Result::ok).collect();
    for key in keys {
        let _ = map.remove(&key);
    }
}

impl From<u32> for Process {
    /// A process of whose socket nothing is known.
    fn from(pid: u32) -> Self {
        Self { pid, peer: None }
    }
}

/// The thread groups that are meant, and their masters. Of several that bear a number, those count that belong to the
/// socket's peer; if none does (it is gone, or unknown), the one of our own process namespace.
fn choose(processes: &[Process], found: &[(u32, Found)]) -> (Vec<u32>, Vec<u32>) {
    let (mut owners, mut masters) = (Vec::new(), Vec::new());
    for process in processes {
        let named = || found.iter().filter(|(_, found)| found.pid == process.pid);
        let by_peer = named().any(|(_, found)| found.by_peer == 1);
        for (tgid, found) in named().filter(|(_, found)| if by_peer { found.by_peer == 1 } else { found.near == 1 }) {
            owners.push(*tgid);
            masters.extend((found.master != 0).then_some(found.master));
        }
    }
    for list in [&mut owners, &mut masters] {
        list.sort_unstable();
        list.dedup();
    }
    (owners, masters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tgid: u32, pid: u32, by_peer: u32, near: u32) -> (u32, Found) {
        (tgid, Found { pid, master: 0, by_peer, near })
    }

    #[test]
    fn the_peer_decides_among_equal_numbers() {
        let same = [found(9, 9, 0, 1), found(4009, 9, 1, 0), found(5009, 9, 0, 0), found(7, 7, 0, 1)];
        let with_peer = Process { pid: 9, peer: Some(4001) };
        assert_eq!(choose(&[with_peer], &same).0, [4009]);
        // A peer that is gone.
        assert_eq!(choose(&[with_peer], &[same[0], same[2]]).0, [9]);
        assert!(choose(&[Process::from(9)], &[same[2]]).0.is_empty());
        assert_eq!(choose(&[7.into(), with_peer], &same).0, [7, 4009]);
    }

    #[test]
    fn a_worker_brings_its_master() {
        let worker = |tgid| (tgid, Found { pid: tgid, master: 40, by_peer: 1, near: 1 });
        assert_eq!(choose(&[42.into(), 43.into()], &[worker(42), worker(43)]), (vec![42, 43], vec![40]));
    }
}
