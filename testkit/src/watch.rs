//! One client at each node that writes there all the time, to see from when on one of them takes writes, and whether what
//! was acknowledged is still there in the end.
//!
//! The clients of a [`Workload`](crate::Workload) look for the leader as real ones do, and wait for answers as long; what
//! they see of an interruption is as much about them as about the cluster. These here never leave their node, and wait for it
//! while the others go on. Each of their writes goes to a key of its own, so that none can hide the loss of another.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use vaylix_proto::{Command, Reply};

use crate::wait;
use crate::wire::{Connection, set_command};

/// How long a node may take to answer anything before its client begins anew with a login, which is dear.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(10);

/// Time between two attempts: how exactly moments are known.
const PAUSE: Duration = Duration::from_millis(10);

/// How many keys are looked at with one question at the end.
const READ_AT_ONCE: usize = 100;

/// Clients at work. Dropped, they end.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    written: Mutex<Vec<Written>>,
}

/// A write that was acknowledged.
#[derive(Debug)]
struct Written {
    key: String,
    begun: Instant,
    acknowledged: Instant,
}

impl Watch {
    /// Sets a client to work at each of these addresses.
    #[must_use]
    pub fn start(addresses: &[SocketAddr]) -> Self {
        let shared = Arc::new(Shared::default());
        let threads = addresses
            .iter()
            .enumerate()
            .map(|(node, address)| {
                let (shared, address) = (Arc::clone(&shared), *address);
                std::thread::spawn(move || shared.write_at(node, address))
            })
            .collect();
        Self { shared, threads }
    }

    /// Waits for the first acknowledgement of a write that was begun after `moment`, and returns when it came.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn await_write_after(&self, moment: Instant, patience: Duration) -> Result<Instant> {
        wait::within("a node takes a write", patience, || {
            let written = self.shared.written.lock().unwrap_or_else(PoisonError::into_inner);
            let later = written.iter().rev().take_while(|write| write.acknowledged >= moment);
            later.filter(|write| write.begun >= moment).map(|write| write.acknowledged).min()
        })
    }

    /// The longest time since `moment` in which no write was acknowledged by any node, up to the last one that was.
    #[must_use]
    pub fn longest_gap_since(&self, moment: Instant) -> Duration {
        let written = self.shared.written.lock().unwrap_or_else(PoisonError::into_inner);
        let moments = written.iter().map(|write| write.acknowledged).filter(|at| *at > moment);
        let mut moments: Vec<_> = std::iter::once(moment).chain(moments).collect();
        moments.sort_unstable();
        moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Ends the clients, and reads at `leader` everything that was acknowledged to them. How many writes that are, and
    /// the keys of those that are missing.
    ///
    /// # Errors
    /// When the leader does not answer.
    pub fn finish(mut self, leader: SocketAddr) -> Result<(usize, Vec<String>)> {
        self.end();
        let written =
            std::mem::take(&mut *self.shared.written.lock().unwrap_or_else(PoisonError::into_inner));
        let mut connection = Connection::login(leader)?;
        let mut missing = Vec::new();
        for keys in written.chunks(READ_AT_ONCE) {
            let question =
                Command::MGet { keys: keys.iter().map(|write| write.key.as_str().into()).collect() };
            let Reply::Strings(values) = connection.call(&question)?? else { anyhow::bail!("no values") };
            ensure!(values.len() == keys.len(), "one value per key");
            let absent = keys.iter().zip(values).filter(|(_, value)| value.is_none());
            missing.extend(absent.map(|(write, _)| write.key.clone()));
        }
        Ok((written.len(), missing))
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            drop(thread.join());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn write_at(&self, node: usize, address: SocketAddr) {
        let mut connection = None;
        let mut number = 0_u64;
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            let key = format!("watch:{node}:{number}");
            let begun = Instant::now();
            if self.try_write(&mut connection, address, &key) {
                let write = Written { key, begun, acknowledged: Instant::now() };
                self.written.lock().unwrap_or_else(PoisonError::into_inner).push(write);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether the write was acknowledged. A connection that does not work is given up.
    fn try_write(&self, connection: &mut Option<Connection>, address: SocketAddr, key: &str) -> bool {
        let mut usable = match connection.take() {
            Some(usable) => usable,
            None => match Connection::login_within(address, ATTEMPT_PATIENCE) {
                Ok(usable) => usable,
                Err(_) => return false,
            },
        };
        match usable.call(&set_command(key, "x")) {
            Ok(answer) => {
                *connection = Some(usable);
                answer == Ok(Reply::Ok)
            }
            Err(_) => false,
        }
    }
}
