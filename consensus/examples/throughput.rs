//! How many durable writes a node of one takes: SET of 64-byte values, each acknowledged after `fdatasync`.
//!
//! ```text
//! cargo run --release -p vaylix-consensus --example throughput -- [directory] [seconds] [yields,...] [proposers,...]
//! ```
#![expect(clippy::print_stdout, reason = "the figures are the point of this program")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use vaylix_consensus::{Config, Node, Payload, Proposal};
use vaylix_proto::{Command, SetOptions};

const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 64;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().map_or(Ok(3), |seconds| seconds.parse())?;
    let yields = numbers(arguments.next().as_deref().unwrap_or("8"))?;
    let proposers = numbers(arguments.next().as_deref().unwrap_or("1,64,256,1024"))?;
    println!("yields proposers    ops/s  per batch  syncs/s   p50 us   p99 us");
    for &yields in &yields {
        for &proposers in &proposers {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(measure(&directory, Duration::from_secs(seconds), yields, proposers))?;
        }
    }
    Ok(())
}

fn numbers(list: &str) -> Result<Vec<u32>, std::num::ParseIntError> {
    list.split(',').map(str::parse).collect()
}

async fn measure(parent: &Path, time: Duration, yields: u32, proposers: u32) -> Result<(), Failure> {
    let directory = tempfile::tempdir_in(parent)?;
    let config = Config { gather_yields: yields, snapshot_log_bytes: None, ..Config::new(directory.path()) };
    let node = Node::start(config).await?;
    let enough = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let tasks: Vec<_> = (0..u64::from(proposers))
        .map(|proposer| tokio::spawn(propose(node.clone(), enough.clone(), proposer)))
        .collect();
    tokio::time::sleep(time).await;
    enough.store(true, Ordering::Relaxed);
    let mut took_us = Vec::new();
    for task in tasks {
        took_us.extend(task.await??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    took_us.sort_unstable();
    let status = node.status();
    let percentile = |percent: usize| took_us[(took_us.len() - 1) * percent / 100];
    println!(
        "{yields:6} {proposers:9} {:8.0} {:10.1} {:8.0} {:8} {:8}",
        took_us.len() as f64 / elapsed,
        status.batches.commands as f64 / status.batches.batches as f64,
        status.wal.syncs.len() as f64 / elapsed,
        percentile(50),
        percentile(99),
    );
    node.shutdown().await?;
    Ok(())
}

async fn propose(node: Node, enough: Arc<AtomicBool>, proposer: u64) -> Result<Vec<u64>, Failure> {
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let mut took_us = Vec::new();
    let mut key = proposer.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while !enough.load(Ordering::Relaxed) {
        key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let key = format!("key:{:012}", (key >> 33) % KEYS).into();
        let set = Command::Set { key, value: value.clone(), options: SetOptions::default() };
        let asked = Instant::now();
        node.propose(Proposal {
            span: tracing::Span::none(),
            caller: 0,
            access_revision: 0,
            payload: Payload::Command(set),
        })
        .await?;
        took_us.push(u64::try_from(asked.elapsed().as_micros())?);
    }
    Ok(took_us)
}
