//! A storage that is interrupted at every change of a file, under random work: writes, transactions, deletes,
//! snapshots, pruning, votes, new keys, restarts, with and without a disk that refuses. Whatever is interrupted, and
//! however: the next start succeeds, has everything acknowledged, and holds exactly a state that there was.

#![allow(clippy::print_stdout, reason = "the points are for whoever wants to read them")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::content::Content;
use crate::crash::{Crashes, How, Image, scratch};
use crate::disk::{Operation, Probe};
use crate::lock::Hold;
use crate::op::{Batch, Op, When};
use crate::sequence::Sequence;
use crate::snapshot::{self, Head};
use crate::state::{Root, State};
use crate::wal::{self, Purpose, Record, RecordId, SyncPolicy, Wal};
use crate::*;

/// The distinct points that must be covered, at least.
const POINTS_MIN: usize = 60;
/// Images of one point that are started, for each way in which the process may end.
const IMAGES_PER_POINT: usize = 5;

/// What is known at a moment.
#[derive(Clone, Default, PartialEq)]
struct Known {
    /// What is being done.
    step: &'static str,
    /// The last entry that was acknowledged, and the last one that was handed over.
    acknowledged: u64,
    handed_over: u64,
    /// The same for votes, which are numbers.
    vote_stored: u64,
    vote_tried: u64,
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Refuses now and then what is no sync, and writes a part of what it refuses to write.
struct Unreliable {
    crashes: Arc<Crashes<Known>>,
    /// One in so many; none when 0.
    odds: u64,
    dice: Mutex<Dice>,
    refused: Mutex<BTreeSet<(String, &'static str)>>,
}

impl Unreliable {
    fn refuses(&self, operation: Operation, path: &Path) -> io::Result<()> {
        let mut dice = self.dice.lock();
        if self.odds == 0 || dice.roll(self.odds) != 0 {
            return Ok(());
        }
        let kind = if dice.roll(2) == 0 { ErrorKind::StorageFull } else { ErrorKind::Other };
        self.refused.lock().insert((format!("{operation:?}"), kind_of(path)));
        Err(kind.into())
    }
}

impl Probe for Unreliable {
    fn before(&self, operation: Operation, path: &Path) -> io::Result<()> {
        if !matches!(operation, Operation::Sync | Operation::SyncDirectory | Operation::Write) {
            self.refuses(operation, path)?;
        }
        self.crashes.before(operation, path)
    }

    fn write(&self, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.refuses(Operation::Write, path).inspect_err(|_| {
            let part = usize::try_from(self.dice.lock().roll(bytes.len() as u64 + 1)).unwrap();
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes[..part], offset).unwrap();
        })
    }

    fn after(&self, operation: Operation, path: &Path) {
        self.crashes.after(operation, path);
    }

    fn failed(&self, operation: Operation, path: &Path) {
        self.crashes.failed(operation, path);
    }
}

/// What kind of file it is.
fn kind_of(path: &Path) -> &'static str {
    match path.file_name().and_then(|name| name.to_str()).unwrap_or_default() {
        "keyring.bin" => "keyring",
        "keyring.bin.tmp" => "next keyring",
        "vote.bin" => "vote",
        "vote.bin.tmp" => "next vote",
        "manifest.bin" => "manifest",
        "manifest.bin.tmp" => "next manifest",
        "snapshot.bin" => "snapshot",
        "snapshot.bin.tmp" => "next snapshot",
        "origin.bin" => "origin",
        "origin.bin.tmp" => "next origin",
        "next.tmp" => "next segment",
        "spare.tmp" => "spare segment",
        "reserve.tmp" => "reserve",
        "wal" => "directory of the log",
        "snapshots" => "directory of older snapshots",
        name if name.ends_with(".bin") => "older snapshot",
        name if name.starts_with("newest-") => "mark of the newest segment",
        name if name.starts_with("active-") => "active segment",
        name if name.ends_with(".wal") => "sealed segment",
        _ => "directory",
    }
}

/// The storage of a node and the state it makes.
struct Node {
    dir: DataDir,
    keyring: Arc<Keyring>,
    wal: Wal,
    state: State,
    vote: u64,
}

impl Node {
    fn start(dir: DataDir, config: &wal::Config) -> Result<Self, StorageError> {
        let keyring = Arc::new(Keyring::open_or_create(&dir, 1)?);
        let (wal, recovery) = Wal::open(&dir, config.clone(), keyring.clone())?;
        let vote = vote::load(&dir, &keyring)?.map_or(0, |vote| u64::from_le_bytes(vote.try_into().unwrap()));
        let mut state = State::new();
        if let Some(mut reader) = snapshot::load(&dir, &keyring)? {
            state.replace(Root::decode(&mut reader).unwrap_or_else(|error| panic!("snapshot: {error}")));
        }
        let snapshot = state.applied().map_or(0, Sequence::get);
        let purged = recovery.purged.map_or(0, |purged| purged.index);
        assert!(purged <= snapshot, "the log begins behind {purged}, the snapshot ends with {snapshot}");
        for record in wal.read(snapshot + 1, u64::MAX, usize::MAX)? {
            let at = Sequence::new(record.id.index).unwrap();
            assert_eq!(state.applied().map_or(1, |last| last.next().get()), at.get(), "a gap");
            state.apply(at, &Batch::decode(&record.body).unwrap());
        }
        Ok(Self { dir, keyring, wal, state, vote })
    }

    fn applied(&self) -> u64 {
        self.state.applied().map_or(0, Sequence::get)
    }

    fn append(&self, index: u64, body: Bytes) -> io::Result<()> {
        let (tell, told) = channel();
        let record = Record { id: id(index), time_ms: index, body };
        self.wal.append(vec![record], Box::new(move |outcome| tell.send(outcome).unwrap()));
        told.recv().unwrap()
    }

    fn snapshot(&self) -> Result<(), StorageError> {
        let Some(last) = self.state.applied() else { return Ok(()) };
        let root = self.state.root();
        let head = Head { last: Some(id(last.get())), time_ms: 1, meta: b"meta".to_vec() };
        // Every other one is kept beside the next.
        let body = |sink: &mut dyn io::Write| root.encode(&mut &mut *sink);
        let write = if last.get() % 2 == 0 { snapshot::write } else { snapshot::write_keeping };
        write(&self.dir, &self.keyring, &head, body).map(|_| ())
    }
}

fn id(index: u64) -> RecordId {
    RecordId { term: 1, leader: 1, index }
}

/// A state, briefly.
fn digest(state: &State) -> [u8; 32] {
    let mut bytes = Vec::new();
    state.root().encode(&mut bytes).unwrap();
    Sha256::digest(&bytes).into()
}

/// Everything that was ever handed over, and the states it makes.
struct History {
    bodies: Vec<Bytes>,
    state: State,
    digests: Vec<[u8; 32]>,
}

impl History {
    fn new() -> Self {
        let state = State::new();
        let digests = vec![digest(&state)];
        Self { bodies: Vec::new(), state, digests }
    }

    fn add(&mut self, body: Vec<u8>) -> (u64, Bytes) {
        let body = Bytes::from(body);
        self.bodies.push(body.clone());
        let index = self.bodies.len() as u64;
        self.state.apply(Sequence::new(index).unwrap(), &Batch::decode(&body).unwrap());
        self.digests.push(digest(&self.state));
        (index, body)
    }
}

fn config() -> wal::Config {
    wal::Config {
        segment_size_bytes: 6 << 10,
        initial_size_bytes: 2 << 10,
        reserve_bytes: 2 << 10,
        tail_bytes_max: 1 << 10,
        on_fatal: Arc::new(|_| {}),
        ..wal::Config::default()
    }
}

fn work(dice: &mut Dice, time_ms: u64) -> (&'static str, Vec<u8>) {
    let keys: Vec<_> = (0..4).map(|_| format!("key:{}", dice.roll(24))).collect();
    let value = vec![b'v'; usize::try_from(dice.roll(900)).unwrap()];
    let set = |key| Op::Set {
        key,
        value: &value,
        ttl_ms: None,
        when: When::Always,
        keep_ttl: false,
        return_previous: false,
        if_version: None,
    };
    let (step, ops) = match dice.roll(5) {
        0 => ("delete", vec![Op::Del { keys: keys.iter().map(|key| key.as_str()).collect() }]),
        1 => {
            let steps = keys.iter().map(|key| set(key)).collect();
            ("transaction", vec![Op::ExecWithin { steps, answer_bytes_max: 1 << 20 }])
        }
        _ => (
            "write",
            keys.iter().take(1 + usize::try_from(dice.roll(3)).unwrap()).map(|key| set(key)).collect(),
        ),
    };
    (step, Batch { time_ms, access_revision: 0, ops }.encode())
}

/// Works for a while on one directory; returns every image with the history it belongs to.
fn run(
    seed: u64,
    odds: u64,
    config: &wal::Config,
    refused: &mut BTreeSet<(String, &'static str)>,
) -> (Vec<Image<Known>>, History) {
    let root = scratch();
    let mut dice = Dice(seed);
    std::fs::create_dir(root.path().join("wal")).unwrap();
    let crashes = Crashes::<Known>::watch(root.path());
    let disk = Arc::new(Unreliable {
        crashes: Arc::clone(&crashes),
        odds,
        dice: Mutex::new(Dice(seed ^ 0x5555)),
        refused: Mutex::default(),
    });
    let mut known = Known { step: "first start", ..Known::default() };
    let mut history = History::new();
    let step = |known: &mut Known, name| {
        known.step = name;
        crashes.note(known.clone());
    };
    // A start that the disk refuses is repeated, as an operator would.
    let start = || loop {
        let dir = match DataDir::with_probe(root.path(), Arc::clone(&disk) as _) {
            Ok(dir) => dir,
            Err(error) if error.may_pass() => continue,
            Err(error) => panic!("{error}"),
        };
        match Node::start(dir, config) {
            Ok(node) => break node,
            Err(error) if error.may_pass() => {}
            Err(error) => panic!("{error}"),
        }
    };
    step(&mut known, "first start");
    let mut node = start();
    for _ in 0..40 {
        match dice.roll(14) {
            0 => {
                step(&mut known, "snapshot");
                assert!(node.snapshot().is_ok_and(|()| true) || odds > 0);
            }
            1 => {
                step(&mut known, "snapshot");
                if node.snapshot().is_ok() {
                    step(&mut known, "prune");
                    let applied = node.applied();
                    let up_to =
                        if dice.roll(2) == 0 { applied } else { applied.saturating_sub(dice.roll(6)) };
                    let removable: Vec<_> = snapshot::list(&node.dir)
                        .unwrap()
                        .older
                        .into_iter()
                        .map(|older| older.path)
                        .collect();
                    assert!(snapshot::remove_older(&node.dir, &removable).is_ok() || odds > 0);
                    if up_to > 0 {
                        let purged = node.wal.purge_to(id(up_to));
                        assert!(purged.is_ok_and(|()| true) || odds > 0);
                    }
                }
            }
            2 => {
                known.vote_tried += 1;
                step(&mut known, "vote");
                if vote::store(&node.dir, &node.keyring, &known.vote_tried.to_le_bytes()).is_ok() {
                    known.vote_stored = known.vote_tried;
                } else {
                    assert!(odds > 0);
                }
            }
            3 => {
                step(&mut known, "new key");
                assert!(node.keyring.rotate(&node.dir, 5).is_ok() || odds > 0);
            }
            4 => {
                step(&mut known, "room");
                let (tell, told) = channel();
                let purpose = if dice.roll(2) == 0 { Purpose::Write } else { Purpose::Free };
                node.wal.want_room(8 << 10, purpose, Box::new(move |found| tell.send(found).unwrap()));
                assert!(told.recv().unwrap().is_ok() || odds > 0);
            }
            5 => {
                step(&mut known, "stop");
                node.wal.close().unwrap();
                drop((node.dir, node.keyring, node.state));
                step(&mut known, "start");
                node = start();
                assert_eq!(node.applied(), known.acknowledged);
                assert_eq!(digest(&node.state), *history.digests.last().unwrap());
            }
            _ => {
                let (name, body) = work(&mut dice, history.bodies.len() as u64 + 1);
                let (index, body) = history.add(body);
                known.handed_over = index;
                step(&mut known, name);
                node.append(index, body.clone()).unwrap();
                known.acknowledged = index;
                node.state.apply(Sequence::new(index).unwrap(), &Batch::decode(&body).unwrap());
            }
        }
        crashes.note(known.clone());
    }
    step(&mut known, "last stop");
    node.wal.close().unwrap();
    refused.append(&mut disk.refused.lock());
    (crashes.taken(), history)
}

/// Starts from an image, twice: what is added to the first start is there at the second.
fn check(image: &Image<Known>, history: &History, seed: u64) {
    let root = image.restore();
    let what = || format!("seed {seed}, {}, during {}", image.what, image.note.step);
    let start = || {
        let dir = DataDir::open_or_create(root.path()).unwrap_or_else(|error| panic!("{}: {error}", what()));
        let config = wal::Config { prezero: false, ..config() };
        Node::start(dir, &config).unwrap_or_else(|error| panic!("{}: {error}", what()))
    };
    let mut node = start();
    let Known { acknowledged, handed_over, vote_stored, vote_tried, .. } = image.note;
    let applied = node.applied();
    assert!(
        (acknowledged..=handed_over).contains(&applied),
        "{}: {applied}, acknowledged {acknowledged}",
        what()
    );
    assert_eq!(digest(&node.state), history.digests[usize::try_from(applied).unwrap()], "{}", what());
    assert!((vote_stored..=vote_tried).contains(&node.vote), "{}: vote {}", what(), node.vote);
    let batch = Batch { time_ms: applied + 1, access_revision: 0, ops: vec![Op::Del { keys: vec!["none"] }] };
    let body = Bytes::from(batch.encode());
    node.append(applied + 1, body).unwrap();
    node.state.apply(Sequence::new(applied + 1).unwrap(), &batch);
    let expected = digest(&node.state);
    // A directory without a vote has never belonged to a node.
    vote::store(&node.dir, &node.keyring, &node.vote.to_le_bytes()).unwrap();
    node.wal.close().unwrap();
    drop((node.dir, node.keyring, node.state));
    let node = start();
    assert_eq!((node.applied(), digest(&node.state)), (applied + 1, expected), "{}", what());
    node.wal.close().unwrap();
    drop((node.dir, node.keyring, node.state));
    verify(root.path(), &what());
}

struct Plain;

impl Content for Plain {
    fn batch<'r>(&self, record: &'r Record) -> Result<Option<Batch<'r>>, StorageError> {
        Ok(Some(Batch::decode(&record.body).unwrap()))
    }

    fn check_head(&self, head: &Head) -> Result<(), StorageError> {
        assert_eq!(head.meta, b"meta");
        Ok(())
    }

    fn check_vote(&self, vote: &[u8]) -> Result<(), StorageError> {
        assert_eq!(vote.len(), 8);
        Ok(())
    }
}

/// What the offline check says of a directory that has been started and stopped: nothing but good.
fn verify(root: &Path, what: &str) {
    let dir = DataDir::read_only(root, Hold::Shared).unwrap_or_else(|error| panic!("{what}: {error}"));
    let keyring = Keyring::open_or_create(&dir, 1).unwrap();
    verify::verify(&dir, &keyring, &Plain).unwrap_or_else(|error| panic!("{what}: verify: {error}"));
    let leftovers: Vec<_> = std::fs::read_dir(dir.root())
        .unwrap()
        .chain(std::fs::read_dir(dir.wal()).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tmp"))
        .collect();
    assert!(leftovers.is_empty(), "{what}: a clean stop leaves {leftovers:?}");
}

type Point = (String, &'static str, &'static str);

/// Runs some workloads and starts from their images: at most so many of each point. Returns the points covered.
fn cover(seeds: std::ops::Range<u64>, odds: u64) -> (BTreeMap<Point, [usize; 3]>, usize) {
    let mut points: BTreeMap<Point, [usize; 3]> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    let mut started = 0;
    for seed in seeds {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let (images, history) = run(seed, odds, &config(), &mut refused);
        for image in &images {
            let (operation, path) = &image.point;
            let point = (format!("{operation:?}"), kind_of(path), image.note.step);
            let count = match image.how {
                How::Killed => 0,
                How::WithoutPower => 1,
                How::WithoutPowerInBetween => 2,
            };
            let seen = &mut points.entry(point).or_default()[count];
            *seen += 1;
            if *seen <= IMAGES_PER_POINT {
                check(image, &history, seed);
                started += 1;
            }
        }
    }
    if odds > 0 {
        println!("refused: {} kinds of operations, {refused:?}", refused.len());
        assert!(refused.len() >= 20, "{refused:?}");
    }
    (points, started)
}

#[test]
fn every_interruption_of_every_step_leaves_a_directory_that_starts_with_everything_acknowledged() {
    let (points, started) = cover(1..7, 0);
    for (operation, file, step) in points.keys() {
        println!("{operation} {file} during {step}");
    }
    let kinds: BTreeSet<_> = points.keys().map(|(operation, file, _)| (operation, file)).collect();
    println!(
        "{} crash points ({} operations on kinds of files), {started} starts",
        points.len(),
        kinds.len()
    );
    assert!(points.len() >= POINTS_MIN, "{} crash points", points.len());
    assert!(kinds.len() >= 30, "{kinds:?}");
    assert!(points.values().all(|counts| counts.iter().all(|count| *count > 0)), "each in each way");
}

#[test]
fn the_same_holds_on_a_disk_that_refuses_now_and_then() {
    let (points, started) = cover(100..105, 25);
    println!("{} crash points, {started} starts", points.len());
    assert!(points.len() >= POINTS_MIN, "{} crash points", points.len());
}

/// How many images of each kind are started until one shows the bug.
const LOOKED_AT_MAX: usize = 400;

/// What all of this is worth: with a log that acknowledges what it has written and not synced, and with nothing else
/// changed, a loss of power loses what was acknowledged, and the images show it. The death of the process does not: what
/// only ever kills processes cannot find this.
#[test]
fn acknowledging_before_the_sync_is_noticed() {
    let planted = wal::Config { sync: SyncPolicy::Buffered, ..config() };
    let (images, _) = run(7, 0, &planted, &mut BTreeSet::new());
    let loses = |how: How| {
        images.iter().filter(|image| image.how == how).take(LOOKED_AT_MAX).any(|image| {
            let root = image.restore();
            let config = wal::Config { prezero: false, ..config() };
            let dir = DataDir::open_or_create(root.path());
            let node = dir.and_then(|dir| Node::start(dir, &config));
            // A start that is refused is noticed too, but by itself.
            node.is_ok_and(|node| node.applied() < image.note.acknowledged)
        })
    };
    assert!(loses(How::WithoutPower));
    assert!(!loses(How::Killed));
}
