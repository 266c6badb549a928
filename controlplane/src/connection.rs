//! One connection from accept to close.
//!
//! Three clocks watch it besides those of the requests: the greeting (handshake, then the head of the first request), the
//! head of each further request, and idleness. A peer that is gone is noticed by HTTP/2's pings, one that does not read by
//! [`Patient`].

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame as BodyFrame;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use vaylix_tls::{Current, UserRule};

use crate::caps::{
    CONNECTION_WINDOW_BYTES, GREETING_TIME_MAX, HEAD_BYTES_MAX, HEAD_FIELDS_MAX, HEAD_TIME_MAX,
    HEADER_LIST_BYTES_MAX, IDLE_TIME_MAX, LOCAL_RESETS_MAX, PENDING_RESETS_MAX, PING_EVERY, PING_TIME_MAX,
    SEND_BUFFER_BYTES, SHUTDOWN_GRACE, STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX, WRITE_STALL_MAX,
};
use crate::frame::{Frame, Place};
use crate::listener::{Guest, Shown};
use crate::patient::Patient;

/// What a connection is doing.
pub(crate) struct Activity {
    state: Mutex<State>,
    changed: Notify,
    is_dismissed: AtomicBool,
}

struct State {
    in_progress: usize,
    /// Whether it has ever sent a request.
    has_begun: bool,
    /// Since when it has been as it is.
    since: Instant,
}

impl Default for Activity {
    fn default() -> Self {
        let state = State { in_progress: 0, has_begun: false, since: Instant::now() };
        Self { state: Mutex::new(state), changed: Notify::new(), is_dismissed: AtomicBool::new(false) }
    }
}

impl Activity {
    /// Since when no request is in progress; none while one is.
    pub(crate) fn quiet_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.in_progress == 0).then_some(state.since)
    }

    /// Has the connection closed as soon as nothing is in progress.
    pub(crate) fn dismiss(&self) {
        self.is_dismissed.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    pub(crate) fn is_dismissed(&self) -> bool {
        self.is_dismissed.load(Ordering::Acquire)
    }

    /// A request has come. It is in progress until what this returns is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> InProgress {
        let mut state = self.state.lock();
        state.in_progress += 1;
        state.has_begun = true;
        state.since = Instant::now();
        drop(state);
        self.changed.notify_one();
        InProgress(Arc::clone(self))
    }

    /// When the connection has been silent for too long if nothing changes; none while a request is in progress.
    fn silent_at(&self) -> Option<Instant> {
        let state = self.state.lock();
        let patience = if state.has_begun { IDLE_TIME_MAX } else { GREETING_TIME_MAX };
        (state.in_progress == 0).then(|| state.since + patience)
    }

    /// Returns when the connection is to be closed for its silence, or was dismissed.
    async fn over(&self) {
        loop {
            if self.is_dismissed() {
                return;
            }
            let changed = self.changed.notified();
            match self.silent_at() {
                None => changed.await,
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at.into()) => {
                        if self.silent_at().is_some_and(|at| at <= Instant::now()) {
                            return;
                        }
                    }
                },
            }
        }
    }
}

/// A request in progress.
pub(crate) struct InProgress(Arc<Activity>);

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.in_progress -= 1;
        state.since = Instant::now();
        drop(state);
        self.0.changed.notify_one();
    }
}

/// Attends to one connection until it is closed.
pub(crate) async fn attend(
    stream: TcpStream,
    mut guest: Guest,
    activity: &Arc<Activity>,
    frame: Arc<Frame>,
    tls: Option<(Current, Option<UserRule>)>,
    closing: watch::Receiver<bool>,
) {
    let Some((tls, user_rule)) = tls else {
        return converse(stream, guest, activity, frame, closing).await;
    };
    let acceptor = TlsAcceptor::from(Arc::clone(tls.borrow().http_config()));
    let peer = guest.peer;
    match timeout(GREETING_TIME_MAX, Box::pin(acceptor.accept(stream))).await {
        Ok(Ok(stream)) => {
            let (_, session) = stream.get_ref();
            guest.shown = user_rule.zip(session.peer_certificates()).and_then(|(rule, chain)| {
                let own = chain.first()?;
                Some(Arc::new(Shown {
                    user: rule.user_of(own),
                    fingerprint: vaylix_tls::fingerprint(own),
                    chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
                    current: tls.clone(),
                    is_known: AtomicBool::new(false),
                }))
            });
            Box::pin(converse(stream, guest, activity, frame, closing)).await;
        }
        Ok(Err(error)) => frame.handshake_failed(peer, &error),
        Err(_elapsed) => frame.handshake_failed(peer, &"not finished in time"),
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    guest: Guest,
    activity: &Arc<Activity>,
    frame: Arc<Frame>,
    mut closing: watch::Receiver<bool>,
) {
    let peer = guest.peer;
    let service = service_fn({
        let activity = Arc::clone(activity);
        let guest = guest.clone();
        move |request: http::Request<hyper::body::Incoming>| {
            let in_progress = activity.begin();
            let (frame, guest) = (Arc::clone(&frame), guest.clone());
            async move {
                let (response, place) = frame.handle(request.map(Body::new), guest).await;
                let counted = response.map(|body| Counted { body, _in_progress: in_progress, _place: place });
                Ok::<_, std::convert::Infallible>(counted)
            }
        }
    });
    let builder = protocols();
    let io = TokioIo::new(Patient::new(stream, WRITE_STALL_MAX));
    let mut connection = pin!(builder.serve_connection(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = closing.wait_for(|closing| *closing) => None,
        () = activity.over() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            // Says goodbye, finishes what is in progress, and does not wait long for the other side to agree. Before the
            // first request nobody knows what it speaks, so there is nothing to say.
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = sleep(SHUTDOWN_GRACE) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(target: "admin.connection", %peer, %error, "connection failed");
    }
}

/// How HTTP/1.1 and HTTP/2 are spoken. Which of them is decided by the first bytes.
fn protocols() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIME_MAX);
    builder
}

/// The body of an answer: its request is in progress until it has been sent.
struct Counted {
    body: Body,
    _in_progress: InProgress,
    _place: Place,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
