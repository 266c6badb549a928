//! A backup opened for reading.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use rustix::fs::FileType;

use super::place::Place;
use super::{BackupError, GoOn, check_stop};
use crate::dump::{self, Checked, DumpError, Manifest};
use crate::op::RestoreEntry;

/// Bytes of a manifest that are read: many times what one has.
const MANIFEST_BYTES_MAX: u64 = 64 << 10;

/// A document and its manifest, both open: they belong together, whatever is done to their names.
pub struct Pair {
    pub(super) document: File,
    pub(super) manifest: Option<File>,
}

impl Pair {
    /// Opens both. The caller has the turn in the directory.
    pub(super) fn open(place: &Place, path: &str) -> Result<Self, BackupError> {
        let rejected = || BackupError::Rejected(path.to_owned());
        let document = place.directory.read(&place.name)?.ok_or_else(rejected)?;
        let manifest = match place.directory.kind(&place.manifest())? {
            None => None,
            Some(FileType::Symlink) => return Err(rejected()),
            Some(_) => Some(place.directory.read(&place.manifest())?.ok_or_else(rejected)?),
        };
        Ok(Self { document, manifest })
    }

    /// The length of the document, in bytes.
    ///
    /// # Errors
    /// The system's reason.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.document.metadata()?.len())
    }

    /// Whether the document is empty.
    ///
    /// # Errors
    /// The system's reason.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The bytes of the document, from its start.
    pub fn content<'a>(&'a self, go_on: GoOn<'a>) -> impl Read + 'a {
        self.read(go_on)
    }

    /// Whether there is a manifest.
    #[must_use]
    pub fn has_manifest(&self) -> bool {
        self.manifest.is_some()
    }

    /// Reads the whole document and checks it, then compares it with its manifest, if there is one. `now_ms` (unix
    /// milliseconds) decides which entries are live. Gives up soon after `go_on` said no.
    ///
    /// # Errors
    /// All but [`BackupError::Rejected`] and [`BackupError::Changed`]; the document's faults come first.
    pub fn check(&self, now_ms: u64, go_on: GoOn<'_>) -> Result<Checked, BackupError> {
        let checked = dump::check(self.read(go_on), now_ms).map_err(|error| failed(error, go_on))?;
        if let Some(manifest) = &self.manifest {
            let mut bytes = Vec::new();
            FromStart { file: manifest, offset: 0 }.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes)?;
            Manifest::parse(&bytes)?.verify(&checked.summary)?;
        }
        Ok(checked)
    }

    /// Hands out the entries of the document that was checked, in their order, expired ones included, until `each` says
    /// false. What was handed out counts only once this has returned true: the document is read anew, and only its
    /// end shows that it still is what was checked. False when `each` has had enough.
    ///
    /// # Errors
    /// [`BackupError::Io`], [`BackupError::Changed`] or [`BackupError::Stopped`].
    pub fn entries(
        &self,
        checked: &Checked,
        go_on: GoOn<'_>,
        each: impl FnMut(RestoreEntry<'static>) -> bool,
    ) -> Result<bool, BackupError> {
        let summary = &checked.summary;
        match dump::entries(self.read(go_on), summary.header.version, each) {
            Ok(None) => Ok(false),
            Ok(Some((byte_len, sha256))) => {
                let is_same = byte_len == summary.byte_len && sha256 == summary.sha256;
                if is_same { Ok(true) } else { Err(BackupError::Changed) }
            }
            Err(error) => Err(match failed(error, go_on) {
                BackupError::Document(_) => BackupError::Changed,
                error => error,
            }),
        }
    }

    fn read<'a>(&'a self, go_on: GoOn<'a>) -> impl Read + 'a {
        Stoppable { inner: FromStart { file: &self.document, offset: 0 }, go_on }
    }
}

fn failed(error: DumpError, go_on: GoOn<'_>) -> BackupError {
    match error {
        DumpError::Io(_) if check_stop(go_on).is_err() => BackupError::Stopped,
        DumpError::Io(error) => BackupError::Io(error),
        error => BackupError::Document(error),
    }
}

/// Reads a file from its start, wherever others are in it.
struct FromStart<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Reads until it is told to stop.
struct Stoppable<'a, R> {
    inner: R,
    go_on: GoOn<'a>,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        check_stop(self.go_on)?;
        self.inner.read(buffer)
    }
}
