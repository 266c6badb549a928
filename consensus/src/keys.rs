//! Rotates the storage key: by its age while the node runs, and on demand.
//!
//! A rotation makes a new key, first of all durably, and then moves on what is sealed under the old one, in this order: the log
//! begins a new segment, the vote is written anew, a snapshot is taken. Every file names its key and the old keys are
//! kept, so a crash between any two steps leaves a directory that starts; what is left to do then happens by itself,
//! since a start begins a new segment, saves a new vote, and takes a snapshot when the one on disk is sealed under an
//! older key.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use vaylix_engine::error::StorageError;
use vaylix_engine::keyring::Keyring;
use vaylix_engine::layout::DataDir;
use vaylix_engine::wal::Wal;

use crate::clock;
use crate::error::{RotationError, SnapshotError};
use crate::limits::KEY_AGE_CHECK_MAX;
use crate::raft::log_store::LogStore;
use crate::snapshots::Snapshots;

/// The age of a key is looked at so many times in the course of it, hence found late by that part of it at most.
const CHECKS_PER_AGE: u32 = 10;
const CHECK_MIN: Duration = Duration::from_millis(10);

pub(crate) struct Keys {
    pub(crate) dir: DataDir,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) wal: Wal,
    pub(crate) log_store: LogStore,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) age_max: Option<Duration>,
    /// One rotation at a time.
    pub(crate) turn: Mutex<()>,
}

impl Keys {
    /// Rotates the key whenever it has grown too old, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let Some(age_max) = self.age_max else { return };
        let mut checks = interval((age_max / CHECKS_PER_AGE).clamp(CHECK_MIN, KEY_AGE_CHECK_MAX));
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            checks.tick().await;
            if self.age() < age_max {
                continue;
            }
            match self.rotate().await {
                Ok(_) => {}
                Err(RotationError::Closed) => return,
                Err(RotationError::Storage(error)) => {
                    tracing::error!(%error, "the storage key is due for rotation, which failed; trying again later");
                }
            }
        }
    }

    fn age(&self) -> Duration {
        Duration::from_millis(clock::now_ms().saturating_sub(self.keyring.active().created_ms()))
    }

    /// Returns the id of the new key when everything that is written from now on is sealed under it. A snapshot that
    /// fails is only logged: it is tried again in the background.
    pub(crate) async fn rotate(self: &Arc<Self>) -> Result<String, RotationError> {
        let _turn = self.turn.lock().await;
        let keys = Arc::clone(self);
        let rotated = tokio::task::spawn_blocking(move || keys.replace_active());
        let id = rotated.await.map_err(|_cancelled| RotationError::Closed)??;
        match self.snapshots.take().await {
            Ok(()) => {}
            Err(SnapshotError::Closed) => return Err(RotationError::Closed),
            Err(SnapshotError::Storage(error)) => {
                tracing::error!(%error, "the snapshot under the new storage key failed, trying again later");
                self.snapshots.machine.snapshot_due.notify_one();
            }
        }
        Ok(id)
    }

    fn replace_active(&self) -> Result<String, StorageError> {
        let old = self.keyring.active().id();
        let new = self.keyring.rotate(&self.dir, clock::now_ms())?.id();
        tracing::info!(
            %old, %new,
            "new storage key: copies of keyring.bin made before do not open what is written from now on"
        );
        self.wal.renew()?;
        self.log_store.seal_vote_anew()?;
        Ok(new.to_string())
    }
}
