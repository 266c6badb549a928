//! Reading the chain from its first line to its last.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use vaylix_proto::Code;

use super::chain::Link;
use super::files::{self, Closed};

/// Longest line that is read, in bytes; what is written stays far below.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// How often a log that a server is writing is read until its files stay the same.
const READS_MAX: usize = 5;
const BUFFER_BYTES: usize = 256 * 1024;

/// What an intact log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Files, the one being written included.
    pub files: usize,
    /// Events in them.
    pub events: u64,
    /// Sequence number of the first event that is left; none in an empty log.
    pub first_sequence: Option<u64>,
    /// Sequence number of the last event.
    pub last_sequence: u64,
    /// Hash of the last event: kept elsewhere, it shows later whether anything up to it was changed.
    pub last_hash: String,
    /// An unfinished last line.
    pub torn: Option<Torn>,
}

/// An unfinished last line, as a crash leaves it behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Its number in the file, counted from 1.
    pub line: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// Why a log does not verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A line does not continue the chain (`SRV-028`).
    #[error("audit log hash chain verification failed: {place}line {line}: {reason}", place = place(file.as_deref()))]
    Broken {
        /// The closed file, when it is not the one being written.
        file: Option<PathBuf>,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no file of a log at all (`SRV-004`).
    #[error("filesystem I/O failed: there is no audit log {path}, and no closed file of one", path = path.display())]
    Missing {
        /// Where the newest file would be.
        path: PathBuf,
    },
    /// A file cannot be read (`SRV-004`).
    #[error("filesystem I/O failed: {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl VerifyError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Broken { .. } => Code::AuditChainVerificationFailure,
            Self::Missing { .. } | Self::Io { .. } => Code::ServerFilesystemIoFailure,
        }
    }
}

fn place(file: Option<&Path>) -> String {
    file.map_or_else(String::new, |file| format!("{}: ", file.display()))
}

/// Everything that is known of a log after reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// The last event.
    pub(super) head: Link,
    /// The closed files that count, each with its last event.
    pub(super) closed: Vec<(Closed, Link)>,
    /// Closed files whose deletion was interrupted.
    pub(super) doomed: Vec<Closed>,
    /// Sequence number of the first event of the file being written; none when it is empty or missing.
    pub(super) active_first: Option<u64>,
    /// Bytes of complete lines in the file being written.
    pub(super) active_len: u64,
    /// Whether the last complete line lacks its line feed.
    pub(super) lacks_feed: bool,
    pub(super) torn: Option<Torn>,
    events: u64,
    first: Option<u64>,
}

/// Verifies the audit log whose newest file is `path`, with its closed files, without changing anything.
///
/// # Errors
/// The first line that does not continue the chain, or the file that cannot be read; [`VerifyError::Missing`] when there is
/// no file.
pub fn verify(path: &Path) -> Result<Summary, VerifyError> {
    let missing = || VerifyError::Missing { path: path.to_owned() };
    let chain = match read_steady(path) {
        // Not even the directory is there.
        Err(VerifyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(missing());
        }
        chain => chain?,
    };
    let has_active = path.try_exists().unwrap_or(true);
    if !has_active && chain.closed.is_empty() {
        return Err(missing());
    }
    Ok(Summary {
        files: chain.closed.len() + usize::from(has_active),
        events: chain.events,
        first_sequence: chain.first,
        last_sequence: chain.head.sequence,
        last_hash: chain.head.hash,
        torn: chain.torn,
    })
}

/// Reads the whole chain, again if a server has closed a file meanwhile: then the files read do not belong together.
fn read_steady(path: &Path) -> Result<Chain, VerifyError> {
    let names = || files::closed(path).map_err(|source| VerifyError::Io { path: path.to_owned(), source });
    for _ in 1..READS_MAX {
        let before = names()?;
        let chain = read(path);
        if names()? == before {
            return chain;
        }
    }
    read(path)
}

/// Reads the whole chain.
///
/// # Errors
/// As [`verify`]; but a log without any file is an empty one.
pub(super) fn read(path: &Path) -> Result<Chain, VerifyError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| VerifyError::Io { path, source }
    };
    let anchor_path = files::anchor_path(path);
    let anchor = files::read_anchor(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            let reason = format!("not the note of what was deleted: {error}");
            VerifyError::Broken { file: Some(anchor_path.clone()), line: 1, reason }
        }
        _ => io(&anchor_path)(error),
    })?;
    let head = anchor.unwrap_or_else(Link::genesis);
    let (doomed, closed): (Vec<Closed>, Vec<Closed>) =
        files::closed(path).map_err(io(path))?.into_iter().partition(|file| file.first <= head.sequence);
    let mut chain = Chain {
        head,
        closed: Vec::with_capacity(closed.len()),
        doomed,
        active_first: None,
        active_len: 0,
        lacks_feed: false,
        torn: None,
        events: 0,
        first: None,
    };
    for file in closed {
        let part = read_file(&file.path, &mut chain.head, Some(&file.path))?;
        if let Some(torn) = part.torn {
            // Files are closed at the end of a line, and synced before the next one is begun.
            let (file, reason) = (Some(file.path), "unfinished line".to_owned());
            return Err(VerifyError::Broken { file, line: torn.line, reason });
        }
        chain.count(&part);
        chain.closed.push((file, chain.head.clone()));
    }
    let part = match read_file(path, &mut chain.head, None) {
        Err(VerifyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Part::default(),
        part => part?,
    };
    chain.count(&part);
    chain.active_first = part.first;
    chain.active_len = part.len;
    chain.lacks_feed = part.lacks_feed;
    chain.torn = part.torn;
    Ok(chain)
}

impl Chain {
    /// Whether the files are those that were read. Lines are only ever added, and files closed.
    ///
    /// # Errors
    /// The system's reason.
    pub(super) fn is_current(&self, path: &Path) -> io::Result<bool> {
        let read = self.doomed.iter().chain(self.closed.iter().map(|(file, _)| file));
        let torn = self.torn.as_ref().map_or(0, |torn| torn.bytes);
        let len = match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            found => found?.len(),
        };
        Ok(files::closed(path)?.iter().eq(read) && len == self.active_len + torn)
    }

    fn count(&mut self, part: &Part) {
        self.events += part.events;
        self.first = self.first.or(part.first);
    }
}

/// One file.
#[derive(Default)]
struct Part {
    events: u64,
    first: Option<u64>,
    /// Bytes of its complete lines.
    len: u64,
    lacks_feed: bool,
    torn: Option<Torn>,
}

fn read_file(path: &Path, head: &mut Link, name: Option<&Path>) -> Result<Part, VerifyError> {
    let io = |source| VerifyError::Io { path: path.to_owned(), source };
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, File::open(path).map_err(io)?);
    let mut part = Part::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if !read_line(&mut reader, &mut line).map_err(io)? {
            break;
        }
        let is_complete = line.pop_if(|last| *last == b'\n').is_some();
        let broken = |reason| VerifyError::Broken { file: name.map(Path::to_owned), line: number, reason };
        if line.len() >= LINE_BYTES_MAX {
            return Err(broken(format!("longer than {LINE_BYTES_MAX} bytes")));
        }
        if !is_complete && serde_json::from_slice::<IgnoredAny>(&line).is_err() {
            part.torn = Some(Torn { line: number, offset: part.len, bytes: line.len() as u64 });
            break;
        }
        head.follow(&line).map_err(broken)?;
        part.first.get_or_insert(head.sequence);
        part.events += 1;
        part.len += line.len() as u64 + u64::from(is_complete);
        part.lacks_feed = !is_complete;
    }
    Ok(part)
}

/// Reads up to the next line feed, which stays, or to the end, or to the longest line there may be. False when
/// nothing was left.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    let limit = LINE_BYTES_MAX as u64 + 1;
    Ok(io::Read::take(reader, limit).read_until(b'\n', line)? > 0)
}
