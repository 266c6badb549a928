//! How much lies under each storage key.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use uuid::Uuid;

use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::{blob, snapshot, wal};

/// Enough of a file to tell what it is and which key it is sealed under.
const BEGINNING_BYTES: u64 = 512;

/// What lies under one storage key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// The key.
    pub id: Uuid,
    /// When it was made, in ms since 1970; `None` for a key that is not in the keyring.
    pub created_ms: Option<u64>,
    /// Whether new files are sealed under it.
    pub is_active: bool,
    /// Files sealed under it.
    pub files: u64,
    /// Their sizes together. The zeros that a segment has ahead of its end count.
    pub bytes: u64,
}

/// Tells how much of the directory at `root` is sealed under each key, by the headers of all sealed files in it and in
/// its subdirectories: segments, snapshots wherever they are kept, vote, manifest and origin. Every key of the keyring is
/// in the answer, in its order, then those that files name but the keyring does not have. What is not sealed under a storage key,
/// such as logical backups, and what was left unfinished (`*.tmp`) does not count.
///
/// A key with no files is needed by nothing in the directory; copies of older files kept elsewhere may need it all the
/// same.
///
/// # Errors
/// `ENG-004`, `ENG-006`, `ENG-007`, `ENG-009` or `ENG-014` for a header that is damaged, `ENG-002` for I/O.
pub fn bytes_per_key(root: &Path, keyring: &Keyring) -> Result<Vec<KeyUse>, StorageError> {
    let unused = |(nth, key): (usize, &std::sync::Arc<crate::keyring::StorageKey>)| KeyUse {
        id: key.id(),
        created_ms: Some(key.created_ms()),
        is_active: nth == 0,
        files: 0,
        bytes: 0,
    };
    let mut uses: Vec<_> = keyring.keys().iter().enumerate().map(unused).collect();
    visit(root, &mut |id, bytes| {
        let nth = uses.iter().position(|known| known.id == id).unwrap_or_else(|| {
            uses.push(KeyUse { id, created_ms: None, is_active: false, files: 0, bytes: 0 });
            uses.len() - 1
        });
        uses[nth].files += 1;
        uses[nth].bytes += bytes;
    })?;
    Ok(uses)
}

fn visit(directory: &Path, count: &mut impl FnMut(Uuid, u64)) -> Result<(), StorageError> {
    let failed = |source| StorageError::io("list the directory", directory, source);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            visit(&path, count)?;
        } else if kind.is_file()
            && path.extension().is_none_or(|extension| extension != "tmp")
            && let Some((id, bytes)) = key_of(&path)?
        {
            count(id, bytes);
        }
    }
    Ok(())
}

/// The key that the file is sealed under, and the file's size; `None` for one that is not sealed under a storage key.
fn key_of(path: &Path) -> Result<Option<(Uuid, u64)>, StorageError> {
    let failed = |source| StorageError::io("read the file", path, source);
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let mut beginning = Vec::new();
    file.take(BEGINNING_BYTES).read_to_end(&mut beginning).map_err(failed)?;
    let id = match beginning.first_chunk::<8>() {
        Some(b"VXWALSEG") => wal::segment_key_id(&beginning, path),
        Some(b"VXSNAPSH") => snapshot::key_id(&beginning),
        Some(b"VXVOTE\0\0" | b"VXMANIFE" | b"VXWALORG") => blob::key_id(&beginning),
        _ => return Ok(None),
    };
    id.map(|id| Some((id, bytes))).map_err(|error| error.in_file(path))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use bytes::Bytes;
    use vaylix_proto::Code;

    use super::*;
    use crate::layout::DataDir;
    use crate::vote;
    use crate::wal::{Config, Record, RecordId, Wal};

    fn append(wal: &Wal, index: u64) {
        let (tell, told) = channel();
        let id = RecordId { term: 1, leader: 1, index };
        let record = Record { id, time_ms: 1, body: Bytes::from_static(b"body") };
        wal.append(vec![record], Box::new(move |outcome| tell.send(outcome).unwrap()));
        told.recv().unwrap().unwrap();
    }

    fn len(path: &Path) -> u64 {
        fs::metadata(path).unwrap().len()
    }

    #[test]
    fn every_sealed_file_counts_under_its_key() {
        let root = crate::crash::scratch();
        let dir = DataDir::open_or_create(root.path()).unwrap();
        let keyring = Arc::new(Keyring::open_or_create(&dir, 1).unwrap());
        let config = Config { prezero: false, ..Config::default() };
        let (wal, _) = Wal::open(&dir, config, Arc::clone(&keyring)).unwrap();
        append(&wal, 1);
        vote::store(&dir, &keyring, b"a vote").unwrap();
        let second = keyring.rotate(&dir, 2).unwrap().id();
        let first = keyring.keys()[1].id();
        wal.renew().unwrap();
        append(&wal, 2);
        let head = snapshot::Head { last: None, time_ms: 3, meta: Vec::new() };
        snapshot::write(&dir, &keyring, &head, |out| out.write_all(b"content")).unwrap();
        keyring.rotate(&dir, 3).unwrap();
        // Neither is sealed: a file of somebody else, and one that was never finished.
        fs::write(root.path().join("audit.log"), b"{}").unwrap();
        fs::copy(dir.snapshot(), root.path().join("half.tmp")).unwrap();
        // A snapshot counts wherever it is kept.
        fs::create_dir(root.path().join("kept")).unwrap();
        fs::copy(dir.snapshot(), root.path().join("kept/1.bin")).unwrap();

        let path = |name: &str| dir.wal().join(name);
        let under_first = len(&path("1-1.wal")) + len(&dir.vote());
        let under_second =
            [dir.manifest(), dir.wal_origin(), path("active-2.wal")].iter().map(|p| len(p)).sum::<u64>()
                + 2 * len(&dir.snapshot());
        let uses = bytes_per_key(root.path(), &keyring).unwrap();
        let found: Vec<_> = uses
            .iter()
            .map(|used| (used.id, used.created_ms, used.is_active, used.files, used.bytes))
            .collect();
        assert_eq!(
            found,
            [
                (keyring.active().id(), Some(3), true, 0, 0),
                (second, Some(2), false, 5, under_second),
                (first, Some(1), false, 2, under_first),
            ]
        );

        // A keyring that is older than the files.
        let (_other, other) = (crate::crash::scratch(), Keyring::for_transfer([1; 32]));
        let uses = bytes_per_key(root.path(), &other).unwrap();
        assert_eq!(uses.len(), 3);
        assert!(uses[1..].iter().all(|used| used.created_ms.is_none() && used.bytes > 0));
    }

    #[test]
    fn a_damaged_header_is_named() {
        let root = crate::crash::scratch();
        let dir = DataDir::open_or_create(root.path()).unwrap();
        let keyring = Keyring::open_or_create(&dir, 1).unwrap();
        for (content, code) in [
            (&b"VXWALSEG"[..], Code::WalDeserializationFailure),
            (b"VXSNAPSH", Code::SnapshotDeserializationFailure),
            (b"VXVOTE\0\0\x02\0\0\0................", Code::UnsupportedStorageFormat),
            (b"VXMANIFE\x01\0\0\0.......", Code::ManifestDeserializationFailure),
        ] {
            let path = root.path().join("damaged");
            fs::write(&path, content).unwrap();
            let error = bytes_per_key(root.path(), &keyring).unwrap_err();
            assert_eq!((error.code(), error.file()), (code, Some(path.as_path())), "{error}");
        }
    }
}
