//! openraft's calls to peers, carried by a [`PeerTransport`] in MessagePack.
//!
//! The transport carries votes and entries. It does not carry snapshots yet, so a peer that is too far behind
//! for the log stays behind and is reported unreachable.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, RaftNetwork, RaftNetworkFactory, Snapshot, Vote};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TypeConfig;
use crate::identity::NodeId;
use crate::transport::{self, Peer, PeerCall, PeerTransport};

/// Makes one [`Link`] per peer.
pub(crate) struct Network(pub(crate) Arc<dyn PeerTransport>);

/// The way to one peer.
pub(crate) struct Link {
    transport: Arc<dyn PeerTransport>,
    peer: Peer,
}

type CallError = RPCError<u64, BasicNode, RaftError<u64>>;

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Link {
        let id = NodeId::new(target).expect("no node is ever given the id 0");
        Link { transport: self.0.clone(), peer: Peer { node: id, address: node.addr.clone() } }
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
        answer.map_err(|error| RemoteError::new(self.peer.node.get(), error).into())
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
        self.call(PeerCall::Vote, &request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        _: Vote<u64>,
        _: Snapshot<TypeConfig>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let error = transport::Unreachable("snapshots are not carried to peers".to_owned());
        Err(StreamingError::Unreachable(Unreachable::new(&error)))
    }
}
