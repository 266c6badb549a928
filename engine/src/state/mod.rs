//! The deterministic state machine: same log, same state, same answers, on every node, for ever.
//!
//! [`State`] is the write side and has exactly one owner, which feeds it the log in order. It publishes to any
//! number of [`Reader`]s. Nothing here knows a clock, a source of randomness, a file or a socket: time is what
//! the batches say.
//!
//! Two structures hold the same entries (see `docs/state-map.md` for why): a persistent ordered map, which
//! gives consistent views, order and O(1) undo, and a hash index for reads of named keys.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::MutexGuard;
use vaylix_proto::Reply;

use crate::op::{Batch, Op, SystemChange};
use crate::sequence::Sequence;

mod allowance;
mod digest;
mod entry;
mod execute;
mod image;
mod index;
mod keyspace;
mod outcome;
mod read;
mod reader;
mod restore;
mod root;
mod scan;
#[cfg(test)]
mod tests;
mod tree;

pub use allowance::{Allowance, Exceeded};
pub use digest::{Mark, StateDigest};
pub use entry::Entry;
pub use image::DecodeError;
pub use outcome::{ApplyError, Outcome};
pub use reader::Reader;
pub use root::Root;
pub use scan::ScanMemory;

use execute::Draft;
use index::{Changes, Index};
use reader::Shared;
use restore::Prepared;

/// The write side of the state.
///
/// Invariants:
/// - every log position is applied or skipped exactly once, in order;
/// - an operation is carried out completely or not at all;
/// - time never goes back.
pub struct State {
    shared: Arc<Shared>,
    changes: Changes,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// The state before the first log entry.
    #[must_use]
    pub fn new() -> Self {
        Self::from_root(Root::default())
    }

    /// A state that goes on from `root`, as after loading a snapshot.
    #[must_use]
    pub fn from_root(root: Root) -> Self {
        Self { shared: Arc::new(Shared::new(root)), changes: Changes::default() }
    }

    /// Applies the next log entry and says what became of each of its operations, in order.
    ///
    /// # Panics
    /// If `at` is not the position after the last one: going on would fork the replicas.
    pub fn apply(&mut self, at: Sequence, batch: &Batch<'_>) -> Vec<Outcome> {
        let mut root = self.shared.root.lock();
        follow(&mut root, at);
        root.keys.advance(batch.time_ms);
        let now_ms = root.time_ms();
        root.prepared.take_if(|prepared| prepared.is_forgotten(now_ms));
        self.shared.publish_figures(&root);
        let mut outcomes = Vec::with_capacity(batch.ops.len());
        for op in &batch.ops {
            let mut step = Step { root: &mut root, changes: &mut self.changes, index: &self.shared.index };
            outcomes.push(step.apply(op, batch.access_revision));
            self.shared.index.publish(&mut self.changes, &root.keys);
        }
        self.shared.publish_figures(&root);
        // Hands over to a waiting reader, if there is one, before the next batch can take the lock again.
        MutexGuard::unlock_fair(root);
        outcomes
    }

    /// Notes a log entry that holds no operations.
    ///
    /// # Panics
    /// If `at` is not the position after the last one.
    pub fn skip(&mut self, at: Sequence) {
        follow(&mut self.shared.root.lock(), at);
    }

    /// The last log position that was applied or skipped.
    #[must_use]
    pub fn applied(&self) -> Option<Sequence> {
        self.shared.root.lock().applied
    }

    /// The time of the last batch in unix milliseconds.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.shared.root.lock().time_ms()
    }

    /// How often the system part has changed.
    #[must_use]
    pub fn access_revision(&self) -> u64 {
        self.shared.root.lock().access_revision
    }

    /// The read side.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.shared))
    }

    /// The state as it is now.
    #[must_use]
    pub fn root(&self) -> Root {
        self.shared.root.lock().clone()
    }

    /// Puts `root` in the place of everything, as when a snapshot of another node is installed. Readers made
    /// before see it from then on.
    pub fn replace(&mut self, root: Root) {
        let mut held = self.shared.root.lock();
        let replaced = std::mem::replace(&mut *held, root);
        self.changes.everything(replaced.keys);
        self.shared.index.publish(&mut self.changes, &held.keys);
        self.shared.publish_figures(&held);
    }
}

/// Takes note of the position of an entry.
fn follow(root: &mut Root, at: Sequence) {
    let expected = root.applied.map_or(Sequence::FIRST, Sequence::next);
    assert_eq!(at, expected, "log position {at} where {expected} must follow");
    root.applied = Some(at);
}

/// What one operation works on.
struct Step<'a> {
    root: &'a mut Root,
    /// What it has done so far. Empty at its start.
    changes: &'a mut Changes,
    /// The keys without `changes`.
    index: &'a Index,
}

/// Bytes that a transaction's answer takes besides its results, and those that a result takes that tells no
/// value.
const EXEC_ANSWER_BYTES: usize = 4;
const PLAIN_RESULT_BYTES_MAX: usize = 9;

impl Step<'_> {
    fn apply(&mut self, op: &Op<'_>, admitted_under: u64) -> Outcome {
        let current = match op {
            Op::Sweep { .. } | Op::Mark | Op::Check { .. } => true,
            Op::System { expect_revision, .. } => *expect_revision == self.root.access_revision,
            _ => admitted_under == self.root.access_revision,
        };
        if !current {
            return Outcome::Stale;
        }
        let now_ms = self.root.time_ms();
        let result = match op {
            Op::Exec(steps) => return self.exec(steps, u64::MAX),
            Op::ExecWithin { steps, answer_bytes_max } => return self.exec(steps, *answer_bytes_max),
            Op::Sweep { limit } => Ok(self.draft().sweep(*limit)),
            Op::Restore { entries } => {
                let mut restored = Prepared::new(0, now_ms);
                restored.add(entries, now_ms);
                self.draft().replace(restored.keys);
                Ok(Reply::Count(restored.counted))
            }
            Op::RestorePart { restore, part, entries } => {
                restore::add_part(&mut self.root.prepared, (*restore, *part), entries, now_ms)
                    .map(Reply::Count)
            }
            Op::RestoreCommit { restore, parts } => self.commit_restore(*restore, *parts),
            Op::System { changes, .. } => Ok(change_system(self.root, changes)),
            Op::Mark => Ok(self.mark()),
            Op::Check { at, digest } => Ok(self.compare(*at, digest)),
            single => self.draft().run(single),
        };
        result.map_or_else(Outcome::Failed, Outcome::Reply)
    }

    /// All steps or none. Only counters and answers that are too large can fail half way, so only transactions with
    /// counters or values in their answer keep the way back, which is the map as it was.
    fn exec(&mut self, steps: &[Op<'_>], answer_bytes_max: u64) -> Outcome {
        let bytes_max = usize::try_from(answer_bytes_max).unwrap_or(usize::MAX);
        let too_large = |_| ApplyError::AnswerTooLarge { bytes_max: answer_bytes_max };
        let mut allowance = Allowance::bytes(bytes_max);
        if let Err(exceeded) = allowance.take_bytes(EXEC_ANSWER_BYTES) {
            return Outcome::Failed(too_large(exceeded));
        }
        let may_fail = |step: &Op<'_>| matches!(step, Op::Incr { .. } | Op::Decr { .. }) || !step.is_step();
        let may_outgrow = EXEC_ANSWER_BYTES + steps.len() * PLAIN_RESULT_BYTES_MAX > bytes_max
            || answer_bytes_max != u64::MAX && steps.iter().any(Op::tells_values);
        let before = (may_outgrow || steps.iter().any(may_fail)).then(|| self.root.keys.clone());
        let mut draft = self.draft();
        let mut replies = Vec::with_capacity(steps.len());
        for (step, position) in steps.iter().zip(1..) {
            let tagged = allowance.take_bytes(1);
            let result = draft.run_within(step, &mut allowance);
            match result.and_then(|reply| tagged.and(reply).map_err(too_large)) {
                Ok(reply) => replies.push(reply),
                Err(error) => {
                    self.root.keys = before.expect("a step that can fail has been foreseen");
                    self.changes.clear();
                    return Outcome::Failed(ApplyError::Step { position, error: Box::new(error) });
                }
            }
        }
        Outcome::Reply(Reply::Exec(replies))
    }

    fn commit_restore(&mut self, restore: u64, parts: u32) -> Result<Reply, ApplyError> {
        let prepared = self.root.prepared.take_if(|prepared| prepared.has(restore, parts));
        let mut prepared = prepared.ok_or(ApplyError::RestoreInterrupted)?;
        prepared.keys.advance(self.root.time_ms());
        self.draft().replace(prepared.keys);
        Ok(Reply::Count(prepared.counted))
    }

    /// Notes what the state is, and answers that. Operations of the same entry that come before it are part of it.
    fn mark(&mut self) -> Reply {
        let Some(at) = self.root.applied else { return Reply::NotFound };
        let digest = self.root.digest();
        self.root.mark = Some(Mark { at, digest });
        Reply::Value(Bytes::copy_from_slice(digest.as_bytes()))
    }

    /// Whether the state was what is said, at an entry that is marked; "not found" when another one is.
    fn compare(&self, at: u64, digest: &[u8]) -> Reply {
        match self.root.mark {
            Some(mark) if mark.at.get() == at => Reply::Bool(mark.digest.as_bytes() == digest),
            _ => Reply::NotFound,
        }
    }

    fn draft(&mut self) -> Draft<'_> {
        Draft::new(&mut self.root.keys, self.changes, self.index)
    }
}

fn change_system(root: &mut Root, changes: &[SystemChange<'_>]) -> Reply {
    for change in changes {
        match change {
            SystemChange::Put { key, value } => {
                root.put_record(ByteString::from(&**key), Bytes::copy_from_slice(value));
            }
            SystemChange::Delete { key } => root.remove_record(key),
        }
    }
    root.access_revision = root.access_revision.saturating_add(1);
    Reply::Ok
}
