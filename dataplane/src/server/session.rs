//! What one client may do next: its identity, its transaction, its rate, and the order of checks.
//!
//! Nothing waits here. [`Session::decide`] looks at one request and says what is to be done about it; the
//! connection does it. Requests are checked in this order, and the first refusal answers:
//!
//! 1. a budget of time that is used up (`TRN-016`),
//! 2. a sequence number while a transaction is open (`TRN-018`),
//! 3. the request rate (`SRV-012`),
//! 4. the size of the payload (`SRV-013`),
//! 5. opcodes between servers (`SRV-016`, `SRV-007` before login),
//! 6. the payload's form (`TRN-007`, `TRN-008`, `TRN-012`),
//! 7. the door's own order, see [`vaylix_access`].
//!
//! Requests refused by 1 to 3 do not count as requests handled.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use vaylix_access::{
    Admission, Admitted, Answer, Bucket, Door, Identity, Login, Metric, Postponed, Queued, Standing, Ticket,
    Visitor, refusal,
};
use vaylix_proto::error::WireError;
use vaylix_proto::request::Request;
use vaylix_proto::{Code, ErrorReply};

use super::transaction::{TooLarge, Transaction};

/// What to do about a request.
#[derive(Debug)]
pub(crate) enum Step {
    /// Answer it.
    Answer(Answer),
    /// Check a password.
    Login(Login),
    /// Put it on its way; it may join earlier writes.
    Write(Admitted),
    /// Carry it out when earlier writes have ended.
    Alone(Admitted),
    /// Carry out the transaction when earlier writes have ended: [`Session::take_transaction`].
    Commit(Ticket),
    /// Wait until earlier writes have ended, then ask [`Session::admit`] again.
    AfterWrites(Postponed),
}

impl Step {
    /// Answers with a refusal instead of doing anything.
    pub(crate) fn refuse(self, refusal: ErrorReply) -> Answer {
        match self {
            Self::Answer(mut answer) => {
                answer.replace(refusal);
                answer
            }
            Self::Login(login) => login.refuse(refusal),
            Self::Write(admitted) | Self::Alone(admitted) => admitted.refuse(refusal),
            Self::Commit(ticket) => ticket.refuse(refusal),
            Self::AfterWrites(postponed) => postponed.ticket.refuse(refusal),
        }
    }
}

/// One client's standing.
pub(crate) struct Session {
    door: Door,
    visitor: Visitor,
    transaction: Option<Transaction>,
    bucket: Bucket,
}

impl Session {
    /// A session that has just greeted.
    pub(crate) fn new(door: Door, connection_id: u64, peer: SocketAddr, now: Instant) -> Self {
        let bucket = Bucket::new(door.limits().request_rate, now);
        Self { visitor: door.session(connection_id, peer), transaction: None, bucket, door }
    }

    /// Whether somebody has logged in, or nobody needs to.
    pub(crate) fn is_known(&self) -> bool {
        self.visitor.identity().is_some()
    }

    /// Who is on the other side.
    pub(crate) fn visitor(&mut self) -> &mut Visitor {
        &mut self.visitor
    }

    /// Who is logged in, if anybody is.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.visitor.identity().cloned()
    }

    /// After a login: what somebody else has queued is nobody's to carry out.
    pub(crate) fn relieve(&mut self, before: Option<&Identity>) {
        let goes_on = match (before, self.visitor.identity()) {
            (Some(before), Some(now)) => now.is_of_user_of(before),
            (None, Some(_)) => false,
            (_, None) => true,
        };
        if !goes_on {
            self.drop_transaction();
        }
    }

    /// Decides about a request that was completely received at `received_at`.
    pub(crate) fn decide(
        &mut self,
        request: &Request,
        ticket: Ticket,
        received_at: Instant,
        now: Instant,
        writes_in_flight: bool,
    ) -> Step {
        if let Err(late) = check_deadline(deadline(request, received_at), now) {
            return Step::Answer(ticket.refuse(late));
        }
        if request.metadata.sequence.is_some() && self.transaction.is_some() {
            let reason = "pipelined requests are not supported inside transactions";
            return Step::Answer(ticket.refuse(WireError::StateViolation(reason).into()));
        }
        let ticket = match self.take_token(ticket, now) {
            Ok(ticket) => ticket,
            Err(answer) => return Step::Answer(*answer),
        };
        let limit = self.door.limits().request_payload_bytes_max;
        if request.payload.len() > limit {
            return Step::Answer(ticket.refuse(ErrorReply::new(
                Code::QuotaExceeded,
                format!("request exceeds configured quotas: the payload may have {limit} bytes"),
            )));
        }
        if request.opcode.is_internal() {
            return Step::Answer(ticket.refuse(if self.is_known() {
                refusal::unsupported()
            } else {
                refusal::login_required()
            }));
        }
        match request.command() {
            Ok(command) => {
                let postponed = Postponed { command, ticket };
                self.admit(postponed, request.payload.len(), now, writes_in_flight)
            }
            Err(error) => Step::Answer(ticket.refuse_undecodable(error)),
        }
    }

    /// Takes the price of a request.
    ///
    /// # Errors
    /// `SRV-012`.
    pub(crate) fn take_token(&mut self, ticket: Ticket, now: Instant) -> Result<Ticket, Box<Answer>> {
        if !self.bucket.take(now) {
            return Err(Box::new(ticket.refuse_rate()));
        }
        self.door.counters().increment(Metric::Requests);
        Ok(ticket)
    }

    /// Asks the door about a command whose payload has `payload_len` bytes.
    pub(crate) fn admit(
        &mut self,
        postponed: Postponed,
        payload_len: usize,
        now: Instant,
        writes_in_flight: bool,
    ) -> Step {
        let transaction =
            self.transaction.as_ref().map_or_else(Default::default, |transaction| transaction.standing(now));
        let standing = Standing { transaction, writes_in_flight };
        let Postponed { command, ticket } = postponed;
        match self.door.admit(&mut self.visitor, standing, command, ticket) {
            Admission::Run(admitted) if admitted.is_write() => Step::Write(admitted),
            Admission::Run(admitted) => Step::Alone(admitted),
            Admission::Queue(admitted) => Step::Answer(self.queue(admitted, payload_len)),
            Admission::Login(login) => Step::Login(login),
            Admission::Begin(answer) => {
                self.transaction = Some(Transaction::open(now));
                self.door.counters().increment(Metric::TransactionsBegun);
                Step::Answer(answer)
            }
            Admission::Commit(ticket) => Step::Commit(ticket),
            Admission::Discard(answer) => {
                self.drop_transaction();
                Step::Answer(answer)
            }
            Admission::AfterWrites(postponed) => Step::AfterWrites(postponed),
            Admission::Refused(answer) => Step::Answer(answer),
            Admission::Expired(answer) => {
                self.transaction = None;
                self.door.counters().increment(Metric::TransactionsExpired);
                Step::Answer(answer)
            }
        }
    }

    fn queue(&mut self, admitted: Admitted, payload_len: usize) -> Answer {
        let transaction = self.transaction.as_mut().expect("the door queues in open transactions only");
        match transaction.reserve(payload_len) {
            Ok(()) => {
                let (queued, answer) = admitted.queue();
                transaction.push(queued);
                answer
            }
            Err(TooLarge) => admitted.refuse(refusal::quota_exceeded()),
        }
    }

    /// Takes the open transaction out to be carried out: whatever becomes of it, it is over.
    pub(crate) fn take_transaction(&mut self) -> Vec<Queued> {
        self.transaction.take().map(Transaction::into_commands).unwrap_or_default()
    }

    fn drop_transaction(&mut self) {
        if self.transaction.take().is_some() {
            self.door.counters().increment(Metric::TransactionsDiscarded);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.drop_transaction();
    }
}

/// When the budget of a request ends; none when it has none.
///
/// The budget counts from the receipt of the complete frame and ends with the start of the execution: a write
/// that has been submitted is answered with its outcome, however long it takes.
pub(crate) fn deadline(request: &Request, received_at: Instant) -> Option<Instant> {
    // A budget beyond the range of the clock is none.
    received_at.checked_add(Duration::from_millis(request.metadata.deadline_ms?))
}

/// Refuses what is late. A budget of 0 is late at once.
///
/// # Errors
/// `TRN-016`.
pub(crate) fn check_deadline(deadline: Option<Instant>, now: Instant) -> Result<(), ErrorReply> {
    match deadline {
        Some(deadline) if deadline <= now => Err(refusal::too_late()),
        _ => Ok(()),
    }
}
