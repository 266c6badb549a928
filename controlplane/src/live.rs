//! What is remembered for those who watch the node: who led, and figures of the last minutes.
//!
//! It is taken all the time, whether or not anybody watches: a look costs microseconds, and whoever comes wants to know what has
//! been.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use vaylix_access::{Durations, Office, Pulse};
use vaylix_admin_proto::v1::{Figures, LeaderChange, LiveHistory};

use crate::caps::{EVENT_STREAMS_MAX, FIGURES_EVERY, FIGURES_KEPT_MAX, LEADER_LOOK_EVERY, LEADERS_KEPT_MAX};
use crate::fault::Fault;
use crate::stage::Stage;

/// The memory of a process.
pub(crate) struct Live {
    kept: Mutex<Kept>,
    /// The newest figures.
    newest: watch::Sender<Option<Figures>>,
    /// For event streams.
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct Kept {
    leaders: VecDeque<LeaderChange>,
    figures: VecDeque<Figures>,
    /// What the next figures are compared with.
    last: Option<Pulse>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            newest: watch::channel(None).0,
            places: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)),
        }
    }
}

impl Live {
    /// A place for an event stream, held until it is dropped.
    ///
    /// # Errors
    /// `SRV-012` when all are taken.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, Fault> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_none_left| Fault::too_many_streams())
    }

    /// All that is remembered.
    pub(crate) fn history(&self) -> LiveHistory {
        let kept = self.kept.lock();
        LiveHistory {
            leaders: kept.leaders.iter().cloned().collect(),
            figures: kept.figures.iter().copied().collect(),
        }
    }

    /// The newest figures, and each that follow.
    pub(crate) fn figures(&self) -> watch::Receiver<Option<Figures>> {
        self.newest.subscribe()
    }

    fn note_office(&self, office: Office, at_ms: u64) {
        let mut kept = self.kept.lock();
        let leader_name = office.leader.unwrap_or_default();
        let is_known = match kept.leaders.back() {
            Some(last) => {
                last.leader_name == leader_name && (last.term == office.term || leader_name.is_empty())
            }
            // Before the first leader there was nobody to be missed.
            None => leader_name.is_empty(),
        };
        if is_known {
            return;
        }
        if kept.leaders.len() >= LEADERS_KEPT_MAX {
            kept.leaders.pop_front();
        }
        kept.leaders.push_back(LeaderChange { at_ms, term: office.term, leader_name });
    }

    fn note_pulse(&self, pulse: Pulse) {
        let mut kept = self.kept.lock();
        let Some(last) = kept.last.replace(pulse) else { return };
        let figures = figures(&last, &pulse);
        if kept.figures.len() >= FIGURES_KEPT_MAX {
            kept.figures.pop_front();
        }
        kept.figures.push_back(figures);
        drop(kept);
        self.newest.send_replace(Some(figures));
    }
}

/// Looks at the node of `stage` for ever, once there is one.
pub(crate) async fn remember(stage: Stage) {
    let mut changes = stage.changes();
    while stage.door().is_none() {
        if changes.are_over() {
            return;
        }
        changes.next().await;
    }
    let mut ticks = interval(LEADER_LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_figures = Instant::now();
    loop {
        ticks.tick().await;
        let Some(door) = stage.door() else { return };
        stage.live().note_office(door.office(), now_ms());
        if Instant::now() < next_figures {
            continue;
        }
        next_figures = Instant::now() + FIGURES_EVERY - LEADER_LOOK_EVERY / 2;
        // It asks the file system.
        match tokio::task::spawn_blocking(move || door.pulse()).await {
            Ok(pulse) => stage.live().note_pulse(pulse),
            Err(error) => tracing::error!(target: "admin.live", %error, "no figures were taken"),
        }
    }
}

/// What happened from one moment to a later one, and what is so then.
fn figures(last: &Pulse, now: &Pulse) -> Figures {
    let (writes, reads) = (now.writes.since(&last.writes), now.reads.since(&last.reads));
    let syncs = now.wal_syncs.since(&last.wal_syncs);
    let permille =
        |durations: &Durations, permille| (!durations.is_empty()).then(|| durations.permille_us(permille));
    let (disk_free_bytes, disk_total_bytes) = now.disk_bytes.unwrap_or_default();
    Figures {
        at_ms: now.at_ms,
        writes_total: now.writes.len(),
        reads_total: now.reads.len(),
        write_p50_us: permille(&writes, 500),
        write_p99_us: permille(&writes, 990),
        read_p50_us: permille(&reads, 500),
        read_p99_us: permille(&reads, 990),
        wal_sync_p99_us: permille(&syncs, 990),
        memory_bytes: now.memory_bytes.unwrap_or(0),
        disk_free_bytes,
        disk_total_bytes,
        connections: now.connections,
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(at_ms: u64, reads: &[u64], writes: &[u64]) -> Pulse {
        let durations = |took: &[u64]| {
            let mut durations = Durations::default();
            took.iter().for_each(|us| durations.count(Duration::from_micros(*us)));
            durations
        };
        Pulse {
            at_ms,
            reads: durations(reads),
            writes: durations(writes),
            wal_syncs: Durations::default(),
            memory_bytes: Some(1),
            disk_bytes: None,
            connections: 3,
        }
    }

    #[test]
    fn figures_are_of_their_second_alone() {
        let live = Live::default();
        live.note_pulse(pulse(1000, &[50; 1000], &[]));
        assert!(live.history().figures.is_empty(), "one moment is no interval");
        let later: Vec<u64> = [50; 1000].into_iter().chain([1_500, 1_600]).collect();
        live.note_pulse(pulse(2000, &later, &[]));
        live.note_pulse(pulse(3000, &later, &[]));
        let seen = live.history().figures;
        assert_eq!((seen[0].at_ms, seen[0].reads_total, seen[0].connections), (2000, 1002, 3));
        assert_eq!(seen[0].read_p50_us, Some(1_600), "the thousand fast ones were before");
        assert_eq!((seen[0].write_p50_us, seen[1].read_p50_us), (None, None), "nothing happened");
        assert_eq!(*live.figures().borrow(), Some(seen[1]));
    }

    #[test]
    fn only_the_last_figures_are_kept() {
        let live = Live::default();
        let last = FIGURES_KEPT_MAX as u64 + 10;
        (0..=last).for_each(|at_ms| live.note_pulse(pulse(at_ms, &[], &[])));
        let kept = live.history().figures;
        assert_eq!((kept.len(), kept[0].at_ms), (FIGURES_KEPT_MAX, 11));
        assert_eq!(kept.last().map(|figures| figures.at_ms), Some(last));
    }

    #[test]
    fn each_change_of_the_leader_is_told_once() {
        let live = Live::default();
        let office = |term, leader: Option<&str>| Office { term, leader: leader.map(str::to_owned) };
        for (at_ms, (term, leader)) in [
            (0, None),
            (1, Some("a")),
            (1, Some("a")),
            (1, None),
            (2, None),
            (3, Some("b")),
            (3, Some("b")),
            (5, Some("b")),
        ]
        .into_iter()
        .enumerate()
        {
            live.note_office(office(term, leader), at_ms as u64);
        }
        let told: Vec<_> = live
            .history()
            .leaders
            .into_iter()
            .map(|change| (change.at_ms, change.term, change.leader_name))
            .collect();
        let name = str::to_owned;
        assert_eq!(told, [(1, 1, name("a")), (3, 1, name("")), (5, 3, name("b")), (7, 5, name("b"))]);
        (0..300).for_each(|term| live.note_office(office(10 + term, Some("c")), term));
        assert_eq!(live.history().leaders.len(), LEADERS_KEPT_MAX);
    }

    #[test]
    fn places_for_streams_are_counted_and_given_back() {
        let live = Live::default();
        let places: Vec<_> = (0..EVENT_STREAMS_MAX).map(|_| live.place().unwrap()).collect();
        assert!(live.place().is_err());
        drop(places);
        assert!(live.place().is_ok());
    }
}
