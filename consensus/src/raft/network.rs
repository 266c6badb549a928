//! openraft's calls to peers, carried by a [`PeerTransport`] in MessagePack.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

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

use super::cluster::{Ballot, send_snapshot};
use super::{Member, TypeConfig};
use crate::identity::NodeId;
use crate::transport::{self, Peer, PeerCall, PeerTransport};

/// The pauses before a peer that could not be reached is tried again: they grow from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// Makes one [`Link`] per peer.
pub(crate) struct Network(pub(crate) Arc<dyn PeerTransport>);

/// The way to one peer.
pub(crate) struct Link {
    transport: Arc<dyn PeerTransport>,
    peer: Peer,
}

type CallError = RPCError<u64, Member, RaftError<u64>>;

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &Member) -> Link {
        let id = NodeId::new(target).expect("no node is ever given the id 0");
        Link { transport: self.0.clone(), peer: Peer { node: Some(id), address: node.addr.clone() } }
    }
}

impl Link {
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
        self.call(PeerCall::Append, &request, &option).await
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
        send_snapshot(&self.transport, &self.peer, vote, snapshot, cancel).await
    }

    fn backoff(&self) -> Backoff {
        let pauses = std::iter::successors(Some(PAUSE_MIN), |pause| Some((*pause * 2).min(PAUSE_MAX)));
        Backoff::new(pauses)
    }
}
