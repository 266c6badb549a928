//! The thread that owns the files of a log.
//!
//! It takes everything that waits, writes it as one frame, syncs once, and only then tells the callers. Whatever fails
//! here is fatal: after a failed write or sync nobody knows what is on the disk, and asking again does not help (the
//! kernel forgets the error with the pages).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{Config, SyncPolicy};
use super::frame::{self, Encoder};
use super::header::{Header, SegmentKey};
use super::log::{Segment, remove_all};
use super::name::Name;
use super::origin;
use super::record::{Record, RecordId};
use super::scan::{self, FIRST_FRAME, Mark};
use super::shared::{Batch, Next, Shared, Work};
use super::spare::{self, Spare};
use vaylix_proto::Code;

use crate::disk::DiskFile;
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;

/// How long a write may stay unsynced under [`SyncPolicy::Flush`].
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Writer {
    pub(super) dir: DataDir,
    pub(super) keyring: Arc<Keyring>,
    pub(super) config: Config,
    pub(super) shared: Arc<Shared>,
    pub(super) spare: Option<Spare>,
    pub(super) active: Active,
    /// Number of the next segment.
    pub(super) number: u64,
    pub(super) encoder: Encoder,
    /// When the oldest unsynced write was made.
    pub(super) unsynced_since: Option<Instant>,
}

/// The segment being written.
pub(super) struct Active {
    file: DiskFile,
    start: u64,
    previous: Option<RecordId>,
    supersedes: bool,
    key: Arc<SegmentKey>,
    /// Of the last frame written and of the last one synced; 0 for none.
    ordinal: u32,
    synced: u32,
    /// Where the next frame goes.
    end: u64,
    /// Up to where the file was filled with zeros.
    zeroed: u64,
    spare_wanted: bool,
}

impl Writer {
    /// Works until the log is closed or fails.
    pub(super) fn run(mut self) {
        loop {
            let deadline = match self.config.sync {
                SyncPolicy::Flush => self.unsynced_since.map(|since| since + FLUSH_INTERVAL),
                SyncPolicy::Sync | SyncPolicy::Buffered => None,
            };
            let outcome = match self.shared.next(deadline) {
                Next::Append(batches) => self.append(batches),
                Next::Truncate(index, reply) => self.truncate(index).map(|()| answer(&reply)),
                Next::Purge(up_to, reply) => self.purge(up_to).map(|()| answer(&reply)),
                Next::Renew(reply) => self.renew().map(|()| answer(&reply)),
                Next::Deadline => self.sync(),
                Next::Close => {
                    if let Err(error) = self.seal() {
                        self.fail(&error);
                    }
                    return;
                }
            };
            if let Err(error) = outcome {
                return self.fail(&error);
            }
        }
    }

    fn fail(&self, error: &StorageError) {
        tracing::error!(code = %error.code(), %error, "the log cannot be written: stopping, since nobody knows what is on the disk");
        (self.config.on_fatal)(error);
        let mut state = self.shared.state.lock();
        state.failed = Some(error.to_string());
        let queue = std::mem::take(&mut state.queue);
        self.shared.room.notify_all();
        let refuse = || std::io::Error::other(format!("the log has failed: {error}"));
        drop(state);
        for work in queue {
            // Those who wait for a truncation or purge learn it from the end of their channel.
            if let Work::Append(batch) = work {
                (batch.done)(Err(refuse()));
            }
        }
    }

    fn append(&mut self, batches: Vec<Batch>) -> Result<(), StorageError> {
        let (count, mut dones) = (batches.len() as u64, Vec::with_capacity(batches.len()));
        let mut records = Vec::new();
        for mut batch in batches {
            if records.is_empty() {
                records = batch.records;
            } else {
                records.append(&mut batch.records);
            }
            dones.push(batch.done);
        }
        let written = self.write(&records);
        if written.is_ok() {
            let mut state = self.shared.state.lock();
            state.stats.append_batches += count;
            state.stats.appended_records += records.len() as u64;
        }
        for done in dones {
            done(written.as_ref().copied().map_err(|error| std::io::Error::other(error.to_string())));
        }
        written
    }

    fn write(&mut self, mut records: &[Record]) -> Result<(), StorageError> {
        while !records.is_empty() {
            let (frame, rest) = records.split_at(frame::fitting(records));
            self.write_frame(frame)?;
            records = rest;
        }
        Ok(())
    }

    fn write_frame(&mut self, records: &[Record]) -> Result<(), StorageError> {
        let (first, last) = (records[0].id, records[records.len() - 1].id);
        self.make_room(first, frame::encoded_bytes(records))?;
        let active = &mut self.active;
        let ordinal = active.ordinal + 1;
        let offset = active.end;
        let bytes = self.encoder.encode(&active.key, ordinal, active.synced, records);
        active.file.write_at(bytes, offset)?;
        active.ordinal = ordinal;
        active.end = offset + bytes.len() as u64;
        let end = active.end;
        {
            let mut state = self.shared.state.lock();
            state.stats.frames += 1;
            let segment = state.log.active();
            segment.end = end;
            segment.last = Some(last.index);
            scan::mark(&mut segment.marks, Mark { index: first.index, ordinal, offset });
            state.log.set_written(last.index);
        }
        match self.config.sync {
            SyncPolicy::Sync => self.sync()?,
            SyncPolicy::Flush => {
                let since = *self.unsynced_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= FLUSH_INTERVAL {
                    self.sync()?;
                }
            }
            SyncPolicy::Buffered => {}
        }
        if let Some(spare) = &self.spare
            && !self.active.spare_wanted
            && end >= self.active.zeroed / 4
        {
            self.active.spare_wanted = true;
            spare.want();
        }
        Ok(())
    }

    /// Makes sure that a frame of this size, beginning with this record, belongs into the active segment.
    fn make_room(&mut self, first: RecordId, bytes: u64) -> Result<(), StorageError> {
        if self.active.ordinal == 0 {
            // Only a log that never held anything may begin anywhere.
            if self.active.start != first.index {
                self.replace_active(first.index, None, false)?;
            }
            return Ok(());
        }
        let end = self.active.end + bytes;
        let limit = self.config.segment_size_bytes;
        let full = (limit > 0 && end > limit) || self.active.ordinal == u32::MAX;
        let spare_ready = || self.spare.as_ref().is_some_and(Spare::is_ready);
        if full || (end > self.active.zeroed && spare_ready()) {
            let previous = self.previous(first.index)?;
            self.replace_active(first.index, previous, false)?;
        }
        Ok(())
    }

    /// Makes everything written durable.
    fn sync(&mut self) -> Result<(), StorageError> {
        self.sync_by(DiskFile::sync)
    }

    fn sync_by(&mut self, sync: fn(&DiskFile) -> Result<(), StorageError>) -> Result<(), StorageError> {
        let begun = Instant::now();
        sync(&self.active.file)?;
        let took = begun.elapsed();
        self.active.synced = self.active.ordinal;
        self.unsynced_since = None;
        let mut state = self.shared.state.lock();
        state.stats.count_sync(took);
        state.log.durable = state.log.written;
        Ok(())
    }

    /// Cuts the active segment to its content, makes it durable and gives it its final name.
    fn seal(&mut self) -> Result<(), StorageError> {
        if self.active.ordinal == 0 {
            return Ok(());
        }
        self.active.file.resize(self.active.end)?;
        self.sync_by(DiskFile::sync_all)?;
        {
            // Readers open segments by name, hence under the lock.
            let mut state = self.shared.state.lock();
            let end = state.log.written.expect("the segment holds records");
            let path = Name::Sealed { start: self.active.start, end }.path(&self.dir.wal());
            self.active.file.rename(&path)?;
            state.log.active().path = path;
        }
        self.dir.disk().sync_directory(&self.dir.wal())
    }

    /// Goes on in a new segment: the active one is sealed first, or removed afterwards when it is empty. A segment that
    /// supersedes also ends the log before `start`; the files that this leaves without live records are returned.
    fn replace_active(
        &mut self,
        start: u64,
        previous: Option<RecordId>,
        supersedes: bool,
    ) -> Result<Vec<PathBuf>, StorageError> {
        self.begin_segment(start, previous, supersedes)?;
        if !supersedes {
            return Ok(Vec::new());
        }
        let mut state = self.shared.state.lock();
        let active = state.log.segments.pop_back().expect("there is always an active segment");
        let superseded = state.log.truncate(start, previous);
        state.log.segments.push_back(active);
        Ok(superseded)
    }

    /// The same, with the log holding what it held.
    fn begin_segment(
        &mut self,
        start: u64,
        previous: Option<RecordId>,
        supersedes: bool,
    ) -> Result<(), StorageError> {
        self.seal()?;
        let vacant = (self.active.ordinal == 0).then(|| self.active.file.path().to_owned());
        let header = Header::new(self.number, start, previous, supersedes, &self.keyring)?;
        let blank = match self.spare.as_ref().and_then(Spare::take) {
            Some(file) => Blank { file, zeroed: self.config.segment_size_bytes },
            None => Blank { file: self.dir.disk().create(&next_path(&self.dir))?, zeroed: 0 },
        };
        self.active = Active::create(&self.dir, &self.keyring, &header, blank, vacant.as_deref())?;
        self.number += 1;
        let mut state = self.shared.state.lock();
        if vacant.is_some() {
            state.log.segments.pop_back();
        }
        state.log.segments.push_back(self.active.segment());
        Ok(())
    }

    /// Goes on in a new segment under the active storage key, and seals the origin under it too.
    fn renew(&mut self) -> Result<(), StorageError> {
        if self.active.ordinal == 0 {
            // It takes over what the empty one stands for. Records may wait behind this step: the log keeps them.
            let Active { start, previous, supersedes, .. } = self.active;
            self.begin_segment(start, previous, supersedes)?;
        } else {
            let written = self.shared.state.lock().log.written.expect("the segment holds records");
            let previous = self.previous(written + 1)?;
            self.begin_segment(written + 1, previous, false)?;
        }
        let purged = self.shared.state.lock().log.origin;
        origin::store(&self.dir, &self.keyring, purged)
    }

    /// The name of the record before `index`.
    fn previous(&self, index: u64) -> Result<Option<RecordId>, StorageError> {
        let Some(wanted) = index.checked_sub(1) else { return Ok(None) };
        let source = {
            let log = &self.shared.state.lock().log;
            if let Some(origin) = log.origin.filter(|origin| origin.index == wanted) {
                return Ok(Some(origin));
            }
            log.source(wanted, index, 0)?
        };
        let Some(source) = source else { return Ok(None) };
        Ok(source.read(wanted, index, 0)?.first().map(|record| record.id))
    }

    /// Ends the log before `index`, in one atomic step: the creation of a segment that supersedes the rest.
    fn truncate(&mut self, index: u64) -> Result<(), StorageError> {
        let previous = self.previous(index)?;
        let superseded = self.replace_active(index, previous, true)?;
        remove_all(self.dir.disk(), &self.dir.wal(), superseded.iter().map(|path| (path.as_path(), false)))
    }

    /// Begins the log behind `up_to`.
    fn purge(&mut self, up_to: RecordId) -> Result<(), StorageError> {
        origin::store(&self.dir, &self.keyring, Some(up_to))?;
        let everything = self.shared.state.lock().log.last.is_none_or(|last| last.index <= up_to.index);
        if everything {
            // It supersedes: what truncated records there are behind `up_to` must not come back when the segment that
            // superseded them goes.
            let start = up_to.index + 1;
            self.replace_active(start, Some(up_to), true)?;
        }
        let purged = self.shared.state.lock().log.purge(up_to);
        let files = purged.iter().map(|segment| (segment.path.as_path(), segment.overhangs));
        remove_all(self.dir.disk(), &self.dir.wal(), files)
    }
}

impl Drop for Writer {
    /// A panic of the thread must not leave callers waiting.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail(&StorageError::new(Code::InvalidStorageOperation, "the thread of the log panicked"));
        }
    }
}

fn answer(reply: &super::shared::Reply) {
    if reply.send(()).is_err() {
        tracing::debug!("nobody waits for the truncation or purge any more");
    }
}

/// A file that is to become a segment.
struct Blank {
    file: DiskFile,
    zeroed: u64,
}

fn next_path(dir: &DataDir) -> PathBuf {
    dir.wal().join("next.tmp")
}

impl Active {
    /// Makes the first segment after a start.
    pub(super) fn first(
        dir: &DataDir,
        config: &Config,
        keyring: &Keyring,
        header: &Header,
        vacant: Option<&Path>,
    ) -> Result<Self, StorageError> {
        let wanted = if config.prezero { config.initial_size_bytes } else { 0 };
        let file = spare::zeroed(dir.disk(), &next_path(dir), wanted, || true)?;
        let file = file.expect("nothing stopped the filling");
        Self::create(dir, keyring, header, Blank { file, zeroed: wanted }, vacant)
    }

    /// Turns a blank file into the active segment, durably, in place of the vacant one, which holds no records but may
    /// supersede some: so it goes only when its successor is there.
    fn create(
        dir: &DataDir,
        keyring: &Keyring,
        header: &Header,
        blank: Blank,
        vacant: Option<&Path>,
    ) -> Result<Self, StorageError> {
        let Blank { mut file, zeroed } = blank;
        let path = Name::Active { start: header.start }.path(&dir.wal());
        let key = Arc::new(header.key(keyring, &path)?);
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        file.rename(&path)?;
        dir.disk().sync_directory(&dir.wal())?;
        if let Some(vacant) = vacant.filter(|vacant| *vacant != path) {
            dir.disk().remove(vacant)?;
            dir.disk().sync_directory(&dir.wal())?;
        }
        Ok(Self {
            file,
            start: header.start,
            previous: header.previous,
            supersedes: header.supersedes,
            key,
            ordinal: 0,
            synced: 0,
            end: FIRST_FRAME,
            zeroed,
            spare_wanted: false,
        })
    }

    pub(super) fn segment(&self) -> Segment {
        Segment {
            path: self.file.path().to_owned(),
            start: self.start,
            last: None,
            overhangs: false,
            end: self.end,
            key: Arc::clone(&self.key),
            marks: Vec::new(),
        }
    }
}
