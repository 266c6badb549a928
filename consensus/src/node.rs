//! The handle to a running node.

use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};
use vaylix_engine::layout::DataDir;
use vaylix_engine::scrub::{Scrubbed, Watch, scrub};
use vaylix_engine::state::Reader;
use vaylix_engine::wal::Wal;
use vaylix_proto::Reply;

use crate::config::Config;
use crate::error::{
    LeaderHint, MembershipError, ProposeError, ReadError, RotationError, SnapshotError, StartError,
};
use crate::fatal::{end_process, no_panic_in_task};
use crate::gate::Gate;
use crate::identity::Identity;
use crate::keys::Keys;
use crate::proposal::Proposal;
use crate::queue::{self, Pending, Queue, Restoration};
use crate::raft::cluster::{Cluster, Desk, Parts};
use crate::raft::log_store::LogStore;
use crate::raft::machine::Machine;
use crate::raft::offline::Entries;
use crate::raft::start::{Started, start};
use crate::raft::{self, Raft};
use crate::snapshots::Snapshots;
use crate::status::{Counters, Recovery, SnapshotStatus, Status};
use crate::sweeper::Sweeper;
use crate::transport::{NoPeers, PeerTransport};
use crate::view::View;
use crate::worker::Worker;

/// A running node. Clones share it.
///
/// Dropping the last clone stops it as a crash would: everything acknowledged is on disk, nothing else is
/// promised. [`Node::shutdown`] stops it cleanly.
///
/// A failed sync under a running node ends the process, after an ERROR in the log: what is on disk then is unknown, and
/// going on could acknowledge what is not. A full disk does not: see [`ProposeError::NoRoom`].
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    queue: Arc<Queue>,
    reader: Reader,
    gate: Arc<Gate>,
    raft: Raft,
    machine: Arc<Machine>,
    wal: Wal,
    dir: DataDir,
    log_store: LogStore,
    cluster: Option<Cluster>,
    recovery: Recovery,
    counters: Arc<Counters>,
    snapshots: Arc<Snapshots>,
    keys: Arc<Keys>,
    /// Taken by the one shutdown.
    worker: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
    background: Vec<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.gate.shut();
        self.queue.close();
        for task in &self.background {
            task.abort();
        }
    }
}

impl Node {
    /// Opens the data directory, recovers everything in it, and returns a node that is ready: in a cluster of
    /// one it leads and has applied everything that was ever acknowledged.
    ///
    /// # Errors
    /// [`StartError`], with code, file and offset where there are any. Nothing was changed then beyond what
    /// recovery repairs.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_among(config, Arc::new(NoPeers)).await
    }

    /// The same with a way to reach peers.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_among(config: Config, transport: Arc<dyn PeerTransport>) -> Result<Self, StartError> {
        let Started { raft, machine, gate, wal, dir, keyring, log_store, recovery, appends } =
            start(&config, transport.clone()).await?;
        let reader = machine.reader().clone();
        let counters = Arc::new(Counters::default());
        let (queue, jobs) = queue::channel();
        let queue = Arc::new(queue);
        let (stop, stopping) = oneshot::channel();
        let (cluster, mut background) = match &config.cluster {
            Some(settings) => {
                let (cluster, tasks) = Cluster::start(Parts {
                    config: settings.clone(),
                    timing: config.timing,
                    raft: raft.clone(),
                    machine: machine.clone(),
                    gate: gate.clone(),
                    log_store: log_store.clone(),
                    transport,
                    queue: queue.clone(),
                    appends,
                });
                (Some(cluster), tasks)
            }
            None => (None, Vec::new()),
        };
        let worker = Worker {
            gate: gate.clone(),
            cluster: config.cluster.clone(),
            jobs,
            raft: raft.clone(),
            reader: reader.clone(),
            wal: wal.clone(),
            machine: machine.clone(),
            counters: counters.clone(),
            gather_yields: config.gather_yields,
            stuck_patience: config.stuck_patience,
        };
        let worker = tokio::spawn(no_panic_in_task("the engine worker", worker.run(stopping)));
        let snapshots = Arc::new(Snapshots {
            machine: machine.clone(),
            raft: raft.clone(),
            wal: wal.clone(),
            dir: dir.clone(),
            retained_segments: config.retained_segments,
            pitr: config.pitr,
            interval: config.snapshot_interval,
            turn: tokio::sync::Mutex::default(),
        });
        let keys = Arc::new(Keys {
            dir: dir.clone(),
            keyring,
            wal: wal.clone(),
            log_store: log_store.clone(),
            snapshots: snapshots.clone(),
            age_max: config.key_age_max,
            turn: tokio::sync::Mutex::default(),
        });
        let sweeper = Sweeper {
            queue: queue.clone(),
            reader: reader.clone(),
            gate: gate.clone(),
            counters: counters.clone(),
            interval: config.sweep_interval,
        };
        background.extend([
            worker.abort_handle(),
            tokio::spawn(snapshots.clone().run()).abort_handle(),
            tokio::spawn(keys.clone().run()).abort_handle(),
            tokio::spawn(sweeper.run()).abort_handle(),
            tokio::spawn(end_with(raft.clone())).abort_handle(),
        ]);
        gate.serve();
        tracing::info!(
            node = %log_store.identity().node,
            snapshot_index = recovery.snapshot_index,
            replayed_entries = recovery.replayed_entries,
            duration_ms = recovery.duration.as_millis(),
            "node ready"
        );
        Ok(Self(Arc::new(Inner {
            queue,
            reader,
            gate,
            raft,
            machine,
            wal,
            dir,
            log_store,
            cluster,
            recovery,
            counters,
            snapshots,
            keys,
            worker: Mutex::new(Some((stop, worker))),
            background,
        })))
    }

    /// Reads everything that this node has on disk and judges it, while the node goes on. Blocks; breaks off when `watch` says
    /// so.
    pub fn scrub(&self, watch: &mut dyn Watch) -> ControlFlow<(), Scrubbed> {
        scrub(&self.0.dir, &self.0.keys.keyring, &self.0.wal, &Entries, watch)
    }

    /// Makes something wrong about this node.
    #[cfg(test)]
    pub(crate) fn plant(&self, bug: crate::planted::Bug) {
        self.0.gate.planted.plant(bug);
    }

    /// Makes a change durable and applied, and answers it.
    ///
    /// Cancelling the wait cancels nothing once the change is enqueued.
    ///
    /// # Errors
    /// [`ProposeError`]; only [`ProposeError::OutcomeUnknown`] leaves open whether the change happened.
    pub async fn propose(&self, proposal: Proposal) -> Result<Reply, ProposeError> {
        self.submit(proposal).await.await
    }

    /// Enqueues a change and returns a future of its answer, to be awaited when one likes.
    ///
    /// Waits while the queue is full; a large restore waits for its preparation. Changes that one caller submits
    /// one after the other take effect in that order. Cancel-safe: dropped before it returns, nothing has happened
    /// to any key.
    pub async fn submit(&self, proposal: Proposal) -> Pending {
        self.0.queue.submit(proposal).await
    }

    /// Begins to replace the whole keyspace by entries that are handed over in parts, for what is too large to be held
    /// in memory twice. Waits until no other such restore is being prepared.
    pub async fn begin_restore(&self) -> Restoration {
        self.0.queue.begin_restore().await
    }

    /// A linearizable view: it has everything that was acknowledged by anyone before the call.
    ///
    /// # Errors
    /// [`ReadError`]; never a stale answer.
    pub async fn read(&self) -> Result<View, ReadError> {
        if let Some(view) = self.try_read() {
            return Ok(view);
        }
        match &self.0.cluster {
            Some(cluster) => cluster.confirm().await?,
            // Its gate is closed only while it starts or stops.
            None => return Err(ReadError::Closed),
        }
        Ok(self.local())
    }

    /// The same on any node of a cluster: one that does not lead asks the leader up to where the read must see, and waits
    /// until it does.
    ///
    /// # Errors
    /// As [`Node::read`].
    pub async fn read_anywhere(&self) -> Result<View, ReadError> {
        if self.is_quarantined() {
            return Err(ReadError::Quarantined);
        }
        match (self.read().await, &self.0.cluster) {
            (Err(ReadError::NotLeader { leader: Some(_) }), Some(cluster)) => {
                cluster.catch_up_with_leader().await?;
                Ok(self.local())
            }
            (view, _) => view,
        }
    }

    /// What a read sees where nothing more is asked for: on a leader everything that was acknowledged before the call, on
    /// any other node what it has.
    ///
    /// # Errors
    /// As [`Node::read`], on a leader.
    pub async fn read_here(&self) -> Result<View, ReadError> {
        if self.is_quarantined() {
            return Err(ReadError::Quarantined);
        }
        match self.read().await {
            Err(ReadError::NotLeader { .. }) if self.is_informed() => Ok(self.local()),
            Err(ReadError::NotLeader { .. }) => Err(ReadError::Unconfirmed),
            view => view,
        }
    }

    /// Whether this node takes writes.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.0.gate.office().is_some()
    }

    /// Whether this node has had everything since its start that was acknowledged before it; always so where it is alone.
    #[must_use]
    pub fn is_informed(&self) -> bool {
        self.0.cluster.as_ref().is_none_or(Cluster::is_informed)
    }

    /// Whether the state of this node is known to differ from that of its cluster. It answers no reads and takes no writes
    /// until it has learnt it anew, which it does by itself.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.0.machine.quarantine.is_imposed()
    }

    /// Returns when [`Node::is_quarantined`] has become something else than `imposed`; never when the node has ended.
    pub async fn quarantine_changed(&self, imposed: bool) {
        let mut watch = self.0.machine.quarantine.watch();
        if watch.wait_for(|since| since.is_some() != imposed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether this node is one of a cluster that it does not lead.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.0.cluster.as_ref().is_some_and(|cluster| !cluster.is_leader())
    }

    /// The leader, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<LeaderHint> {
        raft::office::leader_hint_of(&self.0.raft)
    }

    /// Where the control plane of the leader is reached; `None` when there is no leader, it has none, or it does not answer
    /// within the time of an election.
    pub async fn leader_admin_address(&self) -> Option<String> {
        self.0.cluster.as_ref()?.leader_admin_address().await
    }

    /// Follows [`Node::leads`].
    pub async fn led(&self) {
        let mut office = self.0.gate.watch_office();
        // The sender lives as long as the node.
        drop(office.wait_for(Option::is_some).await);
    }

    /// Where peers are answered; `None` for a node that was started alone.
    #[must_use]
    pub fn desk(&self) -> Option<Desk> {
        self.0.cluster.as_ref().map(Cluster::desk)
    }

    /// Makes the node called `name` at `address` a member with a vote.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn join(&self, name: &str, address: &str) -> Result<(), MembershipError> {
        self.led_cluster()?.join(name, address).await.map_err(MembershipError::Refused)
    }

    /// Takes the member called `name` out of the cluster, also this node itself, which hands its office over first.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn remove(&self, name: &str) -> Result<(), MembershipError> {
        self.led_cluster()?.remove(name).await.map_err(MembershipError::Refused)
    }

    /// Has the leader give its office to this node.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn take_over(&self) -> Result<(), MembershipError> {
        let cluster = self.0.cluster.as_ref().ok_or(MembershipError::Alone)?;
        cluster.take_over().await.map_err(MembershipError::Refused)
    }

    /// Gives the office, if this node has it, to another voter.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn hand_over(&self) -> Result<(), MembershipError> {
        let cluster = self.0.cluster.as_ref().ok_or(MembershipError::Alone)?;
        cluster.hand_over().await.map(drop).map_err(MembershipError::Refused)
    }

    /// Gives the office, which this node must have, to the member called `name`, or to the one that is best prepared. Returns
    /// what the one is called that was elected.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn transfer(&self, name: Option<&str>) -> Result<String, MembershipError> {
        let cluster = self.led_cluster()?;
        let done = match name {
            Some(name) => cluster.hand_over_to(name).await.map(|()| name.to_owned()),
            None => cluster.hand_over().await,
        };
        done.map_err(MembershipError::Refused)
    }

    /// Whether this node is to leave the office to others: it does not stand for election, and is nobody's heir. Ends with
    /// a restart.
    pub fn rest(&self, resting: bool) {
        if let Some(cluster) = &self.0.cluster {
            cluster.rest(resting);
        }
    }

    fn led_cluster(&self) -> Result<&Cluster, MembershipError> {
        let cluster = self.0.cluster.as_ref().ok_or(MembershipError::Alone)?;
        if self.leads() { Ok(cluster) } else { Err(MembershipError::NotLeader { leader: self.leader() }) }
    }

    /// The same if no round to the peers is needed, as in a cluster of one; `None` otherwise.
    #[must_use]
    pub fn try_read(&self) -> Option<View> {
        self.0.gate.is_open().then(|| self.local())
    }

    /// The state as this node has it, which may be behind.
    #[must_use]
    pub fn local(&self) -> View {
        View::new(&self.0.reader)
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.0.log_store.identity()
    }

    /// The directory it lives in.
    #[must_use]
    pub fn data_dir(&self) -> &DataDir {
        &self.0.dir
    }

    /// What this node can say about itself.
    #[must_use]
    pub fn status(&self) -> Status {
        let inner = &*self.0;
        let office = raft::office(&inner.raft);
        let applied_index = inner.machine.applied_record_index();
        Status {
            identity: self.identity(),
            voted_for: office.voted_for,
            cluster: inner
                .cluster
                .as_ref()
                .map(|cluster| cluster.status(&office, inner.gate.office().is_some())),
            role: office.role,
            term: office.term,
            leader: office.leader,
            voters: office.voters,
            membership_index: office.membership_index,
            reads_open: inner.gate.is_open(),
            last_index: office.last_index,
            durable_index: inner.wal.durable_index().unwrap_or(0),
            commit_index: office.applied_index.max(applied_index),
            applied_index,
            access_revision: inner.reader.access_revision(),
            time_ms: inner.reader.now(0),
            wal: inner.wal.stats(),
            snapshot: inner.machine.stored().map(|stored| SnapshotStatus {
                index: stored.record_index(),
                size_bytes: stored.info.size_bytes,
                taken_ms: stored.info.time_ms,
            }),
            snapshots: inner.machine.snapshot_counts(),
            log_bytes_since_snapshot: inner.machine.log_bytes_since_snapshot(),
            batches: inner.counters.batches(),
            sweeps: inner.counters.sweeps(),
            recovery: inner.recovery.clone(),
            keys: inner.machine.keys(),
        }
    }

    /// Takes a snapshot of everything applied before the call and lets go of the log it covers.
    ///
    /// # Errors
    /// [`SnapshotError`]; the log is complete all the same.
    pub async fn snapshot(&self) -> Result<(), SnapshotError> {
        self.0.snapshots.take().await
    }

    /// Makes a new storage key and seals under it whatever is written from now on, beginning with a new segment of the log
    /// and a snapshot. Returns its id, a UUID as text. Older keys are kept for what is sealed under them.
    ///
    /// Cancel-safe: dropped before it returns, either nothing has happened or the new key is active, and what is left
    /// to do happens by itself.
    ///
    /// # Errors
    /// [`RotationError`]; the node goes on, under the old key or the new one.
    pub async fn rotate_storage_key(&self) -> Result<String, RotationError> {
        self.0.keys.rotate().await
    }

    /// Stops cleanly: refuses new changes, carries out those that are enqueued, takes a last snapshot if the log
    /// beyond the one on disk would make the next start slow, and closes the log. Other clones find the node closed. The data directory is free when the last clone is
    /// gone.
    ///
    /// # Errors
    /// [`SnapshotError`] when the last snapshot failed; everything else was done, and nothing is lost.
    pub async fn shutdown(self) -> Result<(), SnapshotError> {
        let Some((stop, worker)) = self.0.worker.lock().take() else { return Ok(()) };
        if stop.send(()).is_err() {
            tracing::error!("the engine worker has ended before its time");
        }
        if let Err(error) = worker.await {
            tracing::error!(%error, "the engine worker failed");
        }
        if self.0.wal.is_stuck() {
            end_process(
                "told to stop while the disk refuses to take a write that nobody was promised: \
                 nothing acknowledged is lost",
            );
        }
        let snapshot = self.0.snapshots.take_last().await;
        self.0.gate.shut();
        for task in &self.0.background {
            task.abort();
        }
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::error!(%error, "consensus did not stop cleanly");
        }
        let wal = self.0.wal.clone();
        match tokio::task::spawn_blocking(move || wal.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the log was not closed cleanly"),
            Err(error) => tracing::error!(%error, "the log was not closed cleanly"),
        }
        snapshot
    }
}

/// Ends the process when openraft stops on a failure.
async fn end_with(raft: Raft) {
    if let Some(reason) = raft::stopped(&raft).await {
        end_process(&reason);
    }
}
