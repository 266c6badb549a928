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

use std::time::{Duration, Instant};

use vaylix_access::{Admission, Admitted, Bucket, Door, Identity, Metric, Standing, refusal};
use vaylix_proto::error::WireError;
use vaylix_proto::reply::QUEUED;
use vaylix_proto::request::Request;
use vaylix_proto::{Code, Command, ErrorReply, Reply, Text};

use super::transaction::{TooLarge, Transaction};

/// What to do about a request.
#[derive(Debug)]
pub(crate) enum Step {
    /// Answer it.
    Answer(Reply),
    /// Check a password, then call [`Session::enter`].
    Login { user: Text, password: Text },
    /// Put it on its way; it may join earlier writes.
    Write(Admitted),
    /// Carry it out when earlier writes have ended.
    Alone(Admitted),
    /// Carry out the transaction when earlier writes have ended: [`Session::take_transaction`].
    Commit,
    /// Wait until earlier writes have ended, then ask [`Session::admit`] again.
    AfterWrites(Command),
}

/// One client's standing.
pub(crate) struct Session {
    door: Door,
    identity: Option<Identity>,
    transaction: Option<Transaction>,
    bucket: Bucket,
}

impl Session {
    /// A session that has just greeted.
    pub(crate) fn new(door: Door, now: Instant) -> Self {
        let bucket = Bucket::new(door.limits().request_rate, now);
        Self { identity: door.arrival(), transaction: None, bucket, door }
    }

    /// Whether somebody has logged in, or nobody needs to.
    pub(crate) fn is_known(&self) -> bool {
        self.identity.is_some()
    }

    /// Decides about a request that was completely received at `received_at`.
    ///
    /// # Errors
    /// The refusal to answer.
    pub(crate) fn decide(
        &mut self,
        request: &Request,
        received_at: Instant,
        now: Instant,
        writes_in_flight: bool,
    ) -> Result<Step, ErrorReply> {
        check_deadline(deadline(request, received_at), now)?;
        if request.metadata.sequence.is_some() && self.transaction.is_some() {
            let reason = "pipelined requests are not supported inside transactions";
            return Err(WireError::StateViolation(reason).into());
        }
        self.take_token(now)?;
        let limit = self.door.limits().request_payload_bytes_max;
        if request.payload.len() > limit {
            return Err(ErrorReply::new(
                Code::QuotaExceeded,
                format!("request exceeds configured quotas: the payload may have {limit} bytes"),
            ));
        }
        if request.opcode.is_internal() {
            return Err(if self.is_known() { refusal::unsupported() } else { refusal::login_required() });
        }
        let command = request.command()?;
        self.admit(command, request.payload.len(), now, writes_in_flight)
    }

    /// Takes the price of a request that could not be understood.
    ///
    /// # Errors
    /// `SRV-012`.
    pub(crate) fn take_token(&mut self, now: Instant) -> Result<(), ErrorReply> {
        if !self.bucket.take(now) {
            return Err(refusal::rate_limited());
        }
        self.door.counters().increment(Metric::Requests);
        Ok(())
    }

    /// Asks the door about a command whose payload has `payload_len` bytes.
    ///
    /// # Errors
    /// The refusal to answer. `SRV-034` has ended the transaction.
    pub(crate) fn admit(
        &mut self,
        command: Command,
        payload_len: usize,
        now: Instant,
        writes_in_flight: bool,
    ) -> Result<Step, ErrorReply> {
        let transaction =
            self.transaction.as_ref().map_or_else(Default::default, |transaction| transaction.standing(now));
        let standing = Standing { transaction, writes_in_flight };
        let admission = self.door.admit(&mut self.identity, standing, command).inspect_err(|refusal| {
            if refusal.known_code() == Some(Code::TransactionExpired) {
                self.transaction = None;
                self.door.counters().increment(Metric::TransactionsExpired);
            }
        })?;
        Ok(match admission {
            Admission::Run(admitted) if admitted.is_write() => Step::Write(admitted),
            Admission::Run(admitted) => Step::Alone(admitted),
            Admission::Queue(admitted) => {
                let transaction =
                    self.transaction.as_mut().expect("the door queues in open transactions only");
                transaction.queue(admitted, payload_len).map_err(|TooLarge| refusal::quota_exceeded())?;
                Step::Answer(Reply::Value(QUEUED.into()))
            }
            Admission::Login { user, password } => Step::Login { user, password },
            Admission::Begin => {
                self.transaction = Some(Transaction::open(now));
                self.door.counters().increment(Metric::TransactionsBegun);
                Step::Answer(Reply::Ok)
            }
            Admission::Commit => Step::Commit,
            Admission::Discard => {
                self.drop_transaction();
                Step::Answer(Reply::Ok)
            }
            Admission::AfterWrites(command) => Step::AfterWrites(command),
        })
    }

    /// The client has logged in.
    pub(crate) fn enter(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }

    /// Takes the open transaction out to be carried out: whatever becomes of it, it is over.
    pub(crate) fn take_transaction(&mut self) -> Vec<Admitted> {
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
        Some(deadline) if deadline <= now => Err(deadline_exceeded()),
        _ => Ok(()),
    }
}

/// The refusal of what is late.
pub(crate) fn deadline_exceeded() -> ErrorReply {
    ErrorReply::new(Code::RequestDeadlineExceeded, "request deadline exceeded")
}
