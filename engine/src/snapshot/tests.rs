use std::fs;
use std::io::Read;
use std::sync::Arc;

use super::*;
use crate::wal::RecordId;

fn fresh() -> (tempfile::TempDir, DataDir, Keyring) {
    let root = crate::crash::scratch();
    let dir = DataDir::open_or_create(root.path()).unwrap();
    let keyring = Keyring::open_or_create(&dir, 1).unwrap();
    (root, dir, keyring)
}

fn head(index: u64) -> Head {
    Head { last: Some(RecordId { term: 2, leader: 1, index }), time_ms: 99, meta: b"members".to_vec() }
}

fn write_bytes(dir: &DataDir, keyring: &Keyring, index: u64, content: &[u8]) -> Info {
    write(dir, keyring, &head(index), |out| out.write_all(content)).unwrap()
}

fn read_all(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    reader.read_to_end(&mut content).map(|_| content)
}

/// Something that zstd cannot shrink to nothing.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(step).collect()
}

#[test]
fn content_of_any_size_comes_back() {
    let (_root, dir, keyring) = fresh();
    assert!(load(&dir, &keyring).unwrap().is_none());
    for (index, len) in [(1, 0), (2, 1), (3, 256 << 10), (4, (256 << 10) + 1), (5, 3_000_000)] {
        let content = noise(len);
        let written = write_bytes(&dir, &keyring, index, &content);
        let mut reader = load(&dir, &keyring).unwrap().unwrap();
        assert_eq!(reader.head(), head(index));
        assert_eq!(reader.info(), None, "not before the end");
        assert_eq!(read_all(&mut reader).unwrap(), content);
        assert_eq!(reader.info(), Some(written.clone()));
        assert_eq!(written.size_bytes, fs::metadata(dir.snapshot()).unwrap().len());
    }
}

#[test]
fn a_snapshot_travels_between_nodes_under_a_key_of_its_own() {
    let (_root, dir, keyring) = fresh();
    let travelling = Keyring::for_transfer([7; 32]);
    let path = dir.root().join("travel");
    write_file(&path, &travelling, &head(4), |out| out.write_all(b"content")).unwrap();
    assert!(open_file(&path, &keyring).is_err(), "the other node does not know our storage key");
    assert!(open_file(&path, &Keyring::for_transfer([8; 32])).is_err());

    let mut received = open_file(&path, &Keyring::for_transfer([7; 32])).unwrap();
    let head = received.head();
    write(&dir, &keyring, &head, |out| io::copy(&mut received, out).map(|_| ())).unwrap();
    assert_eq!(read_all(&mut load(&dir, &keyring).unwrap().unwrap()).unwrap(), b"content");
}

#[test]
fn every_flipped_cut_or_added_byte_is_refused() {
    let (_root, dir, keyring) = fresh();
    write_bytes(&dir, &keyring, 7, &noise(300));
    let good = fs::read(dir.snapshot()).unwrap();
    // Without the manifest, which would refuse other lengths outright.
    fs::remove_file(dir.manifest()).unwrap();
    let check = |content: &[u8], what: String| {
        fs::write(dir.snapshot(), content).unwrap();
        let error = match load(&dir, &keyring) {
            Err(error) => error,
            Ok(reader) => StorageError::from(read_all(&mut reader.unwrap()).expect_err(&what)),
        };
        assert_eq!(error.file(), Some(dir.snapshot().as_path()), "{what}: {error}");
        assert!(error.offset().is_some() && error.advice().is_some(), "{what}: {error}");
    };
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        check(&bad, format!("flip at {at}"));
        check(&good[..at], format!("cut at {at}"));
    }
    check(&[&good[..], &[0]].concat(), "a byte more".into());
}

#[test]
fn a_damaged_manifest_is_refused() {
    let (_root, dir, keyring) = fresh();
    write_bytes(&dir, &keyring, 7, b"content");
    let good = fs::read(dir.manifest()).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(dir.manifest(), &bad).unwrap();
        let error = load(&dir, &keyring).err().unwrap();
        assert_eq!(error.file(), Some(dir.manifest().as_path()));
        fs::write(dir.manifest(), &good[..at]).unwrap();
        assert!(load(&dir, &keyring).is_err());
    }
}

#[test]
fn only_the_order_of_writing_excuses_a_pair_that_differs() {
    let (_root, dir, keyring) = fresh();
    let save = || (fs::read(dir.snapshot()).unwrap(), fs::read(dir.manifest()).unwrap());
    let code = || load(&dir, &keyring).err().unwrap().code();
    write_bytes(&dir, &keyring, 7, b"first");
    let (snapshot, manifest) = save();
    write_bytes(&dir, &keyring, 7, b"second");

    fs::write(dir.manifest(), &manifest).unwrap();
    let mut reader = load(&dir, &keyring).unwrap().expect("between the two renames");
    assert_eq!(read_all(&mut reader).unwrap(), b"second");
    fs::remove_file(dir.manifest()).unwrap();
    assert!(load(&dir, &keyring).unwrap().is_some(), "before the first manifest");

    write_bytes(&dir, &keyring, 8, b"third");
    fs::write(dir.snapshot(), &snapshot).unwrap();
    assert_eq!(code(), Code::ManifestDeserializationFailure, "an older snapshot");
    fs::remove_file(dir.snapshot()).unwrap();
    assert_eq!(code(), Code::ChecksumValidationFailure, "no snapshot");

    let (_other_root, other, _) = fresh();
    write_bytes(&other, &keyring, 9, b"other");
    fs::copy(other.manifest(), dir.manifest()).unwrap();
    fs::write(dir.snapshot(), &snapshot).unwrap();
    assert_eq!(code(), Code::ChecksumValidationFailure, "another snapshot of the same number");
}

#[test]
fn a_crash_between_any_two_steps_leaves_one_whole_snapshot() {
    let (_root, dir, keyring) = fresh();
    write_bytes(&dir, &keyring, 1, b"old");
    drop(dir);
    let root = _root.path().to_owned();
    let crashes = crate::crash::Crashes::<()>::watch(&root);
    let dir = DataDir::with_probe(&root, Arc::clone(&crashes) as _).unwrap();
    write_bytes(&dir, &keyring, 2, b"new");
    drop(dir);
    let mut seen = Vec::new();
    for image in crashes.images() {
        let dir = DataDir::open_or_create(image.path()).unwrap();
        let keyring = Keyring::open_or_create(&dir, 1).unwrap();
        seen.push(read_all(&mut load(&dir, &keyring).unwrap().unwrap()).unwrap());
    }
    assert!(seen.len() > 10 && seen.contains(&b"old".to_vec()) && seen.contains(&b"new".to_vec()));
    assert!(seen.iter().all(|content| content == b"old" || content == b"new"));
}

#[test]
fn a_snapshot_that_fails_or_was_interrupted_takes_no_room() {
    let (root, dir, keyring) = fresh();
    write_bytes(&dir, &keyring, 1, b"old");
    let failed = write(&dir, &keyring, &head(2), |out| {
        out.write_all(&noise(1 << 20))?;
        Err(io::ErrorKind::StorageFull.into())
    });
    assert!(failed.is_err());
    assert!(!temporary(&dir.snapshot()).exists());
    assert_eq!(read_all(&mut load(&dir, &keyring).unwrap().unwrap()).unwrap(), b"old");

    fs::write(temporary(&dir.snapshot()), b"half of one").unwrap();
    drop(dir);
    let dir = DataDir::open_or_create(root.path()).unwrap();
    assert!(!temporary(&dir.snapshot()).exists());
    assert_eq!(read_all(&mut load(&dir, &keyring).unwrap().unwrap()).unwrap(), b"old");
}

#[test]
fn a_predecessor_that_went_bad_does_not_stand_in_the_way() {
    let bad: [fn(&DataDir); 4] = [
        |dir| fs::write(dir.snapshot(), b"garbage").unwrap(),
        |dir| fs::write(dir.manifest(), b"garbage").unwrap(),
        |dir| {
            fs::write(dir.snapshot(), []).unwrap();
            fs::write(dir.manifest(), []).unwrap();
        },
        |dir| fs::remove_file(dir.snapshot()).unwrap(),
    ];
    for spoil in bad {
        let (root, dir, keyring) = fresh();
        for index in 3..6 {
            write_bytes(&dir, &keyring, index, b"old");
        }
        spoil(&dir);
        assert!(load(&dir, &keyring).is_err() || !dir.manifest().exists());
        drop(dir);
        let crashes = crate::crash::Crashes::<()>::watch(root.path());
        let dir = DataDir::with_probe(root.path(), Arc::clone(&crashes) as _).unwrap();
        write_bytes(&dir, &keyring, 7, b"new");
        assert_eq!(read_all(&mut load(&dir, &keyring).unwrap().unwrap()).unwrap(), b"new");
        drop(dir);
        // As soon as the new one is in place, the next start takes it.
        let mut new = 0;
        for image in crashes.images() {
            let dir = DataDir::open_or_create(image.path()).unwrap();
            let in_place = open_file(&dir.snapshot(), &keyring).ok().map(|reader| reader.head());
            if in_place == Some(head(7)) {
                assert_eq!(read_all(&mut load(&dir, &keyring).unwrap().unwrap()).unwrap(), b"new");
                new += 1;
            }
        }
        assert!(new >= 2, "{new}");
    }
}

#[test]
fn a_snapshot_names_the_key_it_is_sealed_under() {
    let (_root, dir, keyring) = fresh();
    let first = keyring.active().id();
    assert_eq!(write_bytes(&dir, &keyring, 1, b"content").key_id, first);
    let second = keyring.rotate(&dir, 2).unwrap().id();
    let mut reader = load(&dir, &keyring).unwrap().unwrap();
    read_all(&mut reader).unwrap();
    assert_eq!(reader.info().unwrap().key_id, first);
    assert_eq!(write_bytes(&dir, &keyring, 1, b"content").key_id, second);
    assert_eq!(list(&dir).unwrap().last.unwrap().key_id, second);
}
