//! One connection to a peer, with calls under way on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use vaylix_access::peers::{Desk, Peer, Unreachable};
use vaylix_proto::frame::{Compression, FRAME_LEN_MAX, FrameDecoder, FrameEncoder};
use vaylix_proto::hello::{ClientHello, ServerHello};
use vaylix_proto::opcode::Opcode;
use vaylix_proto::response::{Response, Shape, Status};

use super::hail::Caller;
use super::parts::{self, Assembly};
use super::{CALLS_MAX, ClusterSecret, Lane, PEER_NAME, STALL_MAX};

/// Bytes to make room for before each read.
const READ_BYTES: usize = 16 * 1024;

/// A call on its way.
struct Call {
    opcode: Opcode,
    body: Bytes,
    answer: oneshot::Sender<Result<Bytes, Unreachable>>,
}

/// An open connection. Dropped, it is closed and its calls fail.
pub(super) struct Line {
    calls: mpsc::Sender<Call>,
    heard: Arc<Heard>,
    task: AbortHandle,
}

/// When the peer was last heard on a connection.
struct Heard {
    origin: Instant,
    millis: AtomicU64,
}

impl Heard {
    fn now(&self) {
        let millis = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// Greets and hails over a fresh stream.
    pub(super) async fn open<S>(
        mut stream: S,
        secret: &ClusterSecret,
        desk: &Desk,
        peer: &Peer,
        lane: Lane,
        compression: Compression,
    ) -> Result<Self, Unreachable>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let compression = if lane == Lane::Log { compression } else { Compression::None };
        let offer = ClientHello {
            desired_compression: compression,
            ..ClientHello::new(PEER_NAME, env!("CARGO_PKG_VERSION"))
        };
        let mut plain = FrameEncoder::new(Compression::None, 0, FRAME_LEN_MAX);
        let mut out = BytesMut::new();
        plain.encode(&mut out, |body| offer.encode(body)).map_err(unreachable)?;
        stream.write_all(&out).await.map_err(unreachable)?;
        let mut input = Input { decoder: FrameDecoder::new(FRAME_LEN_MAX), buffer: BytesMut::new() };
        let hello = ServerHello::decode(&input.frame(&mut stream).await?).map_err(unreachable)?;
        let agreement = hello.accept(&offer).map_err(|refused| unreachable(format!("{refused:?}")))?;

        let mut caller = Caller::new(secret, desk, peer.node, lane).map_err(unreachable)?;
        let call = caller.call();
        let challenge = exchange(&mut stream, &mut plain, &mut input, 1, call).await?;
        let proof = caller.prove(challenge).map_err(unreachable)?;
        let counter_proof = exchange(&mut stream, &mut plain, &mut input, 2, proof).await?;
        caller.verify(desk, counter_proof).map_err(unreachable)?;

        let (calls, called) = mpsc::channel(CALLS_MAX);
        let heard = Arc::new(Heard { origin: Instant::now(), millis: AtomicU64::new(0) });
        let encoder = parts::encoder(agreement.compression);
        let task = tokio::spawn(run(stream, input, encoder, called, Arc::clone(&heard))).abort_handle();
        Ok(Self { calls, heard, task })
    }

    pub(super) fn is_open(&self) -> bool {
        !self.calls.is_closed()
    }

    /// Whether nothing was heard on it since then.
    pub(super) fn is_silent_since(&self, at: Instant) -> bool {
        let at =
            u64::try_from(at.saturating_duration_since(self.heard.origin).as_millis()).unwrap_or(u64::MAX);
        self.heard.millis.load(Ordering::Relaxed) <= at
    }

    /// Delivers a message and returns its answer.
    pub(super) async fn call(&self, opcode: Opcode, body: Bytes) -> Result<Bytes, Unreachable> {
        let (answer, answered) = oneshot::channel();
        self.calls.send(Call { opcode, body, answer }).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

fn closed() -> Unreachable {
    Unreachable("the connection was closed".to_owned())
}

fn unreachable(error: impl std::fmt::Display) -> Unreachable {
    Unreachable(error.to_string())
}

/// What arrives, cut into frames.
struct Input {
    decoder: FrameDecoder,
    buffer: BytesMut,
}

impl Input {
    async fn frame<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<Bytes, Unreachable> {
        loop {
            if let Some(body) = self.decoder.decode(&mut self.buffer).map_err(unreachable)? {
                return Ok(body);
            }
            self.buffer.reserve(READ_BYTES);
            if stream.read_buf(&mut self.buffer).await.map_err(unreachable)? == 0 {
                return Err(closed());
            }
        }
    }
}

/// Sends one small message and waits for its answer.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    encoder: &mut FrameEncoder,
    input: &mut Input,
    number: u128,
    message: Bytes,
) -> Result<Bytes, Unreachable> {
    let id = number.to_be_bytes();
    let mut out = BytesMut::new();
    for part in parts::cut(message) {
        parts::put_request(encoder, &mut out, id, Opcode::ReplicationStatus, &part).map_err(unreachable)?;
    }
    stream.write_all(&out).await.map_err(unreachable)?;
    let mut assembly = Assembly::default();
    loop {
        let response = Response::decode(input.frame(stream).await?).map_err(unreachable)?;
        if response.id != id {
            return Err(unreachable("an answer to something else"));
        }
        if let Some(answer) = take(&mut assembly, response)? {
            return answer;
        }
    }
}

/// Takes a response in: the whole answer once it is there.
fn take(
    assembly: &mut Assembly,
    response: Response,
) -> Result<Option<Result<Bytes, Unreachable>>, Unreachable> {
    if response.status == Status::Ok {
        let message = assembly.add(response.id, response.payload).map_err(unreachable)?;
        return Ok(message.map(Ok));
    }
    let refusal = match response.reply(Shape::Empty).map_err(unreachable)? {
        Err(refusal) => unreachable(refusal),
        Ok(_) => unreachable("nothing was found"),
    };
    Ok(Some(Err(refusal)))
}

type Pending = Arc<Mutex<HashMap<[u8; 16], oneshot::Sender<Result<Bytes, Unreachable>>>>>;

/// Carries calls and answers until either side fails.
async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    mut input: Input,
    mut encoder: FrameEncoder,
    mut called: mpsc::Receiver<Call>,
    heard: Arc<Heard>,
) {
    let (mut read, mut write) = tokio::io::split(stream);
    let pending = Pending::default();
    let listened = Arc::clone(&pending);
    let listen = async move {
        let mut assembly = Assembly::default();
        loop {
            let response = Response::decode(input.frame(&mut read).await?).map_err(unreachable)?;
            heard.now();
            let id = response.id;
            if let Some(answer) = take(&mut assembly, response)?
                && let Some(waiting) = listened.lock().remove(&id)
            {
                // The caller may have given up.
                drop(waiting.send(answer));
            }
        }
        #[expect(unreachable_code, reason = "says what the block fails with")]
        Ok::<(), Unreachable>(())
    };
    let speak = async {
        let mut number = 2_u128;
        let mut out = BytesMut::new();
        while let Some(Call { opcode, body, answer }) = called.recv().await {
            if answer.is_closed() {
                continue;
            }
            number += 1;
            let id = number.to_be_bytes();
            pending.lock().insert(id, answer);
            for part in parts::cut(body) {
                out.clear();
                parts::put_request(&mut encoder, &mut out, id, opcode, &part).map_err(unreachable)?;
                timeout(STALL_MAX, write.write_all(&out)).await.map_err(unreachable)?.map_err(unreachable)?;
            }
            // Callers that gave up are not remembered for ever.
            pending.lock().retain(|_, answer| !answer.is_closed());
        }
        Ok::<(), Unreachable>(())
    };
    let ended = tokio::select! {
        ended = listen => ended,
        ended = speak => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(target: "server.peers", %error, "a connection to a peer ended");
    }
}
