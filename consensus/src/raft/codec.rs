//! Between openraft's entries and the engine's log records.
//!
//! | openraft | engine |
//! |---|---|
//! | log index `i`, from 0 | [`Sequence`] and record index `i + 1`, from 1 |
//! | leader id (term, node) | term, leader |
//!
//! The body of a record is one byte for the kind and what belongs to it:
//!
//! | Kind | Name | Rest |
//! |---|---|---|
//! | 0 | blank | nothing: a leader's first entry of its term |
//! | 1 | batch | an encoded [`Batch`] |
//! | 2 | membership | openraft's `Membership` in MessagePack, structs as maps |

use bytes::Bytes;
use openraft::{CommittedLeaderId, EntryPayload, LogId, StoredMembership};
use vaylix_engine::op::{Batch, DecodeError};
use vaylix_engine::sequence::Sequence;
use vaylix_engine::wal::{Record, RecordId};

use super::machine::Meta;
use super::{EntryBody, Member, TypeConfig};

pub(crate) type Entry = openraft::Entry<TypeConfig>;

const KIND_BLANK: u8 = 0;
/// The first byte of an [`EntryBody`].
pub(crate) const KIND_BATCH: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// A record whose content this release does not understand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRecord {
    #[error("log entry {0} is empty")]
    Empty(u64),
    #[error("log entry {index} has the unknown kind {kind}")]
    UnknownKind { index: u64, kind: u8 },
    #[error("log entry {index} holds an unreadable membership")]
    Membership { index: u64, source: rmp_serde::decode::Error },
    #[error("log entry {index} holds an unreadable batch")]
    Batch { index: u64, source: DecodeError },
}

/// The engine's number of openraft's log position.
pub(crate) fn sequence(index: u64) -> Sequence {
    Sequence::new(index + 1).expect("an index is below u64::MAX, so its successor is not zero")
}

/// openraft's number of an engine's log position.
pub(crate) fn raft_index(record_index: u64) -> u64 {
    record_index.checked_sub(1).expect("records are numbered from 1")
}

pub(crate) fn record_id(id: &LogId<u64>) -> RecordId {
    RecordId { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index + 1 }
}

pub(crate) fn log_id(id: &RecordId) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(id.term, id.leader), raft_index(id.index))
}

/// Lays an entry out as a record. Entries without a time of their own get `now_ms`.
pub(crate) fn to_record(entry: Entry, now_ms: u64) -> Record {
    let (time_ms, body) = match entry.payload {
        EntryPayload::Blank => (now_ms, Bytes::from_static(&[KIND_BLANK])),
        EntryPayload::Normal(EntryBody { time_ms, bytes }) => (time_ms, bytes),
        EntryPayload::Membership(membership) => {
            let mut body = vec![KIND_MEMBERSHIP];
            rmp_serde::encode::write_named(&mut body, &membership)
                .expect("a membership is numbers and strings, and memory does not refuse to be written");
            (now_ms, Bytes::from(body))
        }
    };
    Record { id: record_id(&entry.log_id), time_ms, body }
}

/// Bytes of what an entry carries for the state.
pub(crate) fn body_len(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(body) => body.bytes.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

/// Reads a record back.
pub(crate) fn to_entry(record: Record) -> Result<Entry, BadRecord> {
    let index = record.id.index;
    let payload = match record.body.split_first() {
        None => return Err(BadRecord::Empty(index)),
        Some((&KIND_BLANK, _)) => EntryPayload::Blank,
        Some((&KIND_BATCH, _)) => {
            EntryPayload::Normal(EntryBody { time_ms: record.time_ms, bytes: record.body.clone() })
        }
        Some((&KIND_MEMBERSHIP, rest)) => EntryPayload::Membership(
            rmp_serde::from_slice(rest).map_err(|source| BadRecord::Membership { index, source })?,
        ),
        Some((&kind, _)) => return Err(BadRecord::UnknownKind { index, kind }),
    };
    Ok(Entry { log_id: log_id(&record.id), payload })
}

/// What an entry does to the state; none for entries without operations.
pub(crate) fn batch(entry: &Entry) -> Result<Option<Batch<'_>>, BadRecord> {
    let EntryPayload::Normal(body) = &entry.payload else { return Ok(None) };
    let index = sequence(entry.log_id.index).get();
    let (_kind, batch) = body.bytes.split_first().ok_or(BadRecord::Empty(index))?;
    Batch::decode(batch).map(Some).map_err(|source| BadRecord::Batch { index, source })
}

/// What a record does to the state; none for records without operations. Everything in it is checked.
pub(crate) fn record_batch(record: &Record) -> Result<Option<Batch<'_>>, BadRecord> {
    let index = record.id.index;
    match record.body.split_first() {
        Some((&KIND_BATCH, batch)) => {
            Batch::decode(batch).map(Some).map_err(|source| BadRecord::Batch { index, source })
        }
        _ => to_entry(record.clone()).map(|_| None),
    }
}

/// Describes a snapshot. Two at the same position are the same, so the position names it.
pub(crate) fn snapshot_meta(last: LogId<u64>, membership: StoredMembership<u64, Member>) -> Meta {
    let snapshot_id = format!("{}-{}-{}", last.leader_id.term, last.leader_id.node_id, last.index);
    Meta { last_log_id: Some(last), last_membership: membership, snapshot_id }
}
