//! Takes snapshots and lets go of the log they cover.
//!
//! The state is viewed in O(1) and written on a thread of its own, so writes go on meanwhile. A snapshot that
//! fails, as on a full disk, costs nothing but the attempt: the log is complete without it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use vaylix_engine::error::{StorageError, Trouble};
use vaylix_engine::layout::DataDir;
use vaylix_engine::snapshot::{self, Retention};
use vaylix_engine::wal::Wal;

use crate::background::{self, Pace};
use crate::clock;
use crate::error::SnapshotError;
use crate::raft::machine::{Machine, Stored, View};
use crate::raft::{self, Raft};

/// How long the background waits after a failed attempt.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// How long it waits, while writes find no room on the disk, before it tries again to make some.
const ROOM_RETRY_AFTER: Duration = Duration::from_secs(5);

/// A snapshot is not worth its while for less log than this, even if there is no room for more.
const LOG_BYTES_MIN: u64 = 256 << 10;

/// Log of at most this part of the size of the snapshot is left to the next start, which it makes slower by about a half
/// at most.
const REPLAYED_PART: u64 = 10;

/// What becomes of the snapshots and the log that are there only for restoring earlier states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    /// They are kept as long as is configured.
    Kept,
    /// They make room on a full disk.
    LetGo,
}

pub(crate) struct Snapshots {
    pub(crate) machine: Arc<Machine>,
    pub(crate) raft: Raft,
    pub(crate) wal: Wal,
    pub(crate) dir: DataDir,
    pub(crate) retained_segments: usize,
    pub(crate) pitr: Retention,
    /// Time from one snapshot that is taken because of the time to the next.
    pub(crate) interval: Option<Duration>,
    /// One at a time.
    pub(crate) turn: Mutex<()>,
}

impl Snapshots {
    /// Takes a snapshot whenever the log has grown enough, enough time has passed, or the last one is sealed under an
    /// older key, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ticks = self.interval.map(|period| interval_at(Instant::now() + period, period));
        if let Some(ticks) = &mut ticks {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut tick = async || match &mut ticks {
            Some(ticks) => ticks.tick().await,
            None => std::future::pending().await,
        };
        // What an earlier process had no time for.
        self.machine.snapshot_due.notify_one();
        loop {
            let was_asked = tokio::select! {
                () = self.machine.snapshot_due.notified() => true,
                _ = tick() => false,
            };
            if was_asked && !self.is_called_for() {
                continue;
            }
            while let Err(error) = self.take().await {
                let SnapshotError::Storage(error) = error else { return };
                tracing::error!(%error, "snapshot failed; the log keeps everything, trying again later");
                tokio::time::sleep(if self.is_short() { ROOM_RETRY_AFTER } else { RETRY_AFTER }).await;
            }
            if self.is_short() {
                tokio::time::sleep(ROOM_RETRY_AFTER).await;
            }
        }
    }

    fn is_called_for(&self) -> bool {
        self.machine.is_snapshot_due()
            || self.machine.is_sealed_under_an_older_key()
            || self.is_short() && self.could_make_room()
    }

    /// Whether the log holds something that a snapshot would let it go of.
    fn could_make_room(&self) -> bool {
        self.machine.log_bytes_since_snapshot() >= LOG_BYTES_MIN || self.wal.stats().segment_count > 1
    }

    /// Whether the log has too little room.
    fn is_short(&self) -> bool {
        self.wal.stats().is_short
    }

    /// Returns when a snapshot of everything applied before the call is on disk, and the log behind it is gone
    /// as far as it need not be retained.
    pub(crate) async fn take(&self) -> Result<(), SnapshotError> {
        let _turn = self.turn.lock().await;
        if self.machine.quarantine.is_imposed() {
            // What it would hold is known to be wrong. The log keeps everything until the state is learnt anew.
            return Ok(());
        }
        // Where connections are served nobody waits for an entry that is being applied.
        let machine = self.machine.clone();
        let view = tokio::task::spawn_blocking(move || machine.view()).await;
        let Some(view) = view.map_err(|_cancelled| SnapshotError::Closed)? else { return Ok(()) };
        let last = view.record_index();
        if self.machine.is_stored(last) {
            return if self.is_short() { self.purge(last, Past::LetGo).await } else { Ok(()) };
        }
        let view = Arc::new(view);
        let mut past = self.past();
        if past == Past::LetGo {
            self.let_go_of_the_past().await?;
        }
        let stored = match self.store(&view).await {
            // The log need not be short yet for the snapshot to find no room.
            Err(error) if error.trouble() == Some(Trouble::NoSpace) && past == Past::Kept => {
                tracing::warn!(%error, "no room for a snapshot beside what is kept for restoring earlier states");
                past = Past::LetGo;
                self.let_go_of_the_past().await?;
                self.store(&view).await?
            }
            stored => stored?,
        };
        tracing::info!(index = last, size_bytes = stored.info.size_bytes, "snapshot taken");
        self.purge(last, if self.is_short() { Past::LetGo } else { past }).await
    }

    async fn store(&self, view: &Arc<View>) -> Result<Stored, StorageError> {
        let (machine, view) = (self.machine.clone(), view.clone());
        let work = move |pace: &Pace| machine.store_breathing(&view, || pace.breathe(machine.leisure()));
        background::run("vaylix-snapshot", work).await.map_err(|error| {
            // There was no thread for it, or it panicked: it could not count itself.
            self.machine.count_failed_snapshot();
            StorageError::from(error)
        })?
    }

    /// Frees what the snapshot on disk makes dispensable: it may have taken the space that the next one needs.
    async fn let_go_of_the_past(&self) -> Result<(), SnapshotError> {
        match self.machine.stored() {
            Some(stored) => self.purge(stored.record_index(), Past::LetGo).await,
            None => Ok(()),
        }
    }

    /// Space to write in is worth more than the past.
    fn past(&self) -> Past {
        if self.is_short() { Past::LetGo } else { Past::Kept }
    }

    /// The snapshot of a clean stop: only if the next start gains more by it than the stop loses. A start replays log at
    /// a fraction of the speed at which it loads a snapshot, but a snapshot is written whole, however little has
    /// changed.
    pub(crate) async fn take_last(&self) -> Result<(), SnapshotError> {
        let beyond_bytes = self.machine.log_bytes_since_snapshot();
        let little = |stored: Stored| beyond_bytes <= stored.info.size_bytes / REPLAYED_PART;
        if self.machine.stored().is_some_and(little) {
            return Ok(());
        }
        self.take().await
    }

    /// Tells openraft of the snapshot and lets go of the log behind it.
    async fn purge(&self, last: u64, past: Past) -> Result<(), SnapshotError> {
        if !raft::announce_snapshot(&self.raft, last).await {
            return Err(SnapshotError::Closed);
        }
        let (retention, segments) = match past {
            Past::Kept => (self.pitr, self.retained_segments),
            Past::LetGo => {
                tracing::warn!("the disk is full: letting go of what is kept for restoring earlier states");
                (Retention::NONE, 0)
            }
        };
        let Some(needed_after) = self.retain(retention).await? else { return Ok(()) };
        let up_to = match segments {
            0 => Some(last),
            kept => self.wal.last_before_newest(kept).map(|retained| retained.min(last)),
        };
        match up_to.map(|up_to| up_to.min(needed_after)).filter(|up_to| *up_to > 0) {
            Some(up_to) if !raft::purge(&self.raft, up_to).await => Err(SnapshotError::Closed),
            _ => Ok(()),
        }
    }

    /// Removes older snapshots that are not to be kept, and says behind which record the log is needed for those that
    /// are; `None` when that is not known, so that nothing of it may go.
    async fn retain(&self, retention: Retention) -> Result<Option<u64>, SnapshotError> {
        let (dir, wal) = (self.dir.clone(), self.wal.clone());
        let now_ms = clock::now_ms();
        let retained = tokio::task::spawn_blocking(move || {
            let listing = snapshot::list(&dir)?;
            for error in &listing.unreadable {
                tracing::warn!(%error, "an older snapshot cannot be read");
            }
            let log_begins_after = wal.purged().map_or(0, |purged| purged.index);
            let log_bytes = |after, up_to| wal.segment_bytes(after, up_to);
            let kept = snapshot::retain(&listing, retention, now_ms, log_begins_after, log_bytes);
            let Some(kept) = kept else { return Ok(None) };
            snapshot::remove_older(&dir, &kept.removable)?;
            Ok::<_, StorageError>(Some(kept.log_after))
        });
        match retained.await.map_err(|_cancelled| SnapshotError::Closed)? {
            Ok(log_after) => Ok(log_after),
            Err(error) => {
                // The snapshot itself is safe; what should have gone goes after the next one.
                tracing::error!(%error, "older snapshots and log that are not needed any more are left");
                Ok(None)
            }
        }
    }
}
