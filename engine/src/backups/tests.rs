//! Crashes and refusals at every step, links of every kind, and readers and writers that meet.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, RenameFlags};
use tempfile::TempDir;

use super::*;
use crate::crash::{Crashes, scratch};
use crate::dump::Purpose;
use crate::op::{Batch, Op, Pair as KeyValue};
use crate::sequence::Sequence;
use crate::state::State;

const NOW_MS: u64 = 1_800_000_000_000;
const GO: GoOn<'static> = &|| true;

/// A state whose backups are about this long, and cannot be mistaken for each other.
fn root(word: &str, bytes: usize) -> Root {
    let value = word.as_bytes().repeat(bytes / word.len() + 1);
    let mut state = State::new();
    let pairs = vec![KeyValue { key: word, value: &value }];
    let batch = Batch { time_ms: 1, access_revision: 0, ops: vec![Op::MSet { pairs }] };
    state.apply(Sequence::FIRST, &batch);
    state.root()
}

fn open(path: &Path) -> BackupDir {
    BackupDir::with_watch(path, Watch::default()).unwrap()
}

fn watched(path: &Path, probe: Arc<dyn Probe>) -> BackupDir {
    BackupDir::with_watch(path, Watch(Some(probe))).unwrap()
}

fn write(dir: &BackupDir, path: &str, word: &str) -> Result<Summary, BackupError> {
    dir.write(path, &root(word, 40), NOW_MS, GO)
}

/// The only key of a backup that is whole and matches its manifest.
fn read(dir: &BackupDir, path: &str) -> Result<String, BackupError> {
    let pair = dir.open(path)?;
    assert!(pair.has_manifest(), "{path} has no manifest");
    let checked = pair.check(NOW_MS, GO)?;
    let mut keys = Vec::new();
    assert!(pair.entries(&checked, GO, |entry| {
        keys.push(entry.key.into_owned());
        true
    })?);
    assert_eq!(keys.len(), 1);
    Ok(keys.remove(0))
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn is_rejected<T>(result: Result<T, BackupError>, path: &str) {
    match result {
        Err(BackupError::Rejected(told)) => assert_eq!(told, path),
        Err(error) => panic!("{path}: {error}"),
        Ok(_) => panic!("{path} was accepted"),
    }
}

#[test]
fn what_is_written_is_read_back_and_nobody_else_may_read_it() {
    let parent = scratch();
    let path = parent.path().join("deep/backups");
    let data = DataDir::open_or_create(parent.path().join("data")).unwrap();
    let dir = BackupDir::open_or_create(&path, &data).unwrap();
    let summary = write(&dir, "a/b/c.json", "first").unwrap();
    assert_eq!(read(&dir, "a/b/c.json").unwrap(), "first");
    let absolute = path.join("a/b/../b/c.json");
    is_rejected(dir.open(absolute.to_str().unwrap()), absolute.to_str().unwrap());
    assert_eq!(read(&dir, path.join("a/b/c.json").to_str().unwrap()).unwrap(), "first");
    assert_eq!(names(&path.join("a/b")), ["c.json", "c.json.manifest.json"]);
    assert_eq!(fs::metadata(path.join("a/b/c.json")).unwrap().len(), summary.byte_len);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.join("a/b/c.json")), 0o600);
    assert_eq!(mode(path.join("a/b/c.json.manifest.json")), 0o600);
    assert_eq!(mode(path.join("a/b")), 0o700);
    assert_eq!(mode(path), 0o700);
}

#[test]
fn the_files_of_the_server_are_out_of_reach() {
    let parent = scratch();
    let data = DataDir::open_or_create(parent.path().join("data")).unwrap();
    symlink(data.root(), parent.path().join("link")).unwrap();
    for path in ["data", "data/wal", "data/snapshots/x", ".", "link", "link/wal"] {
        let error = BackupDir::open_or_create(&parent.path().join(path), &data).err().expect(path);
        assert_eq!(error.code(), Code::InvalidStorageOperation, "{error}");
        assert!(error.advice().is_some());
    }
    assert!(!data.root().join("snapshots").exists(), "refused before it is created");
    BackupDir::open_or_create(&data.root().join("backups"), &data).unwrap();
}

#[test]
fn a_crash_leaves_the_old_pair_or_the_new_one() {
    let parent = scratch();
    let crashes = Crashes::<&'static str>::watch(parent.path());
    let dir = watched(parent.path(), crashes.clone());
    crashes.note("none or first");
    write(&dir, "x.json", "first").unwrap();
    crashes.note("first or second");
    write(&dir, "x.json", "second").unwrap();
    crashes.note("second");
    write(&dir, "other.json", "other").unwrap();
    let images = crashes.taken();
    let mut seen = std::collections::BTreeSet::new();
    for image in &images {
        let crashed = image.restore();
        fs::remove_dir(crashed.path().join("wal")).unwrap();
        let dir = open(crashed.path());
        let found = match read(&dir, "x.json") {
            Ok(word) => word,
            Err(BackupError::Io(error)) if error.kind() == io::ErrorKind::NotFound => "none".to_owned(),
            Err(error) => panic!("{}: {error}", image.what),
        };
        assert!(image.note.split(" or ").any(|word| word == found), "{}: {found}", image.what);
        seen.insert(found);
        let left: Vec<_> = names(crashed.path()).into_iter().filter(|name| name.starts_with('.')).collect();
        assert_eq!(left, Vec::<String>::new(), "{}", image.what);
        // And the next backup finds nothing in its way.
        write(&dir, "x.json", "third").unwrap();
        assert_eq!(read(&dir, "x.json").unwrap(), "third", "{}", image.what);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["first", "none", "second"]);
    assert!(images.len() >= 60, "{} images", images.len());
}

/// Refuses one operation, counted from 0.
struct Refuse {
    at: usize,
    errno: Errno,
    seen: AtomicUsize,
    what: Mutex<Option<Operation>>,
}

impl Refuse {
    fn new(at: usize, errno: Errno) -> Arc<Self> {
        Arc::new(Self { at, errno, seen: AtomicUsize::new(0), what: Mutex::default() })
    }
}

impl Probe for Refuse {
    fn before(&self, operation: Operation, _: &Path) -> io::Result<()> {
        if self.seen.fetch_add(1, Ordering::Relaxed) != self.at {
            return Ok(());
        }
        *self.what.lock() = Some(operation);
        Err(self.errno.into())
    }

    fn after(&self, _: Operation, _: &Path) {}
}

#[test]
fn a_refusal_at_any_step_leaves_the_old_pair_or_the_new_one() {
    for errno in [Errno::NOSPC, Errno::IO] {
        let mut refused = 0;
        for at in 0.. {
            let parent = scratch();
            write(&open(parent.path()), "x.json", "old").unwrap();
            let probe = Refuse::new(at, errno);
            let result = write(&watched(parent.path(), probe.clone()), "x.json", "new");
            let Some(operation) = *probe.what.lock() else {
                result.unwrap();
                break;
            };
            let error = result.unwrap_err();
            let BackupError::Io(reason) = &error else { panic!("{operation:?}: {error}") };
            assert_eq!(reason.raw_os_error(), Some(errno.raw_os_error()), "{operation:?}");
            assert_eq!(error.code(Purpose::Verify), Code::ServerFilesystemIoFailure);
            refused += 1;

            let dir = open(parent.path());
            let found = read(&dir, "x.json").unwrap();
            assert!(found == "old" || found == "new", "{operation:?} {at}: {found}");
            assert_eq!(names(parent.path()), ["x.json", "x.json.manifest.json"], "{operation:?} {at}");
            if errno == Errno::NOSPC && matches!(operation, Operation::Write | Operation::Create) {
                assert_eq!(found, "old", "{operation:?}: a full disk never costs the old backup");
            }
        }
        assert!(refused >= 11, "{refused} steps");
    }
}

#[test]
fn links_are_not_followed() {
    let parent = scratch();
    let (inside, outside) = (parent.path().join("in"), parent.path().join("out"));
    fs::create_dir_all(inside.join("real")).unwrap();
    fs::create_dir(&outside).unwrap();
    let dir = open(&inside);
    write(&dir, "real/x.json", "inside").unwrap();
    write(&open(&outside), "secret.json", "secret").unwrap();
    symlink(outside.join("secret.json"), inside.join("file.json")).unwrap();
    symlink(&outside, inside.join("away")).unwrap();
    symlink("real", inside.join("near")).unwrap();
    symlink("nowhere", inside.join("dangling")).unwrap();
    symlink(outside.join("m"), inside.join("m.json.manifest.json")).unwrap();
    for path in ["file.json", "away/secret.json", "near/x.json", "dangling", "dangling/x", "away", "near"] {
        is_rejected(write(&dir, path, "evil"), path);
        is_rejected(dir.open(path), path);
    }
    is_rejected(write(&dir, "m.json", "evil"), "m.json");
    fs::copy(inside.join("real/x.json"), inside.join("m.json")).unwrap();
    is_rejected(dir.open("m.json"), "m.json");
    assert_eq!(names(&outside), ["secret.json", "secret.json.manifest.json"]);
    assert_eq!(read(&open(&outside), "secret.json").unwrap(), "secret");
    assert_eq!(names(&inside.join("real")), ["x.json", "x.json.manifest.json"]);

    // The operator's own path may be a link.
    let by_link = open(&inside.join("near"));
    assert_eq!(read(&by_link, "x.json").unwrap(), "inside");
    assert_eq!(read(&by_link, inside.join("real/x.json").to_str().unwrap()).unwrap(), "inside");
    assert_eq!(read(&by_link, inside.join("near/x.json").to_str().unwrap()).unwrap(), "inside");
}

#[test]
fn nothing_outside_is_created_before_a_path_is_refused() {
    let parent = scratch();
    let inside = parent.path().join("in");
    fs::create_dir(&inside).unwrap();
    let dir = open(&inside);
    let absolute = parent.path().join("new/sub/x.json");
    for path in
        ["../new/x.json", "new/../../new/x.json", "new/../x.json", absolute.to_str().unwrap(), "", "."]
    {
        is_rejected(write(&dir, path, "evil"), path);
    }
    let long = format!("sub/{}", "n".repeat(NAME_TOO_LONG));
    assert!(matches!(write(&dir, &long, "evil"), Err(BackupError::Io(_))));
    assert_eq!(names(parent.path()), ["in"]);
    assert_eq!(names(&inside), Vec::<String>::new());
}

/// A name for a file, but not for the files that belong to it.
const NAME_TOO_LONG: usize = 240;

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_directory_that_is_swapped_for_a_link_leads_nowhere() {
    let parent = scratch();
    let (inside, outside) = (parent.path().join("in"), parent.path().join("out"));
    fs::create_dir_all(inside.join("sub")).unwrap();
    fs::create_dir(&outside).unwrap();
    write(&open(&outside), "x.json", "secret").unwrap();
    let before: Vec<_> =
        ["x.json", "x.json.manifest.json"].map(|n| fs::read(outside.join(n)).unwrap()).into();
    symlink(&outside, parent.path().join("link")).unwrap();
    let dir = open(&inside);
    let done = AtomicBool::new(false);
    let (mut written, mut rejected) = (0, 0);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let (one, other) = (inside.join("sub"), parent.path().join("link"));
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        // Ends the other thread also where this one fails.
        let _done = SetOnDrop(&done);
        // Until both sides of the race have been met often enough.
        while written < 200 || rejected < 200 {
            assert!(!swapper.is_finished());
            match write(&dir, "sub/x.json", "inside") {
                Ok(_) => written += 1,
                Err(BackupError::Rejected(_)) => rejected += 1,
                Err(error) => panic!("{error}"),
            }
            if let Ok(pair) = dir.open("sub/x.json") {
                let checked = pair.check(NOW_MS, GO).unwrap();
                let handed_out = pair.entries(&checked, GO, |entry| {
                    assert_eq!(entry.key, "inside");
                    true
                });
                assert!(handed_out.unwrap());
            }
        }
    });
    let after: Vec<_> = ["x.json", "x.json.manifest.json"].map(|n| fs::read(outside.join(n)).unwrap()).into();
    assert_eq!(before, after);
    assert_eq!(names(&outside), ["x.json", "x.json.manifest.json"]);
}

#[test]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    let parent = scratch();
    let dir = open(parent.path());
    rustix::fs::mkfifoat(CWD, parent.path().join("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    fs::create_dir(parent.path().join("dir")).unwrap();
    for path in ["pipe", "dir", "", "missing", "missing/x", "pipe/x"] {
        let error = dir.open(path).map(|_| ()).unwrap_err();
        assert!(matches!(error, BackupError::Io(_)), "{path}: {error}");
    }
    for path in ["pipe", "dir", "pipe/x"] {
        let error = write(&dir, path, "x").unwrap_err();
        assert!(matches!(error, BackupError::Io(_)), "{path}: {error}");
    }
    let error = dir.open("missing").map(|_| ()).unwrap_err();
    assert_eq!(
        error.message(Purpose::Verify),
        "filesystem I/O failed: No such file or directory (os error 2)"
    );
}

#[test]
fn a_document_that_changes_after_it_was_checked_is_noticed() {
    let parent = scratch();
    let dir = open(parent.path());
    write(&dir, "x.json", "one").unwrap();
    let pair = dir.open("x.json").unwrap();
    let checked = pair.check(NOW_MS, GO).unwrap();
    // Replaced by name: the one that was opened is still the one that was checked.
    write(&dir, "x.json", "two").unwrap();
    assert!(pair.entries(&checked, GO, |entry| entry.key == "one").unwrap());

    let pair = dir.open("x.json").unwrap();
    let checked = pair.check(NOW_MS, GO).unwrap();
    let path = parent.path().join("x.json");
    let original = fs::read_to_string(&path).unwrap();
    for changed in [
        // The same length, another value.
        original.replace("dHdv", "dHdw"),
        original.replace("\"version\":1}", "\"version\":2}"),
        original.clone() + " ",
        original[..original.len() - 1].to_owned(),
        String::new(),
    ] {
        assert_ne!(changed, original);
        fs::write(&path, &changed).unwrap();
        assert!(matches!(pair.entries(&checked, GO, |_| true), Err(BackupError::Changed)), "{changed}");
    }
    fs::write(&path, &original).unwrap();
    assert!(pair.entries(&checked, GO, |_| true).unwrap());
    assert!(!pair.entries(&checked, GO, |_| false).unwrap(), "somebody had enough");
}

#[test]
fn pairs_are_whole_while_they_are_replaced() {
    let parent = scratch();
    let dir = open(parent.path());
    write(&dir, "x.json", "seed").unwrap();
    std::thread::scope(|scope| {
        let writers = ["left", "right"].map(|word| {
            let dir = dir.clone();
            scope.spawn(move || {
                for _ in 0..100 {
                    write(&dir, "x.json", word).unwrap();
                }
            })
        });
        while writers.iter().any(|writer| !writer.is_finished()) {
            // A handle of its own stands for another process.
            read(&open(parent.path()), "x.json").unwrap();
        }
    });
    assert_eq!(names(parent.path()), ["x.json", "x.json.manifest.json"]);
}

#[test]
fn a_backup_that_nobody_waits_for_is_given_up() {
    let parent = scratch();
    let dir = open(parent.path());
    write(&dir, "x.json", "old").unwrap();
    let result = dir.write("x.json", &root("new", 1 << 20), NOW_MS, &|| false);
    assert!(matches!(result, Err(BackupError::Stopped)));
    assert_eq!(names(parent.path()), ["x.json", "x.json.manifest.json"]);
    assert_eq!(read(&dir, "x.json").unwrap(), "old");
    let pair = dir.open("x.json").unwrap();
    assert!(matches!(pair.check(NOW_MS, &|| false), Err(BackupError::Stopped)));
}

#[test]
fn a_backup_in_progress_is_no_leftover() {
    /// Looks at the directory in the middle of a backup, as another server that shares it would.
    struct Neighbour {
        path: PathBuf,
        looked: AtomicBool,
    }
    impl Probe for Neighbour {
        fn before(&self, operation: Operation, _: &Path) -> io::Result<()> {
            // Only while the directory is not locked.
            if operation == Operation::Write && !self.looked.swap(true, Ordering::Relaxed) {
                open(&self.path);
            }
            Ok(())
        }
        fn after(&self, _: Operation, _: &Path) {}
    }
    let parent: TempDir = scratch();
    let probe = Arc::new(Neighbour { path: parent.path().to_owned(), looked: AtomicBool::new(false) });
    let dir = watched(parent.path(), probe.clone());
    write(&dir, "x.json", "new").unwrap();
    assert!(probe.looked.load(Ordering::Relaxed));
    assert_eq!(read(&dir, "x.json").unwrap(), "new");
}

#[test]
fn a_manifest_that_is_wrong_is_told_apart_from_one_that_is_missing() {
    let parent = scratch();
    let dir = open(parent.path());
    write(&dir, "x.json", "word").unwrap();
    let manifest = parent.path().join("x.json.manifest.json");
    let original = fs::read_to_string(&manifest).unwrap();
    let message = |content: &str, purpose| {
        fs::write(&manifest, content).unwrap();
        let error = dir.open("x.json").unwrap().check(NOW_MS, GO).unwrap_err();
        assert_eq!(error.code(purpose), Code::BackupVerificationFailure);
        error.message(purpose)
    };
    let other = original.replace("\"entry_count\": 1", "\"entry_count\": 2");
    assert_eq!(
        message(&other, Purpose::Verify),
        "backup verification failed: backup manifest does not match dump"
    );
    assert!(message(&other, Purpose::Restore).contains("without a manifest"));
    message("{}", Purpose::Verify);
    message(&"x".repeat(200_000), Purpose::Verify);
    fs::write(&manifest, [0xff]).unwrap();
    assert!(dir.open("x.json").unwrap().check(NOW_MS, GO).is_err());
    fs::remove_file(&manifest).unwrap();
    let pair = dir.open("x.json").unwrap();
    assert!(!pair.has_manifest());
    pair.check(NOW_MS, GO).unwrap();
}

#[test]
fn backups_are_listed_without_what_only_goes_with_them() {
    let dir = TempDir::new().unwrap();
    let backups = open(dir.path());
    for path in ["b.json", "a/c.json", "a.json"] {
        write(&backups, path, "word").unwrap();
    }
    fs::write(dir.path().join("old.json"), "{}").unwrap();
    // The manifest of nothing is a file like any other.
    fs::write(dir.path().join("gone.json.manifest.json"), "{}").unwrap();
    symlink("/etc", dir.path().join("link")).unwrap();
    symlink("b.json", dir.path().join("link.json")).unwrap();
    let listed = backups.list().unwrap();
    let shown: Vec<_> = listed.iter().map(|file| (file.path.as_str(), file.has_manifest)).collect();
    assert_eq!(
        shown,
        [
            ("a.json", true),
            ("a/c.json", true),
            ("b.json", true),
            ("gone.json.manifest.json", false),
            ("old.json", false)
        ]
    );
    assert!(listed.iter().all(|file| file.size_bytes > 0 && file.modified_at_ms > 0));
}

#[test]
fn a_removed_backup_is_gone_with_its_manifest_and_nothing_else_is() {
    let dir = TempDir::new().unwrap();
    let backups = open(dir.path());
    write(&backups, "one.json", "one").unwrap();
    write(&backups, "two.json", "two").unwrap();
    symlink("two.json", dir.path().join("link.json")).unwrap();
    backups.remove("one.json").unwrap();
    for path in ["one.json", "link.json", "../x", "missing/one.json", ""] {
        assert!(backups.remove(path).is_err(), "{path:?}");
    }
    assert_eq!(names(dir.path()), ["link.json", "two.json", "two.json.manifest.json"]);
    assert_eq!(read(&backups, "two.json").unwrap(), "two");
}

#[test]
fn what_comes_from_elsewhere_gets_its_name_only_when_it_is_whole() {
    let dir = TempDir::new().unwrap();
    let backups = open(dir.path());
    write(&backups, "one.json", "one").unwrap();
    let document = fs::read(dir.path().join("one.json")).unwrap();
    let receive = |bytes: &[u8]| backups.receive("two.json", &mut &*bytes, NOW_MS, GO);
    for bytes in [&document[..document.len() - 1], b"".as_slice(), b"{}".as_slice(), b"text".as_slice()] {
        assert!(receive(bytes).is_err());
        assert_eq!(names(dir.path()), ["one.json", "one.json.manifest.json"], "nothing is left of it");
    }
    let checked = receive(&document).unwrap();
    assert_eq!(checked.summary.entry_count, 1);
    assert_eq!(read(&backups, "two.json").unwrap(), "one");
    // Another one takes its place, or does not touch it.
    write(&backups, "three.json", "three").unwrap();
    let document = fs::read(dir.path().join("three.json")).unwrap();
    assert!(receive(&document[1..]).is_err());
    assert_eq!(read(&backups, "two.json").unwrap(), "one");
    receive(&document).unwrap();
    assert_eq!(read(&backups, "two.json").unwrap(), "three");
}
