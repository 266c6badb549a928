//! The three ways an operation can end, for somebody who must not be wrong about it.

use vaylix_dataplane::client::{CallError, may_repeat};
use vaylix_proto::code::Retry;
use vaylix_proto::{Command, ErrorReply, Reply};

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// It took effect, with this answer.
    Acknowledged(Reply),
    /// It had no effect and never will. Why, for the record.
    Refused(String),
    /// Nobody knows. Why, for the record.
    Unknown(String),
}

/// Decides how an operation ended.
///
/// | Seen | Class |
/// |---|---|
/// | a reply | acknowledged |
/// | no connection, or the request could not be written | refused: nothing was sent |
/// | the request was sent and the connection broke or the time ran out | unknown; for a command that changes nothing, refused |
/// | `SRV-035`, `SRV-036`, `TRN-013` | unknown: the entry may still be committed, here or by the next leader |
/// | any other code of our table | refused: the table says that nothing happened, and the server is held to it |
/// | a code we do not know | unknown |
///
/// The codes are not listed a second time: [`Code::retry`](vaylix_proto::Code::retry) is where the server promises what
/// each of them means for the outcome.
#[must_use]
pub fn classify(command: &Command, answer: Result<Result<Reply, ErrorReply>, CallError>) -> Class {
    let unknown =
        |reason: String| if may_repeat(command) { Class::Refused(reason) } else { Class::Unknown(reason) };
    match answer {
        Ok(Ok(reply)) => Class::Acknowledged(reply),
        Err(CallError::NotSent(error)) => Class::Refused(format!("not sent: {error}")),
        Err(CallError::Unanswered(error)) => unknown(format!("unanswered: {error}")),
        Ok(Err(refusal)) => match refusal.known_code().map(vaylix_proto::Code::retry) {
            Some(Retry::OutcomeUnknown) | None => unknown(refusal.code.to_string()),
            Some(Retry::Never | Retry::Backoff | Retry::AtLeader) => Class::Refused(refusal.code.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use vaylix_dataplane::client::Error;
    use vaylix_proto::{Code, SetOptions};

    use super::*;

    fn class_of(answer: Result<Result<Reply, ErrorReply>, CallError>) -> &'static str {
        let set = Command::Set { key: "k".into(), value: "v".into(), options: SetOptions::default() };
        match classify(&set, answer) {
            Class::Acknowledged(_) => "acknowledged",
            Class::Refused(_) => "refused",
            Class::Unknown(_) => "unknown",
        }
    }

    #[test]
    fn every_ending_has_its_class() {
        assert_eq!(class_of(Ok(Ok(Reply::Ok))), "acknowledged");
        for code in Code::ALL {
            let expected = match code {
                Code::ReplicationAcknowledgementTimeout
                | Code::ReplicationAcknowledgementUnavailable
                | Code::TransportIoFailure => "unknown",
                _ => "refused",
            };
            assert_eq!(class_of(Ok(Err(ErrorReply::new(*code, "")))), expected, "{code}");
        }
        let newer = ErrorReply { code: "SRV-999".into(), name: "Newer".into(), message: "".into() };
        assert_eq!(class_of(Ok(Err(newer))), "unknown");
        assert_eq!(class_of(Err(CallError::NotSent(Error::Closed))), "refused");
        assert_eq!(class_of(Err(CallError::Unanswered(Error::Closed))), "unknown");
        let get = Command::Get { key: "k".into() };
        let lost = classify(&get, Err(CallError::Unanswered(Error::Closed)));
        assert!(matches!(lost, Class::Refused(_)), "a read that got no answer changed nothing");
    }
}
