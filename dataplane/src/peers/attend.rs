//! The callee's side: one connection of a peer, from its hail to its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use vaylix_access::peers::{Card, Desk};
use vaylix_proto::error::WireError;
use vaylix_proto::frame::{Compression, FRAME_LEN_MAX, FrameDecoder, FrameEncoder};
use vaylix_proto::opcode::Opcode;
use vaylix_proto::request::{Request, RequestId};
use vaylix_proto::{Code, ErrorReply};

use super::hail::{Callee, Heard};
use super::parts::{self, Assembly, BadPart};
use super::{CALLS_MAX, ClusterSecret, STALL_MAX, call_of};

const READ_BYTES: usize = 64 * 1024;

/// Longest frame before the peer has proved itself.
const HAIL_LEN_MAX: u32 = 8 * 1024;

/// Why a peer's connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("closed")]
    Closed,
    #[error("refused: {0}")]
    Refused(ErrorReply),
    #[error("malformed: {0}")]
    Malformed(#[from] WireError),
    #[error("malformed: {0}")]
    Part(#[from] BadPart),
    #[error("not a request")]
    NoRequest,
    #[error("it takes nothing")]
    Stalled,
    #[error("lost: {0}")]
    Lost(#[from] io::Error),
}

/// What arrives, cut into requests.
struct Input<R> {
    stream: R,
    decoder: FrameDecoder,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Input<R> {
    async fn request(&mut self) -> Result<Request, End> {
        loop {
            if let Some(body) = self.decoder.decode(&mut self.buffer)? {
                return Request::decode(body).map_err(|_| End::NoRequest);
            }
            self.buffer.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(End::Closed);
            }
        }
    }
}

/// Attends to a connection whose hello named a peer; `input` came behind that. `proved` runs once the peer has proved
/// itself, which it must within `patience`.
pub(crate) async fn attend<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    input: BytesMut,
    compression: Compression,
    (secret, desk): (&ClusterSecret, &Desk),
    patience: Duration,
    proved: impl FnOnce() -> bool,
) -> End {
    let (read, mut write) = tokio::io::split(stream);
    let mut input = Input { stream: read, decoder: FrameDecoder::new(HAIL_LEN_MAX), buffer: input };
    let mut encoder = parts::encoder(compression);
    let hailed = timeout(patience, hail(&mut input, &mut write, &mut encoder, secret, desk)).await;
    let caller = match hailed {
        Ok(Ok(caller)) => caller,
        Ok(Err(end)) => return end,
        Err(_elapsed) => return End::Closed,
    };
    if !proved() {
        return End::Closed;
    }
    input.decoder.set_max_frame_len(FRAME_LEN_MAX);
    tracing::debug!(target: "server.peers", peer = %caller.name, "a peer has connected");
    let (answers, answered) = mpsc::channel(CALLS_MAX);
    let end = tokio::select! {
        end = listen(&mut input, Arc::new(caller), desk, answers) => end,
        end = speak(&mut write, &mut encoder, answered) => end,
    };
    match end {
        Ok(()) => End::Closed,
        Err(end) => end,
    }
}

async fn hail<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    input: &mut Input<R>,
    write: &mut W,
    encoder: &mut FrameEncoder,
    secret: &ClusterSecret,
    desk: &Desk,
) -> Result<Card, End> {
    let mut callee = Callee::new(secret);
    let mut assembly = Assembly::default();
    let mut out = BytesMut::new();
    loop {
        let request = input.request().await?;
        let id = request.id;
        out.clear();
        let heard = if request.opcode == Opcode::ReplicationStatus {
            match assembly.add(id, request.payload)? {
                Some(message) => callee.hear(desk, &message),
                None => return Err(End::NoRequest),
            }
        } else {
            Err(ErrorReply::new(Code::AuthenticationRequired, "peer authentication is required"))
        };
        let (answer, card) = match heard {
            Ok(Heard::Challenge(answer)) => (answer, None),
            Ok(Heard::Proved(answer, card)) => (answer, Some(card)),
            Err(refusal) => {
                tracing::warn!(target: "server.peers", code = %refusal.code, reason = %refusal.message, "a peer was refused");
                parts::put_refusal(encoder, &mut out, id, refusal.clone())?;
                write.write_all(&out).await?;
                return Err(End::Refused(refusal));
            }
        };
        for part in parts::cut(answer) {
            parts::put_answer(encoder, &mut out, id, &part)?;
        }
        write.write_all(&out).await?;
        if let Some(card) = card {
            return Ok(card);
        }
    }
}

type Answer = (RequestId, Result<Bytes, ErrorReply>);

/// Has every call answered, several at a time.
async fn listen<R: AsyncRead + Unpin>(
    input: &mut Input<R>,
    caller: Arc<Card>,
    desk: &Desk,
    answers: mpsc::Sender<Answer>,
) -> Result<(), End> {
    let turns = Arc::new(Semaphore::new(CALLS_MAX));
    let mut assembly = Assembly::default();
    loop {
        let request = input.request().await?;
        let Some(call) = call_of(request.opcode) else {
            let refusal = ErrorReply::new(Code::UnsupportedRemoteCommand, "unsupported remote command");
            if answers.send((request.id, Err(refusal))).await.is_err() {
                return Ok(());
            }
            continue;
        };
        let id = request.id;
        let Some(message) = assembly.add(id, request.payload)? else { continue };
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return Ok(()) };
        let (desk, caller, answers) = (desk.clone(), Arc::clone(&caller), answers.clone());
        tokio::spawn(async move {
            let answer = desk.answer(&caller, call, message).await;
            // The connection may be gone.
            drop(answers.send((id, answer)).await);
            drop(turn);
        });
    }
}

async fn speak<W: AsyncWrite + Unpin>(
    write: &mut W,
    encoder: &mut FrameEncoder,
    mut answered: mpsc::Receiver<Answer>,
) -> Result<(), End> {
    let mut out = BytesMut::new();
    while let Some((id, answer)) = answered.recv().await {
        out.clear();
        match answer {
            Ok(message) => {
                for part in parts::cut(message) {
                    parts::put_answer(encoder, &mut out, id, &part)?;
                }
            }
            Err(refusal) => parts::put_refusal(encoder, &mut out, id, refusal)?,
        }
        timeout(STALL_MAX, write.write_all(&out)).await.map_err(|_| End::Stalled)??;
    }
    Ok(())
}
