//! The bounded queue in front of the engine worker.
//!
//! A caller first takes room for its command, in units of memory, then enqueues. Room is given out in the
//! order in which it was asked for, so commands of one caller stay in order; it comes back when the command
//! is answered. So the queue is bounded by bytes and by count at once, and a flood waits at its source.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::{OwnedMutexGuard, Semaphore, mpsc, oneshot};
use tracing::Span;
use tracing::field::Empty;
use vaylix_engine::op::RestoreEntry;
use vaylix_proto::Reply;

use crate::clock;
use crate::error::ProposeError;
use crate::limits::{QUEUE_UNIT_BYTES, QUEUE_UNITS_MAX};
use crate::proposal::{Change, Payload, Proposal, restore_parts};

/// What became of a proposal.
pub(crate) type Answer = Result<Reply, ProposeError>;

/// A proposal on its way; a future of its answer.
///
/// Dropping it cancels nothing: the write happens or not as if one had waited.
#[must_use = "the answer says whether the write happened"]
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Answer>);

impl Future for Pending {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        // A worker that vanished without an answer may have written first.
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(ProposeError::OutcomeUnknown)))
    }
}

/// The caller of what nobody in particular proposes.
pub const NODE_ITSELF: u64 = 0;

/// A command waiting for its batch.
pub(crate) struct Job {
    /// See [`Proposal::caller`].
    pub(crate) caller: u64,
    /// The access revision that admitted it; `None` for the node's own housekeeping.
    pub(crate) access_revision: Option<u64>,
    pub(crate) change: Change,
    /// Estimated bytes in the log.
    pub(crate) bytes: usize,
    /// From here to its answer; disabled if nobody follows it.
    pub(crate) span: Span,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// Memory a job is charged for.
fn units(bytes: usize) -> u32 {
    u32::try_from(bytes / QUEUE_UNIT_BYTES).unwrap_or(u32::MAX).saturating_add(1).min(QUEUE_UNITS_MAX)
}

/// The callers' end.
pub(crate) struct Queue {
    room: Arc<Semaphore>,
    jobs: mpsc::UnboundedSender<Job>,
    /// Names the next restore in parts: begins with the time, so that no restart repeats a name.
    restores: AtomicU64,
    /// Held by the restore that is being prepared: another one would make it start anew.
    restoring: Arc<tokio::sync::Mutex<()>>,
}

/// The worker's end.
pub(crate) struct Jobs {
    room: Arc<Semaphore>,
    jobs: mpsc::UnboundedReceiver<Job>,
}

pub(crate) fn channel() -> (Queue, Jobs) {
    let room = Arc::new(Semaphore::new(QUEUE_UNITS_MAX as usize));
    let (sender, receiver) = mpsc::unbounded_channel();
    let restores = AtomicU64::new(clock::now_ms() << 16);
    let restoring = Arc::default();
    (Queue { room: room.clone(), jobs: sender, restores, restoring }, Jobs { room, jobs: receiver })
}

impl Queue {
    /// Enqueues, waiting for room if need be. Cancel-safe: dropped before it returns, nothing has happened to any
    /// key.
    pub(crate) async fn submit(self: &Arc<Self>, proposal: Proposal) -> Pending {
        let Proposal { span, caller, access_revision, payload } = proposal;
        let access_revision = Some(access_revision);
        match payload {
            Payload::Restore(entries) => {
                let mut parts = restore_parts(entries);
                if parts.len() > 1 {
                    return self.restore(&span, access_revision, parts).await.unwrap_or_else(refused);
                }
                let entries = parts.pop().unwrap_or_default();
                self.enqueue(&span, caller, access_revision, Change::Proposed(Payload::Restore(entries)))
                    .await
            }
            payload => match Change::new(payload) {
                Ok(change) => self.enqueue(&span, caller, access_revision, change).await,
                Err(error) => refused(error),
            },
        }
    }

    /// Has the parts of a restore prepared, then enqueues the entry that makes them the keys.
    async fn restore(
        self: &Arc<Self>,
        span: &Span,
        access_revision: Option<u64>,
        parts: Vec<Vec<RestoreEntry<'static>>>,
    ) -> Result<Pending, ProposeError> {
        let mut restoration = self.begin_restore().await;
        for entries in parts {
            restoration.add(entries).await?;
        }
        Ok(restoration.enqueue_commit(span, access_revision).await)
    }

    /// Begins a restore in parts once no other one is being prepared.
    pub(crate) async fn begin_restore(self: &Arc<Self>) -> Restoration {
        let turn = Arc::clone(&self.restoring).lock_owned().await;
        let restore = self.restores.fetch_add(1, Ordering::Relaxed);
        Restoration { queue: Arc::clone(self), restore, parts: 0, _turn: turn }
    }

    /// Enqueues a change that is made for `within`.
    pub(crate) async fn enqueue(
        &self,
        within: &Span,
        caller: u64,
        access_revision: Option<u64>,
        change: Change,
    ) -> Pending {
        let span = proposal_span(within);
        let bytes = change.bytes();
        let room = match self.room.acquire_many(units(bytes)).await {
            Ok(room) => room,
            Err(_closed) => return refused(ProposeError::Closed),
        };
        let (answer, pending) = oneshot::channel();
        match self.jobs.send(Job { caller, access_revision, change, bytes, span, answer }) {
            // The worker gives it back when it has answered.
            Ok(()) => room.forget(),
            Err(rejected) => return refused_with(rejected.0.answer, pending),
        }
        Pending(pending)
    }

    /// Refuses whatever comes from now on; what is enqueued is still served.
    pub(crate) fn close(&self) {
        self.room.close();
    }
}

/// A restore that is being prepared. Nothing happens to any key before it is committed; nobody else prepares one
/// meanwhile. Dropped, it is forgotten.
pub struct Restoration {
    queue: Arc<Queue>,
    restore: u64,
    parts: u32,
    _turn: OwnedMutexGuard<()>,
}

impl Restoration {
    /// Makes the next entries durable and keeps them aside; returns when they are. About
    /// [`RESTORE_PART_BYTES_MAX`](crate::limits::RESTORE_PART_BYTES_MAX) at once is a good measure.
    ///
    /// # Errors
    /// [`ProposeError`]; the restore cannot be committed then.
    pub async fn add(&mut self, entries: Vec<RestoreEntry<'static>>) -> Result<(), ProposeError> {
        let entries = Arc::new(entries);
        loop {
            let (restore, part) = (self.restore, self.parts);
            let change = Change::RestorePart { restore, part, entries: Arc::clone(&entries) };
            match self.queue.enqueue(&Span::none(), NODE_ITSELF, None, change).await.await {
                // Access rules changed in the same log entry. A part changes no key, so it needs no new admission.
                Err(ProposeError::Stale) => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    self.parts += 1;
                    return Ok(());
                }
            }
        }
    }

    /// Replaces every key by what was added, and answers how many entries that were. May be called again after
    /// [`ProposeError::Stale`].
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn commit(&self, access_revision: u64) -> Answer {
        self.enqueue_commit(&Span::none(), Some(access_revision)).await.await
    }

    async fn enqueue_commit(&self, span: &Span, access_revision: Option<u64>) -> Pending {
        let (restore, parts) = (self.restore, self.parts);
        let change = Change::RestoreCommit { restore, parts };
        self.queue.enqueue(span, NODE_ITSELF, access_revision, change).await
    }

    /// Gives up, and has the memory of what was added freed.
    ///
    /// # Errors
    /// [`ProposeError`]; the memory is freed some minutes later then.
    pub async fn abandon(self) -> Result<(), ProposeError> {
        if self.parts == 0 {
            return Ok(());
        }
        // The first part of another restore takes the place of all that is kept aside, and this one is empty.
        let restore = self.queue.restores.fetch_add(1, Ordering::Relaxed);
        let change = Change::RestorePart { restore, part: 0, entries: Arc::default() };
        self.queue.enqueue(&Span::none(), NODE_ITSELF, None, change).await.await.map(|_| ())
    }
}

impl fmt::Debug for Restoration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restoration").field("restore", &self.restore).field("parts", &self.parts).finish()
    }
}

/// A proposal within a span that somebody follows; what the node does for itself is followed by nobody.
fn proposal_span(within: &Span) -> Span {
    if within.is_disabled() {
        return Span::none();
    }
    tracing::info_span!(
        target: "span.proposal", parent: within, "proposal",
        batch.commands = Empty, log.index = Empty, otel.status_code = Empty
    )
}

fn refused(error: ProposeError) -> Pending {
    let (answer, pending) = oneshot::channel();
    drop(answer.send(Err(error)));
    Pending(pending)
}

fn refused_with(answer: oneshot::Sender<Answer>, pending: oneshot::Receiver<Answer>) -> Pending {
    drop(answer.send(Err(ProposeError::Closed)));
    Pending(pending)
}

impl Jobs {
    /// The next job; `None` when there are no callers any more.
    pub(crate) async fn next(&mut self) -> Option<Job> {
        self.jobs.recv().await
    }

    /// How many are there.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// The next job if it is already there.
    pub(crate) fn take(&mut self) -> Option<Job> {
        self.jobs.try_recv().ok()
    }

    /// No more callers: those that come are refused, and `next` ends once the queue is empty.
    pub(crate) fn close(&mut self) {
        self.room.close();
        self.jobs.close();
    }

    /// Gives back the room of answered jobs.
    pub(crate) fn answered(&self, bytes: impl Iterator<Item = usize>) {
        self.room.add_permits(bytes.map(|bytes| units(bytes) as usize).sum());
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use vaylix_proto::{Command, SetOptions};

    use super::*;

    fn shared() -> (Arc<Queue>, Jobs) {
        let (queue, jobs) = channel();
        (Arc::new(queue), jobs)
    }

    fn set(value_bytes: usize) -> Proposal {
        let value = vec![0; value_bytes].into();
        let command = Command::Set { key: "k".into(), value, options: SetOptions::default() };
        Proposal {
            span: Span::none(),
            caller: NODE_ITSELF,
            access_revision: 0,
            payload: Payload::Command(command),
        }
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_full_queue_makes_callers_wait_until_somebody_is_answered() {
        let (queue, mut jobs) = shared();
        let third = QUEUE_UNITS_MAX as usize * QUEUE_UNIT_BYTES / 3 - QUEUE_UNIT_BYTES;
        let _pending: Vec<_> = (0..3)
            .map(|_| poll(std::pin::pin!(queue.submit(set(third)))).expect("there is room for three"))
            .collect();
        let mut fourth = std::pin::pin!(queue.submit(set(third)));
        assert!(poll(fourth.as_mut()).is_none());
        let mut small = std::pin::pin!(queue.submit(set(third)));
        assert!(poll(small.as_mut()).is_none(), "nobody overtakes");

        let first = jobs.take().unwrap();
        assert!(poll(fourth.as_mut()).is_none(), "taken is not answered");
        jobs.answered(std::iter::once(first.bytes));
        assert!(poll(fourth.as_mut()).is_some());
        assert!(poll(small.as_mut()).is_none());
        assert_eq!(jobs.len(), 3);
    }

    #[test]
    fn the_number_of_small_commands_is_bounded_too() {
        let (queue, _jobs) = shared();
        let mut accepted = 0;
        while poll(std::pin::pin!(queue.submit(set(1)))).is_some() {
            accepted += 1;
        }
        assert_eq!(accepted, QUEUE_UNITS_MAX);
    }

    #[test]
    fn a_command_larger_than_the_queue_has_it_to_itself() {
        let (queue, _jobs) = shared();
        let huge = set(2 * QUEUE_UNITS_MAX as usize * QUEUE_UNIT_BYTES);
        assert!(poll(std::pin::pin!(queue.submit(huge))).is_some());
        assert!(poll(std::pin::pin!(queue.submit(set(1)))).is_none());
    }

    #[test]
    fn a_closed_queue_refuses_those_who_wait_and_those_who_come() {
        let (queue, mut jobs) = shared();
        let full = set(QUEUE_UNITS_MAX as usize * QUEUE_UNIT_BYTES);
        let mut served = poll(std::pin::pin!(queue.submit(full))).unwrap();
        let mut waits = std::pin::pin!(queue.submit(set(1)));
        assert!(poll(waits.as_mut()).is_none());
        jobs.close();
        let mut refused = poll(waits).unwrap();
        assert_eq!(poll(Pin::new(&mut refused)), Some(Err(ProposeError::Closed)));
        let mut late = poll(std::pin::pin!(queue.submit(set(1)))).unwrap();
        assert_eq!(poll(Pin::new(&mut late)), Some(Err(ProposeError::Closed)));

        let job = jobs.take().expect("what was enqueued is served");
        job.answer.send(Ok(Reply::Ok)).unwrap();
        assert_eq!(poll(Pin::new(&mut served)), Some(Ok(Reply::Ok)));
    }

    #[test]
    fn a_worker_that_vanishes_leaves_the_outcome_open() {
        let (queue, jobs) = shared();
        let mut pending = poll(std::pin::pin!(queue.submit(set(1)))).unwrap();
        drop(jobs);
        assert_eq!(poll(Pin::new(&mut pending)), Some(Err(ProposeError::OutcomeUnknown)));
    }
}
