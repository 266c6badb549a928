//! What the client knows about the transaction of its connection.
//!
//! Replies carry no type tag, and inside a transaction every queued command is answered with the value
//! `QUEUED` instead of its own kind of reply. So the client follows the server's state from the answers it
//! gets. One case cannot be told from the answer: `EXEC` refused with a replication error may have been
//! refused before it started (the transaction is still open) or while committing (it is gone).

use vaylix_proto::{Code, Command, ErrorReply, Reply};

/// Whether a transaction is open on a connection, as far as its answers tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transaction {
    /// None: commands execute at once.
    #[default]
    Closed,
    /// `MULTI` was accepted: commands are queued.
    Open,
    /// `EXEC` failed in a way that may have ended the transaction or not. `DISCARD` settles it.
    Uncertain,
}

/// The part a command plays for the transaction of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Opens.
    Multi,
    /// Ends, if it gets as far as executing.
    Exec,
    /// Ends without executing.
    Discard,
    /// Executes at once even while a transaction is open.
    Immediate,
    /// Is queued while a transaction is open.
    Queueable,
}

impl Role {
    pub(super) fn of(command: &Command) -> Self {
        match command {
            Command::Multi => Self::Multi,
            Command::Exec => Self::Exec,
            Command::Discard => Self::Discard,
            Command::Auth { .. } => Self::Immediate,
            _ => Self::Queueable,
        }
    }
}

impl Transaction {
    /// Whether an answer to a command of this role may be `QUEUED`.
    pub(super) fn may_queue(self, role: Role) -> bool {
        self != Self::Closed && role == Role::Queueable
    }

    /// The state after `answer` to a command of this role. `queued`: the answer was `QUEUED`.
    pub(super) fn after(self, role: Role, answer: &Result<Reply, ErrorReply>, queued: bool) -> Self {
        match (role, answer) {
            (Role::Multi, Ok(_)) => Self::Open,
            (Role::Exec | Role::Discard, Ok(_)) => Self::Closed,
            (Role::Queueable, Ok(_)) if queued => Self::Open,
            // It was executed, so there is no transaction (any more).
            (Role::Queueable, Ok(_)) => Self::Closed,
            (Role::Immediate, Ok(_)) => self,
            (_, Err(error)) => self.after_refusal(role, error.known_code()),
        }
    }

    fn after_refusal(self, role: Role, code: Option<Code>) -> Self {
        match code {
            Some(Code::TransactionExpired | Code::NoActiveTransaction) => Self::Closed,
            Some(Code::TransactionAlreadyActive) => Self::Open,
            _ if role != Role::Exec || self == Self::Closed => self,
            // Refused before it started.
            Some(
                Code::ProtocolStateViolation
                | Code::RateLimitExceeded
                | Code::MaintenanceModeEnabled
                | Code::FollowerWriteRejected
                | Code::AuthenticationRequired
                | Code::RequestDeadlineExceeded,
            ) => self,
            Some(
                Code::ReplicationAcknowledgementUnavailable
                | Code::ReplicationAcknowledgementTimeout
                | Code::EngineWorkerClosed,
            )
            | None => Self::Uncertain,
            Some(_) => Self::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use vaylix_proto::reply::QUEUED;

    use super::*;
    use Transaction::{Closed, Open, Uncertain};

    fn check(before: Transaction, role: Role, answer: Result<Reply, Code>, after: Transaction) {
        let queued = before.may_queue(role) && answer == Ok(Reply::Value(QUEUED.into()));
        let answer = answer.map_err(|code| ErrorReply::new(code, ""));
        assert_eq!(before.after(role, &answer, queued), after, "{before:?} {role:?} {answer:?}");
    }

    #[test]
    fn follows_the_answers() {
        let queued = || Ok(Reply::Value(QUEUED.into()));
        check(Closed, Role::Multi, Ok(Reply::Ok), Open);
        check(Closed, Role::Queueable, queued(), Closed);
        check(Open, Role::Queueable, queued(), Open);
        check(Open, Role::Queueable, Err(Code::QuotaExceeded), Open);
        check(Open, Role::Queueable, Err(Code::TransactionExpired), Closed);
        check(Open, Role::Immediate, Ok(Reply::Ok), Open);
        check(Open, Role::Multi, Err(Code::TransactionAlreadyActive), Open);
        check(Open, Role::Discard, Ok(Reply::Ok), Closed);
        check(Open, Role::Exec, Ok(Reply::Exec(vec![])), Closed);
        check(Open, Role::Exec, Err(Code::InvalidIntegerValue), Closed);
        check(Open, Role::Exec, Err(Code::RateLimitExceeded), Open);
        check(Open, Role::Exec, Err(Code::ReplicationAcknowledgementUnavailable), Uncertain);
        check(Uncertain, Role::Discard, Err(Code::NoActiveTransaction), Closed);
        check(Uncertain, Role::Discard, Ok(Reply::Ok), Closed);
        check(Uncertain, Role::Queueable, queued(), Open);
        check(Uncertain, Role::Queueable, Ok(Reply::Bool(true)), Closed);
        check(Closed, Role::Exec, Err(Code::ReplicationAcknowledgementUnavailable), Closed);
    }
}
