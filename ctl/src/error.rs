//! What ends the program, and what its exit status says about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The code of a refusal by a node that does not lead.
const ONLY_AT_LEADER: &str = "SRV-037";
/// The code of a request that took too long; what it began goes on.
const TOO_LATE: &str = "TRN-016";

/// Whether something that was asked for changes anything, which decides what a lost answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It can be asked again, of anybody.
    Nothing,
    /// It is never asked twice.
    Change,
}

/// Why it did not come to a good end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A server said no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// No server was there to be asked.
    #[error("cannot reach any endpoint: {}", list(.0))]
    Unreachable(Vec<Miss>),
    /// It was asked for, and nobody knows whether it happened.
    #[error("the outcome is unknown: {0}; look before you repeat it")]
    OutcomeUnknown(Miss),
    /// The command line, the environment or a context cannot be used.
    #[error("{0}")]
    Usage(String),
    /// Something on this machine, or something that was asked of a person.
    #[error("{0}")]
    Here(String),
    /// The answer is no, and it has been printed already.
    #[error("")]
    Negative,
    /// Standard output, standard input or the terminal failed.
    #[error("cannot read or write here: {0}")]
    Io(#[from] io::Error),
}

impl Error {
    /// A file of this machine that cannot be used.
    pub(crate) fn file(path: &Path, problem: impl fmt::Display) -> Self {
        Self::Here(format!("{}: {problem}", path.display()))
    }

    /// What the process ends with.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Here(_) | Self::Negative | Self::Io(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::OutcomeUnknown(_) => 4,
        }
    }

    /// Whether whoever reads the output went away, which is nothing to complain about.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// An endpoint that did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{address}: {reason}")]
pub(crate) struct Miss {
    pub(crate) address: String,
    pub(crate) reason: String,
}

fn list(misses: &[Miss]) -> String {
    misses.iter().map(Miss::to_string).collect::<Vec<_>>().join("; ")
}

/// What a server said no with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The stable code; empty when the server gave none.
    pub(crate) code: String,
    message: String,
    /// Where the control plane of the leader is.
    pub(crate) leader: Option<String>,
    /// Whether what it rests on has changed meanwhile.
    is_stale: bool,
}

impl Refusal {
    /// Whether only the leader does this.
    pub(crate) fn is_for_leader(&self) -> bool {
        self.code == ONLY_AT_LEADER
    }

    /// What a person can do about it, where that is obvious.
    fn advice(&self) -> Option<&'static str> {
        if self.is_stale {
            return Some("somebody else changed the membership: look at the plan again");
        }
        Some(match self.code.as_str() {
            "SRV-007" => {
                "log in with --user and --password (VAYLIX_USER, VAYLIX_PASSWORD), or with a certificate that names a user \
                 (--tls-cert)"
            }
            "SRV-008" => "check --user and the password",
            "SRV-031" => "wait until the lockout is over",
            "SRV-005" => "the server is starting or stopping; try again",
            ONLY_AT_LEADER if self.leader.is_none() => {
                "no control plane of a leader is known; name it with --endpoint"
            }
            ONLY_AT_LEADER => "another node leads by now; begin again",
            "SRV-033" => "see `vaylixctl maintenance status`",
            _ => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.code.is_empty() {
            write!(f, "{} ", self.code)?;
        }
        f.write_str(&self.message)?;
        match self.advice() {
            Some(advice) => write!(f, " ({advice})"),
            None => Ok(()),
        }
    }
}

/// What the end of a request means.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The server decided.
    Refused(Refusal),
    /// It is not known what the server did.
    Lost(String),
}

impl Verdict {
    /// Judges what came instead of an answer to a request with this effect.
    pub(crate) fn of(status: &Status, effect: Effect) -> Self {
        let Some(info) = status.get_details_error_info() else {
            return match status.code() {
                Code::Unavailable
                | Code::Unknown
                | Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Internal => Self::Lost(root(status)),
                _ => Self::Refused(Refusal::plain(status)),
            };
        };
        let mut metadata = info.metadata;
        let retry = metadata.remove("retry").unwrap_or_default();
        let message = told(status.message(), &info.reason);
        if effect == Effect::Change && (retry == "outcome_unknown" || info.reason == TOO_LATE) {
            return Self::Lost(format!("{} {message}", info.reason));
        }
        Self::Refused(Refusal {
            code: info.reason,
            message,
            leader: metadata.remove("leader_admin_address"),
            is_stale: status.code() == Code::Aborted,
        })
    }
}

impl Refusal {
    fn plain(status: &Status) -> Self {
        Self {
            code: String::new(),
            message: format!("{}: {}", status.code(), status.message()),
            leader: None,
            is_stale: false,
        }
    }
}

/// The message without the code in front of it, in one line.
fn told(message: &str, code: &str) -> String {
    let rest = message.trim_start().strip_prefix(&format!("[{code}]")).unwrap_or(message);
    rest.trim().replace(['\n', '\r'], " ")
}

/// What an error comes down to.
pub(crate) fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string().replace(['\n', '\r'], " ")
}

/// A file with its problem.
pub(crate) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = PathBuf::from(path);
    move |error| Error::file(&path, error)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(code: Code, reason: &str, message: &str, metadata: &[(&str, &str)]) -> Status {
        let metadata: HashMap<_, _> =
            metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, "vaylix", metadata))
    }

    #[test]
    fn a_refusal_is_one_line_with_its_code() {
        let status = refused(Code::PermissionDenied, "SRV-017", "permission denied", &[("retry", "never")]);
        let Verdict::Refused(refusal) = Verdict::of(&status, Effect::Change) else { panic!("{status}") };
        assert_eq!(Error::Refused(Box::new(refusal)).to_string(), "SRV-017 permission denied");
    }

    #[test]
    fn a_follower_names_the_leader() {
        let metadata = [("retry", "at_leader"), ("leader_admin_address", "b:2")];
        let status = refused(Code::FailedPrecondition, "SRV-037", "follower", &metadata);
        let Verdict::Refused(refusal) = Verdict::of(&status, Effect::Change) else { panic!("{status}") };
        assert!(refusal.is_for_leader());
        assert_eq!(refusal.leader.as_deref(), Some("b:2"));
    }

    #[test]
    fn a_lost_answer_to_a_change_is_not_a_refusal() {
        let late = refused(Code::DeadlineExceeded, "TRN-016", "too late", &[("retry", "backoff")]);
        assert!(matches!(Verdict::of(&late, Effect::Change), Verdict::Lost(_)));
        assert!(matches!(Verdict::of(&late, Effect::Nothing), Verdict::Refused(_)));
        let unknown = refused(Code::Unavailable, "SRV-036", "gone", &[("retry", "outcome_unknown")]);
        assert!(matches!(Verdict::of(&unknown, Effect::Change), Verdict::Lost(_)));
        let broken = Status::unavailable("connection reset");
        assert!(matches!(Verdict::of(&broken, Effect::Change), Verdict::Lost(_)));
    }

    #[test]
    fn every_end_has_its_exit_status() {
        let miss = || Miss { address: "a:1".to_owned(), reason: "refused".to_owned() };
        assert_eq!(Error::Negative.exit_status(), 1);
        assert_eq!(Error::Usage(String::new()).exit_status(), 2);
        assert_eq!(Error::Unreachable(vec![miss()]).exit_status(), 3);
        assert_eq!(Error::OutcomeUnknown(miss()).exit_status(), 4);
        assert_eq!(Error::Unreachable(vec![miss()]).to_string(), "cannot reach any endpoint: a:1: refused");
    }
}
