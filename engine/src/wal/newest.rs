//! The mark of the newest segment: an empty file `newest-<number>` beside the segments.
//!
//! Segments name what came before them, and nothing in them can name what comes after: a log whose newest segment is lost
//! looks like one that was killed before that segment was made. The mark tells them apart. The number is that of the
//! newest segment ([`Header`](super::header::Header)); where no segment has it or a higher one, segments are missing.
//!
//! # What makes it sound
//! - A segment is durable, under its name, before the mark names it. So no crash leaves a mark without its segment.
//! - A segment is removed only when one of a higher number is durable. So the newest one is always there.
//!
//! The mark itself is not synced, for nothing waits for it: it becomes durable with the next change of the directory that
//! is. Until then a loss of power may leave the mark of the segment before, or none, and the loss of a segment
//! at the same moment goes unnoticed. Where there is no mark, nothing is checked: the log is of an earlier release, or the disk
//! was full.

use std::path::{Path, PathBuf};

use vaylix_proto::Code;

use crate::disk::Disk;
use crate::error::StorageError;
use crate::layout::DataDir;

/// The mark in a directory that is written to.
pub(super) struct NewestMark {
    disk: Disk,
    directory: PathBuf,
    /// What it says; `None` while there is none.
    number: Option<u64>,
}

impl NewestMark {
    pub(super) fn new(dir: &DataDir, number: Option<u64>) -> Self {
        Self { disk: dir.disk().clone(), directory: dir.wal(), number }
    }

    /// Names the segment of this number, which must be durable, as the newest one. Where the disk refuses, the mark
    /// stays as it is, which is true too.
    pub(super) fn advance(&mut self, number: u64) {
        let to = path(&self.directory, number);
        let moved = match self.number {
            Some(from) => self.disk.rename(&path(&self.directory, from), &to),
            None => self.disk.create(&to).map(drop),
        };
        match moved {
            Ok(()) => self.number = Some(number),
            Err(error) => {
                tracing::debug!(%error, "the newest segment is not marked as such");
                // Perhaps it was removed; the next one is made anew then.
                self.number = self.number.filter(|from| path(&self.directory, *from).exists());
            }
        }
    }
}

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("newest-{number}"))
}

/// What a mark of this path says; `None` when it is none.
pub(super) fn parse(path: &Path) -> Option<u64> {
    let text = path.file_name()?.to_str()?.strip_prefix("newest-")?;
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The refusal of a log whose newest segment was `number`, and whose newest one is `found` now.
pub(super) fn missing(dir: &DataDir, number: u64, found: Option<&Path>) -> StorageError {
    let found = match found.and_then(Path::file_name) {
        Some(name) => format!("the newest one found is {}", name.display()),
        None => "none is found".to_owned(),
    };
    let message = format!("the newest segment of the log is missing: it has the number {number}, {found}");
    StorageError::new(Code::WalDeserializationFailure, message)
        .in_file(&path(&dir.wal(), number))
        .advise("put the missing segment back; if it is lost, `vaylix pitr restore` makes a new node from what there is")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_name_is_a_mark() {
        assert_eq!(parse(&path(Path::new("/data/wal"), 17)), Some(17));
        for bad in ["newest-", "newest-x", "newest-01", "newest-1.tmp", "newest", "1"] {
            assert_eq!(parse(Path::new(bad)), None, "{bad}");
        }
    }
}
