//! openraft's calls to peers, carried by a [`PeerTransport`] in MessagePack.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetwork, RaftNetworkFactory, Snapshot, Vote};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Span;
use tracing::field::Empty;
use vaylix_engine::durations::SharedDurations;

use super::cluster::{Ballot, send_snapshot};
use super::machine::Machine;
use super::{Member, TypeConfig};
use crate::identity::NodeId;
use crate::transport::{self, Peer, PeerCall, PeerTransport};

/// The pauses before a peer that could not be reached is tried again: they grow from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// Makes one [`Link`] per peer.
pub(crate) struct Network {
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) appends: Arc<Appends>,
    pub(crate) machine: Arc<Machine>,
}

/// What became of the calls with log entries since the start.
#[derive(Debug, Default)]
pub(crate) struct Appends {
    pub(crate) failed: AtomicU64,
    pub(crate) answered: SharedDurations,
}

impl Appends {
    fn count(&self, was_answered: bool, took: Duration) {
        if was_answered {
            self.answered.count(took);
        } else {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The way to one peer.
pub(crate) struct Link {
    transport: Arc<dyn PeerTransport>,
    peer: Peer,
    appends: Arc<Appends>,
    machine: Arc<Machine>,
}

type CallError = RPCError<u64, Member, RaftError<u64>>;

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &Member) -> Link {
        let id = NodeId::new(target).expect("no node is ever given the id 0");
        let peer = Peer { node: Some(id), address: node.addr.clone() };
        Link {
            transport: self.transport.clone(),
            peer,
            appends: self.appends.clone(),
            machine: self.machine.clone(),
        }
    }
}

impl Link {
    /// Within the proposal of an entry that is sent, if that is followed.
    fn replication_span(&self, request: &AppendEntriesRequest<TypeConfig>) -> Span {
        let (Some(first), Some(last)) = (request.entries.first(), request.entries.last()) else {
            return Span::none();
        };
        let indexes = first.log_id.index..=last.log_id.index;
        let Some(within) = self.machine.gate().followed.among(indexes) else { return Span::none() };
        tracing::info_span!(
            target: "span.replication", parent: &within, "replication", otel.kind = "client",
            peer.node = self.peer.node.map(tracing::field::display), entries = request.entries.len(),
            otel.status_code = Empty
        )
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        call: PeerCall,
        request: &Q,
        option: &RPCOption,
    ) -> Result<A, CallError> {
        let body = rmp_serde::to_vec_named(request).map_err(|error| NetworkError::new(&error))?;
        let answer = self
            .transport
            .call(&self.peer, call, Bytes::from(body), option.hard_ttl())
            .await
            .map_err(|error: transport::Unreachable| Unreachable::new(&error))?;
        let answer: Result<A, RaftError<u64>> =
            rmp_serde::from_slice(&answer).map_err(|error| NetworkError::new(&error))?;
        let target = self.peer.node.map_or(0, NodeId::get);
        answer.map_err(|error| RemoteError::new(target, error).into())
    }
}

impl RaftNetwork<TypeConfig> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, CallError> {
        if request.entries.is_empty() {
            return self.call(PeerCall::Append, &request, &option).await;
        }
        let span = self.replication_span(&request);
        let sent = Instant::now();
        let answer = self.call(PeerCall::Append, &request, &option).await;
        self.appends.count(answer.is_ok(), sent.elapsed());
        if answer.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        answer
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, CallError> {
        self.call(PeerCall::Vote, &Ballot::Vote(request), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        self.machine.offered(&snapshot);
        let sent = send_snapshot(&self.transport, &self.peer, vote, snapshot, cancel).await;
        if sent.is_ok() {
            self.machine.withdraw_offer();
        }
        sent
    }

    fn backoff(&self) -> Backoff {
        let pauses = std::iter::successors(Some(PAUSE_MIN), |pause| Some((*pause * 2).min(PAUSE_MAX)));
        Backoff::new(pauses)
    }
}
