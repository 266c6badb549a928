//! One connection after its hello: the loop between socket and session.
//!
//! One task does everything. It reads what is there, handles every complete request in it, and sends all
//! answers with one write. There is one place to wait ([`Connection::wait`]), where answers of writes, room in
//! the socket, new bytes, dismissal and the clock are awaited together.
//!
//! - Answers leave in the order of the requests.
//! - Writes that follow each other are submitted without waiting, so that they share a batch. Everything else
//!   waits until the connection's earlier writes have ended: a client sees its own program order.
//! - Memory is bounded: requests are not handled while [`Replies::is_full`], and bytes are not read while
//!   there are requests to handle.
//! - Requests that arrived completely are answered before the connection ends, unless the peer does not take
//!   the answers or the server's grace is over.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Sleep;
use tracing::Span;
use tracing::field::Empty;
use vaylix_access::{Admitted, Answer, Login, Metric, Ticket};
use vaylix_proto::error::WireError;
use vaylix_proto::frame::FrameDecoder;
use vaylix_proto::hello::{Agreement, Capabilities};
use vaylix_proto::opcode::Opcode;
use vaylix_proto::request::{Request, RequestId};

use vaylix_telemetry::Trace;

use super::attend::Server;
use super::caps::{HOUSEKEEPING_EVERY, READ_BYTES_MAX, READ_BYTES_MIN, REQUESTS_PER_TURN, WRITE_STALL_MAX};
use super::registry::Member;
use super::replies::{Outbox, Replies, Unanswerable};
use super::reply_len::{PREFIX_LEN, value_body_len};
use super::session::{Session, Step, check_deadline, deadline};

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The peer has closed its side.
    #[error("client disconnected")]
    Closed,
    /// The server stops, or somebody else needs the place.
    #[error("dismissed")]
    Dismissed,
    /// Nothing was asked for too long.
    #[error("idle timeout")]
    Idle,
    /// What came is not a frame, or not a request: nothing behind it can be understood.
    #[error("malformed input: [{code}] {0}", code = .0.code())]
    Malformed(WireError),
    /// The agreed frames are too small for any answer.
    #[error("the negotiated frame length is too small for the answer")]
    Unanswerable,
    /// The peer does not read its answers.
    #[error("the client stopped reading")]
    Stalled,
    /// The socket failed.
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
}

impl From<Unanswerable> for End {
    fn from(_: Unanswerable) -> Self {
        Self::Unanswerable
    }
}

/// A connection that has greeted.
pub(crate) struct Connection<'a, S> {
    stream: &'a mut S,
    input: BytesMut,
    decoder: FrameDecoder,
    max_frame_len: u32,
    /// Bytes to ask for next: as many as the last reads suggest.
    read_bytes: usize,
    replies: Replies,
    session: Session,
    member: &'a mut Member,
    server: Arc<Server>,
    span: Span,
    clock: Clock,
    /// Set when nothing is read any more: what is left is answered, then the connection ends like this.
    ending: Option<End>,
}

/// What a connection remembers of time.
struct Clock {
    /// When the last bytes came: every complete request in the buffer was complete then.
    received_at: Instant,
    /// When the last request had been handled.
    handled_at: Instant,
    /// Whether nothing has come since the last look around, so that there is no memory to give back.
    is_quiet: bool,
    tick: Pin<Box<Sleep>>,
    is_armed: bool,
}

/// What ended a wait.
enum Woken {
    Answered(Answer),
    Sent,
    Received(usize),
    Dismissed,
    Tick,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Connection<'a, S> {
    /// A connection over `stream`; `input` is what came behind its hello.
    pub(crate) fn new(
        stream: &'a mut S,
        input: BytesMut,
        agreement: Agreement,
        member: &'a mut Member,
        server: Arc<Server>,
        peer: SocketAddr,
        span: Span,
    ) -> Self {
        let now = Instant::now();
        let Agreement { compression, max_frame_len, capabilities } = agreement;
        let mut session = Session::new(server.door.clone(), member.id().0, peer, now);
        if session.is_known() {
            member.protect();
        }
        if capabilities.contains(Capabilities::LINEARIZABLE_FOLLOWER_READS) {
            session.visitor().read_fresh();
        }
        Self {
            stream,
            input,
            decoder: FrameDecoder::new(max_frame_len),
            max_frame_len,
            read_bytes: READ_BYTES_MIN,
            replies: Replies::new(compression, max_frame_len),
            session,
            member,
            server,
            span,
            clock: Clock {
                received_at: now,
                handled_at: now,
                is_quiet: false,
                tick: Box::pin(tokio::time::sleep(HOUSEKEEPING_EVERY)),
                is_armed: true,
            },
            ending: None,
        }
    }

    /// Serves requests until the connection ends.
    pub(crate) async fn run(mut self) -> End {
        loop {
            match self.step().await {
                Ok(None) => {}
                Ok(Some(end)) | Err(end) => return end,
            }
        }
    }

    /// Handles what is there, then waits for more. Returns how the connection ended once all is said.
    async fn step(&mut self) -> Result<Option<End>, End> {
        self.member.busy();
        let needs_more = self.handle().await?;
        if needs_more && self.replies.is_done() && self.ending.is_some() {
            return Ok(self.ending.take());
        }
        if !self.replies.has_writes() {
            self.member.idle(self.clock.received_at);
        }
        match self.wait(needs_more && self.ending.is_none()).await? {
            Woken::Answered(answer) => {
                self.clock.handled_at = Instant::now();
                self.replies.finish_write(answer)?;
                self.collect().await?;
            }
            Woken::Received(0) => self.ending = Some(End::Closed),
            Woken::Received(_) => {
                self.clock.received_at = Instant::now();
                self.clock.is_quiet = false;
                self.adapt_read();
            }
            // Whoever only makes room does not keep its socket until it has read everything.
            Woken::Dismissed if !self.member.is_closing() => return Ok(Some(End::Dismissed)),
            Woken::Dismissed => self.ending = Some(End::Dismissed),
            Woken::Tick => self.look_around()?,
            Woken::Sent => {}
        }
        Ok(None)
    }

    /// Handles the complete requests of the buffer. True when it needs more bytes, false when the answers
    /// have to leave first.
    async fn handle(&mut self) -> Result<bool, End> {
        let mut turn = 0;
        loop {
            if self.replies.is_full() {
                return Ok(false);
            }
            match self.decoder.decode(&mut self.input) {
                Ok(Some(body)) => self.request(body).await?,
                Ok(None) => return Ok(true),
                Err(error) => {
                    self.break_off(error);
                    return Ok(true);
                }
            }
            turn += 1;
            if turn == REQUESTS_PER_TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Nothing that comes from now on can be understood.
    fn break_off(&mut self, error: WireError) {
        self.input = BytesMut::new();
        self.ending = Some(End::Malformed(error));
    }

    async fn request(&mut self, body: Bytes) -> Result<(), End> {
        let now = Instant::now();
        self.clock.handled_at = now;
        let request = match Request::decode(body) {
            Ok(request) => request,
            Err(refused) => {
                let Some(id) = refused.id else {
                    self.break_off(refused.error);
                    return Ok(());
                };
                let answer = match self.ticket(id, None, now).await {
                    ControlFlow::Break(answer) => answer,
                    ControlFlow::Continue(ticket) => match self.session.take_token(ticket, now) {
                        Ok(ticket) => ticket.refuse_undecodable(refused.error),
                        Err(answer) => *answer,
                    },
                };
                return Ok(self.replies.answer(answer)?);
            }
        };
        if self.server.settings.log_requests {
            let opcode = request.opcode.name();
            tracing::info!(target: "server.connection", parent: &self.span, opcode, "request");
        }
        let span = self.request_span(&request);
        let ticket = match self.ticket(request.id, Some(request.opcode), now).await {
            ControlFlow::Continue(ticket) => ticket.within(span),
            ControlFlow::Break(answer) => return Ok(self.replies.answer(answer)?),
        };
        let has_writes = self.replies.has_writes();
        let step = self.session.decide(&request, ticket, self.clock.received_at, now, has_writes);
        match self.perform(&request, step).await? {
            Some(answer) => Ok(self.replies.answer(answer)?),
            None => Ok(()),
        }
    }

    /// The span of a request, if somebody follows requests: in the trace that the client says, with a link to its connection.
    fn request_span(&self, request: &Request) -> Span {
        let span = tracing::info_span!(
            target: vaylix_telemetry::REQUEST, parent: None, "request", otel.kind = "server",
            db.system.name = "vaylix", db.operation.name = request.opcode.name(),
            error.r#type = Empty, otel.status_code = Empty
        );
        if !span.is_disabled() {
            vaylix_telemetry::join(&span, request.metadata.trace_id.and_then(Trace::of_id));
            span.follows_from(&self.span);
        }
        span
    }

    /// The ticket of a request. Waits only while the audit log is behind.
    async fn ticket(
        &mut self,
        id: RequestId,
        opcode: Option<Opcode>,
        now: Instant,
    ) -> ControlFlow<Answer, Ticket> {
        let visitor = self.session.visitor();
        match visitor.ticket(id, opcode, now) {
            Some(ticket) => ControlFlow::Continue(ticket),
            None => {
                let ticket = Box::pin(visitor.wait_for_ticket(id, opcode, now));
                meanwhile(self.stream, self.replies.outbox(), ticket).await
            }
        }
    }

    /// Does what was decided. No answer yet: a write is under way.
    async fn perform(&mut self, request: &Request, step: Step) -> Result<Option<Answer>, End> {
        match step {
            Step::Answer(answer) => return Ok(Some(answer)),
            Step::Write(admitted) => return self.write(request, admitted).await,
            _ => {}
        }
        self.settle().await?;
        let now = Instant::now();
        let late = check_deadline(deadline(request, self.clock.received_at), now);
        let step = match (step, late) {
            (step, Err(late)) => return Ok(Some(step.refuse(late))),
            (Step::AfterWrites(postponed), Ok(())) => {
                match self.session.admit(postponed, request.payload.len(), now, false) {
                    Step::Write(admitted) => return self.write(request, admitted).await,
                    step => step,
                }
            }
            (step, Ok(())) => step,
        };
        Ok(Some(match step {
            Step::Answer(answer) => answer,
            Step::Alone(admitted) => self.alone(admitted).await,
            Step::Login(login) => self.login(login).await,
            Step::Commit(ticket) => self.commit(ticket).await,
            step @ (Step::Write(_) | Step::AfterWrites(_)) => {
                step.refuse(vaylix_access::refusal::contended())
            }
        }))
    }

    /// Puts a write on its way. An answer means that it was refused.
    async fn write(&mut self, request: &Request, admitted: Admitted) -> Result<Option<Answer>, End> {
        let mut bytes = request.payload.len();
        if let Some(told) = self.told_value_len(&admitted).await? {
            let len = value_body_len(told);
            if len > self.replies.outbox().body_len_max() {
                return Ok(Some(admitted.refuse(self.replies.outbox().too_large(len))));
            }
            bytes += len.max(self.server.door.limits().value_bytes_max);
        }
        let deadline = deadline(request, self.clock.received_at);
        let submit = self.server.door.submit(admitted, deadline);
        match meanwhile(self.stream, self.replies.outbox(), submit).await {
            ControlFlow::Continue(write) => {
                self.replies.answer_later(write, bytes);
                Ok(None)
            }
            ControlFlow::Break(answer) => Ok(Some(answer)),
        }
    }

    /// The length of the value that a write would answer and destroy. If that value did not fit in the negotiated
    /// frame, the change would have happened while its answer were lost, so the caller refuses it beforehand.
    ///
    /// Only another connection that replaces the value by a longer one between this and the write can still
    /// outgrow the frame. Where values of the greatest permitted length fit in it, as they do unless the client has
    /// asked for small frames, nobody can.
    async fn told_value_len(&mut self, admitted: &Admitted) -> Result<Option<usize>, End> {
        let len = self.server.door.told_value_len(admitted);
        let longest = value_body_len(self.server.door.limits().value_bytes_max);
        if len.is_none() || longest <= self.replies.outbox().body_len_max() {
            return Ok(len);
        }
        // The value may be one that this connection is about to write.
        self.settle().await?;
        Ok(self.server.door.told_value_len(admitted))
    }

    async fn alone(&mut self, admitted: Admitted) -> Answer {
        let admitted = match self.server.door.read_now(admitted) {
            ControlFlow::Break(answer) => return answer,
            ControlFlow::Continue(admitted) => admitted,
        };
        let execution = Box::pin(self.server.door.execute(admitted));
        meanwhile(self.stream, self.replies.outbox(), execution).await
    }

    /// A login is not cut short by a deadline once it has begun: it must be counted, whatever comes of it.
    async fn login(&mut self, login: Login) -> Answer {
        let before = self.session.identity();
        let login = Box::pin(self.server.door.login(self.session.visitor(), login));
        let answer = meanwhile(self.stream, self.replies.outbox(), login).await;
        self.session.relieve(before.as_ref());
        if self.session.is_known() {
            self.member.protect();
        }
        answer
    }

    async fn commit(&mut self, ticket: Ticket) -> Answer {
        let outbox = self.replies.outbox();
        // Not even an empty answer fits in frames as short as the prefix.
        let answer_bytes_max = outbox.body_len_max().saturating_sub(PREFIX_LEN);
        let queue = self.session.take_transaction();
        let commit = Box::pin(self.server.door.commit(ticket, queue, answer_bytes_max));
        meanwhile(self.stream, outbox, commit).await
    }

    /// Waits until every write under way has been answered.
    async fn settle(&mut self) -> Result<(), End> {
        while let (Some(write), outbox) = self.replies.parts() {
            let answer = meanwhile(self.stream, outbox, self.server.door.finish(write)).await;
            self.replies.finish_write(answer)?;
        }
        Ok(())
    }

    /// Takes the answers that have come together with the one just taken. Writes of one batch are answered
    /// one after the other by another thread: letting it finish saves a system call for each.
    async fn collect(&mut self) -> Result<(), End> {
        let mut has_yielded = false;
        while let (Some(write), outbox) = self.replies.parts() {
            if outbox.has_backlog() {
                break;
            }
            match now_or_never(self.server.door.finish(write)).await {
                Some(answer) => self.replies.finish_write(answer)?,
                None if has_yielded => break,
                None => {
                    has_yielded = true;
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(())
    }

    /// Waits for the next event. Reads only if `reads`.
    async fn wait(&mut self, reads: bool) -> Result<Woken, End> {
        self.arm();
        let Self { stream, input, read_bytes, replies, member, server, clock, .. } = self;
        let is_dismissable = self.ending.is_none();
        let (write, outbox) = replies.parts();
        let write = write.filter(|_| !outbox.has_backlog());
        let mut finish = pin!(async {
            match write {
                Some(write) => server.door.finish(write).await,
                None => pending().await,
            }
        });
        poll_fn(|context| {
            if let Poll::Ready(answer) = finish.as_mut().poll(context) {
                return Poll::Ready(Ok(Woken::Answered(answer)));
            }
            // Whoever could not go on because of the answers can go on when they have left.
            if !outbox.is_empty() && outbox.poll_send(*stream, context)?.is_ready() && !reads {
                return Poll::Ready(Ok(Woken::Sent));
            }
            // Before reading, so that no flood can drown it.
            if is_dismissable && member.poll_dismissed(context).is_ready() {
                return Poll::Ready(Ok(Woken::Dismissed));
            }
            if reads {
                // A buffer that requests still point into is not given up before half of it is used: what
                // they keep alive stays in proportion to what they need.
                if input.capacity() - input.len() < *read_bytes / 2 {
                    input.reserve(*read_bytes);
                }
                let mut read = pin!(stream.read_buf(input));
                if let Poll::Ready(count) = read.as_mut().poll(context)? {
                    return Poll::Ready(Ok(Woken::Received(count)));
                }
            }
            if clock.is_armed && clock.tick.as_mut().poll(context).is_ready() {
                clock.is_armed = false;
                return Poll::Ready(Ok(Woken::Tick));
            }
            Poll::Pending
        })
        .await
    }

    /// The next read asks for more when the last one filled the buffer.
    fn adapt_read(&mut self) {
        if self.input.len() == self.input.capacity() {
            self.read_bytes = (self.read_bytes * 4).min(READ_BYTES_MAX);
        }
    }

    /// Sets the clock, unless it is set or there is nothing to watch.
    fn arm(&mut self) {
        if self.clock.is_armed {
            return;
        }
        let now = Instant::now();
        let is_done = self.replies.is_done();
        let soon = (!self.clock.is_quiet || !is_done).then_some(now + HOUSEKEEPING_EVERY);
        let idle = self.server.settings.idle_timeout.filter(|_| is_done);
        let idle = idle.and_then(|timeout| self.clock.handled_at.checked_add(timeout));
        if let Some(at) = soon.into_iter().chain(idle).min() {
            self.clock.tick.as_mut().reset(at.into());
            self.clock.is_armed = true;
        }
    }

    /// Ends the connection when it has been idle or stuck for too long; gives memory back when it is quiet.
    fn look_around(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.replies.outbox().stalled_for(now) >= WRITE_STALL_MAX {
            return Err(End::Stalled);
        }
        if self.ending.is_some() || !self.replies.is_done() {
            return Ok(());
        }
        let idle_for = now.saturating_duration_since(self.clock.handled_at);
        if self.server.settings.idle_timeout.is_some_and(|timeout| idle_for >= timeout) {
            self.server.door.counters().increment(Metric::IdleDisconnects);
            return Err(End::Idle);
        }
        if now.saturating_duration_since(self.clock.received_at) >= HOUSEKEEPING_EVERY {
            self.clock.is_quiet = true;
            self.read_bytes = READ_BYTES_MIN;
            self.replies.shrink();
            if self.input.is_empty() {
                self.input = BytesMut::new();
                self.decoder = FrameDecoder::new(self.max_frame_len);
            }
        }
        Ok(())
    }
}

/// Waits for `work` and sends meanwhile what has been answered before.
async fn meanwhile<S, F>(stream: &mut S, outbox: &mut Outbox, work: F) -> F::Output
where
    S: AsyncWrite + Unpin,
    F: Future,
{
    let mut work = pin!(work);
    poll_fn(|context| {
        let output = work.as_mut().poll(context);
        if output.is_pending() && !outbox.is_empty() {
            // What has begun is brought to its end. A broken socket shows again when its answer is sent.
            drop(outbox.poll_send(stream, context));
        }
        output
    })
    .await
}

/// What `work` yields if it takes no waiting.
async fn now_or_never<F: Future>(work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
