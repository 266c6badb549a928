//! What the handles and the thread of a log share: the work to do and what is known.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::Span;

use super::log::Log;
use super::record::{Record, RecordId};
use super::room::{Purpose, RoomAnswer};
use super::stats::Stats;
use crate::error::StorageError;

/// Bytes of records that may wait for the thread before `append` blocks.
pub(super) const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Bytes of records that the thread takes at once; one batch is taken in any case.
const DRAIN_BYTES_MAX: usize = 1 << 20;
/// How long the thread stays awake after its work is done: long enough for a client on the same machine to answer
/// with its next write. An idle log sleeps. What it brings is in `docs/benchmarking.md`.
const LINGER: Duration = Duration::from_micros(100);

/// Called with the outcome of an append.
pub type Completion = Box<dyn FnOnce(io::Result<()>) + Send>;
/// Tells a caller that waits; dropped without a word when the log fails.
pub(super) type Reply = SyncSender<Result<(), StorageError>>;

/// One call of `append`.
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    /// What they are appended for.
    pub(super) span: Span,
    pub(super) done: Completion,
}

/// Something for the thread to do.
pub(super) enum Work {
    Append(Batch),
    Truncate(u64, Reply),
    Purge(RecordId, Reply),
    Renew(Reply),
    Room(u64, Purpose, RoomAnswer),
}

/// What the thread does next.
pub(super) enum Next {
    Append(Vec<Batch>),
    Truncate(u64, Reply),
    Purge(RecordId, Reply),
    Renew(Reply),
    Room(u64, Purpose, RoomAnswer),
    /// Nothing came until the deadline.
    Deadline,
    /// Everything is done and nothing will come.
    Close,
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// There is work, or the log is to close.
    pub(super) work: Condvar,
    /// There is room in the queue again, or never will be.
    pub(super) room: Condvar,
}

pub(super) struct State {
    pub(super) log: Log,
    pub(super) stats: Stats,
    pub(super) queue: VecDeque<Work>,
    pub(super) queued_bytes: usize,
    pub(super) closing: bool,
    /// Bytes set aside behind the last frame.
    pub(super) room_bytes: u64,
    /// Why there is no room for writes.
    pub(super) short: Option<String>,
    /// Why something that was handed over cannot be written for now.
    pub(super) stuck: Option<String>,
    /// Why nothing works any more.
    pub(super) failed: Option<String>,
}

impl State {
    /// Why the log takes nothing any more.
    pub(super) fn refusal(&self) -> Option<io::Error> {
        match &self.failed {
            Some(failed) => Some(io::Error::other(format!("the log has failed: {failed}"))),
            None if self.closing => Some(io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed")),
            None => None,
        }
    }
}

impl Shared {
    /// Waits for work, at most until the deadline.
    pub(super) fn next(&self, deadline: Option<Instant>) -> Next {
        let mut state = self.state.lock();
        self.linger(&mut state);
        loop {
            match state.queue.pop_front() {
                Some(Work::Append(first)) => return Next::Append(self.drain(&mut state, first)),
                Some(Work::Truncate(index, reply)) => return Next::Truncate(index, reply),
                Some(Work::Purge(up_to, reply)) => return Next::Purge(up_to, reply),
                Some(Work::Renew(reply)) => return Next::Renew(reply),
                Some(Work::Room(bytes, purpose, answer)) => return Next::Room(bytes, purpose, answer),
                None if state.closing => return Next::Close,
                None => {}
            }
            match deadline {
                None => self.work.wait(&mut state),
                Some(deadline) => {
                    if self.work.wait_until(&mut state, deadline).timed_out() && state.queue.is_empty() {
                        return Next::Deadline;
                    }
                }
            }
        }
    }

    /// Stays awake for a moment before it sleeps: whoever was just answered often has the next write at hand, and
    /// then nobody has to be woken. Others run meanwhile.
    fn linger(&self, state: &mut MutexGuard<'_, State>) {
        let until = Instant::now() + LINGER;
        while state.queue.is_empty() && !state.closing && Instant::now() < until {
            MutexGuard::unlocked(state, std::thread::yield_now);
        }
    }

    /// Waits; `false` when the log is to close.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.closing && !self.work.wait_until(&mut state, until).timed_out() {}
        !state.closing
    }

    fn drain(&self, state: &mut State, first: Batch) -> Vec<Batch> {
        let mut bytes = size_bytes(&first.records);
        let mut batches = vec![first];
        while let Some(Work::Append(next)) = state.queue.front() {
            let more = size_bytes(&next.records);
            if bytes + more > DRAIN_BYTES_MAX {
                break;
            }
            bytes += more;
            if let Some(Work::Append(next)) = state.queue.pop_front() {
                batches.push(next);
            }
        }
        state.queued_bytes -= bytes;
        self.room.notify_all();
        batches
    }
}

pub(super) fn size_bytes(records: &[Record]) -> usize {
    records.iter().map(Record::size_bytes).sum()
}
