//! What callers propose, and how it becomes an operation of the log.

use std::borrow::Cow;
use std::sync::Arc;

use tracing::Span;
use vaylix_engine::op::{Op, RestoreEntry, SystemChange};
use vaylix_engine::state::{ApplyError, Mark};
use vaylix_proto::Command;

use crate::error::ProposeError;
use crate::limits::RESTORE_PART_BYTES_MAX;

/// A change to be made durable and applied.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What the change is made for, to those who follow it through the node; [`Span::none`] if nobody does.
    pub span: Span,
    /// Who proposes, by a number of its own; 0 is the node itself. The changes of one caller enter the log in the order in which
    /// they were submitted; callers take turns.
    pub caller: u64,
    /// The access revision under which it was admitted. When the state has moved on, the answer is
    /// [`ProposeError::Stale`] and nothing happened: admit it again.
    pub access_revision: u64,
    /// The change.
    pub payload: Payload,
}

/// What a [`Proposal`] changes.
#[derive(Clone, Debug)]
pub enum Payload {
    /// One command about keys.
    Command(Command),
    /// Commands about keys, all or none, at one point in time. Answered with [`Reply::Exec`](vaylix_proto::Reply).
    Transaction {
        /// The commands, in order.
        commands: Vec<Command>,
        /// Bytes that the answer may take as the payload of a response. If it takes more, nothing happens and the
        /// answer is [`ApplyError::AnswerTooLarge`].
        answer_bytes_max: usize,
    },
    /// Replaces the whole keyspace in one step, however large. A large one is prepared by several log entries.
    Restore(Vec<RestoreEntry<'static>>),
    /// Changes records of the system part, if its revision is still the expected one.
    System {
        /// The access revision the changes were derived from.
        expect_revision: u64,
        /// The changes, in order.
        changes: Vec<SystemChange<'static>>,
    },
}

/// A payload that is known to have a form in the log.
#[derive(Debug)]
pub(crate) enum Change {
    Proposed(Payload),
    RestorePart {
        restore: u64,
        part: u32,
        entries: Arc<Vec<RestoreEntry<'static>>>,
    },
    RestoreCommit {
        restore: u64,
        parts: u32,
    },
    Sweep {
        limit: u32,
    },
    /// See [`Op::Mark`].
    Mark,
    /// See [`Op::Check`].
    Check(Mark),
}

impl Change {
    /// Refuses commands that are not about keys.
    pub(crate) fn new(payload: Payload) -> Result<Self, ProposeError> {
        let commands = match &payload {
            Payload::Command(command) => std::slice::from_ref(command),
            Payload::Transaction { commands, .. } => commands,
            Payload::Restore(_) | Payload::System { .. } => &[],
        };
        if commands.iter().all(|command| Op::from_command(command).is_some()) {
            Ok(Self::Proposed(payload))
        } else {
            Err(ProposeError::Failed(ApplyError::NotAStep))
        }
    }

    /// The operation, borrowing keys and values.
    pub(crate) fn op(&self) -> Op<'_> {
        match self {
            Self::Proposed(Payload::Command(command)) => step(command),
            Self::Proposed(Payload::Transaction { commands, answer_bytes_max }) => Op::ExecWithin {
                steps: commands.iter().map(step).collect(),
                answer_bytes_max: *answer_bytes_max as u64,
            },
            Self::Proposed(Payload::Restore(entries)) => {
                Op::Restore { entries: entries.iter().map(borrow_entry).collect() }
            }
            Self::RestorePart { restore, part, entries } => Op::RestorePart {
                restore: *restore,
                part: *part,
                entries: entries.iter().map(borrow_entry).collect(),
            },
            Self::RestoreCommit { restore, parts } => Op::RestoreCommit { restore: *restore, parts: *parts },
            Self::Proposed(Payload::System { expect_revision, changes }) => Op::System {
                expect_revision: *expect_revision,
                changes: changes.iter().map(borrow_change).collect(),
            },
            Self::Sweep { limit } => Op::Sweep { limit: *limit },
            Self::Mark => Op::Mark,
            Self::Check(mark) => Op::Check { at: mark.at.get(), digest: mark.digest.as_bytes() },
        }
    }

    /// Whether it makes the state smaller and nothing else, so that it may use the last room there is.
    pub(crate) fn frees(&self) -> bool {
        match self {
            Self::Proposed(Payload::Command(command)) => frees(command),
            Self::Proposed(Payload::Transaction { commands, .. }) => commands.iter().all(frees),
            Self::Proposed(Payload::System { changes, .. }) => {
                changes.iter().all(|change| matches!(change, SystemChange::Delete { .. }))
            }
            Self::Sweep { .. } => true,
            Self::Proposed(Payload::Restore(_))
            | Self::RestorePart { .. }
            | Self::RestoreCommit { .. }
            | Self::Mark
            | Self::Check(_) => false,
        }
    }

    /// About how many bytes it takes in the log.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Proposed(Payload::Restore(entries)) => restore_bytes(entries),
            Self::RestorePart { entries, .. } => restore_bytes(entries),
            _ => self.op().size_estimate_bytes(),
        }
    }
}

/// Cuts the entries of a restore into parts that go into the log one by one.
pub(crate) fn restore_parts(entries: Vec<RestoreEntry<'static>>) -> Vec<Vec<RestoreEntry<'static>>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for entry in entries {
        bytes += entry.size_estimate_bytes();
        let part = parts.last_mut().expect("there is always a part");
        if bytes > RESTORE_PART_BYTES_MAX && !part.is_empty() {
            bytes = entry.size_estimate_bytes();
            parts.push(vec![entry]);
        } else {
            part.push(entry);
        }
    }
    parts
}

fn frees(command: &Command) -> bool {
    matches!(command, Command::Del { .. } | Command::GetDel { .. } | Command::Clear)
}

fn restore_bytes(entries: &[RestoreEntry<'_>]) -> usize {
    entries.iter().map(RestoreEntry::size_estimate_bytes).sum()
}

fn step(command: &Command) -> Op<'_> {
    Op::from_command(command).expect("Change::new lets only commands about keys pass")
}

fn borrow_entry<'a>(entry: &'a RestoreEntry<'static>) -> RestoreEntry<'a> {
    RestoreEntry {
        key: Cow::Borrowed(&*entry.key),
        value: Cow::Borrowed(&*entry.value),
        expires_at_ms: entry.expires_at_ms,
        version: entry.version,
    }
}

fn borrow_change<'a>(change: &'a SystemChange<'static>) -> SystemChange<'a> {
    match change {
        SystemChange::Put { key, value } => {
            SystemChange::Put { key: Cow::Borrowed(&**key), value: Cow::Borrowed(&**value) }
        }
        SystemChange::Delete { key } => SystemChange::Delete { key: Cow::Borrowed(&**key) },
    }
}
