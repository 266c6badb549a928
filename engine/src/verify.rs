//! What is in a data directory, and whether all of it is what was written. Nothing is changed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use uuid::Uuid;
use vaylix_proto::Code;

use crate::content::Content;
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;
use crate::pitr::{Past, Window};
use crate::progress::Progress;
use crate::snapshot::{self, Listed, Listing};
use crate::wal::{self, History, Record, SegmentInfo, TornTail};
use crate::{blob, vote};

/// The version of the layout and formats of a data directory as a whole.
pub const STORAGE_FORMAT_VERSION: u32 = 1;

/// What is in a data directory.
#[derive(Debug)]
pub struct Inspection {
    /// The last snapshot.
    pub snapshot: Option<Listed>,
    /// Older ones, oldest first.
    pub older_snapshots: Vec<Listed>,
    /// The segments of the log, in its order.
    pub segments: Vec<SegmentInfo>,
    /// The oldest record that the log holds.
    pub oldest_record: Option<u64>,
    /// What can be restored.
    pub window: Window,
    /// What is wrong with the newest segment. What came before it can be restored.
    pub damage: Option<StorageError>,
    /// The beginning of a write that never completed, which the next start cuts off.
    pub torn_tail: Option<TornTail>,
    /// Segments that hold nothing any more, which the next start removes; they are not looked into.
    pub left_over_segments: Vec<PathBuf>,
}

/// A data directory of which every byte that counts has been read and found to be what was written.
#[derive(Debug)]
pub struct Verified {
    /// What is in it.
    pub inspection: Inspection,
    /// Bytes of the files read.
    pub bytes: u64,
    /// Records of the log read.
    pub records: u64,
    /// Bytes of the files under each storage key of the keyring, 0 where nothing needs it any more.
    pub bytes_by_key: BTreeMap<Uuid, u64>,
}

/// Says what is in the directory, by names and headers; of the log, only the end is read, and the beginning up to the
/// first change. Damage in the newest segment is told in the answer.
///
/// # Errors
/// As for the start of a server, but for damage in what is not read.
pub fn inspect(dir: &DataDir, keyring: &Keyring, content: &impl Content) -> Result<Inspection, StorageError> {
    // For its agreement with the manifest.
    snapshot::covered(dir, keyring)?;
    let listing = snapshot::list(dir)?;
    for error in &listing.unreadable {
        tracing::warn!(%error, "an older snapshot cannot be read");
    }
    let history = History::open_up_to_damage(dir, keyring)?;
    look(keyring, content, listing, history)
}

/// What to do about an older snapshot.
const OLDER_ADVICE: &str = "the server does not need this file, only restores to moments between it and the next newer snapshot \
    do: put it back from a copy of the directory, or move it out of the directory and do without them";

/// Reads every byte that counts: keyring, vote, manifest, all snapshots, all segments. Takes the memory of the state.
///
/// # Errors
/// The first damage that is found, with code, file and offset: whatever would stop a server or a restore.
pub fn verify(dir: &DataDir, keyring: &Keyring, content: &impl Content) -> Result<Verified, StorageError> {
    // As a start does, so that damage goes by the same code.
    let vote = vote::load(dir, keyring)?;
    snapshot::covered(dir, keyring)?;
    wal::check_origin(dir, keyring)?;
    let mut sizes = Sizes::default();
    sizes.by_key.extend(keyring.keys().iter().map(|key| (key.id(), 0)));
    for (kind, path) in
        [(&vote::KIND, dir.vote()), (&snapshot::MANIFEST, dir.manifest()), (&wal::ORIGIN, dir.wal_origin())]
    {
        sizes.small_file(kind, &path)?;
    }
    sizes.bytes += dir.keyring().metadata().map_err(|source| measure(dir, source))?.len();
    if let Some(vote) = &vote {
        content.check_vote(vote).map_err(|error| error.in_file(&dir.vote()).at(0))?;
    }

    let mut listing = snapshot::list(dir)?;
    if let Some(error) = listing.unreadable.pop() {
        return Err(error);
    }
    let snapshots = || listing.older.iter().chain(&listing.last);
    let total = snapshots().map(|listed| listed.size_bytes).sum();
    let mut progress = Progress::bytes("reading snapshots", total);
    for listed in snapshots() {
        let is_older = listing.last.as_ref() != Some(listed);
        let advise = |error: StorageError| if is_older { error.advise(OLDER_ADVICE) } else { error };
        let reader = snapshot::open_file(&listed.path, keyring).map_err(advise)?;
        content.check_head(&reader.head()).map_err(|error| advise(error.in_file(&listed.path).at(0)))?;
        snapshot::read_state(reader, &mut progress).map_err(advise)?;
        sizes.add(listed.key_id, listed.size_bytes);
    }

    let mut records = 0;
    let mut visit = |record: &Record| {
        records += 1;
        content.batch(record).map(|_| ())
    };
    let history = History::open(dir, keyring, 0, &mut visit)?;
    for segment in history.segments() {
        sizes.add(segment.key_id, segment.size_bytes);
    }
    let last = listing.last.as_ref().and_then(|listed| listed.last);
    if vote.is_none() && (last.is_some() || history.last_id().is_some()) {
        let message = "checksum validation failed for the vote: it is missing, but log or snapshot are there";
        return Err(StorageError::new(Code::ChecksumValidationFailure, message)
            .in_file(&dir.vote())
            .advise("restore vote.bin, or remove the node from the cluster and join it afresh"));
    }
    let covered = last.map_or(0, |last| last.index);
    if let Some(purged) = history.purged().filter(|purged| purged.index > covered) {
        let message =
            format!("the log begins after entry {}, but the snapshot ends with {covered}", purged.index);
        return Err(StorageError::new(Code::WalDeserializationFailure, message)
            .in_file(&dir.snapshot())
            .advise(
                "the snapshot was lost or replaced by an older one: restore it, or the whole directory",
            ));
    }
    let Sizes { bytes, by_key } = sizes;
    let inspection = look(keyring, content, listing, history)?;
    Ok(Verified { inspection, bytes, records, bytes_by_key: by_key })
}

fn measure(dir: &DataDir, source: std::io::Error) -> StorageError {
    StorageError::io("measure the file", &dir.keyring(), source)
}

#[derive(Default)]
struct Sizes {
    bytes: u64,
    by_key: BTreeMap<Uuid, u64>,
}

impl Sizes {
    fn add(&mut self, key: Uuid, bytes: u64) {
        self.bytes += bytes;
        *self.by_key.entry(key).or_default() += bytes;
    }

    fn small_file(&mut self, kind: &blob::Kind, path: &std::path::Path) -> Result<(), StorageError> {
        if let Some((key, bytes)) = kind.key_and_size(path)? {
            self.add(key, bytes);
        }
        Ok(())
    }
}

fn look(
    keyring: &Keyring,
    content: &impl Content,
    listing: Listing,
    history: History,
) -> Result<Inspection, StorageError> {
    let window = Past::new(keyring, content, &listing, &history).window()?;
    let Listing { last: snapshot, older: older_snapshots, .. } = listing;
    Ok(Inspection {
        oldest_record: history.first_index().or_else(|| history.segments().first().map(|first| first.start)),
        window,
        segments: history.segments().to_vec(),
        torn_tail: history.torn_tail().cloned(),
        left_over_segments: history.left_over().to_vec(),
        damage: history.into_damage(),
        snapshot,
        older_snapshots,
    })
}
