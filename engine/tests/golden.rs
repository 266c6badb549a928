//! Files of every version that was ever released must open for ever. `examples/write_golden.rs` wrote them.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use vaylix_engine::wal::{Config, RecordId, Wal};
use vaylix_engine::{DataDir, Keyring, snapshot, vote};

fn copy_of(name: &str) -> io::Result<TempDir> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let root = tempfile::tempdir()?;
    fs::create_dir(root.path().join("wal"))?;
    for directory in ["", "wal"] {
        for entry in fs::read_dir(source.join(directory))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), root.path().join(directory).join(entry.file_name()))?;
            }
        }
    }
    Ok(root)
}

fn id(term: u64, index: u64) -> RecordId {
    RecordId { term, leader: 9, index }
}

/// What version 2 has more: its active segment says how long it was when it was begun.
#[test]
fn every_version_opens() {
    for name in ["golden-v1", "golden-v2"] {
        let root = copy_of(name).unwrap();
        let dir = DataDir::open_or_create(root.path()).unwrap();
        let keyring = Arc::new(Keyring::open_or_create(&dir, 0).unwrap());
        assert_eq!(keyring.active().created_ms(), 1_700_000_001_000);
        assert_eq!(vote::load(&dir, &keyring).unwrap().unwrap(), b"a vote");

        let mut snapshot = snapshot::load(&dir, &keyring).unwrap().unwrap();
        let head = snapshot.head();
        assert_eq!(
            (head.last, head.time_ms, &head.meta[..]),
            (Some(id(1, 2)), 1_700_000_002_000, &b"meta"[..])
        );
        let mut content = String::new();
        snapshot.read_to_string(&mut content).unwrap();
        assert_eq!((content.lines().count(), content.lines().last()), (50_000, Some("line 49999")));

        let (wal, recovery) = Wal::open(&dir, Config::default(), keyring).unwrap();
        assert_eq!(
            (recovery.purged, recovery.last, recovery.torn_tail),
            (Some(id(1, 1)), Some(id(2, 5)), None)
        );
        let records = wal.read(0, u64::MAX, usize::MAX).unwrap();
        let found: Vec<_> =
            records.iter().map(|record| (record.id, record.time_ms, &record.body[..])).collect();
        let time = |index: u64| 1_700_000_000_000 + index;
        assert_eq!(
            found,
            [
                (id(1, 2), time(2), &b"two"[..]),
                (id(1, 3), time(3), b"three"),
                (id(2, 4), time(4), b"FOUR"),
                (id(2, 5), time(5), b""),
            ]
        );
    }
}
