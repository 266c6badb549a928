//! One direction of one connection.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Link, Setting};

/// Bytes taken at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// Chunks that may be on the way at a time; more wait in the sender's socket.
const CHUNKS_MAX: usize = 64;

/// Carries bytes until the sender ends; then tells the receiver so.
///
/// # Errors
/// When either side breaks the connection off.
pub(super) async fn run(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    link: &mut watch::Receiver<Setting>,
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Option<Instant>, Vec<u8>)>(CHUNKS_MAX);
    let departures = link.clone();
    let take = async move {
        let mut dice = 0x2545_F491_4F6C_DD1D_u64;
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let length = from.read(&mut chunk).await?;
            if length == 0 {
                return Ok(());
            }
            chunk.truncate(length);
            let late = match departures.borrow().link {
                Link::Delay(delay) => Some(delay),
                Link::Lossy { one_in, stall } if roll(&mut dice, one_in) == 0 => Some(stall),
                _ => None,
            };
            if sender.send((late.map(|late| Instant::now() + late), chunk)).await.is_err() {
                return Ok(());
            }
        }
    };
    let deliver = async {
        while let Some((due, chunk)) = receiver.recv().await {
            // A timer that is due takes a millisecond or two all the same: with four hops per write, most of its latency.
            if let Some(due) = due {
                sleep_until(due).await;
            }
            let now = *link.borrow();
            if let Link::Bandwidth(bytes_per_second) = now.link {
                let share = chunk.len() as f64 / f64::from(bytes_per_second.max(1));
                sleep(Duration::from_secs_f64(share)).await;
            }
            arrives(link).await;
            to.write_all(&chunk).await?;
        }
        // The end travels the same way as the bytes before it.
        arrives(link).await;
        to.shutdown().await
    };
    tokio::try_join!(take, deliver).map(|_| ())
}

/// Waits while nothing arrives.
async fn arrives(link: &mut watch::Receiver<Setting>) {
    if link.wait_for(|now| now.link != Link::Drop).await.is_err() {
        // The network is gone, and with it everything that could still arrive.
        std::future::pending::<()>().await;
    }
}

/// The next number below `below` of a xorshift generator.
fn roll(dice: &mut u64, below: u32) -> u64 {
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    *dice % u64::from(below.max(1))
}
