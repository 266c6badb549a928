//! Tests of the log as a whole. The parts below share these tools.

mod basics;
mod covered;
mod crashes;
mod damage;
mod policies;
mod trouble;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;

/// A log in a directory of its own.
struct Bench {
    root: TempDir,
    config: Config,
}

struct Open {
    wal: Wal,
    recovery: Recovery,
    dir: DataDir,
    keyring: Arc<Keyring>,
}

impl Bench {
    /// Small segments without zeros: what the tests do not concern themselves with costs nothing.
    fn new() -> Self {
        let config = Config {
            segment_size_bytes: 4096,
            initial_size_bytes: 2048,
            prezero: false,
            reserve_bytes: 0,
            on_fatal: Arc::new(|_| {}),
            ..Config::default()
        };
        Self { root: crate::crash::scratch(), config }
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn open(&self) -> Open {
        open(DataDir::open_or_create(self.path()).unwrap(), &self.config).unwrap()
    }
}

fn open(dir: DataDir, config: &Config) -> Result<Open, StorageError> {
    let keyring = Arc::new(Keyring::open_or_create(&dir, 1)?);
    let (wal, recovery) = Wal::open(&dir, config.clone(), Arc::clone(&keyring))?;
    Ok(Open { wal, recovery, dir, keyring })
}

fn id(term: u64, index: u64) -> RecordId {
    RecordId { term, leader: 3, index }
}

fn record(index: u64, body_len: usize) -> Record {
    record_of(1, index, body_len)
}

fn record_of(term: u64, index: u64, body_len: usize) -> Record {
    let body: Vec<u8> = (0..body_len).map(|at| ((at as u64 * 31 + index * 7 + term) % 251) as u8).collect();
    Record { id: id(term, index), time_ms: index * 10, body: Bytes::from(body) }
}

fn records(range: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    range.map(|index| record(index, 40)).collect()
}

impl Open {
    /// Appends and waits until it is done.
    fn append(&self, records: Vec<Record>) {
        append(&self.wal, records).unwrap();
    }

    fn all(&self) -> Vec<Record> {
        self.wal.read(0, u64::MAX, usize::MAX).unwrap()
    }
}

fn append(wal: &Wal, records: Vec<Record>) -> io::Result<()> {
    let (tell, told) = channel();
    wal.append(records, Box::new(move |outcome| tell.send(outcome).unwrap()));
    told.recv().unwrap()
}

/// The storage key of each segment, in the order of their names.
fn key_ids(root: &Path) -> Vec<uuid::Uuid> {
    let path = |name| root.join("wal").join(name);
    segment_names(root).into_iter().map(|name| recovery::read_header(&path(name)).unwrap().key_id).collect()
}

fn segment_names(root: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(root.join("wal"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".wal"))
        .collect();
    names.sort();
    names
}
