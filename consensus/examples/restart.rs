//! How long a node takes to stop and to start: from the log alone, and from a snapshot.
//!
//! ```text
//! cargo run --release -p vaylix-consensus --example restart -- [directory] [keys]
//! ```
#![expect(clippy::print_stdout, reason = "the figures are the point of this program")]

use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use vaylix_consensus::{Config, Node, Payload, Proposal};
use vaylix_proto::{Command, SetOptions};

const VALUE_BYTES: usize = 64;
/// Writes on the way at once.
const WINDOW: u64 = 4096;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let keys = arguments.next().map_or(Ok(1_000_000), |keys| keys.parse())?;
    let directory = tempfile::tempdir_in(parent)?;
    let config = Config { snapshot_log_bytes: None, ..Config::new(directory.path()) };
    // Each life on a runtime of its own: what is left when that is gone is a crash.
    let life = || tokio::runtime::Builder::new_multi_thread().enable_all().build();

    let begun = Instant::now();
    life()?.block_on(fill(config.clone(), keys))?;
    println!("filled with {keys} keys in {:.1} s", begun.elapsed().as_secs_f64());
    life()?.block_on(start_and_stop(config.clone(), "log alone"))?;
    life()?.block_on(start_and_stop(config, "snapshot"))
}

async fn fill(config: Config, keys: u64) -> Result<(), Failure> {
    let node = Node::start(config).await?;
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    for first in (0..keys).step_by(usize::try_from(WINDOW)?) {
        let mut window = Vec::new();
        for key in first..(first + WINDOW).min(keys) {
            // Neighbours in the log are far apart in the order of keys.
            let key = format!("key:{:016x}", key.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into();
            let set = Command::Set { key, value: value.clone(), options: SetOptions::default() };
            window.push(
                node.submit(Proposal {
                    span: tracing::Span::none(),
                    caller: 0,
                    access_revision: 0,
                    payload: Payload::Command(set),
                })
                .await,
            );
        }
        for pending in window {
            pending.await?;
        }
    }
    Ok(())
}

async fn start_and_stop(config: Config, from: &str) -> Result<(), Failure> {
    let node = Node::start(config).await?;
    let status = node.status();
    let took = status.recovery.duration.as_secs_f64();
    let snapshot_bytes = status.snapshot.map_or(0, |snapshot| snapshot.size_bytes);
    let bytes = status.wal.size_bytes + snapshot_bytes;
    println!(
        "start from {from}: {took:.2} s, {:.0} MB on disk, {:.0} MB/s",
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / took
    );
    let begun = Instant::now();
    node.shutdown().await?;
    println!("stop with its snapshot: {:.2} s", begun.elapsed().as_secs_f64());
    Ok(())
}
