//! How fast the log acknowledges: batches of 64-byte records, one in flight, with and without segments filled with
//! zeros ahead of use.
//!
//! `cargo run --release -p vaylix-engine --example wal_bench -- <directory on the disk to measure>`

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use vaylix_engine::wal::{Config, Record, RecordId, Wal};
use vaylix_engine::{DataDir, Keyring};

const LASTS: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args().nth(1).ok_or("usage: wal_bench <directory>")?;
    println!(
        "{:>10} {:>14} {:>12} {:>12} {:>14}",
        "zeroed", "records/batch", "batches/s", "records/s", "mean sync us"
    );
    for prezero in [false, true] {
        for batch in [1, 64, 1024] {
            measure(Path::new(&root), prezero, batch)?;
        }
    }
    Ok(())
}

fn measure(root: &Path, prezero: bool, batch: u64) -> Result<(), Box<dyn Error>> {
    let root = root.join(format!("wal-bench-{}", std::process::id()));
    let dir = DataDir::open_or_create(&root)?;
    let keyring = Arc::new(Keyring::open_or_create(&dir, 0)?);
    let (wal, _) = Wal::open(&dir, Config { prezero, ..Config::default() }, keyring)?;
    let body = Bytes::from_static(&[7; 64]);
    let (tell, told) = channel();
    let begun = Instant::now();
    let (mut next, mut batches) = (1, 0_u32);
    while begun.elapsed() < LASTS {
        let record =
            |index| Record { id: RecordId { term: 1, leader: 1, index }, time_ms: 0, body: body.clone() };
        let tell = tell.clone();
        wal.append(
            (next..next + batch).map(record).collect(),
            Box::new(move |outcome| tell.send(outcome).expect("the benchmark waits for every append")),
        );
        told.recv()??;
        next += batch;
        batches += 1;
    }
    let took = begun.elapsed().as_secs_f64();
    let stats = wal.stats();
    let rate = f64::from(batches) / took;
    println!(
        "{prezero:>10} {batch:>14} {rate:>12.0} {:>12.0} {:>14}",
        rate * f64::from(u32::try_from(batch)?),
        stats.syncs.sum_us() / stats.syncs.len()
    );
    wal.close()?;
    drop(dir);
    std::fs::remove_dir_all(root)?;
    Ok(())
}
