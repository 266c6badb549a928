//! A disk that is full or refuses: nothing acknowledged is lost, nothing is promised that does not happen, and when the
//! disk has room again the log goes on by itself.

use std::io::ErrorKind;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::*;
use crate::disk::{Operation, Probe};
use crate::error::Trouble;

/// Longer than anything here takes; a hang fails instead of blocking.
const PATIENCE: Duration = Duration::from_secs(60);

/// A disk that refuses on request, or is full until one of the reserves is removed.
#[derive(Default)]
struct Small {
    state: Mutex<Limits>,
}

#[derive(Default)]
struct Limits {
    /// Refuses this operation on files whose name contains the text, this often.
    refuse: Option<(Operation, &'static str, ErrorKind, usize)>,
    refused: usize,
    /// Whether nothing more fits: files can be neither made nor given space.
    full: bool,
}

impl Small {
    fn refuse(&self, operation: Operation, name: &'static str, kind: ErrorKind, times: usize) {
        self.state.lock().refuse = Some((operation, name, kind, times));
    }

    fn refused(&self) -> usize {
        self.state.lock().refused
    }

    fn fill(&self, full: bool) {
        self.state.lock().full = full;
    }
}

impl Probe for Small {
    fn before(&self, operation: Operation, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let name = path.file_name().unwrap().to_str().unwrap();
        if let Some((refused, text, kind, times)) = &mut state.refuse
            && *refused == operation
            && name.contains(*text)
            && *times > 0
        {
            *times -= 1;
            let kind = *kind;
            state.refused += 1;
            return Err(kind.into());
        }
        if state.full && matches!(operation, Operation::Create | Operation::Allocate) {
            state.refused += 1;
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn after(&self, operation: Operation, path: &Path) {
        let mut state = self.state.lock();
        if operation == Operation::Remove && (path.ends_with("reserve.tmp") || path.ends_with("spare.tmp")) {
            state.full = false;
        }
    }
}

struct Troubled {
    log: Open,
    disk: Arc<Small>,
    bench: Bench,
}

impl Troubled {
    fn new(reserve_bytes: u64) -> Self {
        let mut bench = Bench::new();
        bench.config.reserve_bytes = reserve_bytes;
        bench.config.segment_size_bytes = 64 << 10;
        let disk = Arc::new(Small::default());
        let dir = DataDir::with_probe(bench.path(), Arc::clone(&disk) as _).unwrap();
        let log = open(dir, &bench.config).unwrap();
        Self { log, disk, bench }
    }

    /// Hands a record over without waiting for it.
    fn hand_over(&self, record: Record) -> Receiver<io::Result<()>> {
        let (tell, told) = channel();
        self.log.wal.append(vec![record], Box::new(move |outcome| tell.send(outcome).unwrap()));
        told
    }

    fn want_room(&self, bytes: u64, purpose: Purpose) -> Result<(), StorageError> {
        let (tell, told) = channel();
        self.log.wal.want_room(bytes, purpose, Box::new(move |found| tell.send(found).unwrap()));
        told.recv_timeout(PATIENCE).unwrap()
    }

    /// What a restart finds.
    fn reopen(self) -> Vec<Record> {
        drop(self.log);
        self.bench.open().all()
    }
}

fn until(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "still not so");
        std::thread::yield_now();
    }
}

#[test]
fn a_refused_write_is_done_again_in_a_new_segment() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        for before in 0..3 {
            let t = Troubled::new(0);
            (1..=before).for_each(|index| t.log.append(vec![record(index, 40)]));
            t.disk.refuse(Operation::Write, "active", kind, 1);
            t.log.append(vec![record(before + 1, 700)]);
            assert_eq!((t.disk.refused(), t.log.wal.stats().refused_writes), (1, 1));
            assert!(!t.log.wal.is_stuck());
            t.log.append(vec![record(before + 2, 40)]);
            let expected: Vec<_> = (1..=before)
                .map(|index| record(index, 40))
                .chain([record(before + 1, 700), record(before + 2, 40)])
                .collect();
            assert_eq!(t.log.all(), expected);
            let names = segment_names(t.bench.path());
            assert_eq!(names.len(), if before == 0 { 1 } else { 2 }, "{names:?}");
            assert_eq!(t.reopen(), expected, "{before} before, {kind}");
        }
    }
}

#[test]
fn what_is_written_while_the_disk_refuses_everything_waits_and_is_written_once_it_does_not() {
    let t = Troubled::new(2048);
    t.log.append(records(1..=2));
    t.disk.refuse(Operation::Write, "", ErrorKind::Other, usize::MAX);
    let waits = t.hand_over(record(3, 100));
    until(|| t.log.wal.is_stuck());
    assert!(!t.log.wal.has_room(512, Purpose::Free), "nothing more is taken on");
    let error = t.want_room(512, Purpose::Free).unwrap_err();
    assert_eq!(error.code(), Code::EngineFilesystemIoFailure);
    assert_eq!(t.log.all().len(), 3, "reads go on");
    assert_eq!(t.log.wal.durable_index(), Some(2));
    assert!(waits.try_recv().is_err(), "neither yes nor no");
    t.disk.refuse(Operation::Write, "", ErrorKind::Other, 0);
    waits.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(!t.log.wal.is_stuck());
    t.log.append(vec![record(4, 40)]);
    let expected = [record(1, 40), record(2, 40), record(3, 100), record(4, 40)];
    assert_eq!(t.log.all(), expected);
    assert_eq!(t.reopen(), expected);
}

#[test]
fn a_log_that_closes_while_it_waits_for_the_disk_says_that_it_failed() {
    let t = Troubled::new(0);
    t.log.append(records(1..=2));
    t.disk.refuse(Operation::Write, "", ErrorKind::StorageFull, usize::MAX);
    let waits = t.hand_over(record(3, 100));
    until(|| t.log.wal.is_stuck());
    assert!(t.log.wal.clone().close().is_err());
    assert!(waits.recv_timeout(PATIENCE).unwrap().is_err());
    t.disk.refuse(Operation::Write, "", ErrorKind::StorageFull, 0);
    assert_eq!(t.reopen(), records(1..=2));
}

#[test]
fn on_a_full_disk_writes_are_refused_first_and_deletes_last_and_all_work_again_by_themselves() {
    const RESERVE: u64 = 256 << 10;
    let t = Troubled::new(RESERVE);
    t.disk.fill(true);
    let mut index = 0;
    let mut fill = |purpose| {
        while t.log.wal.has_room(size_alone_bytes(4000), purpose) {
            index += 1;
            t.log.append(vec![record(index, 4000)]);
        }
        let error = match t.want_room(size_alone_bytes(4000), purpose) {
            Err(error) => error,
            Ok(()) => panic!("{purpose:?}: there is room"),
        };
        (index, error)
    };
    let (writes, error) = fill(Purpose::Write);
    assert!(writes > 10, "{writes}");
    assert_eq!((error.code(), error.trouble()), (Code::EngineFilesystemIoFailure, Some(Trouble::NoSpace)));
    assert!(error.to_string().contains("the write was not done"), "{error}");
    assert!(error.file().is_some_and(|file| file.to_str().unwrap().contains("active")), "{error}");
    assert!(error.advice().is_some_and(|advice| advice.contains("snapshot")), "{error}");
    assert!(t.log.wal.stats().is_short);
    assert!(t.log.wal.has_room(size_alone_bytes(4000), Purpose::Free));
    // Deletes are written into the reserve.
    let mut deletes = 0;
    while t.log.wal.has_room(size_alone_bytes(4000), Purpose::Free) {
        deletes += 1;
        t.log.append(vec![record(writes + deletes, 4000)]);
    }
    assert!(deletes > 20, "{deletes}");
    // And into what its file gives up.
    assert!(t.bench.path().join("wal/reserve.tmp").exists());
    t.want_room(size_alone_bytes(4000), Purpose::Free).unwrap();
    assert!(!t.bench.path().join("wal/reserve.tmp").exists());
    t.log.append(vec![record(writes + deletes + 1, 4000)]);
    // There is room again: nobody has to say so.
    t.disk.fill(false);
    until(|| !t.log.wal.stats().is_short && t.bench.path().join("wal/reserve.tmp").exists());
    assert!(t.log.wal.has_room(size_alone_bytes(4000), Purpose::Write));
    let all = t.log.all();
    assert_eq!(all.len() as u64, writes + deletes + 1);
    assert_eq!(t.reopen(), all);
}

#[test]
fn what_was_promised_room_finds_it_also_across_segments() {
    let t = Troubled::new(16 << 10);
    let mut index = 0;
    for round in 0..200 {
        // The disk fills up between the promise and the write.
        let len = [100, 3000, 20_000, 70_000, 200_000][round % 5];
        let mut promised = t.log.wal.has_room(size_alone_bytes(len), Purpose::Write);
        promised = promised || t.want_room(size_alone_bytes(len), Purpose::Write).is_ok();
        t.disk.fill(round % 3 > 0);
        if promised {
            index += 1;
            t.log.append(vec![record(index, len)]);
            assert_eq!(t.log.wal.stats().refused_writes, 0);
        }
        if round % 2 == 0 {
            t.disk.fill(false);
        }
    }
    assert!(index > 120, "{index}");
    t.disk.fill(false);
    let segments = segment_names(t.bench.path()).len();
    assert!(segments > 2, "{segments}");
    let all = t.log.all();
    assert_eq!(all.len() as u64, index);
    assert_eq!(t.reopen(), all);
}

/// Everything that is replaced as a whole, with the operations of which it is made.
const REPLACED: [(&str, &[Operation]); 4] = [
    ("vote.bin", &[Operation::Create, Operation::Write, Operation::Rename]),
    ("origin.bin", &[Operation::Create, Operation::Write, Operation::Rename]),
    ("snapshot.bin", &[Operation::Create, Operation::Write, Operation::Rename]),
    ("manifest.bin", &[Operation::Create, Operation::Write, Operation::Rename]),
];

#[test]
fn every_refused_operation_is_an_error_with_its_place_and_leaves_what_was_there() {
    for (file, operations) in REPLACED {
        for operation in operations {
            for (kind, trouble) in
                [(ErrorKind::StorageFull, Trouble::NoSpace), (ErrorKind::Other, Trouble::Refused)]
            {
                let what = format!("{operation:?} {file} {kind}");
                let t = Troubled::new(0);
                let keyring = Keyring::open_or_create(&t.log.dir, 1).unwrap();
                t.log.append(records(1..=5));
                let store = |index| -> Result<(), StorageError> {
                    let head = crate::snapshot::Head { last: Some(id(1, index)), time_ms: 1, meta: vec![] };
                    match file {
                        "vote.bin" => crate::vote::store(&t.log.dir, &keyring, b"a vote"),
                        "origin.bin" => t.log.wal.purge_to(id(1, index)),
                        _ => crate::snapshot::write(&t.log.dir, &keyring, &head, |_| Ok(())).map(|_| ()),
                    }
                };
                store(1).unwrap();
                let path = [t.bench.path().join(file), t.bench.path().join("wal").join(file)]
                    .into_iter()
                    .find(|path| path.exists())
                    .unwrap();
                let before = std::fs::read(&path).unwrap();
                t.disk.refuse(*operation, file, kind, 1);
                let error = store(2).expect_err(&what);
                assert_eq!(t.disk.refused(), 1, "{what}");
                assert_eq!(error.code(), Code::EngineFilesystemIoFailure, "{what}");
                assert_eq!(error.trouble(), Some(trouble), "{what}");
                assert!(
                    error.file().is_some_and(|path| path.to_str().unwrap().contains(file)),
                    "{what}: {error}"
                );
                assert!(error.advice().is_some(), "{what}: {error}");
                assert_eq!(std::fs::read(&path).unwrap(), before, "{what}");
                assert!(!crate::disk::temporary(&path).exists(), "{what}: takes no room");
                t.log.append(vec![record(6, 10)]);
                store(3).unwrap();
                assert_ne!(std::fs::read(&path).unwrap(), before, "{what}");
                if file == "snapshot.bin" || file == "manifest.bin" {
                    let found = crate::snapshot::load(&t.log.dir, &keyring).unwrap().unwrap();
                    assert_eq!(found.head().last, Some(id(1, 3)));
                }
            }
        }
    }
}

#[test]
fn what_is_essential_is_written_at_the_cost_of_the_reserve() {
    for file in ["vote", "origin", "snapshot", "next segment"] {
        let t = Troubled::new(4096);
        let keyring = Keyring::open_or_create(&t.log.dir, 1).unwrap();
        t.log.append(records(1..=5));
        let reserve = t.bench.path().join("wal/reserve.tmp");
        assert!(reserve.exists());
        t.disk.fill(true);
        match file {
            "vote" => crate::vote::store(&t.log.dir, &keyring, b"a vote").unwrap(),
            "origin" => t.log.wal.purge_to(id(1, 2)).unwrap(),
            "snapshot" => {
                let head = crate::snapshot::Head { last: Some(id(1, 5)), time_ms: 1, meta: vec![] };
                crate::snapshot::write(&t.log.dir, &keyring, &head, |_| Ok(())).unwrap();
            }
            _ => t.log.wal.truncate_from(3).unwrap(),
        }
        assert!(t.disk.refused() > 0, "{file}");
        // The thread of the log makes it anew at its next look.
        until(|| reserve.exists());
    }
}

#[test]
fn a_purge_that_the_disk_refuses_has_not_happened_and_the_next_one_does_it_all() {
    let t = Troubled::new(2048);
    for index in 1..=60 {
        t.log.append(vec![record(index, 3000)]);
    }
    let names = segment_names(t.bench.path());
    t.disk.refuse(Operation::Create, "origin", ErrorKind::Other, 1);
    assert!(t.log.wal.purge_to(id(1, 30)).unwrap_err().may_pass());
    assert_eq!(segment_names(t.bench.path()), names);
    // Removing fails: the segments stay for now.
    t.disk.refuse(Operation::Remove, ".wal", ErrorKind::Other, 1);
    t.log.wal.purge_to(id(1, 30)).unwrap();
    assert_eq!(segment_names(t.bench.path()), names);
    assert_eq!(t.log.wal.first_index(), Some(31));
    t.log.wal.purge_to(id(1, 40)).unwrap();
    assert!(segment_names(t.bench.path()).len() < names.len());
    let all = t.log.all();
    assert_eq!(all.first().map(|record| record.id.index), Some(41));
    assert_eq!(t.reopen(), all);
}

#[test]
fn a_failed_sync_of_any_file_is_reported_and_not_tried_again() {
    for (operation, file) in [
        (Operation::Sync, "vote.bin.tmp"),
        (Operation::Sync, "snapshot.bin.tmp"),
        (Operation::Sync, "manifest.bin.tmp"),
        (Operation::Sync, "origin.bin.tmp"),
        (Operation::Sync, "next.tmp"),
        (Operation::Sync, "active"),
        (Operation::SyncDirectory, ""),
        (Operation::SyncDirectory, "wal"),
    ] {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
            let t = Troubled::new(2048);
            let keyring = Keyring::open_or_create(&t.log.dir, 1).unwrap();
            t.log.append(records(1..=5));
            let reports = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let count = Arc::clone(&reports);
            t.log.dir.on_failed_sync(Arc::new(move |error| {
                assert_eq!(error.trouble(), Some(Trouble::Sync));
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }));
            t.disk.refuse(operation, file, kind, usize::MAX);
            let what = format!("{operation:?} {file}");
            let failed = match file {
                "snapshot.bin.tmp" | "manifest.bin.tmp" => {
                    let head = crate::snapshot::Head { last: Some(id(1, 5)), time_ms: 1, meta: vec![] };
                    crate::snapshot::write(&t.log.dir, &keyring, &head, |_| Ok(())).is_err()
                }
                "origin.bin.tmp" => t.log.wal.purge_to(id(1, 2)).is_err(),
                "next.tmp" | "wal" => t.log.wal.truncate_from(3).is_err(),
                "active" => t.hand_over(record(6, 10)).recv_timeout(PATIENCE).unwrap().is_err(),
                _ => crate::vote::store(&t.log.dir, &keyring, b"a vote").is_err(),
            };
            assert!(failed, "{what}");
            let syncs = t.disk.refused();
            assert_eq!(reports.load(std::sync::atomic::Ordering::SeqCst), syncs, "{what}");
            assert_eq!(syncs, 1, "{what}: never tried again");
        }
    }
}

#[test]
fn a_start_with_little_space_asks_for_little() {
    for allocations in 0..6 {
        let mut bench = Bench::new();
        bench.config.reserve_bytes = 1 << 20;
        bench.config.prezero = true;
        let log = bench.open();
        log.append(records(1..=5));
        drop(log);
        let disk = Arc::new(Small::default());
        // Without the zeros, and ever less in reserve.
        disk.refuse(Operation::Allocate, "next.tmp", ErrorKind::StorageFull, allocations);
        let dir = DataDir::with_probe(bench.path(), Arc::clone(&disk) as _).unwrap();
        let log = open(dir, &bench.config).unwrap_or_else(|error| panic!("{allocations}: {error}"));
        assert_eq!(disk.refused(), allocations);
        assert_eq!(log.all(), records(1..=5));
        log.append(records(6..=6));
    }
    let bench = Bench::new();
    drop(bench.open());
    let disk = Arc::new(Small::default());
    disk.fill(true);
    let dir = DataDir::with_probe(bench.path(), Arc::clone(&disk) as _).unwrap();
    let Err(error) = open(dir, &bench.config) else { panic!("there is no room for a segment") };
    assert_eq!(error.trouble(), Some(Trouble::NoSpace));
    assert!(error.advice().is_some_and(|advice| advice.contains("free space")), "{error}");
}
