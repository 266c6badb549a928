//! The log: what was appended is on disk before anybody is told so.
//!
//! # On disk
//! `wal/origin.bin` says where the log begins (`origin`). Segments hold the records: one is being written
//! (`active-<start>.wal`), the others are finished (`<start>-<end>.wal`). The name of an empty file says which one is the newest
//! (`newest`). A segment is a header sector (`header`) and
//! then frames (`frame`), each one or more whole sectors (`sector`) of 512 bytes; a finished segment ends with its last
//! frame, the active one goes on with zeros. One frame is what was written and synced at once.
//!
//! # Rules
//! - A completion runs after the policy is met; with [`SyncPolicy::Sync`] that is after `fdatasync`.
//! - A sector that holds acknowledged records is never written again.
//! - A segment is written by one process only: what a restart finds is sealed, and a new segment begins.
//! - Nonces never repeat: every segment has its own key, every frame of a segment its own number.
//! - A failed sync ends the process: [`Config::on_fatal`]. A failed write is done again in a new segment (`writer`).
//! - What was promised room finds it (`room`).
//!
//! # Steps, and what a crash between them leaves
//! - Rotation: sync the active segment, rename it, sync the directory, cut it to its content, sync it; write the header of the
//!   next (prepared as `*.tmp`), sync it, rename it, sync the directory. In between there is no active segment, and the newest
//!   finished one may not be cut yet: fine. An active
//!   segment without records is not sealed but removed, after its successor is there (or replaced, when the names are
//!   equal). In between there are two, of which the older is empty: fine.
//! - Truncation: rotate to a segment that *supersedes* everything from the cut on; remove the segments that are wholly
//!   superseded. The publication of the new segment is the one step that matters.
//! - Purge: replace the origin; when everything is purged, rotate to a superseding segment behind it; remove the segments
//!   that are wholly at or below it, oldest first. The replacement of the origin is the one step that matters.
//! - Renewal, after a rotation of the storage key: rotate to a segment under the new key, whose header says what that of an
//!   empty active segment said; replace the origin by itself.
//!
//! Recovery (`recovery`) finishes what was begun and refuses everything else that does not fit.

mod config;
mod frame;
mod header;
mod history;
mod log;
mod name;
mod newest;
mod origin;
mod record;
mod recovery;
mod room;
mod scan;
mod scrub;
mod sector;
mod shared;
mod spare;
mod stats;
mod terms;
mod writer;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::Span;
use vaylix_proto::Code;

pub use config::{Config, OnFatal, SyncPolicy};
pub use frame::{BODY_BYTES_MAX, size_alone_bytes};
pub use history::{History, SegmentInfo};
pub(crate) use origin::KIND as ORIGIN;
pub use record::{Record, RecordId};
pub use recovery::{Recovery, TornTail};
pub use room::{Purpose, RoomAnswer};
pub use shared::Completion;
pub use stats::Stats;
pub use terms::Terms;

use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;
use header::Header;
use log::Log;
use newest::NewestMark;
use recovery::Opened;
use room::ReserveFile;
use shared::{Batch, QUEUE_BYTES_MAX, Reply, Shared, State, Work, size_bytes};
use spare::Spare;
use writer::{Active, Writer};

/// Whether the file that says where the log begins is whole.
///
/// # Errors
/// `ENG-007`, `ENG-008` or `ENG-009` when it is not, `ENG-002` for I/O.
pub(crate) fn check_origin(dir: &DataDir, keyring: &Keyring) -> Result<(), StorageError> {
    origin::load(dir, keyring).map(drop)
}

/// Where a log begins that never held anything.
const FIRST_INDEX: u64 = 1;

/// A handle to the log; clones share it. The log closes when the last handle is dropped.
///
/// Appends, truncations and purges take effect in the order of the calls; one owner should make them all, since each
/// append must continue the log as the calls before left it.
#[derive(Clone)]
pub struct Wal(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    reserve_bytes: u64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Wal {
    /// Opens the log of the directory, or makes it when the directory is fresh. Reads and verifies all of it.
    ///
    /// A fresh directory is one without vote, snapshot and manifest: open the log before storing any of those.
    ///
    /// # Errors
    /// The log is refused, and nothing on disk changed, when it is damaged (`ENG-007`, `ENG-008`), incomplete or in
    /// disorder (`ENG-014`), foreign or of an unknown format (`ENG-009`). `ENG-002` for I/O.
    pub fn open(
        dir: &DataDir,
        config: Config,
        keyring: Arc<Keyring>,
    ) -> Result<(Self, Recovery), StorageError> {
        Self::open_behind(dir, config, keyring, 0)
    }

    /// The same, but finished segments wholly at or below the record `covered`, which a snapshot covers, are not read:
    /// their names and headers are verified, and that they follow each other. Damage in them shows when they are read.
    ///
    /// # Errors
    /// The log is refused, and nothing on disk changed, when it is damaged (`ENG-007`, `ENG-008`), incomplete or in
    /// disorder (`ENG-014`), foreign or of an unknown format (`ENG-009`). `ENG-002` for I/O.
    pub fn open_behind(
        dir: &DataDir,
        config: Config,
        keyring: Arc<Keyring>,
        covered: u64,
    ) -> Result<(Self, Recovery), StorageError> {
        Self::open_if(dir, config, keyring, covered, |_| Ok(()))
    }

    /// The same if `check` accepts what was found: it is asked when everything has been read and verified and nothing
    /// has been changed yet.
    ///
    /// # Errors
    /// As [`Wal::open`], and whatever `check` refuses with.
    pub fn open_if(
        dir: &DataDir,
        config: Config,
        keyring: Arc<Keyring>,
        covered: u64,
        check: impl FnOnce(&Recovery) -> Result<(), StorageError>,
    ) -> Result<(Self, Recovery), StorageError> {
        let Opened { mut log, number, marked, vacant, recovery } =
            recovery::open(dir, &config, &keyring, covered, check)?;
        let supersedes = vacant.as_ref().is_some_and(|vacant| vacant.supersedes);
        let header = Header::new(number, log.next().unwrap_or(FIRST_INDEX), log.last, supersedes, &keyring)?;
        let vacant = vacant.as_ref().map(|vacant| vacant.path.as_path());
        // Before the segment takes what there is: the node has to write its vote before it can do anything.
        let reserve_path = dir.wal().join("reserve.tmp");
        let reserve = ReserveFile::new(dir.disk().clone(), reserve_path, 2 * config.reserve_bytes);
        if reserve.is_wanted() {
            reserve.make_any();
        }
        dir.disk().add_reserve(reserve.reserve());
        let active = Active::first(dir, &config, &keyring, &header, vacant)?;
        log.segments.push_back(active.segment());
        let mut mark = NewestMark::new(dir, marked);
        mark.advance(number);
        let spare = (config.prezero && config.segment_size_bytes > 0)
            .then(|| Spare::start(dir.disk().clone(), dir.wal().join("spare.tmp"), config.segment_size_bytes))
            .transpose()?;
        if let Some(spare) = &spare {
            dir.disk().add_reserve(spare.reserve(dir.disk().clone()));
        }
        let stats = Stats {
            replayed_records: recovery.records,
            torn_tails: u64::from(recovery.torn_tail.is_some()),
            ..Stats::default()
        };
        let state = State {
            log,
            stats,
            queue: VecDeque::new(),
            queued_bytes: 0,
            closing: false,
            room_bytes: active.room_bytes(),
            short: None,
            stuck: None,
            failed: None,
        };
        let reserve_bytes = config.reserve_bytes;
        let shared =
            Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), room: Condvar::new() });
        let writer = Writer {
            dir: dir.clone(),
            keyring,
            config,
            shared: Arc::clone(&shared),
            spare,
            active,
            number: number + 1,
            mark,
            encoder: frame::Encoder::default(),
            reserve,
            doomed: VecDeque::new(),
            looked_at: Instant::now(),
            unsynced_since: None,
            spans: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("vaylix-wal".into())
            .spawn(move || writer.run())
            .map_err(|source| StorageError::io("start the thread of the log", &dir.wal(), source))?;
        Ok((Self(Arc::new(Handle { shared, reserve_bytes, thread: Mutex::new(Some(thread)) })), recovery))
    }

    /// Appends records. Returns at once (unless 64 MiB wait to be written: then it blocks until there is room); the
    /// records can be read at once. `done` is called on the log's thread as soon as the policy is met, in
    /// the order of the appends; it must not wait for the log. Once the log is closed or has failed, and for a body
    /// above [`BODY_BYTES_MAX`], `done` is called with an error and nothing is appended.
    ///
    /// # Panics
    /// When the records do not continue the log without a gap, or no index is left behind them. A log that never held anything may begin anywhere.
    pub fn append(&self, records: Vec<Record>, done: Completion) {
        self.append_within(Span::none(), records, done);
    }

    /// The same within a span that somebody follows: the sync that makes the records durable becomes a part of it.
    pub fn append_within(&self, span: Span, records: Vec<Record>, done: Completion) {
        if let Err((error, done)) = self.enqueue(span, records, done) {
            done(Err(error));
        }
    }

    fn enqueue(
        &self,
        span: Span,
        records: Vec<Record>,
        done: Completion,
    ) -> Result<(), (io::Error, Completion)> {
        if records.iter().any(|record| record.body.len() > BODY_BYTES_MAX) {
            let message = format!("a record of more than {BODY_BYTES_MAX} bytes");
            return Err((io::Error::new(io::ErrorKind::InvalidInput, message), done));
        }
        let shared = &self.0.shared;
        let mut state = shared.state.lock();
        while state.queued_bytes >= QUEUE_BYTES_MAX && state.refusal().is_none() {
            shared.room.wait(&mut state);
        }
        if let Some(refusal) = state.refusal() {
            return Err((refusal, done));
        }
        let mut expected = state.log.next();
        for record in &records {
            let index = record.id.index;
            assert!(
                expected.is_none_or(|expected| expected == index),
                "gap in the log: {index} after {expected:?}"
            );
            expected = Some(index.checked_add(1).expect("no record has the last index there is"));
        }
        state.log.push(&records);
        state.queued_bytes += size_bytes(&records);
        state.queue.push_back(Work::Append(Batch { records, span, done }));
        shared.work.notify_one();
        Ok(())
    }

    /// Whether a record that takes this many bytes alone ([`size_alone_bytes`]) surely finds room, for this purpose. One
    /// caller at a time can rely on it, until it appends.
    #[must_use]
    pub fn has_room(&self, bytes: u64, purpose: Purpose) -> bool {
        let reserve_bytes = self.0.reserve_bytes;
        if reserve_bytes == 0 {
            return true;
        }
        let state = self.0.shared.state.lock();
        state.stuck.is_none() && state.room_bytes >= bytes + purpose.spared_bytes(reserve_bytes)
    }

    /// Looks for room where [`has_room`](Self::has_room) said no. `answer` is called on the log's thread: with an error
    /// (`ENG-002`, with what the system said) when there is none, or the log takes nothing any more.
    pub fn want_room(&self, bytes: u64, purpose: Purpose, answer: RoomAnswer) {
        let mut state = self.0.shared.state.lock();
        let refusal = match (state.refusal(), &state.stuck) {
            (Some(refusal), _) => Some(refused(refusal.to_string())),
            (None, Some(stuck)) => Some(StorageError::new(
                Code::EngineFilesystemIoFailure,
                format!("an earlier write still waits for the disk, this one was not done: {stuck}"),
            )),
            (None, None) => None,
        };
        match refusal {
            None => {
                state.queue.push_back(Work::Room(bytes, purpose, answer));
                self.0.shared.work.notify_one();
            }
            Some(refusal) => {
                drop(state);
                answer(Err(refusal));
            }
        }
    }

    /// Whether something that was handed over cannot be written for now, for the disk refuses.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.0.shared.state.lock().stuck.is_some()
    }

    /// Reads the records from `from` to before `to_exclusive`, until their bodies exceed `bytes_max`, but at least one
    /// if there is one. What was purged or is beyond the end is left out.
    ///
    /// # Errors
    /// `ENG-007`, `ENG-008` or `ENG-014` when a segment has been damaged since it was verified, `ENG-002` for I/O.
    pub fn read(&self, from: u64, to_exclusive: u64, bytes_max: usize) -> Result<Vec<Record>, StorageError> {
        let log = || MutexGuard::map(self.0.shared.state.lock(), |state| &mut state.log);
        Log::read_pieces(log, from, to_exclusive, bytes_max)
    }

    /// Removes the records from `index` on. Durable on return. Nothing happens when there are none.
    ///
    /// # Errors
    /// `ENG-011` when `index` has been purged or the log is closed or has failed.
    pub fn truncate_from(&self, index: u64) -> Result<(), StorageError> {
        let answer = {
            let mut state = self.0.shared.state.lock();
            if state.log.origin.is_some_and(|origin| index <= origin.index) {
                return Err(refused(format!("record {index} has been purged and cannot be truncated")));
            }
            let Some(first) = state.log.first() else { return Ok(()) };
            if state.log.last.is_none_or(|last| index > last.index) {
                return Ok(());
            }
            self.submit(&mut state, |reply| Work::Truncate(index.max(first), reply))?
        };
        wait(&answer)
    }

    /// Removes the records up to and including this one and remembers that it was the last one removed. Durable on
    /// return. The record may be beyond the end: then the log is empty and goes on behind it. Nothing happens when it
    /// was purged before.
    ///
    /// # Errors
    /// `ENG-002` when the disk refuses: nothing has happened. `ENG-011` when the log is closed or has failed.
    ///
    /// # Panics
    /// When no index is left behind the record.
    pub fn purge_to(&self, up_to_inclusive: RecordId) -> Result<(), StorageError> {
        assert!(up_to_inclusive.index < u64::MAX, "no index is left behind the last purged record");
        let answer = {
            let mut state = self.0.shared.state.lock();
            if state.log.origin.is_some_and(|origin| up_to_inclusive.index <= origin.index) {
                return Ok(());
            }
            self.submit(&mut state, |reply| Work::Purge(up_to_inclusive, reply))?
        };
        wait(&answer)
    }

    /// Goes on in a new segment, sealed under the key that is active in the keyring by now. Durable on return. The records
    /// that are there stay as they are sealed.
    ///
    /// # Errors
    /// `ENG-011` when the log is closed or has failed.
    pub fn renew(&self) -> Result<(), StorageError> {
        let answer = self.submit(&mut self.0.shared.state.lock(), Work::Renew)?;
        wait(&answer)
    }

    fn submit(
        &self,
        state: &mut State,
        work: impl FnOnce(Reply) -> Work,
    ) -> Result<Receiver<Result<(), StorageError>>, StorageError> {
        if let Some(refusal) = state.refusal() {
            return Err(refused(refusal.to_string()));
        }
        let (reply, answer) = sync_channel(1);
        state.queue.push_back(work(reply));
        self.0.shared.work.notify_one();
        Ok(answer)
    }

    /// The oldest record that can be read; `None` when there is none.
    #[must_use]
    pub fn first_index(&self) -> Option<u64> {
        self.0.shared.state.lock().log.first()
    }

    /// The last record, or the last purged one when there is none; `None` when the log never held anything.
    #[must_use]
    pub fn last_id(&self) -> Option<RecordId> {
        self.0.shared.state.lock().log.last
    }

    /// The last record that survives the loss of power (what was purged counts).
    #[must_use]
    pub fn durable_index(&self) -> Option<u64> {
        self.0.shared.state.lock().log.durable
    }

    /// The last purged record.
    #[must_use]
    pub fn purged(&self) -> Option<RecordId> {
        self.0.shared.state.lock().log.origin
    }

    /// The last record before the newest `segments` finished segments and the active one: purging up to it keeps
    /// them. `None` when there are not so many.
    #[must_use]
    pub fn last_before_newest(&self, segments: usize) -> Option<u64> {
        let state = self.0.shared.state.lock();
        let older = state.log.segments.len().checked_sub(segments + 2)?;
        state.log.segments[older].last
    }

    /// The bytes on disk of the finished segments that hold records behind `after`, up to and including `up_to`.
    #[must_use]
    pub fn segment_bytes(&self, after: u64, up_to: u64) -> u64 {
        self.0.shared.state.lock().log.segment_bytes(after, up_to)
    }

    /// Figures about the log.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = self.0.shared.state.lock();
        Stats {
            segment_count: state.log.segments.len(),
            size_bytes: state.log.size_bytes(),
            oldest_index: state.log.first(),
            room_bytes: state.room_bytes,
            is_short: state.short.is_some(),
            is_stuck: state.stuck.is_some(),
            ..state.stats
        }
    }

    /// Completes what was handed over, seals the active segment and ends the thread. Other handles are refused from
    /// now on.
    ///
    /// # Errors
    /// `ENG-011` when the log has failed.
    pub fn close(self) -> Result<(), StorageError> {
        self.0.stop();
        match &self.0.shared.state.lock().failed {
            Some(failed) => Err(refused(format!("the log has failed: {failed}"))),
            None => Ok(()),
        }
    }
}

impl Handle {
    fn stop(&self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
        self.shared.room.notify_all();
        let thread = self.thread.lock().take();
        // A completion may hold the last handle; the thread cannot wait for itself, and ends right after.
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            let mut state = self.shared.state.lock();
            state.failed.get_or_insert_with(|| "its thread panicked".into());
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

fn refused(message: String) -> StorageError {
    StorageError::new(Code::InvalidStorageOperation, message)
}

fn wait(answer: &Receiver<Result<(), StorageError>>) -> Result<(), StorageError> {
    answer.recv().unwrap_or_else(|_| Err(refused("the log has failed".into())))
}

#[cfg(test)]
mod tests;
