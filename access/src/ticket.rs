//! One request on its way through the door: nobody is answered off the record.
//!
//! Every request gets a [`Ticket`] before anything else is known about it. The ticket ends in an [`Answer`], the
//! answer gives its content away only by being written down ([`Answer::give`]), and there is no other way to a
//! reply: what [`Door`] carries out takes the ticket along. A ticket or an answer that is dropped, because its
//! connection is gone, is written down too.

use std::fmt;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tracing::Span;
use vaylix_proto::error::WireError;
use vaylix_proto::opcode::Opcode;
use vaylix_proto::request::RequestId;
use vaylix_proto::{Code, ErrorReply, Reply, Text};

use crate::audit::{Event, Noise, Opening, Places, Status};
use crate::counters::Metric;
use crate::door::Door;
use crate::identity::Identity;
use crate::latency::RequestClass;
use crate::limits::AUDIT_PATIENCE;
use crate::policy::Policy;
use crate::refusal;
use crate::subject::{Subject, is_watched};
use crate::task::Task;

/// Somebody at the door: where they come from, and who they are by now.
#[derive(Debug)]
pub struct Visitor {
    origin: Arc<Origin>,
    identity: Option<Identity>,
    /// Whether reads must see everything acknowledged, also where another node leads.
    reads_fresh: bool,
}

/// Where requests come from.
pub(crate) struct Origin {
    door: Door,
    connection_id: u64,
    peer: SocketAddr,
    /// Who the visitor is, for events of answers that are given later.
    user: Mutex<Option<Text>>,
    since: SystemTime,
    /// Whether an administrator has ended the session: whoever comes next must log in.
    is_ended: AtomicBool,
}

impl Origin {
    pub(crate) fn connection_id(&self) -> u64 {
        self.connection_id
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Who it is now; none before a login.
    pub(crate) fn user(&self) -> Option<Text> {
        self.user.lock().clone()
    }

    /// When the visitor came.
    pub(crate) fn since(&self) -> SystemTime {
        self.since
    }

    /// Lets nobody act under the name any more that was logged in with.
    pub(crate) fn end(&self) {
        *self.user.lock() = None;
        self.is_ended.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("connection_id", &self.connection_id)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Visitor {
    pub(crate) fn new(door: Door, connection_id: u64, peer: SocketAddr, identity: Option<Identity>) -> Self {
        let origin = Arc::new(Origin {
            door,
            connection_id,
            peer,
            user: Mutex::default(),
            since: SystemTime::now(),
            is_ended: AtomicBool::new(false),
        });
        let mut visitor = Self { origin, identity: None, reads_fresh: false };
        visitor.become_(identity);
        visitor
    }

    /// Who they are; none before a login.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// From now on reads see everything that was acknowledged before them, whichever node of the cluster leads.
    pub fn read_fresh(&mut self) {
        self.reads_fresh = true;
    }

    pub(crate) fn reads_fresh(&self) -> bool {
        self.reads_fresh
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.origin.peer
    }

    pub(crate) fn connection_id(&self) -> u64 {
        self.origin.connection_id
    }

    /// What others may know of the session.
    pub(crate) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// Nobody from now on, if an administrator has ended the session.
    pub(crate) fn end_if_told(&mut self) {
        if self.origin.is_ended.load(Ordering::Relaxed) && self.origin.is_ended.swap(false, Ordering::Acquire)
        {
            self.become_(None);
        }
    }

    /// Brought up to date with the access rules; nobody when that user is gone.
    pub(crate) fn renew(&mut self, policy: &Policy) {
        if self.identity.as_ref().is_some_and(|who| who.revision() != policy.revision()) {
            let renewed = self.identity.as_ref().and_then(|who| policy.renew(who));
            self.become_(renewed);
        }
    }

    pub(crate) fn become_(&mut self, identity: Option<Identity>) {
        *self.origin.user.lock() = identity.as_ref().map(|identity| identity.user().clone());
        self.identity = identity;
    }

    /// A ticket for a request that has arrived, if its events have room; `opcode` is none where it could not be
    /// read. None: [`wait_for_ticket`](Self::wait_for_ticket).
    #[must_use]
    pub fn ticket(&self, id: RequestId, opcode: Option<Opcode>, now: Instant) -> Option<Ticket> {
        let mut entry = self.entry(id, opcode, now);
        let audit = &self.origin.door.0.audit;
        match entry.events_max() {
            0 => {}
            _ if audit.is_failing() => return None,
            count => entry.places = Some(audit.try_places(count)?),
        }
        Some(Ticket(Some(entry)))
    }

    /// Waits until the events of a request have room. What is always written down is refused (`SRV-004`) instead
    /// while the audit log cannot be written.
    pub async fn wait_for_ticket(
        &self,
        id: RequestId,
        opcode: Option<Opcode>,
        now: Instant,
    ) -> ControlFlow<Answer, Ticket> {
        let mut ticket = Ticket(Some(self.entry(id, opcode, now)));
        match ticket.wait_for_places().await {
            Ok(()) => ControlFlow::Continue(ticket),
            Err(refusal) => ControlFlow::Break(ticket.refuse(refusal)),
        }
    }

    /// Waits until the events of a request for a task have room, as [`wait_for_ticket`](Self::wait_for_ticket).
    pub async fn task_ticket(&self, id: RequestId, task: &Task, now: Instant) -> ControlFlow<Answer, Ticket> {
        let label = Label::Task { name: task.name(), is_watched: task.subject().is_some() };
        let mut ticket = Ticket(Some(self.labelled(id, label, now)));
        match ticket.wait_for_places().await {
            Ok(()) => ControlFlow::Continue(ticket),
            Err(refusal) => ControlFlow::Break(ticket.refuse(refusal)),
        }
    }

    fn entry(&self, id: RequestId, opcode: Option<Opcode>, begun: Instant) -> Entry {
        self.labelled(id, opcode.map_or(Label::Decode, Label::Command), begun)
    }

    fn labelled(&self, id: RequestId, label: Label, begun: Instant) -> Entry {
        Entry { origin: Arc::clone(&self.origin), id, label, begun, span: None, places: None, subject: None }
    }
}

/// What stands in an event's field `opcode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Command(Opcode),
    Task { name: &'static str, is_watched: bool },
    RateLimit,
    Decode,
}

impl Label {
    const fn name(self) -> &'static str {
        match self {
            Self::Command(opcode) => opcode.name(),
            Self::Task { name, .. } => name,
            Self::RateLimit => "RATE_LIMIT",
            Self::Decode => "DECODE",
        }
    }

    const fn class(self) -> RequestClass {
        match self {
            Self::Command(opcode) => RequestClass::of(opcode),
            Self::Task { .. } => RequestClass::Admin,
            Self::RateLimit | Self::Decode => RequestClass::Refused,
        }
    }
}

/// A request that has not been answered.
#[must_use = "every request is answered"]
#[derive(Debug)]
pub struct Ticket(Option<Entry>);

#[derive(Debug)]
struct Entry {
    origin: Arc<Origin>,
    id: RequestId,
    label: Label,
    begun: Instant,
    /// Of the request, if somebody follows it.
    span: Option<Box<Span>>,
    places: Option<Places>,
    subject: Option<Box<Subject>>,
}

impl Ticket {
    /// The same within the span of the request. It is told how the request ends, and when.
    pub fn within(mut self, span: Span) -> Self {
        if let Some(entry) = &mut self.0 {
            entry.span = (!span.is_disabled()).then(|| Box::new(span));
        }
        self
    }

    /// The span of the request; disabled if nobody follows it.
    pub(crate) fn span(&self) -> Span {
        let span = self.0.as_ref().and_then(|entry| entry.span.as_deref());
        span.map_or_else(Span::none, Span::clone)
    }

    /// Answers with a refusal.
    pub fn refuse(self, refusal: ErrorReply) -> Answer {
        self.answer(Err(refusal))
    }

    /// Refuses because requests come too fast (`SRV-012`).
    pub fn refuse_rate(mut self) -> Answer {
        self.relabel(Label::RateLimit);
        self.answer_at_once(Err(refusal::rate_limited()))
    }

    /// Refuses because the request cannot be understood.
    pub fn refuse_undecodable(mut self, error: WireError) -> Answer {
        self.relabel(Label::Decode);
        self.answer_at_once(Err(error.into()))
    }

    /// Answers after some time.
    pub(crate) fn answer(mut self, result: Result<Reply, ErrorReply>) -> Answer {
        let entry = self.0.take();
        let latency = entry.as_ref().map_or(Duration::ZERO, |entry| entry.begun.elapsed());
        Answer { entry, latency, result }
    }

    /// Answers what needed no waiting: no clock is looked at.
    pub(crate) fn answer_at_once(mut self, result: Result<Reply, ErrorReply>) -> Answer {
        Answer { entry: self.0.take(), latency: Duration::ZERO, result }
    }

    /// What to tell of the request when it is answered.
    pub(crate) fn set_subject(&mut self, subject: Option<Subject>) {
        if let (Some(entry), Some(subject)) = (&mut self.0, subject) {
            entry.subject = Some(Box::new(subject));
        }
    }

    /// Leaves it to another request to tell what becomes of the command.
    pub(crate) fn without_subject(mut self) -> Self {
        if let Some(entry) = &mut self.0 {
            entry.subject = None;
        }
        self
    }

    /// Has an event about `subject` written, although requests of this kind are not always written down. Waits for
    /// room.
    ///
    /// # Errors
    /// `SRV-004` while the audit log cannot be written.
    pub(crate) async fn watch(&mut self, subject: Subject) -> Result<(), ErrorReply> {
        self.set_subject(Some(subject));
        // Nobody holds a place while waiting for more.
        if let Some(entry) = &mut self.0 {
            entry.places = None;
        }
        self.wait_for_places().await
    }

    async fn wait_for_places(&mut self) -> Result<(), ErrorReply> {
        let Some(entry) = &mut self.0 else { return Ok(()) };
        let audit = entry.origin.door.0.audit.clone();
        let mut places = pin!(audit.places(entry.events_max()));
        loop {
            if audit.is_failing() {
                if !entry.is_watched() {
                    // Counted when it is answered.
                    return Ok(());
                }
                audit.suppress(Noise::Unwritable);
                entry.subject = None;
                return Err(refusal::audit_unwritable());
            }
            if let Ok(found) = tokio::time::timeout(AUDIT_PATIENCE, &mut places).await {
                entry.places = found;
                return Ok(());
            }
        }
    }

    fn relabel(&mut self, label: Label) {
        if let Some(entry) = &mut self.0 {
            entry.label = label;
        }
    }
}

impl Drop for Ticket {
    /// Nobody waits for the answer any more, and nobody knows it.
    fn drop(&mut self) {
        if let Some(entry) = self.0.take() {
            let latency = entry.begun.elapsed();
            entry.record(&Err(refusal::outcome_unknown()), latency);
        }
    }
}

impl Entry {
    fn is_watched(&self) -> bool {
        let is_watched = match self.label {
            Label::Command(opcode) => is_watched(opcode),
            Label::Task { is_watched, .. } => is_watched,
            Label::RateLimit | Label::Decode => false,
        };
        self.subject.is_some() || is_watched
    }

    /// The events that need a place beforehand.
    fn events_max(&self) -> u32 {
        u32::from(self.is_watched()) + u32::from(self.origin.door.0.audit.settings().commands)
    }

    /// Writes down what there is to tell.
    fn record(mut self, result: &Result<Reply, ErrorReply>, latency: Duration) {
        if let Some(span) = &self.span {
            finish(span, result);
        }
        let door = self.origin.door.clone();
        door.0.latencies.count(self.label.class(), latency);
        let audit = &door.0.audit;
        let settings = audit.settings();
        let slow = settings.slow_command_threshold.filter(|threshold| latency >= *threshold);
        let code = result.as_ref().err().map(|refusal| &*refusal.code);
        let noise = code.and_then(|code| self.noise(code));
        if self.subject.is_none() && noise.is_none() && slow.is_none() && !settings.commands {
            return;
        }
        let user = self.origin.user.lock().clone();
        let opening = Opening {
            connection_id: self.origin.connection_id,
            peer: Some(self.origin.peer),
            username: user.as_deref(),
            request_id: self.id,
            opcode: self.label.name(),
            status: match result {
                Ok(Reply::NotFound) => Status::NotFound,
                Ok(_) => Status::Ok,
                Err(_) => Status::Error,
            },
            latency,
        };
        let now_ms = crate::audit::now_ms();
        let event = |error_code, event_type: &str, details: &[(&str, &str)]| {
            Event::new(now_ms, &opening, error_code, event_type, details)
        };
        let mut places = self.places.take();
        let is_told = noise.is_none_or(|_| audit.allows_noise());
        if !is_told && let Some(noise) = noise {
            audit.suppress(noise);
        }
        if settings.commands || (self.subject.is_none() && noise.is_some() && is_told) {
            audit.write(event(code, "command", &[]), places.as_mut(), Noise::Command);
        }
        if let Some(subject) = self.subject.filter(|_| is_told) {
            let mut details: Vec<(&str, &str)> =
                subject.details.iter().map(|(name, value)| (*name, &**value)).collect();
            details.push(("result", if result.is_ok() { "ok" } else { "error" }));
            audit.write(event(code, subject.event_type, &details), places.as_mut(), Noise::Unwritable);
        }
        if let Some(threshold) = slow {
            door.counters().increment(Metric::SlowCommands);
            let latency_ms = latency.as_millis().to_string();
            let threshold_ms = threshold.as_millis().to_string();
            let details =
                [("latency_ms", &*latency_ms), ("opcode", opening.opcode), ("threshold_ms", &*threshold_ms)];
            audit.write(event(None, "slow_command", &details), None, Noise::Slow);
        }
    }

    /// Whether the outcome is one that strangers can cause as often as they like.
    fn noise(&self, code: &str) -> Option<Noise> {
        let is = |expected: Code| code == expected.code();
        match self.label {
            Label::RateLimit => Some(Noise::RateLimit),
            Label::Decode => Some(Noise::Decode),
            Label::Command(Opcode::Auth) if is(Code::AuthenticationLocked) => Some(Noise::Locked),
            Label::Command(_) if is(Code::QuotaExceeded) => Some(Noise::Quota),
            Label::Command(_) | Label::Task { .. }
                if is(Code::PermissionDenied) && self.subject.is_none() =>
            {
                Some(Noise::Denied)
            }
            Label::Command(_) | Label::Task { .. } => None,
        }
    }
}

/// Says in the span of a request how it ended. Others may still hold on to the span: they are told when it was left last.
fn finish(span: &Span, result: &Result<Reply, ErrorReply>) {
    if let Err(refusal) = result {
        span.record("error.type", &*refusal.code);
        span.record("otel.status_code", "ERROR");
    }
    span.in_scope(|| ());
}

/// The answer to a request. It comes out by being given, and then it has been written down.
#[must_use = "an answer is for somebody"]
#[derive(Debug)]
pub struct Answer {
    /// None once it is written down.
    entry: Option<Entry>,
    latency: Duration,
    result: Result<Reply, ErrorReply>,
}

impl Answer {
    /// The request that is answered.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        self.entry.as_ref().map(|entry| entry.id).unwrap_or_default()
    }

    /// What it says. Looking at it does not change that it will be written down.
    pub fn result(&self) -> &Result<Reply, ErrorReply> {
        &self.result
    }

    /// Says something else, because what it says cannot be sent.
    pub fn replace(&mut self, refusal: ErrorReply) {
        self.result = Err(refusal);
    }

    /// Writes down that the request is being answered, and with what.
    ///
    /// # Errors
    /// The refusal, if that is the answer.
    pub fn give(mut self) -> Result<Reply, ErrorReply> {
        self.record();
        std::mem::replace(&mut self.result, Ok(Reply::Ok))
    }

    fn record(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.record(&self.result, self.latency);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.record();
    }
}

#[cfg(test)]
mod tests;
