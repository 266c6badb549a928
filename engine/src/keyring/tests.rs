use std::fs;

use super::*;

fn fresh() -> (tempfile::TempDir, DataDir) {
    let root = crate::crash::scratch();
    let dir = DataDir::open_or_create(root.path()).unwrap();
    (root, dir)
}

#[test]
fn the_first_start_makes_a_key_that_later_starts_find() {
    let (_root, dir) = fresh();
    let made = Keyring::open_or_create(&dir, 1_700_000_000_000).unwrap().active();
    let found = Keyring::open_or_create(&dir, 1_800_000_000_000).unwrap().active();
    assert_eq!(made.id(), found.id());
    assert_eq!(made.secret(), found.secret());
    assert_eq!(found.created_ms(), 1_700_000_000_000);
    assert_eq!(found.id().get_version(), Some(uuid::Version::SortRand));
}

#[test]
fn rotation_keeps_the_previous_keys() {
    let (_root, dir) = fresh();
    let keyring = Keyring::open_or_create(&dir, 1).unwrap();
    let first = keyring.active();
    keyring.rotate(&dir, 2).unwrap();
    let reopened = Keyring::open_or_create(&dir, 3).unwrap();
    assert_eq!(reopened.active().created_ms(), 2);
    assert_eq!(reopened.get(first.id()).unwrap().secret(), first.secret());
}

#[test]
fn any_flipped_or_missing_byte_is_refused() {
    let (_root, dir) = fresh();
    Keyring::open_or_create(&dir, 1).unwrap();
    let good = fs::read(dir.keyring()).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(dir.keyring(), &bad).unwrap();
        let error = Keyring::open_or_create(&dir, 2).err().expect("a flipped byte");
        assert_eq!(error.file(), Some(dir.keyring().as_path()));
        assert!(error.offset().is_some() && error.advice().is_some(), "{error}");
        fs::write(dir.keyring(), &good[..at]).unwrap();
        assert!(Keyring::open_or_create(&dir, 2).is_err(), "cut at {at}");
    }
}

#[test]
fn a_newer_version_is_refused_as_such() {
    let (_root, dir) = fresh();
    Keyring::open_or_create(&dir, 1).unwrap();
    let mut newer = fs::read(dir.keyring()).unwrap();
    newer.truncate(newer.len() - 4);
    newer[8] = 2;
    newer.extend_from_slice(&crc32fast::hash(&newer).to_le_bytes());
    fs::write(dir.keyring(), &newer).unwrap();
    let error = Keyring::open_or_create(&dir, 2).err().unwrap();
    assert_eq!((error.code(), error.offset()), (Code::UnsupportedStorageFormat, Some(8)));
}

#[test]
fn a_lost_keyring_is_never_replaced() {
    for sealed in ["vote.bin", "snapshot.bin", "manifest.bin", "wal/1-2.wal", "wal/origin.bin"] {
        let (_root, dir) = fresh();
        fs::write(dir.root().join(sealed), b"sealed").unwrap();
        let error = Keyring::open_or_create(&dir, 1).err().unwrap();
        assert_eq!(error.code(), Code::UnsupportedStorageFormat);
        assert!(!dir.keyring().exists());
    }
}
