//! Snapshots on their way from the leader to a node that is too far behind for the log.
//!
//! The leader encodes the state as it is, compresses it and sends it in parts; the follower decodes it as it comes. Neither
//! ever holds the encoded state: a few parts are in memory on each side. Every part is acknowledged with the offset that is
//! expected next, so a part that was lost with its connection is sent again and the rest goes on from there. The follower
//! hands the state to openraft only when all of it is there and its length is what the leader says; openraft then has it
//! made durable, in one step, before the log that it covers may go.

use std::future::Future;
use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use openraft::error::{Fatal, NetworkError, ReplicationClosed, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use openraft::{OptionalSend, Snapshot, Vote};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout};
use vaylix_engine::state::Root;
use vaylix_proto::ErrorReply;

use super::super::{Image, TypeConfig, codec};
use super::Cluster;
use super::messages::{Receipt, Shipment, decode, encode};
use crate::background::{self, Priority};
use crate::limits::{
    INSTALL_TIME_MAX, SHIPMENT_PART_BYTES, SHIPMENT_PART_TIME_MAX, SHIPMENT_PARTS_WAITING_MAX,
    SHIPMENT_RETRY_EVERY, SHIPMENT_SILENCE_MAX,
};
use crate::transport::{self, Peer, PeerCall, PeerTransport, refused};

/// Little work for what is mostly text and small numbers.
const ZSTD_LEVEL: i32 = 1;

/// The snapshot that is being received, if there is one.
#[derive(Default)]
pub(super) struct Incoming(Mutex<Option<Receiving>>);

struct Receiving {
    id: u64,
    meta: super::super::machine::Meta,
    offset: u64,
    parts: mpsc::Sender<Vec<u8>>,
    decoding: tokio::task::JoinHandle<io::Result<Result<Root, String>>>,
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
    let mut incoming = cluster.0.incoming.0.lock().await;
    let receipt = match shipment {
        Shipment::Begin { id, meta, .. } => {
            *incoming = Some(begin(id, meta));
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
            Some(receiving) if receiving.offset == len => install(cluster, receiving, vote).await?,
            _ => Receipt::Restart,
        },
    };
    Ok(encode(&receipt))
}

fn begin(id: u64, meta: super::super::machine::Meta) -> Receiving {
    let (parts, arrived) = mpsc::channel(SHIPMENT_PARTS_WAITING_MAX);
    let decoding = tokio::spawn(background::run("vaylix-receive", Priority::Low, move || {
        let source = Arrived { parts: arrived, rest: io::Cursor::default() };
        let mut source = zstd::stream::read::Decoder::new(source).map_err(|error| error.to_string())?;
        let root = Root::decode(&mut source).map_err(|error| error.to_string())?;
        match source.read(&mut [0]) {
            Ok(0) => Ok(root),
            Ok(_) => Err("trailing bytes".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }));
    Receiving { id, meta, offset: 0, parts, decoding }
}

async fn install(cluster: &Cluster, receiving: Receiving, vote: Vote<u64>) -> Result<Receipt, ErrorReply> {
    let Receiving { meta, parts, decoding, .. } = receiving;
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
        sent = ship(transport, peer, vote, snapshot) => sent,
    }
}

async fn ship(
    transport: &Arc<dyn PeerTransport>,
    peer: &Peer,
    vote: Vote<u64>,
    snapshot: Snapshot<TypeConfig>,
) -> Result<SnapshotResponse<u64>, SendError> {
    let Snapshot { meta, snapshot } = snapshot;
    let Some(root) = snapshot.0 else { return Err(broken(&io::Error::other("the snapshot is empty"))) };
    let id = getrandom::u64().map_err(|error| broken(&io::Error::other(error.to_string())))?;
    tracing::info!(to = %peer.address, last = ?meta.last_log_id, "sending a snapshot");
    let post = Post { transport, peer };
    match post.deliver(&Shipment::Begin { id, vote, meta }).await? {
        Receipt::HigherVote(vote) => return Ok(SnapshotResponse::new(vote)),
        Receipt::Next(0) => {}
        _ => return Err(broken(&io::Error::other("the snapshot was not begun"))),
    }
    let (parts, mut ready) = mpsc::channel(SHIPMENT_PARTS_WAITING_MAX);
    let encoding = tokio::spawn(background::run("vaylix-send", Priority::Low, move || {
        let mut sink = zstd::stream::write::Encoder::new(Parts { part: Vec::new(), parts }, ZSTD_LEVEL)?;
        root.encode(&mut sink)?;
        sink.finish()?.flush()
    }));
    let mut offset = 0;
    while let Some(bytes) = ready.recv().await {
        let next = offset + bytes.len() as u64;
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
