//! Every bound of this crate, by name.

use std::time::Duration;

/// Commands in one log entry, at most.
pub const BATCH_COMMANDS_MAX: usize = 1_024;

/// Estimated bytes of one log entry at which a batch is full. One write and sync of a few hundred KiB still
/// costs about as much as one of 4 KiB; beyond that the disk decides. A single larger command goes alone.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Encoded bytes of one log entry, at most: what a single command, such as a large transaction, may need.
pub const ENTRY_BYTES_MAX: usize = 64 << 20;

/// What the queue of the engine worker may hold, in units of [`QUEUE_UNIT_BYTES`].
pub const QUEUE_UNITS_MAX: u32 = 64 * 1024;

/// The unit in which a waiting command is charged for its memory. Each command costs at least one, so the
/// queue holds at most [`QUEUE_UNITS_MAX`] commands and about 64 MiB, whichever comes first.
pub const QUEUE_UNIT_BYTES: usize = 1024;

/// How often the worker lets others run before it closes a batch, at most.
pub const GATHER_YIELDS_DEFAULT: u32 = 8;

/// How long the disk may keep a write waiting before its callers are told so, unless configured otherwise.
pub const STUCK_PATIENCE_DEFAULT: Duration = Duration::from_secs(5);

/// Bytes of log after which a snapshot is taken, unless configured otherwise.
pub const SNAPSHOT_LOG_BYTES_DEFAULT: u64 = 256 << 20;

/// Age at which a storage key is replaced, unless configured otherwise: 90 days.
pub const KEY_AGE_MAX_DEFAULT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How often the age of the storage key is looked at, at least. A rotation that failed is tried again then.
pub const KEY_AGE_CHECK_MAX: Duration = Duration::from_secs(60 * 60);

/// Keys removed by one sweep entry, at most.
pub const SWEEP_KEYS_MAX: u32 = 1_024;

/// Bytes of log entries read from disk in one piece.
pub const LOG_READ_BYTES_MAX: usize = 4 * 1024 * 1024;

const _: () = assert!(BATCH_BYTES_MAX < ENTRY_BYTES_MAX, "a full batch is a legal entry");
const _: () = assert!(
    QUEUE_UNITS_MAX as usize >= BATCH_COMMANDS_MAX,
    "the queue must be able to fill a batch, or large batches never form"
);

/// Bytes of an entry that is applied on an asynchronous task; larger ones go to a thread of their own.
pub const APPLY_INLINE_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX;

/// Log entries in one message to a peer; [`LOG_READ_BYTES_MAX`] usually comes first.
pub const REPLICATED_ENTRIES_MAX: u64 = 300;

/// Estimated bytes of a restore that goes into one log entry; a larger one is prepared in parts of this size, so
/// that other writes get their turn in between.
pub const RESTORE_PART_BYTES_MAX: usize = 1 << 20;

const _: () =
    assert!(ENTRY_BYTES_MAX <= vaylix_engine::wal::BODY_BYTES_MAX, "an entry fits in a record of the log");

/// How long a question between nodes may take to be answered. A change of the membership waits for a node to catch up.
pub const ASK_TIME_MAX: Duration = Duration::from_secs(40);

/// How long a new member may take to catch up with the log before it gets its vote.
pub const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(30);

/// How long one append may take from the first byte to the answer, the sync of the follower's disk included. It bounds
/// what openraft waits for; a peer that takes nothing in, or is not heard of, is given up long before.
pub const APPEND_TIME_MAX: Duration = Duration::from_secs(15);

/// Bytes of a snapshot in one message to a peer.
pub const SHIPMENT_PART_BYTES: usize = 1 << 20;

/// Parts of a snapshot that may wait on either side.
pub const SHIPMENT_PARTS_WAITING_MAX: usize = 2;

/// How long one part may take to be acknowledged before it is sent again.
pub const SHIPMENT_PART_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a peer may be silent before the snapshot that is on its way to it is begun anew.
pub const SHIPMENT_SILENCE_MAX: Duration = Duration::from_secs(15);

/// How long a snapshot that did not arrive is offered again, and how long what arrived of it is kept.
pub const OFFER_TIME_MAX: Duration = Duration::from_secs(300);

/// How long the installation of a received snapshot may take.
pub const INSTALL_TIME_MAX: Duration = Duration::from_secs(600);

/// Log entries after which the nodes compare their states, unless configured otherwise.
pub const AGREEMENT_ENTRIES_DEFAULT: u64 = 1_024;

/// How long something may be in the log before the nodes compare their states.
pub const AGREEMENT_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a node may take to say what its state was at a mark.
pub const AGREEMENT_ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a node in quarantine may hear nothing of the state that it was promised before it asks again.
pub const RELEARN_SILENCE_MAX: Duration = Duration::from_secs(20);

/// The pause before a part is sent again.
pub const SHIPMENT_RETRY_EVERY: Duration = Duration::from_millis(50);
