use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::mpsc::channel;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::lock::Hold;
use crate::op::{Batch, Op, Pair, SystemChange};
use crate::snapshot::{Head, Retention};
use crate::verify;
use crate::wal::{Config, Wal};

/// Bodies are batches; an empty one stands for a record without operations.
struct Bodies;

impl Content for Bodies {
    fn batch<'r>(&self, record: &'r Record) -> Result<Option<Batch<'r>>, StorageError> {
        if record.body.is_empty() {
            return Ok(None);
        }
        Batch::decode(&record.body)
            .map(Some)
            .map_err(|error| StorageError::new(Code::WalDeserializationFailure, error.to_string()))
    }

    fn check_head(&self, head: &Head) -> Result<(), StorageError> {
        assert_eq!(head.meta, b"label");
        Ok(())
    }

    fn check_vote(&self, vote: &[u8]) -> Result<(), StorageError> {
        assert_eq!(vote, b"vote");
        Ok(())
    }
}

/// One record of a history and what may happen behind it.
#[derive(Clone, Debug)]
struct Step {
    change: Change,
    then: Then,
}

#[derive(Clone, Debug)]
enum Change {
    None,
    Set(u8, u8),
    Delete(u8),
    User(u8),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    GoOn,
    Snapshot,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        1 => Just(Change::None),
        6 => (0..6_u8, any::<u8>()).prop_map(|(key, value)| Change::Set(key, value)),
        2 => (0..6_u8).prop_map(Change::Delete),
        1 => any::<u8>().prop_map(Change::User),
    ];
    let then = prop_oneof![7 => Just(Then::GoOn), 2 => Just(Then::Snapshot), 1 => Just(Then::Restart)];
    (change, then).prop_map(|(change, then)| Step { change, then })
}

/// Keys, and the one system record.
type Model = (BTreeMap<String, Vec<u8>>, Option<Vec<u8>>);

fn model_of(root: &Root) -> Model {
    let keys = root.iter().map(|entry| (entry.key().to_owned(), entry.value().to_vec())).collect();
    (keys, root.system_get("user").map(|content| content.to_vec()))
}

/// The time of record `index`: two each have the same.
fn time_ms(index: u64) -> u64 {
    1_000 + index / 2 * 10
}

/// A directory with a history, and what the state was after each record; the first one is before all of them.
struct Written {
    root: TempDir,
    models: Vec<Model>,
    /// The records with operations.
    changes: Vec<u64>,
}

/// Retains as a server does: `retention` decides what stays at each snapshot.
fn make(steps: &[Step], retention: Retention) -> Written {
    let root = crate::crash::scratch();
    let config = Config { segment_size_bytes: 2048, prezero: false, tail_bytes_max: 0, ..Config::default() };
    let mut models = vec![Model::default()];
    let mut state = State::new();
    let open = || {
        let dir = DataDir::open_or_create(root.path()).unwrap();
        let keyring = Arc::new(Keyring::open_or_create(&dir, 1).unwrap());
        let covered = snapshot::covered(&dir, &keyring).unwrap().map_or(0, |last| last.index);
        let (wal, _) = Wal::open_behind(&dir, config.clone(), keyring.clone(), covered).unwrap();
        (dir, keyring, wal)
    };
    let (mut dir, mut keyring, mut wal) = open();
    crate::vote::store(&dir, &keyring, b"vote").unwrap();
    for (step, index) in steps.iter().zip(1..) {
        let id = RecordId { term: 1 + index / 10, leader: 7, index };
        let key;
        let value;
        let mut model = models.last().unwrap().clone();
        let op = match step.change {
            Change::None => None,
            Change::Set(k, v) => {
                (key, value) = (format!("k{k}"), vec![v; 30]);
                model.0.insert(key.clone(), value.clone());
                Some(Op::MSet { pairs: vec![Pair { key: &key, value: &value }] })
            }
            Change::Delete(k) => {
                key = format!("k{k}");
                model.0.remove(&key);
                Some(Op::Del { keys: vec![&key] })
            }
            Change::User(content) => {
                value = vec![content];
                model.1 = Some(value.clone());
                let changes = vec![SystemChange::Put { key: "user".into(), value: (&value[..]).into() }];
                Some(Op::System { expect_revision: state.access_revision(), changes })
            }
        };
        let at = Sequence::new(index).unwrap();
        let batch = op.map(|op| Batch {
            time_ms: time_ms(index),
            access_revision: state.access_revision(),
            ops: vec![op],
        });
        let body = batch.as_ref().map(Batch::encode).unwrap_or_default();
        match &batch {
            Some(batch) => drop(state.apply(at, batch)),
            None => state.skip(at),
        }
        models.push(model);
        let (tell, told) = channel();
        let record = Record { id, time_ms: time_ms(index), body: body.into() };
        wal.append(vec![record], Box::new(move |outcome| tell.send(outcome).unwrap()));
        told.recv().unwrap().unwrap();
        match step.then {
            Then::GoOn => {}
            Then::Snapshot => {
                // Taken later than its last change.
                let head = Head { last: Some(id), time_ms: time_ms(index) + 500, meta: b"label".to_vec() };
                snapshot::write_keeping(&dir, &keyring, &head, |mut out| state.root().encode(&mut out))
                    .unwrap();
                let listing = snapshot::list(&dir).unwrap();
                let purged = wal.purged().map_or(0, |purged| purged.index);
                let log_bytes = |after, up_to| wal.segment_bytes(after, up_to);
                let now_ms = time_ms(index) + 500;
                let kept = snapshot::retain(&listing, retention, now_ms, purged, log_bytes).unwrap();
                snapshot::remove_older(&dir, &kept.removable).unwrap();
                if kept.log_after > purged {
                    let term = 1 + kept.log_after / 10;
                    wal.purge_to(RecordId { term, leader: 7, index: kept.log_after }).unwrap();
                }
            }
            Then::Restart => {
                drop((dir, wal));
                (dir, keyring, wal) = open();
            }
        }
    }
    wal.close().unwrap();
    let changes = (1..).zip(steps).filter(|(_, step)| !matches!(step.change, Change::None));
    let changes = changes.map(|(index, _)| index).collect();
    Written { root, models, changes }
}

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

impl Written {
    fn open(&self) -> (DataDir, Keyring) {
        let dir = DataDir::read_only(self.root.path(), Hold::Shared).unwrap();
        let keyring = Keyring::open_or_create(&dir, 1).unwrap();
        (dir, keyring)
    }

    fn rebuild(&self, point: Point) -> Result<Rebuilt, StorageError> {
        let (dir, keyring) = self.open();
        rebuild(&dir, &keyring, &Bodies, point)
    }

    fn window(&self) -> Window {
        let (dir, keyring) = self.open();
        verify::inspect(&dir, &keyring, &Bodies).unwrap().window
    }

    /// The moment of the last change up to the record `oldest`, or of the first one where the log is complete or there
    /// is none before.
    fn oldest_ms(&self, oldest: u64) -> Option<u64> {
        let (dir, keyring) = self.open();
        let history = History::open(&dir, &keyring, 0, &mut |_| Ok(())).unwrap();
        let before = self.changes.iter().take_while(|index| **index <= oldest).last();
        let before = before.filter(|_| history.purged().is_some());
        before.or(self.changes.first()).map(|index| time_ms(*index))
    }

    /// Restores every record from `oldest` on, and the moments between them.
    fn check(&self, oldest: u64) {
        let last = self.models.len() as u64 - 1;
        for index in 1..=last + 2 {
            let rebuilt = self.rebuild(Point::Sequence(index));
            if index < oldest || index > last {
                assert_eq!(
                    rebuilt.err().map(|error| error.code()),
                    Some(Code::RestorePointUnavailable),
                    "{index}"
                );
                continue;
            }
            let rebuilt = rebuilt.unwrap_or_else(|error| panic!("{index}: {error}"));
            assert_eq!(model_of(&rebuilt.root), self.models[usize::try_from(index).unwrap()], "{index}");
            assert_eq!((rebuilt.last.index, rebuilt.root.applied()), (index, Sequence::new(index)));
        }
        let window = self.window();
        let oldest_ms = self.oldest_ms(oldest);
        let newest_ms = self.changes.last().map(|index| time_ms(*index));
        let expected = Window { oldest: Some(oldest), oldest_ms, newest: Some(last), newest_ms };
        assert_eq!(window, expected);
        if let (Some(oldest_ms), Some(newest_ms)) = (oldest_ms, newest_ms) {
            for wanted in [0, oldest_ms / 1000, oldest_ms - 1] {
                let refused = self.rebuild(Point::TimestampMs(wanted)).err().expect("too early");
                assert_eq!(refused.code(), Code::RestorePointUnavailable);
                let told = refused.to_string();
                let named = format!("oldest restorable time is {oldest_ms} (1970-");
                assert!(
                    told.contains(&named) && told.contains(&format!("newest {newest_ms} (1970-")),
                    "{told}"
                );
                assert_eq!(told.contains("milliseconds"), wanted == oldest_ms / 1000, "{told}");
            }
        }
        for index in oldest..=last {
            for wanted in [time_ms(index), time_ms(index) + 9] {
                let rebuilt = self.rebuild(Point::TimestampMs(wanted));
                if oldest_ms.is_some_and(|oldest| wanted < oldest) {
                    assert_eq!(rebuilt.err().map(|error| error.code()), Some(Code::RestorePointUnavailable));
                    continue;
                }
                let rebuilt = rebuilt.unwrap();
                let expected = (1..=last).take_while(|at| time_ms(*at) <= wanted).last().unwrap();
                // Behind the last change that counts there may be records without any.
                let expected = &self.models[usize::try_from(expected).unwrap()];
                assert_eq!(&model_of(&rebuilt.root), expected, "at {wanted}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_moment_of_any_history_is_restored(steps in prop::collection::vec(step(), 1..40)) {
        let past = make(&steps, Retention { age_ms: 1 << 40, bytes: 1 << 40 });
        let before = files(past.root.path());
        past.check(1);
        let (dir, keyring) = past.open();
        let verified = verify::verify(&dir, &keyring, &Bodies).unwrap();
        prop_assert_eq!(verified.records, steps.len() as u64);
        prop_assert_eq!(verified.inspection.window.oldest, Some(1));
        let lock = past.root.path().join("LOCK");
        let sizes: usize = before.iter().filter(|(path, _)| **path != lock).map(|(_, content)| content.len()).sum();
        prop_assert_eq!(verified.bytes, sizes as u64, "every byte was read");
        prop_assert_eq!(files(past.root.path()), before, "the source was changed");
    }

    #[test]
    fn what_is_retained_is_restored_and_what_is_not_is_refused(
        steps in prop::collection::vec(step(), 1..60),
        bytes in 0..40_000_u64,
        age_ms in 1..2_000_u64,
    ) {
        let past = make(&steps, Retention { age_ms, bytes });
        let (dir, keyring) = past.open();
        let found = verify::inspect(&dir, &keyring, &Bodies).unwrap();
        prop_assert_eq!(found.window.newest, Some(steps.len() as u64));
        past.check(found.window.oldest.unwrap());
    }
}

fn some_steps() -> Vec<Step> {
    (0..30_u8)
        .map(|nth| Step {
            change: Change::Set(nth % 6, nth),
            then: if nth % 10 == 9 { Then::Snapshot } else { Then::GoOn },
        })
        .collect()
}

#[test]
fn a_directory_without_the_right_to_write_is_enough() {
    let past = make(&some_steps(), Retention { age_ms: 1 << 40, bytes: 1 << 40 });
    fs::remove_file(past.root.path().join("LOCK")).unwrap();
    let directories = ["", "wal", "snapshots"].map(|name| past.root.path().join(name));
    let set = |mode| {
        for directory in &directories {
            fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set(0o500);
    past.check(1);
    let (dir, keyring) = past.open();
    let verified = verify::verify(&dir, &keyring, &Bodies);
    set(0o700);
    verified.unwrap();
    assert!(!past.root.path().join("LOCK").exists(), "nothing was created, whoever runs the test");
}

#[test]
fn damage_is_found_by_verify_wherever_it_is() {
    let past = make(&some_steps(), Retention { age_ms: 1 << 40, bytes: 1 << 40 });
    let mut checked = 0;
    for (path, good) in files(past.root.path()) {
        // The lock, and the mark of the newest segment, which is a name.
        if good.is_empty() || path.ends_with("LOCK") {
            continue;
        }
        for at in [0, good.len() / 3, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            fs::write(&path, &bad).unwrap();
            let dir = DataDir::read_only(past.root.path(), Hold::Shared).unwrap();
            let found = Keyring::open_or_create(&dir, 1)
                .and_then(|keyring| verify::verify(&dir, &keyring, &Bodies).map(|_| ()));
            let error = found.expect_err(&format!("{} byte {at}", path.display()));
            assert!(error.file().is_some() && error.advice().is_some(), "{error}");
            checked += 1;
        }
        fs::write(&path, &good).unwrap();
    }
    assert!(checked > 30, "{checked}");
    // What an older snapshot alone is needed for does not stop what needs it not.
    let older = past.root.path().join("snapshots/10.bin");
    fs::write(&older, b"damaged").unwrap();
    assert!(past.rebuild(Point::Sequence(25)).is_ok());
    fs::remove_file(&older).unwrap();
    assert_eq!(past.rebuild(Point::Sequence(15)).unwrap().base, None, "the log is complete");
}

#[test]
fn what_came_before_damage_in_the_newest_segment_is_restored() {
    let mut steps = some_steps();
    steps[29].then = Then::GoOn;
    let past = make(&steps, Retention { age_ms: 1 << 40, bytes: 1 << 40 });
    let start = |path: &Path| {
        let name = path.file_name()?.to_str()?.strip_suffix("-30.wal")?;
        name.parse::<u64>().ok()
    };
    let (newest, good) = files(past.root.path()).into_iter().find(|(path, _)| start(path).is_some()).unwrap();
    let start = start(&newest).unwrap();
    assert!((21..29).contains(&start), "behind the last snapshot, and of several records: {start}");
    let end = good.len();
    let sector = (end - 512) / (31 - usize::try_from(start).unwrap()) / 512 * 512;
    type Edit<'a> = dyn Fn(&mut Vec<u8>) + 'a;
    // What is done, and the last whole record.
    let damages: [(&str, &Edit<'_>, u64); 7] = [
        ("last record, flipped", &|content| content[end - 100] ^= 1, 29),
        ("last record, missing", &|content| content.truncate(end - sector), 29),
        ("last record, zeroed", &|content| content[end - sector..].fill(0), 29),
        ("first record, flipped", &|content| content[600] ^= 1, start - 1),
        ("header, flipped", &|content| content[20] ^= 1, start - 1),
        ("header only", &|content| content.truncate(512), start - 1),
        ("emptied", &|content| content.clear(), start - 1),
    ];
    let check = |what: &str, whole: u64| {
        let (dir, keyring) = past.open();
        assert!(verify::verify(&dir, &keyring, &Bodies).is_err(), "{what}");
        let found = verify::inspect(&dir, &keyring, &Bodies).unwrap();
        let damage = found.damage.unwrap_or_else(|| panic!("{what}: no damage"));
        assert_eq!(
            (found.window.newest, found.window.newest_ms),
            (Some(whole), Some(time_ms(whole) - 1)),
            "{what}"
        );
        assert!(past.rebuild(Point::TimestampMs(time_ms(whole) - 1)).is_ok(), "{what}");
        for index in [1, 9, 15, 20, whole - 1, whole, whole + 1, 30] {
            let rebuilt = past.rebuild(Point::Sequence(index));
            if index <= whole {
                let model = model_of(&rebuilt.unwrap().root);
                assert_eq!(model, past.models[usize::try_from(index).unwrap()], "{what}: {index}");
            } else {
                let refused = rebuilt.err().unwrap();
                assert_eq!((refused.code(), refused.file()), (damage.code(), damage.file()), "{what}");
                assert_eq!(refused.offset(), damage.offset(), "{what}");
                assert!(refused.to_string().contains(&format!("whole up to entry {whole}")), "{refused}");
            }
            let rebuilt = past.rebuild(Point::TimestampMs(time_ms(index)));
            // What is damaged may have happened in the same millisecond.
            assert_eq!(rebuilt.is_ok(), time_ms(index) < time_ms(whole), "{what}: at {index}");
        }
        assert!(past.rebuild(Point::TimestampMs(u64::MAX)).is_err(), "{what}");
    };
    for (what, edit, whole) in damages {
        let mut bad = good.clone();
        edit(&mut bad);
        fs::write(&newest, &bad).unwrap();
        check(what, whole);
    }
    fs::remove_file(&newest).unwrap();
    check("missing", start - 1);
    fs::write(&newest, &good).unwrap();

    // What is not the newest one is needed by whatever comes behind.
    let before = files(past.root.path())
        .into_keys()
        .find(|path| path.to_str().is_some_and(|path| path.ends_with(&format!("-{}.wal", start - 1))))
        .unwrap();
    let good = fs::read(&before).unwrap();
    fs::write(&before, &good[..100]).unwrap();
    assert!(past.rebuild(Point::Sequence(30)).is_err());
    assert!(past.rebuild(Point::Sequence(1)).is_err(), "its header says what the order is");
    let mut bad = good.clone();
    bad[600] ^= 1;
    fs::write(&before, &bad).unwrap();
    assert!(past.rebuild(Point::Sequence(1)).is_ok());
    assert_eq!(past.rebuild(Point::Sequence(30)).err().and_then(|error| error.offset()), Some(512));
}

#[test]
fn a_target_is_made_as_a_whole_or_not_at_all() {
    let past = make(&some_steps(), Retention { age_ms: 1 << 40, bytes: 1 << 40 });
    let parent = crate::crash::scratch();
    let (dir, _) = past.open();
    let link = parent.path().join("link");
    std::os::unix::fs::symlink(past.root.path(), &link).unwrap();
    let refused = |path: &Path| match Target::prepare(&dir, path) {
        Err(error) => error,
        Ok(_) => panic!("{} was taken", path.display()),
    };
    for path in [
        past.root.path().to_owned(),
        past.root.path().join("wal/../"),
        past.root.path().join("inside"),
        past.root.path().join("inside/missing"),
        parent.path().join("missing/../new"),
        link.join("inside"),
    ] {
        assert_eq!(refused(&path).code(), Code::InvalidStorageOperation, "{}", path.display());
    }
    fs::remove_file(link).unwrap();
    let taken = parent.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::File::create(taken.join("something")).unwrap().write_all(b"x").unwrap();
    assert_eq!(refused(&taken).code(), Code::InvalidStorageOperation);

    let path = parent.path().join("new");
    drop(Target::prepare(&dir, &path).unwrap());
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing is left of it");
    fs::create_dir(&path).unwrap();
    let target = Target::prepare(&dir, &path).unwrap();
    assert!(Target::prepare(&dir, &path).is_err(), "one at a time");
    target.publish().unwrap();
    let keyring = fs::read(past.root.path().join("keyring.bin")).unwrap();
    assert_eq!(fs::read(path.join("keyring.bin")).unwrap(), keyring);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
}
