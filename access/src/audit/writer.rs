//! The thread that numbers, chains, writes and syncs.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use vaylix_proto::Code;

use super::chain::Link;
use super::event::Event;
use super::files::{self, Closed};
use super::log::{Message, Settings, State, now_ms};
use super::{OpenError, verify};
use crate::limits::{AUDIT_BATCH_EVENTS_MAX, AUDIT_UNSYNCED_BYTES_MAX};

/// Pause between attempts to write what a disk did not take.
const RETRY_EVERY: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 200 });
/// Attempts between two complaints in the log.
const COMPLAIN_EVERY: u64 = 50;
/// How often the numbers of suppressed events are written.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What a file is asked to do; a disk may refuse any of it.
pub(crate) trait Medium: Send {
    /// Appends all of `bytes`.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts off everything behind `len` bytes.
    fn cut(&mut self, len: u64) -> io::Result<()>;
    /// Returns when everything is on disk.
    fn sync(&mut self) -> io::Result<()>;
}

impl Medium for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The write side of the log.
pub(crate) struct Writer {
    settings: Settings,
    state: Arc<State>,
    receiver: Receiver<Message>,
    file: Box<dyn Medium>,
    /// The first event of the file; none while it has none.
    first: Option<u64>,
    /// Closed files with their last events, oldest first.
    closed: Vec<(Closed, Link)>,
    head: Link,
    /// Lines that have not been written.
    lines: Vec<u8>,
    /// Bytes of the file that are on disk.
    synced_len: u64,
    /// What was written behind them: kept, so that it can be written again.
    unsynced: Vec<u8>,
    sync_due: Option<Instant>,
    report_due: Option<Instant>,
}

impl Writer {
    /// Verifies the log and makes it ready to be continued.
    ///
    /// # Errors
    /// As [`Log::open`](super::Log::open).
    pub(super) fn open(
        mut settings: Settings,
        state: Arc<State>,
        receiver: Receiver<Message>,
    ) -> Result<Self, OpenError> {
        let path = settings.path.clone();
        let io = |source| OpenError::Io { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(files::directory(&path)).map_err(io)?;
        let file = open_active(&path).map_err(io)?;
        let chain = match settings.verified.take() {
            Some(chain) if chain.is_current(&path).map_err(io)? => Arc::unwrap_or_clone(chain),
            _ => verify::read(&path)?,
        };
        for file in &chain.doomed {
            fs::remove_file(&file.path).map_err(io)?;
        }
        let mut writer = Self {
            state,
            receiver,
            file: Box::new(file),
            first: chain.active_first,
            closed: chain.closed,
            head: chain.head,
            lines: Vec::new(),
            synced_len: chain.active_len,
            unsynced: Vec::new(),
            sync_due: None,
            report_due: None,
            settings,
        };
        if chain.lacks_feed {
            writer.lines.push(b'\n');
        }
        if let Some(torn) = chain.torn {
            tracing::warn!(
                target: "server.audit",
                path = %path.display(),
                line = torn.line,
                bytes = torn.bytes,
                "the last line of the audit log was unfinished and has been cut off"
            );
            let (line, bytes) = (torn.line.to_string(), torn.bytes.to_string());
            writer.take(&Event::runtime(now_ms(), "audit_repaired", &[("bytes", &bytes), ("line", &line)]));
        }
        writer.file.cut(writer.synced_len).map_err(io)?;
        writer.file.append(&writer.lines).map_err(io)?;
        writer.file.sync().map_err(io)?;
        files::sync_directory(&path).map_err(io)?;
        writer.synced_len += writer.lines.len() as u64;
        writer.lines.clear();
        writer.publish();
        Ok(writer)
    }

    /// Puts something else in the place of the file.
    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, wrap: impl FnOnce(Box<dyn Medium>) -> Box<dyn Medium>) {
        let file = std::mem::replace(&mut self.file, Box::new(Gone));
        self.file = wrap(file);
    }

    /// Writes until it is told to end, or nobody is left to tell it.
    pub(super) fn run(mut self) {
        loop {
            let goes_on = self.receive();
            self.report_suppressed(!goes_on);
            self.write();
            let is_due = self.sync_due.is_some_and(|due| due <= Instant::now());
            if is_due || !goes_on || self.unsynced.len() >= AUDIT_UNSYNCED_BYTES_MAX {
                self.sync();
            }
            if self.len() >= self.settings.file_bytes_max {
                self.rotate();
            }
            if !goes_on {
                return;
            }
        }
    }

    /// Waits for events and takes what is there. False when it was the end.
    fn receive(&mut self) -> bool {
        let due = self.sync_due.into_iter().chain(self.report_due).min();
        let message = match due {
            None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => self.receiver.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        let mut message = match message {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        for _ in 0..AUDIT_BATCH_EVENTS_MAX {
            match message {
                None => break,
                Some(Message::Close) => return false,
                // The place is free again: what the thread holds is bounded by the batch.
                Some(Message::Event(event, _place)) => self.take(&event),
            }
            message = self.receiver.try_recv().ok();
        }
        match message {
            Some(Message::Close) => false,
            Some(Message::Event(event, _place)) => {
                self.take(&event);
                true
            }
            None => true,
        }
    }

    /// Appends the event to the chain.
    fn take(&mut self, event: &Event) {
        self.head.append(&event.body, &mut self.lines);
        self.first.get_or_insert(self.head.sequence);
        self.report_due.get_or_insert_with(|| Instant::now() + REPORT_EVERY);
    }

    /// Writes down how many events were not, about once a second while there are any.
    fn report_suppressed(&mut self, is_last: bool) {
        let is_due = self.report_due.is_some_and(|due| due <= Instant::now());
        if !is_due && !is_last {
            return;
        }
        self.report_due = None;
        let suppressed = self.state.brake.take_suppressed();
        if !suppressed.is_empty() {
            let counts: Vec<String> = suppressed.iter().map(|(_, count)| count.to_string()).collect();
            let details: Vec<(&str, &str)> =
                suppressed.iter().zip(&counts).map(|((name, _), count)| (*name, count.as_str())).collect();
            tracing::warn!(target: "server.audit", ?suppressed, "audit events were counted, not written");
            self.take(&Event::runtime(now_ms(), "suppressed", &details));
        }
    }

    /// Hands everything to the operating system, in one call.
    fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let written = self.file.append(&self.lines);
        self.unsynced.append(&mut self.lines);
        match written {
            Ok(()) => {
                self.publish();
                self.sync_due.get_or_insert_with(|| Instant::now() + self.settings.sync_interval);
            }
            Err(error) => self.insist(&error),
        }
    }

    /// Makes everything that was written durable.
    fn sync(&mut self) {
        if self.unsynced.is_empty() {
            return;
        }
        match self.file.sync() {
            Ok(()) => self.synced(),
            Err(error) => self.insist(&error),
        }
    }

    fn synced(&mut self) {
        self.synced_len += self.unsynced.len() as u64;
        self.unsynced.clear();
        self.sync_due = None;
    }

    /// Writes what the disk did not take again and again until it is durable. After a failed sync nobody knows what
    /// is in the file, so everything since the last good one is cut off and written anew.
    fn insist(&mut self, error: &io::Error) {
        self.state.is_failing.store(true, Ordering::Relaxed);
        self.complain(error);
        while let Err(error) = self.rewrite() {
            self.complain(&error);
            if self.state.is_closing.load(Ordering::Relaxed) {
                let bytes = self.unsynced.len();
                tracing::error!(target: "server.audit", bytes, "audit events are lost: the disk does not take them");
                self.unsynced.clear();
                return;
            }
            std::thread::sleep(RETRY_EVERY);
        }
        self.synced();
        self.publish();
        self.state.is_failing.store(false, Ordering::Relaxed);
        tracing::warn!(target: "server.audit", "the audit log can be written again; nothing was lost");
    }

    fn rewrite(&mut self) -> io::Result<()> {
        self.file.cut(self.synced_len)?;
        self.file.append(&self.unsynced)?;
        self.file.sync()
    }

    fn complain(&self, error: &io::Error) {
        let failures = self.state.failures.fetch_add(1, Ordering::Relaxed);
        if failures.is_multiple_of(COMPLAIN_EVERY) {
            let (code, path) = (Code::ServerFilesystemIoFailure, self.settings.path.display());
            tracing::error!(
                target: "server.audit", %code, %path, %error, failures = failures + 1,
                "the audit log cannot be written: logins and administration are refused until it can"
            );
        }
    }

    fn len(&self) -> u64 {
        self.synced_len + self.unsynced.len() as u64
    }

    fn publish(&self) {
        self.state.sequence.store(self.head.sequence, Ordering::Relaxed);
    }

    /// Closes the file and begins the next one. If that fails, this one just grows on, and the next events try again.
    fn rotate(&mut self) {
        self.sync();
        let Some(first) = self.first else { return };
        if let Err(error) = self.begin_file(first).and_then(|()| self.retire()) {
            self.complain(&error);
        }
    }

    fn begin_file(&mut self, first: u64) -> io::Result<()> {
        let path = &self.settings.path;
        let closed = files::closed_path(path, first);
        fs::rename(path, &closed)?;
        let file = match open_active(path) {
            Ok(file) => file,
            Err(error) => {
                // Where it was, it goes on.
                fs::rename(&closed, path)?;
                return Err(error);
            }
        };
        self.file = Box::new(file);
        self.first = None;
        self.synced_len = 0;
        self.closed.push((Closed { first, path: closed }, self.head.clone()));
        files::sync_directory(path)
    }

    /// Deletes the oldest files beyond those to keep, after writing down where the rest begins.
    fn retire(&mut self) -> io::Result<()> {
        while self.closed.len() > self.settings.closed_files_max {
            let (oldest, last) = &self.closed[0];
            files::write_anchor(&self.settings.path, last)?;
            fs::remove_file(&oldest.path)?;
            self.closed.remove(0);
        }
        Ok(())
    }
}

/// Stands for a file for a moment.
#[cfg(test)]
struct Gone;

#[cfg(test)]
impl Medium for Gone {
    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn cut(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Opens the file to append to, and keeps others from doing so.
/// Whether the log at `path` could be opened. Makes its directory if it is missing, and nothing else.
///
/// # Errors
/// The system's reason, or that another server writes it.
pub(super) fn check(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(files::directory(path))?;
    match path.try_exists()? {
        true => open_active(path).map(drop),
        false => Ok(()),
    }
}

fn open_active(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(io::Error::other("the audit log is in use by another running server"))
        }
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}
