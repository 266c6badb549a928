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
        fs::create_dir(dir.wal()).unwrap();
        fs::write(dir.root().join(sealed), b"sealed").unwrap();
        let error = Keyring::open_or_create(&dir, 1).err().unwrap();
        assert_eq!(error.code(), Code::UnsupportedStorageFormat);
        assert!(!dir.keyring().exists());
    }
}

fn kek(seed: u8) -> Kek {
    let bytes: Vec<u8> = (0..32).map(|at: u8| at.wrapping_mul(71).wrapping_add(seed) | 0x80).collect();
    Kek::from_content(&bytes).unwrap()
}

fn secrets(keyring: &Keyring) -> Vec<(Uuid, u64, [u8; 32])> {
    keyring.keys().iter().map(|key| (key.id(), key.created_ms(), *key.secret())).collect()
}

fn contains(content: &[u8], secret: &[u8]) -> bool {
    content.windows(secret.len()).any(|window| window == secret)
}

#[test]
fn a_wrapped_keyring_opens_with_its_key_and_shows_no_secret() {
    let (_root, dir) = fresh();
    let made = Keyring::open_or_create_with(&dir, Some(kek(1)), 7).unwrap();
    made.rotate(&dir, 8).unwrap();
    assert_eq!(made.kek_id(), Some(kek(1).id()));
    let content = fs::read(dir.keyring()).unwrap();
    for (_, _, secret) in secrets(&made) {
        assert!(!contains(&content, &secret));
    }
    for found in [
        Keyring::open(&dir, Some(kek(1))).unwrap(),
        Keyring::open_or_create_with(&dir, Some(kek(1)), 9).unwrap(),
    ] {
        assert_eq!(secrets(&found), secrets(&made));
        assert_eq!(found.count(), 2);
    }
}

#[test]
fn a_key_that_is_missing_wrong_or_too_much_is_refused_and_changes_nothing() {
    let check = |made_with: Option<Kek>, given: Option<Kek>, code: Code, advice: &str| {
        let (_root, dir) = fresh();
        Keyring::open_or_create_with(&dir, made_with, 1).unwrap();
        let before = fs::read(dir.keyring()).unwrap();
        for refused in
            [Keyring::open(&dir, given.clone()).err(), Keyring::open_or_create_with(&dir, given, 2).err()]
        {
            let error = refused.unwrap();
            assert_eq!(error.code(), code, "{error}");
            assert_eq!(error.file(), Some(dir.keyring().as_path()));
            assert!(error.advice().unwrap().contains(advice), "{error}");
        }
        assert_eq!(fs::read(dir.keyring()).unwrap(), before);
        assert!(!crate::disk::temporary(&dir.keyring()).exists());
    };
    check(Some(kek(1)), None, Code::EncryptedStorageFailure, "--kek-file");
    check(Some(kek(1)), Some(kek(2)), Code::EncryptedStorageFailure, "--kek-file");
    check(None, Some(kek(1)), Code::InvalidStorageOperation, "rewrap-keys");
    let (_root, dir) = fresh();
    assert!(Keyring::open(&dir, Some(kek(1))).is_err());
    assert!(!dir.keyring().exists());
}

#[test]
fn nothing_of_a_wrapped_keyring_can_be_changed_without_its_key() {
    let (_root, dir) = fresh();
    let keyring = Keyring::open_or_create_with(&dir, Some(kek(1)), 1).unwrap();
    keyring.rotate(&dir, 2).unwrap();
    let good = fs::read(dir.keyring()).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(dir.keyring(), &bad).unwrap();
        assert!(Keyring::open(&dir, Some(kek(1))).is_err(), "flip at {at}");
        // Also by somebody who knows how to compute the checksum.
        let body_len = bad.len() - 4;
        let checksum = crc32fast::hash(&bad[..body_len]);
        bad[body_len..].copy_from_slice(&checksum.to_le_bytes());
        fs::write(dir.keyring(), &bad).unwrap();
        let error = Keyring::open(&dir, Some(kek(1))).err();
        assert_eq!(error.is_none(), at >= body_len, "flip at {at} with its checksum");
        fs::write(dir.keyring(), &good[..at]).unwrap();
        assert!(Keyring::open(&dir, Some(kek(1))).is_err(), "cut at {at}");
    }
}

#[test]
fn no_file_is_written_twice_under_one_wrapping_key() {
    let (_root, dir) = fresh();
    let keyring = Keyring::open_or_create_with(&dir, Some(kek(1)), 1).unwrap();
    let first = fs::read(dir.keyring()).unwrap();
    keyring.rewrap(&dir, Some(kek(1))).unwrap();
    let second = fs::read(dir.keyring()).unwrap();
    let salt = HEAD_BYTES + 8..HEAD_BYTES + 8 + SALT_BYTES;
    assert_ne!(first[salt.clone()], second[salt]);
    assert_ne!(first[first.len() - 60..], second[second.len() - 60..]);
}

#[test]
fn a_crash_while_the_keyring_is_rewrapped_or_rotated_leaves_the_old_or_the_new_one() {
    let (root, dir) = fresh();
    let keyring = Keyring::open_or_create(&dir, 1).unwrap();
    let first = secrets(&keyring);
    drop(dir);
    let crashes = crate::crash::Crashes::<()>::watch(root.path());
    let dir = DataDir::with_probe(root.path(), Arc::clone(&crashes) as _).unwrap();
    keyring.rewrap(&dir, Some(kek(1))).unwrap();
    keyring.rewrap(&dir, Some(kek(2))).unwrap();
    keyring.rotate(&dir, 2).unwrap();
    let last = secrets(&keyring);
    keyring.rewrap(&dir, None).unwrap();
    drop(dir);
    let keks = [None, Some(kek(1)), Some(kek(2))];
    let mut seen = [0; 3];
    for image in crashes.images() {
        let dir = DataDir::open_or_create(image.path()).unwrap();
        let opened: Vec<_> = keks
            .iter()
            .enumerate()
            .filter_map(|(nth, kek)| Some((nth, Keyring::open(&dir, kek.clone()).ok()?)))
            .collect();
        let [(nth, keyring)] = &opened[..] else { panic!("opens in {} ways", opened.len()) };
        seen[*nth] += 1;
        assert!([&first, &last].contains(&&secrets(keyring)));
    }
    assert!(seen.iter().all(|count| *count > 3), "{seen:?}");
}

#[test]
fn a_crash_anywhere_in_a_rotation_leaves_a_directory_that_opens() {
    use std::io::Read;
    use std::sync::mpsc::channel;

    use crate::wal::{Config, Record, RecordId, Wal};
    use crate::{snapshot, vote};

    let (root, dir) = fresh();
    let keyring = Arc::new(Keyring::open_or_create_with(&dir, Some(kek(1)), 1).unwrap());
    let config = Config { prezero: false, initial_size_bytes: 2048, ..Config::default() };
    let append = |wal: &Wal, index| {
        let (tell, told) = channel();
        let id = RecordId { term: 1, leader: 1, index };
        let record = Record { id, time_ms: 1, body: bytes::Bytes::from_static(b"body") };
        wal.append(vec![record], Box::new(move |outcome| tell.send(outcome).unwrap()));
        told.recv().unwrap().unwrap();
        id
    };
    let head = |last| snapshot::Head { last: Some(last), time_ms: 1, meta: Vec::new() };
    let (wal, _) = Wal::open(&dir, config.clone(), Arc::clone(&keyring)).unwrap();
    let first = append(&wal, 1);
    vote::store(&dir, &keyring, b"a vote").unwrap();
    snapshot::write(&dir, &keyring, &head(first), |out| out.write_all(b"1")).unwrap();
    drop((wal, dir));

    // What a running node does, with a write before, amid and behind it.
    let crashes = crate::crash::Crashes::<u64>::watch(root.path());
    crashes.note(1);
    let dir = DataDir::with_probe(root.path(), Arc::clone(&crashes) as _).unwrap();
    let (wal, _) = Wal::open(&dir, config.clone(), Arc::clone(&keyring)).unwrap();
    append(&wal, 2);
    crashes.note(2);
    keyring.rotate(&dir, 2).unwrap();
    append(&wal, 3);
    crashes.note(3);
    wal.renew().unwrap();
    vote::store(&dir, &keyring, b"a vote").unwrap();
    let last = append(&wal, 4);
    crashes.note(4);
    snapshot::write(&dir, &keyring, &head(last), |out| out.write_all(b"4")).unwrap();
    wal.purge_to(last).unwrap();
    let old = keyring.keys()[1].id();
    for file in [dir.vote(), dir.snapshot(), dir.manifest(), dir.wal_origin(), dir.wal().join("active-5.wal")]
    {
        assert!(
            !contains(&fs::read(&file).unwrap(), old.as_bytes()),
            "{} is under the old key",
            file.display()
        );
    }
    drop((wal, dir));

    let images = crashes.taken();
    assert!(images.len() > 60, "{}", images.len());
    for image in images {
        let root = image.restore();
        let what = &image.what;
        let dir = DataDir::open_or_create(root.path()).unwrap();
        let keyring = Arc::new(Keyring::open(&dir, Some(kek(1))).unwrap_or_else(|e| panic!("{what}: {e}")));
        let (wal, recovery) =
            Wal::open(&dir, config.clone(), Arc::clone(&keyring)).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(recovery.last.unwrap().index >= image.note, "{what}: {recovery:?}, of {}", image.note);
        assert_eq!(vote::load(&dir, &keyring).unwrap().unwrap(), b"a vote", "{what}");
        let mut content = String::new();
        snapshot::load(&dir, &keyring).unwrap().unwrap().read_to_string(&mut content).unwrap();
        assert!(["1", "4"].contains(&&*content), "{what}: {content}");
        assert!(wal.purged().is_none() || content == "4", "{what}: the log went before the snapshot came");
        append(&wal, recovery.last.unwrap().index + 1);
    }
}
