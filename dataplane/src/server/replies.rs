//! The answers of one connection, in the order of its requests.
//!
//! An answer that is known is encoded at once, unless earlier writes are still under way: then it waits behind
//! them. Everything encoded is collected in one buffer, so that a batch of requests is answered by one write.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;
use vaylix_access::{Answer, Pending};
use vaylix_proto::error::WireError;
use vaylix_proto::frame::{COMPRESSION_THRESHOLD_BYTES, Compression, FrameEncoder};
use vaylix_proto::request::RequestId;
use vaylix_proto::response::encode_reply;
use vaylix_proto::{ErrorReply, Reply, Text};

use super::caps::{
    ANSWER_OVERHEAD_BYTES, IN_FLIGHT_BYTES_MAX, READ_BYTES_MAX, REPLY_BYTES_HIGH, WRITES_IN_FLIGHT_MAX,
};
use super::reply_len::body_len;

/// Replies ready to be sent, and those still to come.
pub(crate) struct Replies {
    outbox: Outbox,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
}

/// A write under way whose answer is to come, and the answers that are known but come after it.
struct Waiting {
    write: Pending,
    behind: Vec<Answer>,
    /// Memory held for all of this, about.
    bytes: usize,
}

/// Encoded replies on their way to the peer.
pub(crate) struct Outbox {
    compression: Compression,
    max_frame_len: u32,
    encoder: FrameEncoder,
    encoded: BytesMut,
    /// The socket has taken bytes that it may still hold back.
    is_unflushed: bool,
    /// Since when the socket has taken nothing although there is something to take.
    stalled_since: Option<Instant>,
}

/// Not even a short error reply fits in the frames that the client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unanswerable;

impl Replies {
    /// Nothing answered yet, under what was negotiated.
    pub(crate) fn new(compression: Compression, max_frame_len: u32) -> Self {
        let outbox = Outbox {
            compression,
            max_frame_len,
            encoder: FrameEncoder::new(compression, COMPRESSION_THRESHOLD_BYTES, max_frame_len),
            encoded: BytesMut::new(),
            is_unflushed: false,
            stalled_since: None,
        };
        Self { outbox, waiting: VecDeque::new(), waiting_bytes: 0 }
    }

    /// Answers the latest request.
    ///
    /// # Errors
    /// [`Unanswerable`].
    pub(crate) fn answer(&mut self, answer: Answer) -> Result<(), Unanswerable> {
        let Some(last) = self.waiting.back_mut() else { return self.outbox.encode(answer) };
        let bytes = ANSWER_OVERHEAD_BYTES + body_len(answer.result());
        last.behind.push(answer);
        last.bytes += bytes;
        self.waiting_bytes += bytes;
        Ok(())
    }

    /// Leaves the answer of the latest request to a write, which holds about `bytes` bytes until then.
    pub(crate) fn answer_later(&mut self, write: Pending, bytes: usize) {
        let bytes = ANSWER_OVERHEAD_BYTES + bytes;
        self.waiting.push_back(Waiting { write, behind: Vec::new(), bytes });
        self.waiting_bytes += bytes;
    }

    /// The write that is to be answered next, and where to.
    pub(crate) fn parts(&mut self) -> (Option<&mut Pending>, &mut Outbox) {
        (self.waiting.front_mut().map(|next| &mut next.write), &mut self.outbox)
    }

    /// Encodes the answer of the write that was next, and the known ones behind it.
    ///
    /// # Errors
    /// [`Unanswerable`].
    pub(crate) fn finish_write(&mut self, answer: Answer) -> Result<(), Unanswerable> {
        let Some(next) = self.waiting.pop_front() else { return Ok(()) };
        self.waiting_bytes -= next.bytes;
        self.outbox.encode(answer)?;
        next.behind.into_iter().try_for_each(|answer| self.outbox.encode(answer))
    }

    /// Whether writes are under way.
    pub(crate) fn has_writes(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether everything that was asked has been answered and sent.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.outbox.is_empty()
    }

    /// Whether requests must wait until the peer has read or writes have ended.
    pub(crate) fn is_full(&self) -> bool {
        self.outbox.has_backlog()
            || self.waiting.len() >= WRITES_IN_FLIGHT_MAX
            || self.waiting_bytes >= IN_FLIGHT_BYTES_MAX
    }

    /// Where the answers are encoded.
    pub(crate) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Gives back memory that an idle connection does not need.
    pub(crate) fn shrink(&mut self) {
        if self.is_done() {
            *self = Self::new(self.outbox.compression, self.outbox.max_frame_len);
        }
    }
}

impl Outbox {
    fn encode(&mut self, mut answer: Answer) -> Result<(), Unanswerable> {
        let len = body_len(answer.result());
        if answer.result().is_ok() && len > self.body_len_max() {
            answer.replace(self.too_large(len));
        }
        let id = answer.request_id();
        let answer = answer.give();
        if body_len(&answer) <= self.body_len_max() {
            return self.frame(id, &answer);
        }
        // The text of the refusal does not fit, but code and name may.
        let bare = answer.map_err(|error| ErrorReply { message: Text::new(), ..error });
        if body_len(&bare) <= self.body_len_max() { self.frame(id, &bare) } else { Err(Unanswerable) }
    }

    fn frame(&mut self, id: RequestId, answer: &Result<Reply, ErrorReply>) -> Result<(), Unanswerable> {
        self.encoder
            .encode(&mut self.encoded, |body| encode_reply(id, answer, body))
            .map_err(|_| Unanswerable)
    }

    /// The longest body that may be sent.
    pub(crate) fn body_len_max(&self) -> usize {
        self.max_frame_len as usize
    }

    /// The refusal of a reply whose body would take `len` bytes.
    pub(crate) fn too_large(&self, len: usize) -> ErrorReply {
        WireError::FrameTooLarge { size: len, max: self.body_len_max() }.into()
    }

    /// Whether the peer has to read before more is answered.
    pub(crate) fn has_backlog(&self) -> bool {
        self.encoded.len() >= REPLY_BYTES_HIGH
    }

    /// Whether everything has been sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.encoded.is_empty() && !self.is_unflushed
    }

    /// For how long the peer has taken nothing of what waits for it.
    pub(crate) fn stalled_for(&self, now: Instant) -> Duration {
        self.stalled_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Sends what the socket takes; ready when everything has been sent.
    pub(crate) fn poll_send<S>(&mut self, stream: &mut S, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        let before = self.encoded.len();
        let poll = self.poll_write(stream, context);
        if poll.is_ready() || self.encoded.len() < before {
            self.stalled_since = None;
        } else if self.stalled_since.is_none() {
            self.stalled_since = Some(Instant::now());
        }
        poll
    }

    fn poll_write<S>(&mut self, stream: &mut S, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        while !self.encoded.is_empty() {
            let sent = ready!(Pin::new(&mut *stream).poll_write(context, &self.encoded))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.encoded.advance(sent);
            self.is_unflushed = true;
        }
        if self.encoded.capacity() > READ_BYTES_MAX {
            self.encoded = BytesMut::new();
        }
        ready!(Pin::new(stream).poll_flush(context))?;
        self.is_unflushed = false;
        Poll::Ready(Ok(()))
    }
}
