//! The shared read side.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use vaylix_proto::{Command, Reply};

use super::allowance::{Allowance, Exceeded};
use super::entry::Entry;
use super::index::Index;
use super::read;
use super::root::Root;

/// What the writer and the readers share.
pub(super) struct Shared {
    /// The state. Held by the writer for the length of a batch, so that whoever takes it meets it between two.
    pub(super) root: Mutex<Root>,
    /// The same keys for point reads; each operation becomes visible here as soon as it is done.
    pub(super) index: Index,
    /// Copies of the root's figures that can be read at any time.
    pub(super) time_ms: AtomicU64,
    pub(super) access_revision: AtomicU64,
}

impl Shared {
    pub(super) fn new(root: Root) -> Self {
        Self {
            index: Index::of(&root.keys),
            time_ms: AtomicU64::new(root.time_ms()),
            access_revision: AtomicU64::new(root.access_revision),
            root: Mutex::new(root),
        }
    }

    /// Makes the figures of `root` visible.
    pub(super) fn publish_figures(&self, root: &Root) {
        self.time_ms.store(root.time_ms(), Ordering::Release);
        self.access_revision.store(root.access_revision, Ordering::Release);
    }
}

/// Reads what the state holds now. Cheap to clone and to share between threads.
///
/// Reads of named keys meet the writer for less than one operation. What needs the whole (counting, listing,
/// scanning, the system part) takes a [`Root`], for which it waits until the batch at hand is applied.
/// Operations are visible as a whole or not at all, and never disappear again.
#[derive(Clone)]
pub struct Reader(pub(super) Arc<Shared>);

impl Reader {
    /// The moment at which a read at this wall clock time takes place: time never goes back behind a write.
    #[must_use]
    pub fn now(&self, wall_ms: u64) -> u64 {
        wall_ms.max(self.0.time_ms.load(Ordering::Acquire))
    }

    /// How often the system part has changed.
    #[must_use]
    pub fn access_revision(&self) -> u64 {
        self.0.access_revision.load(Ordering::Acquire)
    }

    /// The state as it is between two log entries.
    #[must_use]
    pub fn root(&self) -> Root {
        self.0.root.lock().clone()
    }

    /// The value of a key that is there at `now_ms`.
    #[must_use]
    pub fn get(&self, key: &str, now_ms: u64) -> Option<Bytes> {
        self.live(key, now_ms, Entry::value_shared)
    }

    /// All of a key that is there at `now_ms`.
    #[must_use]
    pub fn entry(&self, key: &str, now_ms: u64) -> Option<Entry> {
        self.live(key, now_ms, Entry::clone)
    }

    /// The same as [`root`](Self::root), unless that means waiting for a batch that is being applied.
    #[must_use]
    pub fn try_root(&self) -> Option<Root> {
        self.0.root.try_lock().map(|root| root.clone())
    }

    /// The content of a system record.
    #[must_use]
    pub fn system_get(&self, key: &str) -> Option<Bytes> {
        self.0.root.lock().system_get(key).cloned()
    }

    /// The answer to a command that only reads keys; `None` for any other. Cursors are plain offsets here; a
    /// session that remembers them asks [`Root::scan`]. Reads of single keys take nothing from the allowance.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn query(
        &self,
        command: &Command,
        now_ms: u64,
        allowance: &mut Allowance,
    ) -> Result<Option<Reply>, Exceeded> {
        Ok(Some(match command {
            Command::Get { key } | Command::GetEx { key, expiration: None, persist: false } => {
                self.get(key, now_ms).map_or(Reply::NotFound, Reply::Value)
            }
            Command::Exists { key } => Reply::Bool(self.live(key, now_ms, |_| ()).is_some()),
            Command::Ttl { key } => {
                let now_ms = self.now(now_ms);
                let ttl = self.live(key, now_ms, |entry| read::ttl_seconds(Some(entry), now_ms));
                Reply::Integer(ttl.unwrap_or_else(|| read::ttl_seconds(None, now_ms)))
            }
            Command::MGet { keys } => {
                let now_ms = self.now(now_ms);
                allowance.take_bytes(4)?;
                let slot = |entry: Option<&Entry>| {
                    read::slot(entry.filter(|entry| entry.is_live(now_ms)), allowance)
                };
                Reply::Strings(self.0.index.find_all(keys, slot)?)
            }
            other => return self.root().query(other, now_ms, allowance),
        }))
    }

    /// What `select` makes of a key that is there.
    fn live<R>(&self, key: &str, now_ms: u64, select: impl FnOnce(&Entry) -> R) -> Option<R> {
        let now_ms = self.now(now_ms);
        self.0.index.find(key, |entry| entry.is_live(now_ms).then(|| select(entry)))
    }
}
