//! The thread that owns the files of a log.
//!
//! It takes everything that waits, writes it as one frame, syncs once, and only then tells the callers.
//!
//! # When the disk refuses
//! A failed sync is fatal: nobody knows what is on the disk then, and asking again does not help (the kernel forgets the
//! error with the pages).
//!
//! A failed write is not: its frame was not acknowledged, and whatever part of it is on disk is never followed by
//! another. The segment is cut to its last complete frame, synced and sealed, and the frame is written again in a new
//! segment, under a new key. A crash before the cut leaves a torn tail, or the whole frame, which holds what was to be
//! appended anyway; a crash after it leaves a sealed segment that ends with its last acknowledged frame.
//!
//! What cannot be done for now is tried again until it can: the caller waits, and is told neither yes nor no. Callers
//! who ask for room first ([`room`](super::room)) do not get there. Everything that is tried again may have been done in
//! part: cutting, renaming and removing twice is the same as once, and a new segment has no name before it is whole.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Span;

use super::config::{Config, SyncPolicy};
use super::frame::{self, Encoder};
use super::header::{Header, SegmentKey};
use super::log::Segment;
use super::name::Name;
use super::newest::NewestMark;
use super::origin;
use super::record::{Record, RecordId};
use super::room::{Purpose, ReserveFile, STEPS_BYTES};
use super::scan::{self, FIRST_FRAME, Mark};
use super::shared::{Batch, Next, Shared, Work};
use super::spare::{self, Spare};
use vaylix_proto::Code;

use crate::disk::{Disk, DiskFile};
use crate::error::{StorageError, Trouble};
use crate::keyring::Keyring;
use crate::layout::DataDir;

/// How long a write may stay unsynced under [`SyncPolicy::Flush`].
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// How often the thread looks for room while there is none.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Room that a node cannot start without: for its promise to lead, and the entry by which it does.
const START_BYTES: u64 = 7 * 512;
/// How long it waits before it tries again what the disk refused twice.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

pub(super) struct Writer {
    pub(super) dir: DataDir,
    pub(super) keyring: Arc<Keyring>,
    pub(super) config: Config,
    pub(super) shared: Arc<Shared>,
    pub(super) spare: Option<Spare>,
    pub(super) active: Active,
    /// Number of the next segment.
    pub(super) number: u64,
    pub(super) mark: NewestMark,
    pub(super) encoder: Encoder,
    pub(super) reserve: ReserveFile,
    /// Files that hold nothing any more, in the order in which they must go: one that overhangs must be gone for good
    /// before the one that supersedes its end goes.
    pub(super) doomed: VecDeque<(PathBuf, bool)>,
    /// When it last looked for room.
    pub(super) looked_at: Instant,
    /// When the oldest unsynced write was made.
    pub(super) unsynced_since: Option<Instant>,
    /// What is being appended for.
    pub(super) spans: Vec<Span>,
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
    /// Up to where space was set aside, at least as far as the zeros.
    reserved: u64,
    spare_wanted: bool,
    /// Whether part of a frame may lie behind the last complete one.
    torn: bool,
    /// Whether the segment has its final name, so that nothing may be added to it.
    sealed: bool,
    /// Whether it ends with its content.
    cut: bool,
}

impl Writer {
    /// Works until the log is closed or fails.
    pub(super) fn run(mut self) {
        loop {
            if self.looks() && self.looked_at.elapsed() >= LOOK_INTERVAL {
                self.top_up();
            }
            let outcome = match self.shared.next(self.deadline()) {
                Next::Append(batches) => self.append(batches),
                Next::Truncate(index, reply) => self.truncate(index).map(|()| answer(&reply, Ok(()))),
                Next::Purge(up_to, reply) => answer_passing(&reply, self.purge(up_to)),
                Next::Renew(reply) => answer_passing(&reply, self.renew()),
                Next::Room(bytes, purpose, answer) => {
                    answer(self.find_room(bytes, purpose));
                    Ok(())
                }
                Next::Deadline => self.on_deadline(),
                Next::Close => return self.close(),
            };
            if let Err(error) = outcome {
                return self.fail(&error);
            }
        }
    }

    /// When something is to be done even if nothing comes.
    fn deadline(&self) -> Option<Instant> {
        let flush = match self.config.sync {
            SyncPolicy::Flush => self.unsynced_since.map(|since| since + FLUSH_INTERVAL),
            SyncPolicy::Sync | SyncPolicy::Buffered => None,
        };
        // Also while nothing is missing: others may give the reserve up.
        let look =
            if self.looks() { self.looked_at + LOOK_INTERVAL } else { Instant::now() + 2 * LOOK_INTERVAL };
        let look = (self.config.reserve_bytes > 0).then_some(look);
        match (flush, look) {
            (Some(flush), Some(look)) => Some(flush.min(look)),
            (flush, look) => flush.or(look),
        }
    }

    /// Whether something is missing that there may be room for later.
    fn looks(&self) -> bool {
        self.reserve.is_wanted() || self.is_short()
    }

    fn on_deadline(&mut self) -> Result<(), StorageError> {
        match self.unsynced_since {
            Some(since) if since.elapsed() >= FLUSH_INTERVAL => self.sync(),
            _ => Ok(()),
        }
    }

    fn close(&mut self) {
        let closed = match self.seal() {
            Err(error) if error.may_pass() => {
                tracing::warn!(%error, "the last segment stays as it is; the next start seals it");
                self.sync()
            }
            sealed => sealed,
        };
        self.dir.disk().forget_reserves();
        self.reserve.remove();
        if let Err(error) = closed {
            self.fail(&error);
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
            match work {
                Work::Append(batch) => (batch.done)(Err(refuse())),
                Work::Room(_, _, answer) => answer(Err(refuse().into())),
                // Those who wait learn it from the end of their channel.
                Work::Truncate(..) | Work::Purge(..) | Work::Renew(..) => {}
            }
        }
    }

    /// Does something until the disk allows it, or the log is to close.
    fn insist<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut refused = false;
        let outcome = loop {
            match attempt(self) {
                Err(error) if error.may_pass() => {
                    let was_stuck = self.shared.state.lock().stuck.replace(error.to_string()).is_some();
                    if !was_stuck {
                        tracing::error!(code = %error.code(), %error, "the disk refuses what the log must write: trying until it does not");
                    }
                    // At once the first time: a new segment may do where the old one does not.
                    if refused && !self.shared.pause(RETRY_INTERVAL) {
                        break Err(error);
                    }
                    refused = true;
                }
                outcome => break outcome,
            }
        };
        if refused && outcome.is_ok() {
            self.shared.state.lock().stuck = None;
            tracing::info!("the log can be written again");
        }
        outcome
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
            if !batch.span.is_disabled() {
                self.spans.push(batch.span);
            }
        }
        let written = self.write(&records);
        self.spans.clear();
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
            self.insist(|writer| writer.write_frame(frame))?;
            records = rest;
        }
        self.top_up_if_low();
        Ok(())
    }

    fn write_frame(&mut self, records: &[Record]) -> Result<(), StorageError> {
        let (first, last) = (records[0].id, records[records.len() - 1].id);
        self.make_room(first, frame::encoded_bytes(records))?;
        let active = &mut self.active;
        let ordinal = active.ordinal + 1;
        let offset = active.end;
        let bytes = self.encoder.encode(&active.key, ordinal, active.synced, records);
        // Until it is known to be whole, nothing may follow it, and its number counts as used.
        active.torn = true;
        if let Err(error) = active.file.write_at(bytes, offset) {
            self.shared.state.lock().stats.refused_writes += 1;
            return Err(error);
        }
        active.torn = false;
        active.ordinal = ordinal;
        active.end = offset + bytes.len() as u64;
        let end = active.end;
        {
            let mut state = self.shared.state.lock();
            state.stats.frames += 1;
            state.stats.frame_records.count(records.len() as u64);
            state.room_bytes = active.room_bytes();
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

    fn is_short(&self) -> bool {
        self.shared.state.lock().short.is_some()
    }

    /// Sets more space aside when little is left for writes.
    fn top_up_if_low(&mut self) {
        let room = self.active.room_bytes();
        // A disk that had little a moment ago is not asked again for each frame.
        let urgent = room < self.config.reserve_bytes + STEPS_BYTES[STEPS_BYTES.len() - 1];
        if self.config.reserve_bytes > 0
            && room < self.low_bytes()
            && (urgent || self.looked_at.elapsed() >= RETRY_INTERVAL)
        {
            self.top_up();
        }
    }

    /// Less than this is little.
    fn low_bytes(&self) -> u64 {
        self.config.reserve_bytes + STEPS_BYTES[1].min(self.step_bytes_max())
    }

    /// Makes the reserve again if it was given up, and sees to it that there is room for writes.
    fn top_up(&mut self) {
        self.looked_at = Instant::now();
        if self.reserve.is_wanted()
            && let Err(error) = self.reserve.make()
        {
            tracing::debug!(%error, "no room for the reserve yet");
        }
        let least = STEPS_BYTES[STEPS_BYTES.len() - 1];
        if self.active.room_bytes() < self.low_bytes()
            && !(self.active.sealed || self.active.torn)
            && let Err(error) = self.extend(least, least + self.config.reserve_bytes, Purpose::Write)
        {
            tracing::debug!(%error, "little room for writes");
        }
        if let Err(error) = self.find_room(least, Purpose::Write) {
            tracing::debug!(%error, "still no room for writes");
        }
    }

    /// Steps larger than a segment would be cut off again.
    fn step_bytes_max(&self) -> u64 {
        match self.config.segment_size_bytes {
            0 => u64::MAX,
            size => size.max(STEPS_BYTES[STEPS_BYTES.len() - 1]),
        }
    }

    /// Sees to it that a frame of this size fits with what must be left behind it, if the disk has the space.
    fn find_room(&mut self, bytes: u64, purpose: Purpose) -> Result<(), StorageError> {
        let needed = bytes + purpose.spared_bytes(self.config.reserve_bytes);
        let found = if self.active.room_bytes() >= needed {
            Ok(())
        } else if self.active.sealed || self.active.torn {
            // It will be replaced; then there will be room, or not.
            Err(StorageError::new(Code::EngineFilesystemIoFailure, "the log waits for the disk"))
        } else {
            self.extend(bytes, needed, purpose)
        };
        let mut state = self.shared.state.lock();
        state.room_bytes = self.active.room_bytes();
        match &found {
            Ok(()) if purpose == Purpose::Write && state.short.take().is_some() => {
                tracing::info!("there is room for writes again");
            }
            Err(error) if state.short.replace(error.to_string()).is_none() => {
                tracing::error!(code = %error.code(), %error, "no room for writes: refusing them until there is; reads and deletes go on");
            }
            _ => {}
        }
        drop(state);
        found.map_err(|error| {
            let message = format!("{}: the write was not done", error.message());
            let file = error.file().unwrap_or(self.active.file.path());
            StorageError::new(error.code(), message)
                .in_file(file)
                .advise("free space on that disk, or delete keys and take a snapshot: writes work again as soon as there is room")
                .in_trouble(error.trouble().unwrap_or(Trouble::Refused))
                .because(error)
        })
    }

    /// Sets space aside behind the last frame: as much as there is, at least what is needed.
    fn extend(&mut self, bytes: u64, needed: u64, purpose: Purpose) -> Result<(), StorageError> {
        if purpose == Purpose::Write && self.reserve.is_wanted() {
            self.reserve.make()?;
        }
        let least = self.active.end + needed;
        let most = self.step_bytes_max();
        let generous = STEPS_BYTES.iter().map(|step| least.saturating_sub(bytes) + step.min(&most));
        let mut refused = None;
        for target in generous.filter(|target| *target > least).chain([least]) {
            let (from, len) = (self.active.reserved, target.saturating_sub(self.active.reserved));
            if len == 0 {
                return Ok(());
            }
            let last_resort = target == least && purpose == Purpose::Free;
            let set_aside = if last_resort {
                self.active.file.allocate_essential(from, len)
            } else {
                self.active.file.allocate(from, len)
            };
            match set_aside {
                Ok(()) => {
                    self.active.reserved = target;
                    return Ok(());
                }
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.expect("at least one target was tried"))
    }

    /// Makes sure that a frame of this size, beginning with this record, belongs into the active segment.
    fn make_room(&mut self, first: RecordId, bytes: u64) -> Result<(), StorageError> {
        if self.active.ordinal == 0 && self.active.start != first.index {
            // Only a log that never held anything may begin anywhere.
            let next = Successor::Continues { start: first.index, previous: None, supersedes: false };
            return self.replace_active(next, bytes, true);
        }
        if self.active.ordinal == 0 && self.active.torn {
            // What the segment supersedes must stay so.
            let Active { start, previous, supersedes, .. } = self.active;
            return self.replace_active(Successor::Continues { start, previous, supersedes }, bytes, true);
        }
        let end = self.active.end + bytes;
        let limit = self.config.segment_size_bytes;
        let spent = self.active.torn || self.active.sealed || self.active.ordinal == u32::MAX;
        let full = self.active.ordinal > 0 && limit > 0 && end > limit;
        let spare_ready = || self.spare.as_ref().is_some_and(Spare::is_ready);
        if spent || full || (self.active.ordinal > 0 && end > self.active.zeroed && spare_ready()) {
            let previous = self.previous(first.index)?;
            let next = Successor::Continues { start: first.index, previous, supersedes: false };
            match self.replace_active(next, bytes, spent) {
                // A segment may be larger than it should: what was set aside for it is there.
                Err(error) if error.may_pass() && !(spent || self.active.sealed) => {
                    tracing::debug!(%error, "no new segment for now");
                }
                outcome => return outcome,
            }
        }
        if self.config.reserve_bytes > 0 && end > self.active.reserved {
            // Somebody did not ask, or got the space of an earlier segment.
            let from = self.active.reserved;
            self.active.file.allocate_essential(from, end - from)?;
            self.active.reserved = end;
        }
        Ok(())
    }

    /// Makes everything written durable.
    fn sync(&mut self) -> Result<(), StorageError> {
        let span = self.sync_span();
        let begun = Instant::now();
        self.active.file.sync()?;
        let took = begun.elapsed();
        drop(span);
        self.active.synced = self.active.ordinal;
        self.unsynced_since = None;
        let mut state = self.shared.state.lock();
        state.stats.syncs.count(took);
        state.log.durable = state.log.written;
        Ok(())
    }

    /// A part of the first append that is followed, with links to the others: one sync serves all.
    fn sync_span(&self) -> Span {
        let Some((first, others)) = self.spans.split_first() else { return Span::none() };
        let span = tracing::info_span!(target: "span.wal", parent: first, "wal_sync");
        for other in others {
            span.follows_from(other);
        }
        span
    }

    /// Makes the active segment durable, gives it its final name, which says what it ends with, and cuts it to its content.
    ///
    /// In this order, because a segment that is shorter than it should be, and whose name does not say where it ends, has lost
    /// something.
    fn seal(&mut self) -> Result<(), StorageError> {
        if self.active.ordinal == 0 || self.active.cut {
            return Ok(());
        }
        if !self.active.sealed {
            self.name_sealed()?;
        }
        self.dir.disk().sync_directory(&self.dir.wal())?;
        self.active.file.resize(self.active.end)?;
        self.active.reserved = self.active.end;
        self.active.zeroed = self.active.end;
        self.active.file.sync_all()?;
        self.active.cut = true;
        Ok(())
    }

    /// Makes the active segment durable and gives it its final name, which is not durable yet.
    fn name_sealed(&mut self) -> Result<(), StorageError> {
        if self.active.synced != self.active.ordinal || self.unsynced_since.is_some() {
            self.sync()?;
        }
        {
            // Readers open segments by name, hence under the lock.
            let mut state = self.shared.state.lock();
            let end = state.log.written.expect("the segment holds records");
            let path = Name::Sealed { start: self.active.start, end }.path(&self.dir.wal());
            self.active.file.rename(&path)?;
            state.log.active().path = path;
            state.room_bytes = 0;
        }
        self.active.sealed = true;
        Ok(())
    }

    /// Goes on in a new segment with room for a frame of this size: the active one is sealed first, or removed afterwards
    /// when it is empty. Essential means: at the cost of the reserves.
    ///
    /// When it fails other than by a sync, the active segment is as it was or sealed.
    fn replace_active(&mut self, next: Successor, bytes: u64, essential: bool) -> Result<(), StorageError> {
        let (start, previous, supersedes) = match next {
            Successor::Continues { start, previous, supersedes } => (start, previous, supersedes),
            Successor::Cuts { start, previous } => (start, previous, true),
        };
        let header = Header::new(self.number, start, previous, supersedes, &self.keyring)?;
        let blank = self.blank(bytes, essential)?;
        let prepared = blank.file.path().to_owned();
        let vacant = (self.active.ordinal == 0).then(|| self.active.file.path().to_owned());
        let created = self.seal().and_then(|()| Active::create(&self.dir, &self.keyring, &header, blank));
        self.active = match created {
            Ok(active) => active,
            Err(error) => {
                if error.may_pass() {
                    self.dir.disk().discard(&prepared);
                }
                return Err(error);
            }
        };
        self.mark.advance(self.number);
        self.number += 1;
        if let Some(vacant) = vacant.clone().filter(|vacant| vacant != self.active.file.path()) {
            self.doomed.push_back((vacant, true));
        }
        {
            let mut state = self.shared.state.lock();
            if vacant.is_some() {
                state.log.segments.pop_back();
            }
            if matches!(next, Successor::Cuts { .. }) {
                let superseded = state.log.truncate(start, previous);
                self.doomed.extend(superseded.into_iter().map(|path| (path, false)));
            }
            state.log.segments.push_back(self.active.segment());
            state.room_bytes = self.active.room_bytes();
        }
        self.remove_doomed()
    }

    /// A file for the next segment, with room for a frame of this size and the reserve.
    fn blank(&self, bytes: u64, essential: bool) -> Result<Blank, StorageError> {
        let disk = self.dir.disk();
        let disk = if essential { disk.essential() } else { disk.clone() };
        let spare = self.spare.as_ref().and_then(Spare::take);
        let zeroed = if spare.is_some() { self.config.segment_size_bytes } else { 0 };
        let file = match spare {
            Some(file) => file,
            None => disk.create(&next_path(&self.dir))?,
        };
        let mut blank = Blank { file, zeroed, reserved: zeroed };
        let least = FIRST_FRAME + bytes + self.config.reserve_bytes;
        if self.config.reserve_bytes > 0 && blank.reserved < least {
            let most = self.step_bytes_max();
            let targets = STEPS_BYTES.iter().map(|step| least + step.min(&most)).chain([least]);
            if let Err(error) = blank.set_aside(targets, false) {
                disk.discard(blank.file.path());
                if !essential {
                    return Err(error);
                }
                // Without the reserve behind it, which there is no room for.
                blank.file = disk.create(&next_path(&self.dir))?;
                blank.zeroed = 0;
                blank.reserved = 0;
                blank.set_aside([FIRST_FRAME + bytes].into_iter(), true)?;
            }
        }
        Ok(blank)
    }

    /// Removes the files that hold nothing any more, durably, as far as the disk allows it; the rest is tried again with
    /// the next ones.
    fn remove_doomed(&mut self) -> Result<(), StorageError> {
        let disk = self.dir.disk();
        let mut unsynced = false;
        while let Some((path, overhangs)) = self.doomed.front() {
            if let Err(error) = disk.remove(path) {
                tracing::warn!(%error, "a segment that is not needed any more stays for now");
                break;
            }
            unsynced = !overhangs;
            if *overhangs {
                disk.sync_directory(&self.dir.wal())?;
            }
            self.doomed.pop_front();
        }
        if unsynced { disk.sync_directory(&self.dir.wal()) } else { Ok(()) }
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
        self.insist(|writer| {
            let previous = writer.previous(index)?;
            writer.replace_active(Successor::Cuts { start: index, previous }, 0, true)
        })
    }

    /// Goes on in a new segment under the active storage key, and seals the origin under it too.
    fn renew(&mut self) -> Result<(), StorageError> {
        let next = if self.active.ordinal == 0 {
            // It takes over what the empty one stands for. Records may wait behind this step: the log keeps them.
            let Active { start, previous, supersedes, .. } = self.active;
            Successor::Continues { start, previous, supersedes }
        } else {
            let written = self.shared.state.lock().log.written.expect("the segment holds records");
            let previous = self.previous(written + 1)?;
            Successor::Continues { start: written + 1, previous, supersedes: false }
        };
        self.replace_active(next, 0, true)?;
        let purged = self.shared.state.lock().log.origin;
        origin::store(&self.dir, &self.keyring, purged)
    }

    /// Begins the log behind `up_to`. Where the disk does not allow even that, nothing has happened.
    fn purge(&mut self, up_to: RecordId) -> Result<(), StorageError> {
        origin::store(&self.dir, &self.keyring, Some(up_to))?;
        let last = self.shared.state.lock().log.last.map_or(0, |last| last.index);
        if last <= up_to.index {
            // It supersedes: what truncated records there are behind `up_to` must not come back when the segment that
            // superseded them goes.
            let next = Successor::Cuts { start: up_to.index + 1, previous: Some(up_to) };
            match self.replace_active(next, 0, true) {
                // The log goes on where it is; the segment goes with a later purge.
                Err(error) if error.may_pass() && last == up_to.index && !self.active.sealed => {
                    tracing::warn!(%error, "no new segment for now: the active one stays");
                }
                Err(error) if error.may_pass() => {
                    self.insist(|writer| writer.replace_active(next, 0, true))?;
                }
                outcome => outcome?,
            }
        }
        let purged = self.shared.state.lock().log.purge(up_to);
        self.doomed.extend(purged.into_iter().map(|segment| (segment.path, segment.overhangs)));
        self.remove_doomed()?;
        if self.looks() {
            self.top_up();
        }
        Ok(())
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

fn answer(reply: &super::shared::Reply, outcome: Result<(), StorageError>) {
    if reply.send(outcome).is_err() {
        tracing::debug!("nobody waits for the end of this work on the log any more");
    }
}

/// Answers with what became of the work. What the disk may allow later is the asker's business and ends nothing.
fn answer_passing(
    reply: &super::shared::Reply,
    outcome: Result<(), StorageError>,
) -> Result<(), StorageError> {
    match outcome {
        Err(error) if error.may_pass() => {
            answer(reply, Err(error));
            Ok(())
        }
        outcome => outcome.map(|()| answer(reply, Ok(()))),
    }
}

/// What the next segment is to the log.
#[derive(Clone, Copy)]
enum Successor {
    /// It goes on where the log ends.
    Continues { start: u64, previous: Option<RecordId>, supersedes: bool },
    /// It supersedes every record from `start` on: the log ends before it.
    Cuts { start: u64, previous: Option<RecordId> },
}

/// A file that is to become a segment.
struct Blank {
    file: DiskFile,
    zeroed: u64,
    reserved: u64,
}

impl Blank {
    /// Sets space aside up to the first of the targets that there is room for; up to the last one also at the cost of
    /// the reserves, if it is essential.
    fn set_aside(&mut self, targets: impl Iterator<Item = u64>, essential: bool) -> Result<(), StorageError> {
        let mut targets = targets.peekable();
        loop {
            let Some(target) = targets.next() else { return Ok(()) };
            let is_last = targets.peek().is_none();
            let len = target.saturating_sub(self.reserved);
            let set_aside = match (len, is_last && essential) {
                (0, _) => Ok(()),
                (len, true) => self.file.allocate_essential(self.reserved, len),
                (len, false) => self.file.allocate(self.reserved, len),
            };
            match set_aside {
                Ok(()) => {
                    self.reserved = self.reserved.max(target);
                    return Ok(());
                }
                Err(error) if is_last => return Err(error),
                Err(_) => {}
            }
        }
    }
}

fn next_path(dir: &DataDir) -> PathBuf {
    dir.wal().join("next.tmp")
}

impl Active {
    /// Makes the first segment after a start, in place of the vacant one, which holds no records but may supersede some:
    /// so it goes only when its successor is there.
    ///
    /// Asks for little if there is little: a node must start as long as its first entries find room.
    pub(super) fn first(
        dir: &DataDir,
        config: &Config,
        keyring: &Keyring,
        header: &Header,
        vacant: Option<&Path>,
    ) -> Result<Self, StorageError> {
        let blank = match Self::first_blank(dir.disk(), dir, config) {
            Err(error) if error.trouble() == Some(Trouble::NoSpace) => {
                tracing::warn!(%error, "little room for the log: starting with less");
                Self::small_blank(dir, config, vacant)?
            }
            blank => blank?,
        };
        let active = Self::create(dir, keyring, header, blank)?;
        if let Some(vacant) = vacant.filter(|vacant| *vacant != active.file.path()) {
            dir.disk().remove(vacant)?;
            dir.disk().sync_directory(&dir.wal())?;
        }
        Ok(active)
    }

    fn first_blank(disk: &Disk, dir: &DataDir, config: &Config) -> Result<Blank, StorageError> {
        let zeroed = if config.prezero { config.initial_size_bytes } else { 0 };
        let file =
            spare::zeroed(disk, &next_path(dir), zeroed, || true)?.expect("nothing stopped the filling");
        let mut blank = Blank { file, zeroed, reserved: zeroed };
        if config.reserve_bytes > 0 {
            let enough = FIRST_FRAME + config.reserve_bytes + STEPS_BYTES[2];
            blank.set_aside([enough].into_iter(), false)?;
        }
        Ok(blank)
    }

    fn small_blank(dir: &DataDir, config: &Config, vacant: Option<&Path>) -> Result<Blank, StorageError> {
        let path = next_path(dir);
        dir.disk().remove(&path)?;
        if let Some(vacant) = vacant {
            // It holds no records, so the space behind its header is of no use.
            dir.disk().open(vacant)?.punch(FIRST_FRAME)?;
        }
        let mut blank = Blank { file: dir.disk().essential().create(&path)?, zeroed: 0, reserved: 0 };
        let least = FIRST_FRAME + START_BYTES;
        let reserve = config.reserve_bytes;
        let [.., small, least_step] = STEPS_BYTES;
        let targets =
            [reserve + small, reserve + least_step, reserve, least_step].map(|room| FIRST_FRAME + room);
        blank.set_aside(targets.into_iter().chain([least]), true)?;
        Ok(blank)
    }

    /// Turns a blank file into the active segment, durably.
    fn create(dir: &DataDir, keyring: &Keyring, header: &Header, blank: Blank) -> Result<Self, StorageError> {
        let Blank { mut file, zeroed, reserved } = blank;
        let mut header = header.clone();
        header.length = Some(reserved).filter(|length| *length > FIRST_FRAME);
        let path = Name::Active { start: header.start }.path(&dir.wal());
        let key = Arc::new(header.key(keyring, &path)?);
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        file.rename(&path)?;
        dir.disk().sync_directory(&dir.wal())?;
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
            reserved,
            spare_wanted: false,
            torn: false,
            sealed: false,
            cut: false,
        })
    }

    pub(super) fn room_bytes(&self) -> u64 {
        if self.sealed || self.torn { 0 } else { self.reserved.saturating_sub(self.end) }
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
