//! When an append counts as done, and what happens when the disk refuses.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use super::*;
use crate::disk::{Operation, Probe};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Written,
    Synced,
    Done,
}

/// Sees the writes and syncs of the active segment; may hold a sync up or refuse operations.
struct Watch {
    events: Sender<Event>,
    /// Each sync waits for a word, until nobody can give one any more.
    gate: Mutex<Receiver<()>>,
    refused: Mutex<Option<Operation>>,
    refusals: AtomicUsize,
}

impl Probe for Watch {
    fn before(&self, operation: Operation, path: &Path) -> io::Result<()> {
        if !path.to_str().unwrap().contains("active") {
            return Ok(());
        }
        if *self.refused.lock() == Some(operation) {
            self.refusals.fetch_add(1, Ordering::SeqCst);
            return Err(io::Error::other("the disk is broken"));
        }
        if operation == Operation::Sync {
            let _released = self.gate.lock().recv();
        }
        Ok(())
    }

    fn after(&self, operation: Operation, path: &Path) {
        let event = match operation {
            Operation::Write => Event::Written,
            Operation::Sync => Event::Synced,
            _ => return,
        };
        if path.to_str().unwrap().contains("active") {
            self.events.send(event).unwrap();
        }
    }
}

struct Watched {
    /// Dropped first, so that the log can end.
    release: Sender<()>,
    log: Open,
    watch: Arc<Watch>,
    events: Receiver<Event>,
    tell: Sender<Event>,
    fatal: Arc<AtomicUsize>,
    _bench: Bench,
}

impl Watched {
    fn new(sync: SyncPolicy) -> Self {
        let mut bench = Bench::new();
        bench.config.sync = sync;
        bench.config.segment_size_bytes = 1 << 20;
        let fatal = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&fatal);
        bench.config.on_fatal = Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let (tell, events) = channel();
        let (release, gate) = channel();
        let watch = Arc::new(Watch {
            events: tell.clone(),
            gate: Mutex::new(gate),
            refused: Mutex::new(None),
            refusals: AtomicUsize::new(0),
        });
        let dir = DataDir::with_probe(bench.path(), Arc::clone(&watch) as _).unwrap();
        let log = open(dir, &bench.config).unwrap();
        Self { log, watch, events, tell, release, fatal, _bench: bench }
    }

    fn append(&self, index: u64) {
        let tell = self.tell.clone();
        self.log.wal.append(
            vec![record(index, 10)],
            Box::new(move |outcome| {
                outcome.unwrap();
                tell.send(Event::Done).unwrap();
            }),
        );
    }

    fn next(&self) -> Event {
        self.events.recv().unwrap()
    }
}

#[test]
fn nothing_is_acknowledged_before_it_is_synced_and_what_waits_shares_a_sync() {
    let watched = Watched::new(SyncPolicy::Sync);
    watched.append(1);
    assert_eq!(watched.next(), Event::Written);
    // While the first sync is held up, ten more appends come in.
    (2..=11).for_each(|index| watched.append(index));
    assert_eq!(watched.log.wal.durable_index(), None);
    assert_eq!(watched.log.all().len(), 11, "readable at once");
    watched.release.send(()).unwrap();
    assert_eq!(
        [watched.next(), watched.next(), watched.next()],
        [Event::Synced, Event::Done, Event::Written]
    );
    assert_eq!(watched.log.wal.durable_index(), Some(1));
    watched.release.send(()).unwrap();
    assert_eq!(watched.next(), Event::Synced);
    assert!((2..=11).all(|_| watched.next() == Event::Done));
    assert_eq!(watched.log.wal.durable_index(), Some(11));
    let stats = watched.log.wal.stats();
    assert_eq!(
        (stats.frames, stats.syncs.len(), stats.append_batches, stats.appended_records),
        (2, 2, 11, 11)
    );
    assert!(stats.syncs.max_us() <= stats.syncs.sum_us());
}

#[test]
fn flush_acknowledges_at_once_and_syncs_soon() {
    let watched = Watched::new(SyncPolicy::Flush);
    watched.append(1);
    assert_eq!([watched.next(), watched.next()], [Event::Written, Event::Done]);
    assert_eq!(watched.log.wal.durable_index(), None);
    watched.release.send(()).unwrap();
    assert_eq!(watched.next(), Event::Synced, "without being asked");
}

#[test]
fn buffered_syncs_at_the_end_of_a_segment() {
    let watched = Watched::new(SyncPolicy::Buffered);
    watched.append(1);
    watched.append(2);
    let Watched { log, events, release, tell, watch, .. } = watched;
    drop(release);
    log.wal.close().unwrap();
    drop((tell, log.dir, watch));
    let events: Vec<_> = events.iter().collect();
    assert_eq!(events.iter().filter(|event| **event == Event::Synced).count(), 1);
    assert_eq!(events.last(), Some(&Event::Synced));
}

/// The log has stopped: it reports once, tries nothing again, and refuses everything.
#[test]
fn a_failed_sync_is_fatal() {
    let watched = Watched::new(SyncPolicy::Sync);
    *watched.watch.refused.lock() = Some(Operation::Sync);
    let wal = &watched.log.wal;
    assert!(append(wal, records(1..=1)).is_err());
    let other = watched.log.wal.clone();
    assert!(watched.log.wal.close().is_err());
    assert!(append(&other, records(2..=2)).is_err());
    assert!(other.truncate_from(1).is_err());
    assert!(other.purge_to(id(1, 1)).is_err());
    assert_eq!(other.durable_index(), None);
    assert_eq!(watched.fatal.load(Ordering::SeqCst), 1);
    assert_eq!(watched.watch.refusals.load(Ordering::SeqCst), 1, "never tried again");
}

/// Longer than a write takes; a spare that stays fails the test instead of blocking it.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A disk without room for spare segments.
struct NoRoomForSpares(Sender<Operation>);

impl Probe for NoRoomForSpares {
    fn before(&self, operation: Operation, path: &Path) -> io::Result<()> {
        match operation {
            Operation::Write if path.ends_with("spare.tmp") => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn after(&self, operation: Operation, path: &Path) {
        if path.ends_with("spare.tmp") {
            // The test may have seen enough.
            let _ = self.0.send(operation);
        }
    }
}

#[test]
fn a_spare_segment_that_finds_no_room_takes_none() {
    let mut bench = Bench::new();
    bench.config.prezero = true;
    let (tell, told) = channel();
    let dir = DataDir::with_probe(bench.path(), Arc::new(NoRoomForSpares(tell))).unwrap();
    let log = open(dir, &bench.config).unwrap();
    log.append(vec![record(1, 1000)]);
    assert_eq!(
        told.recv_timeout(PATIENCE),
        Ok(Operation::Create),
        "wanted after the first quarter of the segment"
    );
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Operation::Allocate));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Operation::Remove));
    assert!(!bench.path().join("wal/spare.tmp").exists());
    log.append(vec![record(2, 1000)]);
}
