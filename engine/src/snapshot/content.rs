//! The content of a snapshot: the [image of a state](crate::state::Root::encode), and nothing else.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;

use vaylix_proto::Code;

use super::{Info, Reader};
use crate::error::StorageError;
use crate::progress::Progress;
use crate::sequence::Sequence;
use crate::state::{DecodeError, Root};

type Source = Reader<BufReader<File>>;

/// Reads the state in a snapshot, to its authenticated end. The memory it takes is that of the state.
///
/// # Errors
/// `ENG-004` when the content is no state or belongs to another record; otherwise as the reader.
pub fn read_state(mut reader: Source, progress: &mut Progress) -> Result<(Root, Info), StorageError> {
    let root = Root::decode(Watched { reader: &mut reader, progress, seen: 0 });
    let root = root.map_err(|error| refuse(&reader, error))?;
    let info = end(&mut reader, root.applied())?;
    Ok((root, info))
}

/// What the snapshot turned out to be when its content has been read, which ends with `applied`.
fn end(reader: &mut Source, applied: Option<Sequence>) -> Result<Info, StorageError> {
    if reader.read(&mut [0])? != 0 {
        return Err(unreadable(reader, "trailing bytes".to_owned()));
    }
    let info = reader.info().ok_or_else(|| unreadable(reader, "it has no end".to_owned()))?;
    let applied = applied.map_or(0, Sequence::get);
    if info.last.map_or(0, |last| last.index) != applied {
        return Err(unreadable(reader, format!("its content ends with record {applied}")));
    }
    Ok(info)
}

/// Reads and judges the whole content as [`read_state`] does, to its authenticated end, in bounded memory. `advance` is told of
/// the bytes of the file that have been read, and says whether to go on; `None` when it did not.
///
/// # Errors
/// As [`read_state`].
pub(crate) fn check_state(
    mut reader: Source,
    advance: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<Info>, StorageError> {
    let mut watched = Checked { seen: 0, stopped: false, reader: &mut reader, advance: &mut *advance };
    let applied = Root::check(&mut watched);
    let Checked { seen, stopped, .. } = watched;
    if stopped {
        return Ok(None);
    }
    let applied = applied.map_err(|error| refuse(&reader, error))?;
    let info = end(&mut reader, applied)?;
    // What comes behind the content.
    let more = reader.offset_bytes() - seen;
    Ok(advance(more).is_continue().then_some(info))
}

/// Reads only the beginning: the last record of the state, and the time of its last batch in unix milliseconds.
///
/// # Errors
/// As [`read_state`].
pub fn read_position(mut reader: Source) -> Result<(Option<Sequence>, u64), StorageError> {
    Root::decode_position(&mut reader).map_err(|error| refuse(&reader, error))
}

fn refuse(reader: &Source, error: DecodeError) -> StorageError {
    match error {
        DecodeError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => StorageError::from(error),
        error => unreadable(reader, error.to_string()),
    }
}

fn unreadable(reader: &Source, detail: String) -> StorageError {
    let message = format!("snapshot deserialization failed: {detail}");
    let error = StorageError::new(Code::SnapshotDeserializationFailure, message);
    let error = match reader.path() {
        Some(path) => error.in_file(path),
        None => error,
    };
    error.advise(
        "start the release that wrote it, or restore snapshot.bin and manifest.bin together from a backup, or rebuild \
         this node from another one",
    )
}

/// Tells how far the file has been read.
struct Watched<'a> {
    reader: &'a mut Source,
    progress: &'a mut Progress,
    seen: u64,
}

impl Read for Watched<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(out)?;
        let offset = self.reader.offset_bytes();
        if offset > self.seen {
            self.progress.advance(offset - self.seen);
            self.seen = offset;
        }
        Ok(read)
    }
}

/// Tells how far the file has been read, and ends the reading when nobody wants it any more.
struct Checked<'a> {
    reader: &'a mut Source,
    advance: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    seen: u64,
    stopped: bool,
}

impl Read for Checked<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(out)?;
        let offset = self.reader.offset_bytes();
        if offset > self.seen {
            let more = std::mem::replace(&mut self.seen, offset);
            self.stopped = (self.advance)(offset - more).is_break();
        }
        if self.stopped { Err(io::Error::other("nobody waits for it any more")) } else { Ok(read) }
    }
}
