//! Reading events, also of a log that is being written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files;

/// Bytes that are read of a log for one page at most: what is asked for may be rare in it.
const READ_BYTES_MAX: u64 = 64 << 20;
const BUFFER_BYTES: usize = 64 * 1024;

/// An event, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AuditEvent {
    /// 1, 2, 3 … without gaps.
    pub sequence: u64,
    /// Unix milliseconds.
    pub timestamp_ms: u64,
    /// 0 for events of the server itself.
    pub connection_id: u64,
    /// `ip:port`.
    pub peer: Option<String>,
    /// Who the session was when the event was written.
    pub username: Option<String>,
    /// A UUID; all zeros for events of the server itself.
    pub request_id: String,
    /// The command.
    pub opcode: String,
    /// `ok`, `error` or `not_found`.
    pub status: String,
    /// What the client was told.
    pub error_code: Option<String>,
    /// Whole milliseconds.
    pub latency_ms: u64,
    /// What it tells of.
    pub event_type: String,
    /// Text by name.
    pub details: BTreeMap<String, String>,
    /// Of the event, which the next one repeats.
    pub event_hash: String,
}

/// A place in a log: behind an event.
#[derive(Clone, Debug)]
pub struct AuditCursor {
    path: PathBuf,
    /// The last event that was passed.
    sequence: u64,
    /// Where that is.
    place: Option<Place>,
}

/// A place in a file.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The first event of the file, whatever its name is by now.
    first: u64,
    offset: u64,
}

/// Some of the events behind a place.
#[derive(Clone, Debug, Default)]
pub struct AuditPage {
    /// In their order.
    pub events: Vec<AuditEvent>,
    /// Whether there is more to be looked at now.
    pub more: bool,
}

impl AuditCursor {
    /// A place behind event `sequence` of the log whose newest file is `path`; 0 is its beginning.
    #[must_use]
    pub fn behind(path: &Path, sequence: u64) -> Self {
        Self { path: path.to_owned(), sequence, place: None }
    }

    /// The last event that was passed, wanted or not.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Moves on over events, and returns up to `count_max` of those that are `wanted`. An unfinished last line is left for
    /// later. Blocks.
    ///
    /// # Errors
    /// The system's reason, or `InvalidData` for a line that is no event. The place stays before it.
    pub fn next(&mut self, count_max: usize, wanted: impl Fn(&AuditEvent) -> bool) -> io::Result<AuditPage> {
        let mut page = AuditPage::default();
        let mut left = READ_BYTES_MAX;
        while let Some((first, file)) = self.file()? {
            let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
            let mut offset = match self.place {
                Some(place) if place.first == first => place.offset,
                _ => 0,
            };
            reader.seek(SeekFrom::Start(offset))?;
            let mut line = Vec::new();
            loop {
                if page.events.len() >= count_max || left == 0 {
                    page.more = true;
                    return Ok(page);
                }
                line.clear();
                let length = reader.read_until(b'\n', &mut line)? as u64;
                if line.last() != Some(&b'\n') {
                    break;
                }
                left = left.saturating_sub(length);
                offset += length;
                let event: AuditEvent = serde_json::from_slice(&line)?;
                self.place = Some(Place { first, offset });
                if event.sequence > self.sequence {
                    self.sequence = event.sequence;
                    if wanted(&event) {
                        page.events.push(event);
                    }
                }
            }
            // The next file, if this one has been closed and was read to its end.
            if self.file()?.is_none_or(|(next, _)| next == first) {
                return Ok(page);
            }
        }
        Ok(page)
    }

    /// The file that has the next event, with its first event; none when there is nothing behind this place.
    fn file(&self) -> io::Result<Option<(u64, File)>> {
        let next = self.sequence.saturating_add(1);
        // Closed files first: one that is closed meanwhile is found there the next time, or still by its old name.
        let closed = files::closed(&self.path)?;
        let active = match File::open(&self.path) {
            Ok(file) => first_sequence(&file)?.map(|first| (first, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some((first, file)) = active
            && (first <= next || closed.is_empty())
        {
            return Ok(Some((first, file)));
        }
        // The last one that begins before it; or the oldest, when what was before is gone.
        let holder = closed.iter().rev().find(|file| file.first <= next).or(closed.first());
        match holder.map(|file| (file.first, File::open(&file.path))) {
            Some((first, Ok(file))) => Ok(Some((first, file))),
            Some((_, Err(error))) => Err(error),
            None => Ok(None),
        }
    }
}

/// The first event of a file; none while it has no complete line.
fn first_sequence(file: &File) -> io::Result<Option<u64>> {
    #[derive(Deserialize)]
    struct Head {
        sequence: u64,
    }
    let mut line = Vec::new();
    BufReader::new(file).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice::<Head>(&line)?.sequence))
}
