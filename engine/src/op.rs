//! What the log says: changes to the state, grouped in batches.
//!
//! A [`Batch`] is the body of one log entry. Everything an outcome depends on is inside it: the leader's time,
//! the access revision under which its operations were admitted, and the operations in order. Replaying the
//! same batches therefore gives the same state on every node, for ever.
//!
//! # Bytes
//! ```text
//! format   u8           1
//! batch    MessagePack  [time_ms, access_revision, [op, ...]]
//! ```
//! An operation without arguments is its tag as a string; any other is a map of one pair, from the tag to its
//! arguments as an array in the order of the fields of [`Op`]. Tags are in the `rename` attributes and never
//! change their meaning; arguments may only be added at the end, with a default. Keys are strings, values are
//! `bin`, durations are milliseconds, absent options are nil.
//!
//! Decoding borrows keys and values from its input, refuses unknown tags, transactions within transactions,
//! trailing bytes and nesting deeper than [`DEPTH_MAX`], and reserves memory ahead of the data only within
//! serde's fixed allowance of one mebibyte per list.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use vaylix_proto::{Command, Condition};

#[cfg(test)]
mod tests;

/// The first byte of an encoded batch.
pub const FORMAT: u8 = 1;

/// How deeply the values of an encoded batch may nest.
pub const DEPTH_MAX: usize = 16;

/// Bytes that an operation takes at most in a batch beside its keys and values, per operation and per key.
const OVERHEAD_BYTES: usize = 48;

/// One change, or one step of a transaction. Borrows its keys and values, both when it is written and when it
/// is read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op<'a> {
    /// Writes a key if the conditions hold.
    #[serde(rename = "S")]
    Set {
        /// The key.
        key: &'a str,
        /// Its new value.
        #[serde(with = "serde_bytes")]
        value: &'a [u8],
        /// Life time from the batch's time in milliseconds; 0 removes the key at once. Wins over `keep_ttl`.
        ttl_ms: Option<u64>,
        /// NX / XX. SETNX is a set with [`When::Missing`].
        when: When,
        /// Keep the deadline that the key has.
        keep_ttl: bool,
        /// Answer the previous value.
        return_previous: bool,
        /// Only if the key exists with exactly this version. Holds together with `when`.
        if_version: Option<u64>,
    },
    /// Removes a key and answers its value.
    #[serde(rename = "GD")]
    GetDel {
        /// The key.
        key: &'a str,
    },
    /// Answers a value and moves or removes the key's deadline.
    #[serde(rename = "GE")]
    GetEx {
        /// The key.
        key: &'a str,
        /// New life time in milliseconds; 0 removes the key. Wins over `persist`.
        ttl_ms: Option<u64>,
        /// Remove the deadline.
        persist: bool,
    },
    /// Removes keys and answers how many there were.
    #[serde(rename = "D")]
    Del {
        /// The keys.
        #[serde(borrow)]
        keys: Vec<&'a str>,
    },
    /// Writes several keys; a later pair wins over an earlier one.
    #[serde(rename = "MS")]
    MSet {
        /// Keys and values.
        #[serde(borrow)]
        pairs: Vec<Pair<'a>>,
    },
    /// Adds 1 to a decimal number.
    #[serde(rename = "I")]
    Incr {
        /// The key.
        key: &'a str,
    },
    /// Subtracts 1 from a decimal number.
    #[serde(rename = "DE")]
    Decr {
        /// The key.
        key: &'a str,
    },
    /// Sets a deadline.
    #[serde(rename = "E")]
    Expire {
        /// The key.
        key: &'a str,
        /// Life time in milliseconds; 0 removes the key.
        ttl_ms: u64,
    },
    /// Removes a deadline.
    #[serde(rename = "P")]
    Persist {
        /// The key.
        key: &'a str,
    },
    /// Moves a key, over whatever is at the destination.
    #[serde(rename = "R")]
    Rename {
        /// The key to move.
        source: &'a str,
        /// Its new name.
        destination: &'a str,
    },
    /// Moves a key to a free name.
    #[serde(rename = "RN")]
    RenameNx {
        /// The key to move.
        source: &'a str,
        /// Its new name.
        destination: &'a str,
    },
    /// Removes every key.
    #[serde(rename = "C")]
    Clear,
    /// Answers a value. Reads are in the log only as steps of a transaction.
    #[serde(rename = "g")]
    Get {
        /// The key.
        key: &'a str,
    },
    /// Answers several values.
    #[serde(rename = "mg")]
    MGet {
        /// The keys.
        #[serde(borrow)]
        keys: Vec<&'a str>,
    },
    /// Answers whether a key exists.
    #[serde(rename = "ex")]
    Exists {
        /// The key.
        key: &'a str,
    },
    /// Answers the remaining life time.
    #[serde(rename = "t")]
    Ttl {
        /// The key.
        key: &'a str,
    },
    /// Answers a page of keys.
    #[serde(rename = "sc")]
    Scan {
        /// Offset of the page in the list of matching keys.
        cursor: u64,
        /// Which keys; `None` for all.
        pattern: Option<&'a str>,
        /// Size of the page; `None` for the default.
        count: Option<u16>,
    },
    /// Answers the number of keys.
    #[serde(rename = "n")]
    Count,
    /// Answers every key and value.
    #[serde(rename = "l")]
    List,
    /// Answers the message.
    #[serde(rename = "pi")]
    Ping {
        /// The message; `None` for `PONG`.
        message: Option<&'a str>,
    },
    /// A transaction: all steps or none, at one point in time, each seeing the effects of those before it.
    /// Steps are the operations above.
    #[serde(rename = "X")]
    Exec(#[serde(borrow)] Vec<Op<'a>>),
    /// A transaction that is not carried out if its answer would be too large: the limit is what the asker can
    /// receive, and part of the operation so that every node decides alike.
    #[serde(rename = "XB")]
    ExecWithin {
        /// The steps, as in [`Op::Exec`].
        #[serde(borrow)]
        steps: Vec<Op<'a>>,
        /// Bytes that the answer may take on the wire, encoded as the payload of a response.
        answer_bytes_max: u64,
    },
    /// Removes expired keys, earliest deadline first.
    #[serde(rename = "SW")]
    Sweep {
        /// At most this many.
        limit: u32,
    },
    /// Replaces every key. Entries that are expired at the batch's time are left out; of entries with the same
    /// key the last one stays.
    #[serde(rename = "RS")]
    Restore {
        /// The keys that there are afterwards.
        #[serde(borrow)]
        entries: Vec<RestoreEntry<'a>>,
    },
    /// Prepares a restore that is too large for one log entry: keeps entries aside, without touching any key.
    #[serde(rename = "RP")]
    RestorePart {
        /// Which restore. Part 0 begins it and forgets any other that was being prepared.
        restore: u64,
        /// The number of this part, counted from 0 without gaps.
        part: u32,
        /// The entries, as in [`Op::Restore`].
        #[serde(borrow)]
        entries: Vec<RestoreEntry<'a>>,
    },
    /// Replaces every key by what was kept aside.
    #[serde(rename = "RC")]
    RestoreCommit {
        /// Which restore.
        restore: u64,
        /// How many parts it has.
        parts: u32,
    },
    /// Notes what the state is at this entry, so that the nodes can be compared. Changes nothing else.
    #[serde(rename = "MK")]
    Mark,
    /// Says what the state of a majority of the nodes was at a mark. Changes nothing: a node whose own state was another
    /// learns of that.
    #[serde(rename = "CK")]
    Check {
        /// The entry of the mark.
        at: u64,
        /// The digest.
        #[serde(with = "serde_bytes")]
        digest: &'a [u8],
    },
    /// Changes records of the system part, which are replicated but not interpreted here.
    #[serde(rename = "SY")]
    System {
        /// The access revision that the changes were derived from.
        expect_revision: u64,
        /// The changes, in order.
        #[serde(borrow)]
        changes: Vec<SystemChange<'a>>,
    },
}

/// Whether a key must be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// Either way.
    #[serde(rename = "A")]
    Always,
    /// NX.
    #[serde(rename = "N")]
    Missing,
    /// XX.
    #[serde(rename = "X")]
    Present,
}

/// A key and its new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair<'a> {
    /// The key.
    pub key: &'a str,
    /// Its value.
    #[serde(with = "serde_bytes")]
    pub value: &'a [u8],
}

/// A key as a logical backup holds it. `RestoreEntry<'static>` owns its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreEntry<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// Its value.
    #[serde(borrow, with = "serde_bytes")]
    pub value: Cow<'a, [u8]>,
    /// Deadline in unix milliseconds.
    pub expires_at_ms: Option<u64>,
    /// Version to restore; 0 counts as 1.
    pub version: u64,
}

/// A change of one record of the system part. `SystemChange<'static>` owns its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SystemChange<'a> {
    /// Writes a record.
    #[serde(rename = "P")]
    Put {
        /// Its name.
        #[serde(borrow)]
        key: Cow<'a, str>,
        /// Its content.
        #[serde(borrow, with = "serde_bytes")]
        value: Cow<'a, [u8]>,
    },
    /// Removes a record, if it is there.
    #[serde(rename = "D")]
    Delete {
        /// Its name.
        #[serde(borrow)]
        key: Cow<'a, str>,
    },
}

/// The body of one log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch<'a> {
    /// The leader's time in unix milliseconds: the "now" of every operation, unless the state is ahead of it.
    pub time_ms: u64,
    /// The access revision under which the operations were admitted.
    pub access_revision: u64,
    /// The operations, in order.
    #[serde(borrow)]
    pub ops: Vec<Op<'a>>,
}

/// Why bytes are not a batch.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Nothing there.
    #[error("an empty log entry body")]
    Empty,
    /// Written by a release that this one does not know.
    #[error("unknown log entry format {0}")]
    Format(u8),
    /// Not a batch of this format.
    #[error("malformed log entry: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// Bytes after the end of the batch.
    #[error("malformed log entry: trailing bytes")]
    Trailing,
    /// A transaction holds something that is not a step.
    #[error("malformed log entry: a transaction holds an operation that cannot be a step")]
    Nested,
}

impl Batch<'_> {
    /// The bytes of this batch.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.ops.iter().map(Op::size_estimate_bytes).sum::<usize>() + 32);
        bytes.push(FORMAT);
        rmp_serde::encode::write(&mut bytes, self)
            .expect("a vector takes every write, and every field has a form");
        bytes
    }
}

impl<'a> Batch<'a> {
    /// The batch that `bytes` hold.
    ///
    /// # Errors
    /// [`DecodeError`], for anything that [`Batch::encode`] does not write.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (&format, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
        if format != FORMAT {
            return Err(DecodeError::Format(format));
        }
        let mut decoder = rmp_serde::Deserializer::from_read_ref(body);
        decoder.set_max_depth(DEPTH_MAX);
        let batch = Self::deserialize(&mut decoder)?;
        // A further value of one byte fails for want of that byte exactly when the input is used up.
        if !matches!(bool::deserialize(&mut decoder), Err(rmp_serde::decode::Error::InvalidMarkerRead(_))) {
            return Err(DecodeError::Trailing);
        }
        if batch.ops.iter().all(|op| op.steps().iter().all(Op::is_step)) {
            Ok(batch)
        } else {
            Err(DecodeError::Nested)
        }
    }
}

impl<'a> Op<'a> {
    /// The operation that carries out `command`; `None` for commands that are not about keys.
    #[must_use]
    pub fn from_command(command: &'a Command) -> Option<Self> {
        let set = |key, value, when| Op::Set {
            key,
            value,
            ttl_ms: None,
            when,
            keep_ttl: false,
            return_previous: false,
            if_version: None,
        };
        Some(match command {
            Command::Set { key, value, options } => Op::Set {
                key,
                value,
                ttl_ms: options.expiration.map(|expiration| expiration.as_millis()),
                when: When::from(options.condition),
                keep_ttl: options.keep_ttl,
                return_previous: options.return_previous,
                if_version: options.if_version,
            },
            Command::SetNx { key, value } => set(key, value, When::Missing),
            Command::GetDel { key } => Op::GetDel { key },
            Command::GetEx { key, expiration, persist } => Op::GetEx {
                key,
                ttl_ms: expiration.map(|expiration| expiration.as_millis()),
                persist: *persist,
            },
            Command::Del { keys } => Op::Del { keys: keys.iter().map(|key| &**key).collect() },
            Command::MSet { pairs } => {
                Op::MSet { pairs: pairs.iter().map(|(key, value)| Pair { key, value }).collect() }
            }
            Command::Incr { key } => Op::Incr { key },
            Command::Decr { key } => Op::Decr { key },
            Command::Expire { key, seconds } => Op::Expire { key, ttl_ms: seconds.saturating_mul(1000) },
            Command::Persist { key } => Op::Persist { key },
            Command::Rename { source, destination } => Op::Rename { source, destination },
            Command::RenameNx { source, destination } => Op::RenameNx { source, destination },
            Command::Clear => Op::Clear,
            Command::Get { key } => Op::Get { key },
            Command::MGet { keys } => Op::MGet { keys: keys.iter().map(|key| &**key).collect() },
            Command::Exists { key } => Op::Exists { key },
            Command::Ttl { key } => Op::Ttl { key },
            Command::Scan { cursor, pattern, count } => {
                Op::Scan { cursor: *cursor, pattern: pattern.as_deref(), count: *count }
            }
            Command::DbSize | Command::Count => Op::Count,
            Command::List => Op::List,
            Command::Ping { message } => Op::Ping { message: message.as_deref() },
            _ => return None,
        })
    }

    /// The steps of a transaction; none for anything else.
    fn steps(&self) -> &[Self] {
        match self {
            Op::Exec(steps) | Op::ExecWithin { steps, .. } => steps,
            _ => &[],
        }
    }

    /// Whether the answer may hold values or keys, so that its length depends on the state.
    #[must_use]
    pub fn tells_values(&self) -> bool {
        match self {
            Op::Get { .. }
            | Op::MGet { .. }
            | Op::GetDel { .. }
            | Op::GetEx { .. }
            | Op::Scan { .. }
            | Op::List
            | Op::Ping { .. } => true,
            Op::Set { return_previous, .. } => *return_previous,
            _ => false,
        }
    }

    /// Whether applying it takes a time that grows with the number of keys, rather than with its own length.
    #[must_use]
    pub fn visits_many_keys(&self) -> bool {
        matches!(
            self,
            Op::List
                | Op::Scan { .. }
                | Op::Clear
                | Op::Restore { .. }
                | Op::RestorePart { .. }
                | Op::RestoreCommit { .. }
        ) || self.steps().iter().any(Op::visits_many_keys)
    }

    /// Whether this may be a step of a transaction.
    #[must_use]
    pub fn is_step(&self) -> bool {
        !matches!(
            self,
            Op::Exec(_)
                | Op::ExecWithin { .. }
                | Op::Sweep { .. }
                | Op::Restore { .. }
                | Op::RestorePart { .. }
                | Op::RestoreCommit { .. }
                | Op::System { .. }
                | Op::Mark
                | Op::Check { .. }
        )
    }

    /// About how many bytes this takes in an encoded batch; never less than it really takes.
    #[must_use]
    pub fn size_estimate_bytes(&self) -> usize {
        let content = match self {
            Op::Set { key, value, .. } => key.len() + value.len(),
            Op::GetDel { key }
            | Op::GetEx { key, .. }
            | Op::Incr { key }
            | Op::Decr { key }
            | Op::Expire { key, .. }
            | Op::Persist { key }
            | Op::Get { key }
            | Op::Exists { key }
            | Op::Ttl { key } => key.len(),
            Op::Del { keys } | Op::MGet { keys } => keys.iter().map(|key| key.len() + OVERHEAD_BYTES).sum(),
            Op::MSet { pairs } => {
                pairs.iter().map(|pair| pair.key.len() + pair.value.len() + OVERHEAD_BYTES).sum()
            }
            Op::Rename { source, destination } | Op::RenameNx { source, destination } => {
                source.len() + destination.len()
            }
            Op::Scan { pattern, .. } => pattern.map_or(0, str::len),
            Op::Ping { message } => message.map_or(0, str::len),
            Op::Clear | Op::Count | Op::List | Op::Sweep { .. } | Op::RestoreCommit { .. } | Op::Mark => 0,
            Op::Check { digest, .. } => digest.len(),
            Op::Exec(steps) | Op::ExecWithin { steps, .. } => steps.iter().map(Op::size_estimate_bytes).sum(),
            Op::Restore { entries } | Op::RestorePart { entries, .. } => {
                entries.iter().map(RestoreEntry::size_estimate_bytes).sum()
            }
            Op::System { changes, .. } => changes
                .iter()
                .map(|change| match change {
                    SystemChange::Put { key, value } => key.len() + value.len() + OVERHEAD_BYTES,
                    SystemChange::Delete { key } => key.len() + OVERHEAD_BYTES,
                })
                .sum(),
        };
        content + OVERHEAD_BYTES
    }
}

impl RestoreEntry<'_> {
    /// About how many bytes this takes in an encoded batch; never less than it really takes.
    #[must_use]
    pub fn size_estimate_bytes(&self) -> usize {
        self.key.len() + self.value.len() + OVERHEAD_BYTES
    }
}

impl From<Condition> for When {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Always => When::Always,
            Condition::IfMissing => When::Missing,
            Condition::IfPresent => When::Present,
        }
    }
}
