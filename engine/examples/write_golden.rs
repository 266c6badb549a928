//! Writes a directory with one file of each format, to be kept: `tests/golden.rs` opens it for ever.
//!
//! `cargo run -p vaylix-engine --example write_golden -- engine/tests/data/golden-v<n>`, once for each new version.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use bytes::Bytes;
use vaylix_engine::wal::{Config, Record, RecordId, Wal};
use vaylix_engine::{DataDir, Keyring, snapshot, vote};

fn main() -> Result<(), Box<dyn Error>> {
    let target = std::env::args().nth(1).ok_or("usage: write_golden <directory>")?;
    let target = Path::new(&target);
    if target.exists() {
        return Err("golden files are never written again".into());
    }
    let root = target.with_extension("working");
    let dir = DataDir::open_or_create(&root)?;
    let keyring = Arc::new(Keyring::open_or_create(&dir, 1_700_000_000_000)?);
    let config =
        Config { initial_size_bytes: 4096, segment_size_bytes: 2048, reserve_bytes: 0, ..Config::default() };
    let (wal, _) = Wal::open(&dir, config.clone(), Arc::clone(&keyring))?;
    append(&wal, vec![record(1, 1, "one"), record(1, 2, "two")])?;
    append(&wal, vec![record(1, 3, "three"), record(1, 4, &"four".repeat(300))])?;
    append(&wal, vec![record(1, 5, "five")])?;
    keyring.rotate(&dir, 1_700_000_001_000)?;
    wal.truncate_from(4)?;
    wal.purge_to(RecordId { term: 1, leader: 9, index: 1 })?;
    drop(wal);
    let (wal, _) = Wal::open(&dir, config, Arc::clone(&keyring))?;
    append(&wal, vec![record(2, 4, "FOUR"), record(2, 5, "")])?;
    vote::store(&dir, &keyring, b"a vote")?;
    let head = snapshot::Head {
        last: Some(RecordId { term: 1, leader: 9, index: 2 }),
        time_ms: 1_700_000_002_000,
        meta: b"meta".to_vec(),
    };
    snapshot::write(&dir, &keyring, &head, |out| {
        (0..50_000_u32).try_for_each(|n| writeln!(out, "line {n}"))
    })?;
    // Taken while the log is open, so that there is an active segment with zeros behind its frame.
    fs::create_dir_all(target.join("wal"))?;
    for directory in ["", "wal"] {
        for entry in fs::read_dir(root.join(directory))? {
            let path = entry?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("bin" | "wal")) {
                fs::copy(&path, target.join(path.strip_prefix(&root)?))?;
            }
        }
    }
    drop(wal);
    fs::remove_dir_all(root)?;
    Ok(())
}

fn record(term: u64, index: u64, body: &str) -> Record {
    let id = RecordId { term, leader: 9, index };
    Record { id, time_ms: 1_700_000_000_000 + index, body: Bytes::copy_from_slice(body.as_bytes()) }
}

fn append(wal: &Wal, records: Vec<Record>) -> Result<(), Box<dyn Error>> {
    let (tell, told) = channel();
    wal.append(records, Box::new(move |outcome| tell.send(outcome).expect("the caller waits")));
    Ok(told.recv()??)
}
