//! A disk that is full or refuses: nothing acknowledged is lost, nothing is promised that does not happen, and when the
//! disk has room again the log goes on by itself.

use std::io::ErrorKind;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::*;
use crate::disk::{Operation, Probe};

/// Longer than anything here takes; a hang fails instead of blocking.
const PATIENCE: Duration = Duration::from_secs(60);

/// A disk of limited size: what is created, written or set aside counts until it is cut or removed. Refuses other
/// operations on request.
#[derive(Default)]
struct Small {
    state: Mutex<Limits>,
}

#[derive(Default)]
struct Limits {
    /// Refuses this operation on files whose name contains the text, this often.
    refuse: Option<(Operation, &'static str, ErrorKind, usize)>,
    refused: usize,
    /// Whether nothing more fits: creating, writing behind what was set aside, and setting aside fail.
    full: bool,
    /// Up to where each file is known to have space, by path.
    space: std::collections::HashMap<std::path::PathBuf, u64>,
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
        if operation == Operation::Allocate {
            let len = std::fs::metadata(path).unwrap().len();
            self.state.lock().space.insert(path.to_owned(), len);
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

/// Refuses the write after a part of it, or all of it, has reached the file: what a failing disk may do.
struct Torn {
    armed: std::sync::atomic::AtomicBool,
    /// Of the frame that was refused, so many bytes are in the file.
    keep: usize,
    image: Mutex<Option<std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>>>,
    root: std::path::PathBuf,
}

impl Probe for Torn {
    fn before(&self, operation: Operation, path: &Path) -> io::Result<()> {
        let active = path.to_str().unwrap().contains("active");
        if active && operation == Operation::Resize && self.image.lock().is_none() {
            // The cut behind the last complete frame comes next: a kill now finds this.
            *self.image.lock() = Some(files(&self.root));
        }
        Ok(())
    }

    fn after(&self, _: Operation, _: &Path) {}
}

fn files(root: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let list = |directory: &Path| {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    let mut all = list(root);
    all.extend(list(&root.join("wal")));
    all.into_iter()
        .map(|path| (path.strip_prefix(root).unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect()
}
