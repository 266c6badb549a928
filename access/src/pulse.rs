//! What a node counts, at one moment: for whoever compares it with a moment before.

use vaylix_engine::durations::Durations;
use vaylix_engine::layout::Space;

use crate::counters::Metric;
use crate::door::Door;
use crate::latency::RequestClass;

/// Counts since the start, and what the process takes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// When it was taken, in unix milliseconds.
    pub at_ms: u64,
    /// How long reads of keys took.
    pub reads: Durations,
    /// How long writes of keys took.
    pub writes: Durations,
    /// How long syncs of the log took.
    pub wal_syncs: Durations,
    /// The process's part of the machine's memory; none where the system does not say.
    pub memory_bytes: Option<u64>,
    /// Free bytes and all bytes of the disk of the data directory; none where the system does not say.
    pub disk_bytes: Option<(u64, u64)>,
    /// Connections of the data plane.
    pub connections: u64,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Office {
    /// The term of the last vote.
    pub term: u64,
    /// What the leader is called; none while none is known.
    pub leader: Option<String>,
}

impl Door {
    /// What the node counts, for figures that are kept for whoever may see them later. Asks the file system: do not call it
    /// where nothing may wait.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        let of = |class| self.0.latencies.of(class);
        let space = self.0.node.data_dir().space().ok();
        Pulse {
            at_ms: crate::audit::now_ms(),
            reads: of(RequestClass::Read),
            writes: of(RequestClass::Write),
            wal_syncs: self.0.node.status().wal.syncs,
            memory_bytes: memory_bytes(),
            disk_bytes: space.map(|Space { free_bytes, total_bytes }| (free_bytes, total_bytes)),
            connections: self.0.counters.get(Metric::ConnectionsActive),
        }
    }

    /// Who leads, as far as this node knows. Waits for nothing.
    #[must_use]
    pub fn office(&self) -> Office {
        let status = self.0.node.status();
        Office { term: status.term, leader: status.leader.map(|node| self.name_of(&status, node)) }
    }
}

fn memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_some_memory() {
        assert!(memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
