//! Whether everything that a running node has on disk is what was written. Nothing is changed.
//!
//! The checks are those of [`verify`](crate::verify), but that finds a directory at rest and ends with the first damage. Here
//! files come and go meanwhile: small ones are replaced as a whole, so whichever is found must be whole; snapshots and segments
//! are read through one opened file each, which stays what it was when its name goes. Where two files must agree, both are read
//! again when one of them has changed in between. Damage in one file does not keep the others from being read.

use std::ops::ControlFlow;

use vaylix_proto::Code;

use crate::content::Content;
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;
use crate::wal::Wal;
use crate::{snapshot, vote};

/// Who watches, and sets the pace.
pub trait Watch {
    /// There are about so many bytes to read.
    fn begin(&mut self, total_bytes: u64);

    /// So many bytes more have been read; called after every small piece of the work. Says whether to go on.
    fn advance(&mut self, bytes: u64) -> ControlFlow<()>;

    /// Something is damaged, missing or in the wrong place: code, file, offset, and what to do.
    fn found(&mut self, finding: StorageError);
}

/// What has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Snapshots, the last one and older ones.
    pub snapshots: u64,
    /// Segments of the log, the one being written included.
    pub segments: u64,
    /// Records of the log.
    pub records: u64,
}

/// About how many bytes there are to read.
fn total_bytes(dir: &DataDir, wal: &Wal) -> u64 {
    let small = [dir.keyring(), dir.vote(), dir.manifest(), dir.wal_origin()];
    let len = |path: &std::path::Path| path.metadata().map_or(0, |metadata| metadata.len());
    let small: u64 = small.iter().map(|path| len(path)).sum();
    let snapshots: u64 = snapshot::files(dir).unwrap_or_default().iter().map(|path| len(path)).sum();
    small + snapshots + wal.stats().size_bytes
}

/// Reads every byte that the node of this log has on disk: keyring, vote, manifest, all snapshots, all segments, of the one
/// being written what has been written. Breaks off when `watch` says so. Memory is bounded, whatever the size of the state.
///
/// The directory must be that of the log, and the keyring the one in use.
pub fn scrub(
    dir: &DataDir,
    keyring: &Keyring,
    wal: &Wal,
    content: &impl Content,
    watch: &mut dyn Watch,
) -> ControlFlow<(), Scrubbed> {
    watch.begin(total_bytes(dir, wal));
    let has_vote = small_files(dir, keyring, content, watch)?;
    let snapshots = snapshot::scrub(dir, keyring, content, watch)?;
    let mut check = |record: &crate::wal::Record| content.batch(record).map(|_| ());
    let log = wal.scrub(dir, keyring, &mut check, watch)?;
    if !has_vote && (snapshots > 0 || log.records > 0) {
        let message = "checksum validation failed for the vote: it is missing, but log or snapshot are there";
        watch.found(
            StorageError::new(Code::ChecksumValidationFailure, message)
                .in_file(&dir.vote())
                .at(0)
                .advise("restore vote.bin, or remove the node from the cluster and join it afresh"),
        );
    }
    ControlFlow::Continue(Scrubbed { snapshots, segments: log.segments, records: log.records })
}

/// Judges the files that are always replaced as a whole. Whether there is a vote.
fn small_files(
    dir: &DataDir,
    keyring: &Keyring,
    content: &impl Content,
    watch: &mut dyn Watch,
) -> ControlFlow<(), bool> {
    let read = |path: &std::path::Path| path.metadata().map_or(0, |metadata| metadata.len());
    if let Err(finding) = keyring.check_file(dir) {
        watch.found(finding);
    }
    watch.advance(read(&dir.keyring()))?;
    let vote = vote::load(dir, keyring).and_then(|vote| {
        let check =
            |vote: &Vec<u8>| content.check_vote(vote).map_err(|error| error.in_file(&dir.vote()).at(0));
        vote.as_ref().map(check).transpose()
    });
    let has_vote = match vote {
        Ok(vote) => vote.is_some(),
        Err(finding) => {
            watch.found(finding);
            true
        }
    };
    watch.advance(read(&dir.vote()))?;
    ControlFlow::Continue(has_vote)
}

#[cfg(test)]
mod tests;
