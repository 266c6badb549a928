//! A backup that is being written.

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::io::Errno;

use super::leftovers::Prepared;
use super::pair::Pair;
use super::place::Place;
use super::{BackupError, GoOn, Watch, check_stop};
use crate::disk::Operation;
use crate::dump::{self, Summary};
use crate::keyring::fill_random;
use crate::state::Root;

/// Bytes after which what has been written is sent to the disk: a large backup must not pile up in memory, nor make
/// the log wait for it.
const SYNC_EVERY_BYTES: usize = 2 << 20;

/// Bytes that a file's name may have.
const NAME_BYTES_MAX: usize = 255;

/// A document and its manifest under names that nobody looks at. Removed when dropped before it is published.
pub(super) struct Draft<'a> {
    place: &'a Place,
    watch: &'a Watch,
    prepared: Prepared,
    document: File,
    /// The document has its name, so the manifest must get its own.
    is_published: bool,
}

/// Refuses a name that is too long for the names of its manifest and its drafts, before anything is created.
pub(super) fn check_name(name: &str) -> io::Result<()> {
    let longest = Prepared::new(name, 0).manifest().len();
    if longest > NAME_BYTES_MAX { Err(Errno::NAMETOOLONG.into()) } else { Ok(()) }
}

impl<'a> Draft<'a> {
    /// Creates the file of the document. The caller has the turn in the directory.
    pub(super) fn begin(place: &'a Place, watch: &'a Watch) -> io::Result<Self> {
        let mut id = [0; 8];
        fill_random(&mut id).map_err(io::Error::from)?;
        let prepared = Prepared::new(&place.name, u64::from_le_bytes(id));
        let document = place.directory.create(&prepared.document(), watch)?;
        let draft = Self { place, watch, prepared, document, is_published: false };
        if let Err(error) = draft.document.try_lock() {
            tracing::debug!(%error, "a backup cannot be locked against other processes");
        }
        Ok(draft)
    }

    /// Writes the document, durably.
    pub(super) fn write(
        &mut self,
        root: &Root,
        created_at_ms: u64,
        go_on: GoOn<'_>,
    ) -> Result<Summary, BackupError> {
        self.fill(go_on, |sink| dump::write(root, created_at_ms, sink))
    }

    /// Takes over a document that comes from elsewhere, durably. It is as it came, checked by nobody.
    pub(super) fn copy(&mut self, source: &mut impl Read, go_on: GoOn<'_>) -> Result<(), BackupError> {
        self.fill(go_on, |sink| io::copy(source, sink).map(drop))
    }

    fn fill<T>(
        &mut self,
        go_on: GoOn<'_>,
        write: impl FnOnce(&mut Sink<'_, '_>) -> io::Result<T>,
    ) -> Result<T, BackupError> {
        let name = self.prepared.document();
        let mut sink = Sink { draft: self, name: &name, since_sync_bytes: 0, go_on };
        let written = write(&mut sink);
        let written = written.and_then(|result| sink.sync().map(|()| result));
        written.map_err(|error| if check_stop(go_on).is_err() { BackupError::Stopped } else { error.into() })
    }

    /// The document for reading, without a manifest.
    pub(super) fn open(&self) -> io::Result<Pair> {
        let Self { place, prepared, .. } = self;
        match place.directory.read(&prepared.document())? {
            Some(document) => Ok(Pair { document, manifest: None }),
            None => Err(Errno::LOOP.into()),
        }
    }

    /// Writes the manifest and gives both files their names, durably. The caller has the turn in the directory.
    pub(super) fn publish(mut self, manifest: &[u8]) -> io::Result<()> {
        let Self { place, watch, .. } = self;
        let directory = &place.directory;
        // A manifest without a prepared document means that the document has its name: so the name of this one is to
        // be durable first.
        directory.sync(watch)?;
        let name = self.prepared.manifest();
        let file = directory.create(&name, watch)?;
        watch.run(Operation::Write, &directory.shown(&name), || (&file).write_all(manifest))?;
        watch.run(Operation::Sync, &directory.shown(&name), || file.sync_all())?;
        directory.sync(watch)?;
        directory.rename(&self.prepared.document(), &place.name, watch)?;
        self.is_published = true;
        directory.sync(watch)?;
        directory.rename(&name, &place.manifest(), watch)?;
        directory.sync(watch)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        // The manifest first, and durably: alone it would mean that the document has its name.
        let directory = &self.place.directory;
        let removed = directory
            .remove(&self.prepared.manifest(), self.watch)
            .and_then(|()| directory.sync(self.watch))
            .and_then(|()| directory.remove(&self.prepared.document(), self.watch));
        if let Err(error) = removed {
            tracing::warn!(
                file = self.place.name,
                %error,
                "what was written of a failed backup is removed at the next use of its directory"
            );
        }
    }
}

/// The file of a document, as the writer of documents sees it.
struct Sink<'a, 'd> {
    draft: &'a Draft<'d>,
    name: &'a str,
    since_sync_bytes: usize,
    go_on: GoOn<'a>,
}

impl Sink<'_, '_> {
    fn sync(&mut self) -> io::Result<()> {
        self.since_sync_bytes = 0;
        let Draft { place, watch, document, .. } = self.draft;
        watch.run(Operation::Sync, &place.directory.shown(self.name), || document.sync_all())
    }
}

impl Write for Sink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        check_stop(self.go_on)?;
        let Draft { place, watch, document, .. } = self.draft;
        let mut document = document;
        watch.run(Operation::Write, &place.directory.shown(self.name), || document.write_all(bytes))?;
        self.since_sync_bytes += bytes.len();
        if self.since_sync_bytes >= SYNC_EVERY_BYTES {
            self.sync()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
