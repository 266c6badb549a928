//! Logical backups in files of the server.
//!
//! The work is done on threads that give way to those who serve connections, a few files at a time, and ends soon after
//! nobody waits for it any more: a server that stops does not wait for a large backup. However large a file is, a few entries of it are in
//! memory at a time; those of a restore are kept aside by the node until it has all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use vaylix_consensus::background::Pace;
use vaylix_consensus::limits::RESTORE_PART_BYTES_MAX;
use vaylix_consensus::{ProposeError, Restoration, View};
use vaylix_engine::backups::{BackupDir, BackupError, GoOn, Pair};
use vaylix_engine::dump::{Checked, Purpose, Summary};
use vaylix_engine::op::RestoreEntry;
use vaylix_proto::{ErrorReply, Reply, Text};

use crate::admission::Pass;
use crate::backup::{refused_document, verified};
use crate::door::Door;
use crate::execute::refused;
use crate::limits::ADMISSIONS_MAX;
use crate::refusal;
use crate::turns::Turns;

/// How much leisure work has that others do not wait for.
const LEISURE: f64 = 1.0;

/// How much work has that others do wait for.
const HASTE: f64 = 0.0;

/// Parts of a restore that are read ahead of the log.
const PARTS_AHEAD_MAX: usize = 1;

impl Door {
    /// BACKUP TO: the whole keyspace as a document, and its manifest, in the backup directory.
    pub(crate) async fn backup_to(&self, path: &Text, fresh: bool) -> Result<Reply, ErrorReply> {
        self.write_backup(path, fresh).await?;
        Ok(Reply::Ok)
    }

    /// Writes a backup, and says what is in it.
    pub(crate) async fn write_backup(&self, path: &Text, fresh: bool) -> Result<Summary, ErrorReply> {
        let View { reader, now_ms } = self.view(fresh).await?;
        let (path, shown) = (path.clone(), path);
        let write = move |dir: &BackupDir, go_on: GoOn<'_>| dir.write(&path, &reader.root(), now_ms, go_on);
        let summary = self.with_files(shown, Purpose::Verify, LEISURE, write).await?;
        self.0.last_backup_ms.fetch_max(now_ms, Ordering::Relaxed);
        Ok(summary)
    }

    /// Reads a backup, and says what is in it.
    pub(crate) async fn check_backup(&self, path: &Text, purpose: Purpose) -> Result<Checked, ErrorReply> {
        Ok(self.checked(path, purpose).await?.1)
    }

    /// Carries a backup to or from somebody who may be slow, when its turn comes: others that only need the disk do not wait for
    /// it.
    pub(crate) async fn with_transfer<T: Send + 'static>(
        &self,
        path: &Text,
        work: impl FnOnce(&BackupDir, GoOn<'_>) -> Result<T, BackupError> + Send + 'static,
    ) -> Result<T, ErrorReply> {
        self.in_turn(&self.0.transfers, path, Purpose::Verify, LEISURE, work).await
    }

    /// Does something with the backup directory when its turn comes.
    pub(crate) async fn with_backups<T: Send + 'static>(
        &self,
        path: &Text,
        purpose: Purpose,
        work: impl FnOnce(&BackupDir, GoOn<'_>) -> Result<T, BackupError> + Send + 'static,
    ) -> Result<T, ErrorReply> {
        self.with_files(path, purpose, LEISURE, work).await
    }

    /// BACKUP VERIFY FROM: what the document holds, if it is the one that its manifest describes.
    pub(crate) async fn verify_backup_from(&self, path: &Text) -> Result<Reply, ErrorReply> {
        let (_, checked) = self.checked(path, Purpose::Verify).await?;
        Ok(verified(&checked))
    }

    /// RESTORE CHECK FROM: how many entries RESTORE FROM would restore.
    pub(crate) async fn check_restore_from(&self, path: &Text) -> Result<Reply, ErrorReply> {
        let (_, checked) = self.checked(path, Purpose::Restore).await?;
        Ok(Reply::Count(checked.live_count))
    }

    /// RESTORE FROM: the document's entries take the place of all keys in one step.
    pub(crate) async fn restore_from(&self, mut pass: Pass, path: &Text) -> Result<Reply, ErrorReply> {
        let (pair, checked) = self.checked(path, Purpose::Restore).await?;
        let mut restoration = self.0.node.begin_restore().await;
        let restored = match self.prepare(&mut restoration, path, pair, checked).await {
            Ok(()) => self.commit_restore(&restoration, &mut pass).await,
            Err(refusal) => Err(refusal),
        };
        if restored.is_err()
            && let Err(error) = restoration.abandon().await
        {
            tracing::debug!(%error, "what was prepared for a restore that failed stays in memory for a while");
        }
        restored
    }

    /// Has the entries of the document kept aside, and makes sure that they are those that were checked.
    async fn prepare(
        &self,
        restoration: &mut Restoration,
        path: &Text,
        pair: Pair,
        checked: Checked,
    ) -> Result<(), ErrorReply> {
        let (parts, mut received) = mpsc::channel(PARTS_AHEAD_MAX);
        let read = self.with_files(path, Purpose::Restore, HASTE, move |_, go_on| {
            let mut cutter = Cutter { parts, part: Vec::new(), bytes: 0 };
            let is_complete = pair.entries(&checked, go_on, |entry| cutter.add(entry))?;
            if is_complete && cutter.finish() { Ok(()) } else { Err(BackupError::Stopped) }
        });
        let feed = async {
            while let Some(part) = received.recv().await {
                if let Err(error) = restoration.add(part).await {
                    // Nobody takes the others any more, so the reading ends too.
                    received.close();
                    return Err(error);
                }
            }
            Ok(())
        };
        let (read, fed) = tokio::join!(read, feed);
        fed.map_err(refused)?;
        read
    }

    async fn commit_restore(&self, restoration: &Restoration, pass: &mut Pass) -> Result<Reply, ErrorReply> {
        for _ in 0..ADMISSIONS_MAX {
            match restoration.commit(pass.revision).await {
                Err(ProposeError::Stale) => self.readmit(pass)?,
                answer => return answer.map_err(refused),
            }
        }
        Err(refusal::contended())
    }

    /// Opens a backup and checks all of it.
    async fn checked(&self, path: &Text, purpose: Purpose) -> Result<(Pair, Checked), ErrorReply> {
        let (shown, path, now_ms) = (path, path.clone(), self.0.node.local().now_ms);
        self.with_files(shown, purpose, LEISURE, move |dir, go_on| {
            let pair = dir.open(&path)?;
            if purpose == Purpose::Verify && !pair.has_manifest() {
                pair.check(now_ms, go_on)?;
                return Err(BackupError::missing());
            }
            let checked = pair.check(now_ms, go_on)?;
            Ok((pair, checked))
        })
        .await
    }

    /// Does something with a backup when its turn comes. What goes wrong is told with its path, as the client gave it.
    async fn with_files<T: Send + 'static>(
        &self,
        path: &Text,
        purpose: Purpose,
        leisure: f64,
        work: impl FnOnce(&BackupDir, GoOn<'_>) -> Result<T, BackupError> + Send + 'static,
    ) -> Result<T, ErrorReply> {
        self.in_turn(&self.0.backup_files, path, purpose, leisure, work).await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        turns: &Turns,
        path: &Text,
        purpose: Purpose,
        leisure: f64,
        work: impl FnOnce(&BackupDir, GoOn<'_>) -> Result<T, BackupError> + Send + 'static,
    ) -> Result<T, ErrorReply> {
        let waiting = Waiting::default();
        let (dir, stop) = (self.0.backups.clone(), Arc::clone(&waiting.0));
        let job = move |pace: &Pace| {
            let go_on = || {
                pace.breathe(leisure);
                !stop.load(Ordering::Relaxed)
            };
            work(&dir, &go_on)
        };
        let done = turns.run_in_background("backup", job).await?;
        done.map_err(|error| {
            let message = match error {
                BackupError::Io(_) | BackupError::Document(_) => {
                    format!("{}: {path}", error.message(purpose))
                }
                _ => error.message(purpose),
            };
            refused_document(error.code(purpose), message)
        })
    }
}

/// Whoever waits for a piece of work. Dropped, it tells the work to stop.
#[derive(Default)]
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Cuts the entries of a document into parts, and hands them over.
struct Cutter {
    parts: mpsc::Sender<Vec<RestoreEntry<'static>>>,
    part: Vec<RestoreEntry<'static>>,
    bytes: usize,
}

impl Cutter {
    /// False when nobody takes them any more.
    fn add(&mut self, entry: RestoreEntry<'static>) -> bool {
        let bytes = entry.size_estimate_bytes();
        if self.bytes + bytes > RESTORE_PART_BYTES_MAX && !self.part.is_empty() {
            self.bytes = 0;
            if self.parts.blocking_send(std::mem::take(&mut self.part)).is_err() {
                return false;
            }
        }
        self.bytes += bytes;
        self.part.push(entry);
        true
    }

    /// The last part, perhaps an empty one: a restore has at least one.
    fn finish(self) -> bool {
        self.parts.blocking_send(self.part).is_ok()
    }
}
