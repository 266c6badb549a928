use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use tempfile::TempDir;

use super::*;
use crate::op::{Batch, Op, Pair};
use crate::sequence::Sequence;
use crate::snapshot::Head;
use crate::state::State;
use crate::wal::{Config, Record, RecordId};

struct Bodies;

impl Content for Bodies {
    fn batch<'r>(&self, record: &'r Record) -> Result<Option<Batch<'r>>, StorageError> {
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

/// What was found, and how much was read until nobody wanted more.
#[derive(Default)]
struct Notes {
    findings: Vec<StorageError>,
    bytes: u64,
    total: u64,
    bytes_max: Option<u64>,
}

impl Watch for Notes {
    fn begin(&mut self, total_bytes: u64) {
        self.total = total_bytes;
    }

    fn advance(&mut self, bytes: u64) -> ControlFlow<()> {
        self.bytes += bytes;
        if self.bytes_max.is_some_and(|max| self.bytes > max) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn found(&mut self, finding: StorageError) {
        self.findings.push(finding);
    }
}

/// A node without consensus: a log whose records are applied.
struct Node {
    root: TempDir,
    dir: DataDir,
    keyring: Arc<Keyring>,
    wal: Wal,
    state: State,
}

fn id(term: u64, index: u64) -> RecordId {
    RecordId { term, leader: 7, index }
}

fn body(index: u64) -> Vec<u8> {
    let (key, value) = (format!("k{}", index % 50), vec![b'v'; 100]);
    let op = Op::MSet { pairs: vec![Pair { key: &key, value: &value }] };
    Batch { time_ms: index, access_revision: 0, ops: vec![op] }.encode()
}

impl Node {
    /// Segments of a few records.
    fn start() -> Self {
        let root = crate::crash::scratch();
        let config = Config {
            segment_size_bytes: 4096,
            initial_size_bytes: 2048,
            prezero: false,
            reserve_bytes: 0,
            on_fatal: Arc::new(|_| {}),
            ..Config::default()
        };
        let dir = DataDir::open_or_create(root.path()).unwrap();
        let keyring = Arc::new(Keyring::open_or_create(&dir, 1).unwrap());
        let (wal, _) = Wal::open(&dir, config, keyring.clone()).unwrap();
        vote::store(&dir, &keyring, b"vote").unwrap();
        Self { root, dir, keyring, wal, state: State::new() }
    }

    fn append(&self, term: u64, index: u64) {
        let (tell, told) = channel();
        let record = Record { id: id(term, index), time_ms: index, body: body(index).into() };
        self.wal.append(vec![record], Box::new(move |outcome: io::Result<()>| tell.send(outcome).unwrap()));
        told.recv().unwrap().unwrap();
    }

    fn applied(&self) -> u64 {
        self.state.applied().map_or(0, Sequence::get)
    }

    fn go_on(&mut self, records: u64) {
        for _ in 0..records {
            let index = self.applied() + 1;
            self.append(2, index);
            let body = body(index);
            self.state.apply(Sequence::new(index).unwrap(), &Batch::decode(&body).unwrap());
        }
    }

    /// What a leader did not get through, and what took its place.
    fn change_its_mind(&mut self, records: u64) {
        let next = self.applied() + 1;
        (next..next + records).for_each(|index| self.append(1, index));
        self.wal.truncate_from(next).unwrap();
        self.go_on(records / 2);
    }

    /// Takes a snapshot and keeps two older ones, with the log behind the oldest of them.
    fn take_snapshot(&self) {
        let index = self.applied();
        let head = Head { last: Some(id(2, index)), time_ms: index, meta: b"label".to_vec() };
        let write = |mut out: &mut dyn io::Write| self.state.root().encode(&mut out);
        snapshot::write_keeping(&self.dir, &self.keyring, &head, write).unwrap();
        let listing = snapshot::list(&self.dir).unwrap();
        let removable = listing.older.len().saturating_sub(2);
        let files: Vec<_> = listing.older[..removable].iter().map(|listed| listed.path.clone()).collect();
        snapshot::remove_older(&self.dir, &files).unwrap();
        if let Some(oldest) = listing.older.get(removable) {
            self.wal.purge_to(oldest.last.unwrap()).unwrap();
        }
    }

    fn scrub(&self) -> (Scrubbed, Notes) {
        let mut notes = Notes::default();
        match scrub(&self.dir, &self.keyring, &self.wal, &Bodies, &mut notes) {
            ControlFlow::Continue(scrubbed) => (scrubbed, notes),
            ControlFlow::Break(()) => panic!("nobody broke it off"),
        }
    }

    /// One that has a bit of everything.
    fn with_history() -> Self {
        let mut node = Self::start();
        for _ in 0..4 {
            node.go_on(60);
            node.change_its_mind(30);
            node.take_snapshot();
        }
        node.go_on(50);
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

/// All files, with what is in them.
fn files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut pending) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let content = fs::read(&path).unwrap();
                found.push((path, content));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_whole_is_read_to_its_last_byte_and_left_as_it_is() {
    let node = Node::with_history();
    let before = files(node.root.path());
    let (scrubbed, notes) = node.scrub();
    assert!(notes.findings.is_empty(), "{:?}", notes.findings);
    assert_eq!(scrubbed.snapshots, 3);
    let segments = before.iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "wal")).count();
    assert_eq!(scrubbed.segments, segments as u64);
    assert_eq!(notes.bytes, notes.total, "what was to be read was read");
    assert_eq!(files(node.root.path()), before);
    // The same by the check of a directory at rest.
    let Node { root, dir, keyring, wal, state: _ } = node;
    wal.close().unwrap();
    drop((dir, keyring));
    let dir = DataDir::read_only(root.path(), crate::lock::Hold::Shared).unwrap();
    let keyring = Keyring::open_or_create(&dir, 1).unwrap();
    crate::verify::verify(&dir, &keyring, &Bodies).unwrap();
}

/// Every byte that a start or a restore would read is looked at.
#[test]
fn damage_anywhere_is_found_with_its_file() {
    let node = Node::with_history();
    let active = node.dir.wal().join(
        fs::read_dir(node.dir.wal())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .find(|name| name.starts_with("active-"))
            .unwrap(),
    );
    let mut kinds = BTreeSet::new();
    for (path, content) in files(node.root.path()) {
        let name = path.strip_prefix(node.root.path()).unwrap().display().to_string();
        let is_read = !content.is_empty() && name != "LOCK" && !name.ends_with(".tmp");
        if !is_read {
            continue;
        }
        kinds.insert(name.split(|c: char| c.is_ascii_digit()).next().unwrap().to_owned());
        // Zeros follow the records of the active segment; they are not looked at while they may be written.
        let records_end = content.iter().rposition(|byte| *byte != 0).unwrap();
        let last = if path == active { records_end } else { content.len() - 1 };
        for at in [0, 20, last / 3, last / 2, last] {
            let mut damaged = content.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, &damaged).unwrap();
            let (_, notes) = node.scrub();
            let of_this = notes.findings.iter().filter(|finding| finding.file() == Some(&path)).count();
            assert_eq!(of_this, 1, "{name} at {at}: {:?}", notes.findings);
            assert!(
                notes.findings.iter().all(|finding| finding.advice().is_some()),
                "{name} at {at}: {:?}",
                notes.findings
            );
        }
        fs::write(&path, &content).unwrap();
        let (_, notes) = node.scrub();
        assert!(notes.findings.is_empty(), "{name}: {:?}", notes.findings);
    }
    let expected =
        ["keyring.bin", "manifest.bin", "snapshot.bin", "snapshots/", "vote.bin", "wal/", "wal/active-"];
    assert!(expected.iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");
}

#[test]
fn what_is_missing_or_does_not_belong_is_found() {
    let node = Node::with_history();
    let found = |what: &str| {
        let (_, notes) = node.scrub();
        assert_eq!(notes.findings.len(), 1, "{what}: {:?}", notes.findings);
        notes.findings[0].message().to_owned()
    };
    let aside = node.path("aside");
    let sealed: Vec<_> = fs::read_dir(node.dir.wal())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension().is_some_and(|end| end == "wal") && !path.to_str().unwrap().contains("active")
        })
        .collect();
    for (path, message) in [
        (node.dir.keyring(), "the keyring is missing"),
        (node.dir.vote(), "for the vote: it is missing"),
        (node.dir.wal_origin(), "the origin of the log is missing"),
        (sealed[1].clone(), "a segment of the log is missing"),
    ] {
        fs::rename(&path, &aside).unwrap();
        let told = found(message);
        assert!(told.contains(message), "{told}");
        fs::rename(&aside, &path).unwrap();
    }
    fs::rename(node.dir.snapshot(), &aside).unwrap();
    let (_, notes) = node.scrub();
    assert_eq!(notes.findings.len(), 1, "{:?}", notes.findings);
    assert!(notes.findings[0].message().contains("is missing"), "{:?}", notes.findings);
    assert_eq!(notes.findings[0].file(), Some(node.dir.snapshot().as_path()));
    fs::rename(&aside, node.dir.snapshot()).unwrap();

    // A mark that no segment bears out would refuse the next start.
    let mark = node.dir.wal().join("newest-7000");
    fs::write(&mark, "").unwrap();
    let told = found("the mark of a lost segment");
    assert!(told.contains("the newest segment of the log is missing: it has the number 7000"), "{told}");
    fs::remove_file(&mark).unwrap();

    let stray = node.dir.wal().join("some.wal");
    fs::copy(&sealed[0], &stray).unwrap();
    assert!(found("a stray name").contains("not the name of a segment"));
    fs::rename(&stray, node.dir.wal().join("7000-7001.wal")).unwrap();
    assert!(found("a stray segment").contains("no part of the log"));
    fs::remove_file(node.dir.wal().join("7000-7001.wal")).unwrap();

    let content = fs::read(&sealed[0]).unwrap();
    fs::write(&sealed[0], fs::read(&sealed[1]).unwrap()).unwrap();
    assert!(found("a foreign segment").contains("not the segment that the log has written"));
    fs::OpenOptions::new().append(true).open(&sealed[0]).unwrap().write_all(&[0; 512]).unwrap();
    fs::write(&sealed[0], &content).unwrap();
    fs::OpenOptions::new().append(true).open(&sealed[0]).unwrap().write_all(&[0; 512]).unwrap();
    assert!(found("a segment that goes on").contains("finished segment"));
    fs::write(&sealed[0], &content).unwrap();
    assert!(node.scrub().1.findings.is_empty());
}

#[test]
fn it_ends_when_nobody_wants_more() {
    let node = Node::with_history();
    let (_, whole) = node.scrub();
    for part in 0..20 {
        let mut notes = Notes { bytes_max: Some(whole.bytes * part / 20), ..Notes::default() };
        assert!(scrub(&node.dir, &node.keyring, &node.wal, &Bodies, &mut notes).is_break(), "{part}");
        assert!(notes.findings.is_empty(), "{part}: {:?}", notes.findings);
    }
}

/// While records come, are cut off and purged, snapshots are replaced, set aside and removed, and keys are rotated.
#[test]
fn a_node_at_work_is_never_suspected() {
    const ROUNDS: u64 = 60;
    let mut node = Node::start();
    node.go_on(1);
    let done = AtomicBool::new(false);
    let (dir, keyring, wal) = (node.dir.clone(), node.keyring.clone(), node.wal.clone());
    std::thread::scope(|scope| {
        let scrubber = scope.spawn(|| {
            let (mut scrubs, mut read) = (0, Scrubbed::default());
            while !done.load(Ordering::Acquire) {
                let mut notes = Notes::default();
                let scrubbed = scrub(&dir, &keyring, &wal, &Bodies, &mut notes);
                assert!(notes.findings.is_empty(), "{:?}", notes.findings);
                let ControlFlow::Continue(scrubbed) = scrubbed else { panic!("nobody broke it off") };
                read.snapshots += scrubbed.snapshots;
                read.segments += scrubbed.segments;
                scrubs += 1;
            }
            (scrubs, read)
        });
        for round in 0..ROUNDS {
            if scrubber.is_finished() {
                break;
            }
            node.go_on(20);
            node.change_its_mind(12);
            node.take_snapshot();
            if round % 10 == 3 {
                node.keyring.rotate(&node.dir, round).unwrap();
                node.wal.renew().unwrap();
                vote::store(&node.dir, &node.keyring, b"vote").unwrap();
            }
            if round % 10 == 7 {
                // A snapshot of a leader, far ahead: everything before it goes.
                let index = node.applied();
                node.wal.purge_to(id(2, index)).unwrap();
            }
        }
        done.store(true, Ordering::Release);
        let (scrubs, read) = scrubber.join().unwrap();
        assert!(scrubs > 3 && read.snapshots > scrubs && read.segments > scrubs, "{scrubs} {read:?}");
    });
    let (_, notes) = node.scrub();
    assert!(notes.findings.is_empty(), "{:?}", notes.findings);
}
