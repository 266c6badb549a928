//! How two nodes prove to each other that they know the cluster's secret, without sending it.
//!
//! | Message | Opcode or status | Payload |
//! |---|---|---|
//! | call | 0x42 | `01`, caller's nonce (32), wanted node u64 or 0, lane u8, caller's card |
//! | challenge | ok | callee's nonce (32) |
//! | proof | 0x42 | `02`, HMAC-SHA256(key, `vaylix peer caller v1`, call, challenge) |
//! | counter-proof | ok | HMAC-SHA256(key, `vaylix peer callee v1`, call, challenge, card), callee's card |
//!
//! Each side's proof covers fresh randomness of the other, so none can be used again, and the two labels differ, so none
//! can be sent back. The proofs cover both cards and the wanted id: a connection is bound to the two nodes and the cluster
//! that it was made for. The callee says nothing about itself before the caller has proved itself. Proofs are compared in
//! constant time. A caller that does not prove itself gets `SRV-008`; one that belongs elsewhere `SRV-030`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use vaylix_access::peers::{Card, Desk, NodeId};
use vaylix_proto::{Code, ErrorReply};

use super::{ClusterSecret, Lane};

pub(super) const NONCE_LEN: usize = 32;
pub(super) const PROOF_LEN: usize = 32;
const CALL: u8 = 1;
const PROOF: u8 = 2;
const CALLER: &[u8] = b"vaylix peer caller v1";
const CALLEE: &[u8] = b"vaylix peer callee v1";
/// Longest card: a name and two ids.
const CARD_LEN_MAX: usize = 4 * 1024;

fn mac(secret: &ClusterSecret, parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.key()).expect("any length makes a key");
    for part in parts {
        // Lengths keep the parts apart.
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

fn nonce() -> Result<[u8; NONCE_LEN], ErrorReply> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(|error| {
        ErrorReply::new(Code::ServerFilesystemIoFailure, format!("no randomness: {error}"))
    })?;
    Ok(nonce)
}

fn unproved() -> ErrorReply {
    ErrorReply::new(
        Code::AuthenticationFailed,
        "peer authentication failed: the two nodes do not have the same cluster secret",
    )
}

fn malformed() -> ErrorReply {
    ErrorReply::new(Code::InvalidArguments, "invalid peer request: malformed hail")
}

/// The caller's side.
pub(super) struct Caller<'a> {
    secret: &'a ClusterSecret,
    wanted: Option<NodeId>,
    call: Bytes,
    challenge: Bytes,
}

impl<'a> Caller<'a> {
    pub(super) fn new(
        secret: &'a ClusterSecret,
        desk: &Desk,
        wanted: Option<NodeId>,
        lane: Lane,
    ) -> Result<Self, ErrorReply> {
        let mut call = BytesMut::new();
        call.put_u8(CALL);
        call.put_slice(&nonce()?);
        call.put_u64(wanted.map_or(0, NodeId::get));
        call.put_u8(match lane {
            Lane::Control => 0,
            Lane::Log => 1,
            Lane::Snapshot => 2,
        });
        call.put_slice(&desk.card().encode());
        Ok(Self { secret, wanted, call: call.freeze(), challenge: Bytes::new() })
    }

    pub(super) fn call(&self) -> Bytes {
        self.call.clone()
    }

    /// The proof for this challenge.
    pub(super) fn prove(&mut self, challenge: Bytes) -> Result<Bytes, ErrorReply> {
        if challenge.len() != NONCE_LEN {
            return Err(malformed());
        }
        self.challenge = challenge;
        let proof = mac(self.secret, &[CALLER, &self.call, &self.challenge]).finalize().into_bytes();
        Ok([&[PROOF][..], &proof].concat().into())
    }

    /// Whether whoever answered knows the secret too, and is who was called.
    pub(super) fn verify(&self, desk: &Desk, mut counter_proof: Bytes) -> Result<Card, ErrorReply> {
        if counter_proof.len() < PROOF_LEN {
            return Err(malformed());
        }
        let proof = counter_proof.split_to(PROOF_LEN);
        let parts: [&[u8]; 4] = [CALLEE, &self.call, &self.challenge, &counter_proof];
        mac(self.secret, &parts).verify_slice(&proof).map_err(|_| unproved())?;
        let card = Card::decode(&counter_proof)?;
        desk.recognize(&card, self.wanted)?;
        Ok(card)
    }
}

/// The callee's side.
pub(super) struct Callee<'a> {
    secret: &'a ClusterSecret,
    called: Option<(Bytes, [u8; NONCE_LEN])>,
}

/// What to do with a message of the caller.
pub(super) enum Heard {
    /// Answer this, and wait for the proof.
    Challenge(Bytes),
    /// Answer this; the caller is who its card says.
    Proved(Bytes, Card),
}

impl<'a> Callee<'a> {
    pub(super) fn new(secret: &'a ClusterSecret) -> Self {
        Self { secret, called: None }
    }

    pub(super) fn hear(&mut self, desk: &Desk, message: &Bytes) -> Result<Heard, ErrorReply> {
        match (message.first(), self.called.take()) {
            (Some(&CALL), None) if message.len() <= CARD_LEN_MAX => {
                let nonce = nonce()?;
                self.called = Some((message.clone(), nonce));
                Ok(Heard::Challenge(Bytes::copy_from_slice(&nonce)))
            }
            (Some(&PROOF), Some((call, challenge))) => {
                let proof = message.get(1..).unwrap_or_default();
                mac(self.secret, &[CALLER, &call, &challenge]).verify_slice(proof).map_err(|_| unproved())?;
                let (wanted, card) = read_call(call.clone())?;
                desk.admit(&card, wanted)?;
                let own = desk.card().encode();
                let proof = mac(self.secret, &[CALLEE, &call, &challenge, &own]).finalize().into_bytes();
                Ok(Heard::Proved([&proof[..], &own].concat().into(), card))
            }
            _ => Err(malformed()),
        }
    }
}

fn read_call(mut call: Bytes) -> Result<(Option<NodeId>, Card), ErrorReply> {
    const FIXED_LEN: usize = 1 + NONCE_LEN + 8 + 1;
    if call.len() < FIXED_LEN {
        return Err(malformed());
    }
    call.advance(1 + NONCE_LEN);
    let wanted = NodeId::new(call.get_u64());
    call.advance(1);
    Ok((wanted, Card::decode(&call)?))
}
