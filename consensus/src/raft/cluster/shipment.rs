//! Snapshots on their way from the leader to a node that is too far behind for the log.
//!
//! The leader encodes the state as it is, compresses it and sends it in parts; the follower decodes it as it comes. Neither
//! ever holds the encoded state: a few parts are in memory on each side. Every part is acknowledged with the offset that is
//! expected next, so a part that was lost with its connection is sent again and the rest goes on from there. When the other
//! side is silent for so long that the sending is given up, the leader offers the same state again, for some minutes, and the
//! follower says how much of it has arrived; the same state has the same bytes, so the rest is enough. The follower
//! hands the state to openraft only when all of it is there and its length is what the leader says; openraft then has it
//! made durable, in one step, before the log that it covers may go.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{Fatal, NetworkError, ReplicationClosed, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use openraft::{OptionalSend, Snapshot, Vote};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout};
use vaylix_engine::state::Root;
use vaylix_proto::ErrorReply;

use super::super::{Image, TypeConfig, codec};
use super::messages::{Receipt, Shipment, decode, encode};
use super::{Cluster, relearn};
use crate::background;
use crate::limits::{
    INSTALL_TIME_MAX, OFFER_TIME_MAX, SHIPMENT_PART_BYTES, SHIPMENT_PART_TIME_MAX,
    SHIPMENT_PARTS_WAITING_MAX, SHIPMENT_RETRY_EVERY, SHIPMENT_SILENCE_MAX,
};
use crate::transport::{self, Peer, PeerCall, PeerTransport, refused};

/// Little work for what is mostly text and small numbers.
const ZSTD_LEVEL: i32 = 1;

/// The snapshot that is being received, if there is one.
pub(super) struct Incoming {
    receiving: Mutex<Option<Receiving>>,
    /// When something of one came last.
    heard: parking_lot::Mutex<Instant>,
    /// Bytes of it that have come, compressed; 0 when none is being received.
    bytes: AtomicU64,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            receiving: Mutex::default(),
            heard: parking_lot::Mutex::new(Instant::now()),
            bytes: AtomicU64::new(0),
        }
    }
}

impl Incoming {
    /// Bytes of a snapshot that have come, if one is being received.
    pub(super) fn bytes(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Lets go of what has arrived of a snapshot whose rest does not come any more.
    pub(super) async fn forget_old(&self) {
        if self.silence() >= OFFER_TIME_MAX {
            *self.receiving.lock().await = None;
            self.bytes.store(0, Ordering::Relaxed);
        }
    }

    /// How long nothing of a snapshot has come.
    pub(super) fn silence(&self) -> Duration {
        self.heard.lock().elapsed()
    }
}

struct Receiving {
    id: u64,
    teaches: bool,
    meta: super::super::machine::Meta,
    offset: u64,
    parts: mpsc::Sender<Vec<u8>>,
    decoding: tokio::task::JoinHandle<io::Result<Result<Root, String>>>,
}

impl Receiving {
    /// Whether it is the beginning of this one, and the rest is of use.
    fn can_go_on(&self, id: u64) -> bool {
        self.id == id && !self.parts.is_closed()
    }
}

/// Takes in one piece.
pub(super) async fn receive(cluster: &Cluster, shipment: Shipment) -> Result<Bytes, ErrorReply> {
    let vote = *shipment.vote();
    let own: Vote<u64> = cluster.0.raft.metrics().borrow().vote;
    // Not comparable means different votes of one term, of which ours was first.
    if !matches!(vote.partial_cmp(&own), Some(std::cmp::Ordering::Greater | std::cmp::Ordering::Equal)) {
        return Ok(encode(&Receipt::HigherVote(own)));
    }
    cluster.0.contact.heard();
    let mut incoming = cluster.0.incoming.receiving.lock().await;
    *cluster.0.incoming.heard.lock() = Instant::now();
    let receipt = match shipment {
        Shipment::Begin { teaches: true, .. } if !cluster.is_quarantined() => {
            return Err(refused("this node has nothing to learn anew".to_owned()));
        }
        Shipment::Begin { id, .. } if incoming.as_ref().is_some_and(|held| held.can_go_on(id)) => {
            Receipt::Next(incoming.as_ref().map_or(0, |receiving| receiving.offset))
        }
        Shipment::Begin { id, meta, teaches, .. } => {
            *incoming = Some(begin(id, meta, teaches));
            Receipt::Next(0)
        }
        Shipment::Part { id, offset, bytes, .. } => {
            match incoming.as_mut().filter(|receiving| receiving.id == id) {
                Some(receiving) => {
                    if offset == receiving.offset {
                        let len = bytes.len() as u64;
                        // The decoder may be behind: that holds the sender up, not the node.
                        if receiving.parts.send(bytes).await.is_err() {
                            *incoming = None;
                            return Err(refused("the snapshot cannot be decoded".to_owned()));
                        }
                        receiving.offset += len;
                    }
                    Receipt::Next(receiving.offset)
                }
                None => Receipt::Restart,
            }
        }
        Shipment::End { id, len, .. } => match incoming.take_if(|receiving| receiving.id == id) {
            Some(receiving) if receiving.offset == len => {
                cluster.0.incoming.bytes.store(0, Ordering::Relaxed);
                install(cluster, receiving, vote).await?
            }
            _ => Receipt::Restart,
        },
    };
    if let Receipt::Next(offset) = &receipt {
        cluster.0.incoming.bytes.store(*offset, Ordering::Relaxed);
    }
    Ok(encode(&receipt))
}

fn begin(id: u64, meta: super::super::machine::Meta, teaches: bool) -> Receiving {
    let (parts, arrived) = mpsc::channel(SHIPMENT_PARTS_WAITING_MAX);
    let decoding = tokio::spawn(background::run("vaylix-receive", move |_| {
        let source = Arrived { parts: arrived, rest: io::Cursor::default() };
        let mut source = zstd::stream::read::Decoder::new(source).map_err(|error| error.to_string())?;
        let root = Root::decode(&mut source).map_err(|error| error.to_string())?;
        match source.read(&mut [0]) {
            Ok(0) => Ok(root),
            Ok(_) => Err("trailing bytes".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }));
    Receiving { id, teaches, meta, offset: 0, parts, decoding }
}

async fn install(cluster: &Cluster, receiving: Receiving, vote: Vote<u64>) -> Result<Receipt, ErrorReply> {
    let Receiving { meta, parts, decoding, teaches, .. } = receiving;
    drop(parts);
    let unreadable = |detail: String| refused(format!("the snapshot cannot be decoded: {detail}"));
    let root = match decoding.await {
        Ok(Ok(Ok(root))) => root,
        Ok(Ok(Err(detail))) => return Err(unreadable(detail)),
        Ok(Err(error)) => return Err(unreadable(error.to_string())),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let last = meta.last_log_id.map_or(0, |id| codec::record_id(&id).index);
    if root.applied().map_or(0, vaylix_engine::sequence::Sequence::get) != last || last == 0 {
        return Err(unreadable("it is of another entry than it says".to_owned()));
    }
    if teaches {
        return match relearn::take_in(cluster, root).await {
            Ok(()) => Ok(Receipt::Installed),
            Err(obstacle) => Err(refused(format!("the state was not learnt anew: {obstacle}"))),
        };
    }
    cluster.0.gate.arrival.expect(last);
    tracing::info!(index = last, "installing a snapshot from the leader");
    let snapshot = Snapshot { meta, snapshot: Box::new(Image(Some(root))) };
    match cluster.0.raft.install_full_snapshot(vote, snapshot).await {
        Ok(response) if response.vote > vote => Ok(Receipt::HigherVote(response.vote)),
        Ok(_) => Ok(Receipt::Installed),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// What has arrived, as a stream. Read on a thread of its own.
struct Arrived {
    parts: mpsc::Receiver<Vec<u8>>,
    rest: io::Cursor<Vec<u8>>,
}

impl Read for Arrived {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.rest.read(out)?;
            if read > 0 || out.is_empty() {
                return Ok(read);
            }
            match self.parts.blocking_recv() {
                Some(part) => self.rest = io::Cursor::new(part),
                None => return Ok(0),
            }
        }
    }
}

/// What is to be sent, cut into parts.
struct Parts {
    part: Vec<u8>,
    parts: mpsc::Sender<Vec<u8>>,
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = SHIPMENT_PART_BYTES - self.part.len();
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
        self.part.extend_from_slice(taken);
        if self.part.len() == SHIPMENT_PART_BYTES {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = std::mem::take(&mut self.part);
        self.parts.blocking_send(part).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

type SendError = StreamingError<TypeConfig, Fatal<u64>>;

/// Sends a snapshot and returns when it is installed.
pub(crate) async fn send(
    transport: &Arc<dyn PeerTransport>,
    peer: &Peer,
    vote: Vote<u64>,
    snapshot: Snapshot<TypeConfig>,
    cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
) -> Result<SnapshotResponse<u64>, SendError> {
    tokio::select! {
        closed = cancel => Err(StreamingError::Closed(closed)),
        sent = ship(transport, peer, vote, snapshot, false) => sent,
    }
}

/// Sends the state to a node that is to put it in the place of its own, and returns when it has.
pub(super) async fn teach(
    transport: &Arc<dyn PeerTransport>,
    peer: &Peer,
    vote: Vote<u64>,
    snapshot: Snapshot<TypeConfig>,
) -> Result<(), SendError> {
    ship(transport, peer, vote, snapshot, true).await.map(drop)
}

async fn ship(
    transport: &Arc<dyn PeerTransport>,
    peer: &Peer,
    vote: Vote<u64>,
    snapshot: Snapshot<TypeConfig>,
    teaches: bool,
) -> Result<SnapshotResponse<u64>, SendError> {
    let Snapshot { meta, snapshot } = snapshot;
    let Some(root) = snapshot.0 else { return Err(broken(&io::Error::other("the snapshot is empty"))) };
    let id = name_of(&meta, teaches);
    let last = meta.last_log_id;
    let post = Post { transport, peer };
    let mut arrived = 0;
    match post.deliver(&Shipment::Begin { id, vote, meta, teaches }).await? {
        Receipt::HigherVote(vote) => return Ok(SnapshotResponse::new(vote)),
        Receipt::Next(0) => tracing::info!(to = %peer.address, ?last, "sending a snapshot"),
        Receipt::Next(offset) => {
            tracing::info!(to = %peer.address, ?last, offset, "going on with a snapshot that was interrupted");
            arrived = offset;
        }
        _ => return Err(broken(&io::Error::other("the snapshot was not begun"))),
    }
    let (parts, mut ready) = mpsc::channel(SHIPMENT_PARTS_WAITING_MAX);
    let encoding = tokio::spawn(background::run("vaylix-send", move |_| {
        let mut sink = zstd::stream::write::Encoder::new(Parts { part: Vec::new(), parts }, ZSTD_LEVEL)?;
        root.encode(&mut sink)?;
        sink.finish()?.flush()
    }));
    let mut offset = 0;
    while let Some(bytes) = ready.recv().await {
        let next = offset + bytes.len() as u64;
        if next <= arrived {
            offset = next;
            continue;
        }
        match post.deliver(&Shipment::Part { id, vote, offset, bytes }).await? {
            Receipt::Next(expected) if expected == next => offset = next,
            Receipt::HigherVote(vote) => return Ok(SnapshotResponse::new(vote)),
            _ => return Err(broken(&io::Error::other("the other side expects another snapshot"))),
        }
    }
    match encoding.await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error)) | Err(error)) => return Err(broken(&error)),
        Err(error) => return Err(broken(&io::Error::other(error.to_string()))),
    }
    match post.deliver(&Shipment::End { id, vote, len: offset }).await? {
        Receipt::Installed => Ok(SnapshotResponse::new(vote)),
        Receipt::HigherVote(vote) => Ok(SnapshotResponse::new(vote)),
        _ => Err(broken(&io::Error::other("the other side did not take the snapshot"))),
    }
}

/// What a snapshot of this process is called. Two of the same place in the log are the same, byte for byte.
fn name_of(meta: &super::super::machine::Meta, teaches: bool) -> u64 {
    static PROCESS: OnceLock<RandomState> = OnceLock::new();
    PROCESS.get_or_init(RandomState::new).hash_one((&meta.snapshot_id, teaches))
}

/// The way of the parts.
struct Post<'a> {
    transport: &'a Arc<dyn PeerTransport>,
    peer: &'a Peer,
}

impl Post<'_> {
    /// Delivers one piece, again and again while the peer is only silent for a while.
    async fn deliver(&self, shipment: &Shipment) -> Result<Receipt, SendError> {
        let body = encode(shipment);
        // Installing takes as long as the state is large.
        let wait = match shipment {
            Shipment::End { .. } => INSTALL_TIME_MAX,
            Shipment::Begin { .. } | Shipment::Part { .. } => SHIPMENT_PART_TIME_MAX,
        };
        let deadline = Instant::now() + SHIPMENT_SILENCE_MAX;
        loop {
            let call = self.transport.call(self.peer, PeerCall::Snapshot, body.clone(), wait);
            match timeout(wait, call).await {
                Ok(Ok(answer)) => {
                    let receipt: Receipt = decode(&answer).map_err(|error| broken(&error))?;
                    return Ok(receipt);
                }
                Ok(Err(error)) if Instant::now() >= deadline => return Err(unreachable(&error)),
                Err(_elapsed) if Instant::now() >= deadline => {
                    return Err(unreachable(&transport::Unreachable("no answer in time".to_owned())));
                }
                Ok(Err(_)) | Err(_) => sleep(SHIPMENT_RETRY_EVERY).await,
            }
        }
    }
}

fn broken(error: &(impl std::error::Error + 'static)) -> SendError {
    StreamingError::Network(NetworkError::new(error))
}

fn unreachable(error: &transport::Unreachable) -> SendError {
    StreamingError::Unreachable(Unreachable::new(error))
}
