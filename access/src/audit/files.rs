//! The files of one audit log: their names, their order, and the note about those that are gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::chain::Link;

/// Digits of the sequence number in the name of a closed file.
const DIGITS: usize = 20;
/// Longest anchor that is read, in bytes.
const ANCHOR_BYTES_MAX: u64 = 1024;

/// A closed file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Closed {
    /// Its first event, as its name says.
    pub(super) first: u64,
    pub(super) path: PathBuf,
}

/// The directory of the log at `path`.
pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The name of the file that begins with event `first`, once it is closed.
pub(super) fn closed_path(path: &Path, first: u64) -> PathBuf {
    with_suffix(path, &format!("{first:0DIGITS$}"))
}

/// The closed files of the log at `path`, oldest first.
///
/// # Errors
/// The system's reason; no directory means no files.
pub(super) fn closed(path: &Path) -> io::Result<Vec<Closed>> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let entries = match fs::read_dir(directory(path)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let first = entry.file_name().to_str().and_then(|entry| {
            let digits = entry.strip_prefix(name)?.strip_prefix('.')?;
            (digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit()))
                .then(|| digits.parse().ok())?
        });
        if let Some(first) = first {
            files.push(Closed { first, path: entry.path() });
        }
    }
    files.sort();
    Ok(files)
}

/// The last event of the files that were deleted; none when nothing was.
///
/// # Errors
/// The system's reason, or `InvalidData` for what is no anchor.
pub(super) fn read_anchor(path: &Path) -> io::Result<Option<Link>> {
    let file = match File::open(anchor_path(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(ANCHOR_BYTES_MAX).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// Writes down durably what the last event of the deleted files is.
///
/// # Errors
/// The system's reason; the earlier note stays.
pub(super) fn write_anchor(path: &Path, link: &Link) -> io::Result<()> {
    let temporary = with_suffix(path, "anchor.tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec(link)?)?;
    file.sync_all()?;
    fs::rename(&temporary, anchor_path(path))?;
    sync_directory(path)
}

/// Makes names in the log's directory durable.
///
/// # Errors
/// The system's reason.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

pub(super) fn anchor_path(path: &Path) -> PathBuf {
    with_suffix(path, "anchor")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
