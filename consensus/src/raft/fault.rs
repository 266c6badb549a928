//! Failures of the engine in openraft's terms. openraft stops on any of them, and with it the process: see
//! [`Node`](crate::Node).

use std::error::Error;

use openraft::{AnyError, ErrorSubject, ErrorVerb, StorageError, StorageIOError};

fn fault(subject: ErrorSubject<u64>, verb: ErrorVerb, error: &(impl Error + 'static)) -> StorageError<u64> {
    StorageIOError::new(subject, verb, AnyError::new(error)).into()
}

pub(crate) fn read_logs(error: impl Error + 'static) -> StorageError<u64> {
    fault(ErrorSubject::Logs, ErrorVerb::Read, &error)
}

pub(crate) fn write_logs(error: impl Error + 'static) -> StorageError<u64> {
    fault(ErrorSubject::Logs, ErrorVerb::Write, &error)
}

pub(crate) fn write_vote(error: impl Error + 'static) -> StorageError<u64> {
    fault(ErrorSubject::Vote, ErrorVerb::Write, &error)
}

pub(crate) fn apply(error: impl Error + 'static) -> StorageError<u64> {
    fault(ErrorSubject::StateMachine, ErrorVerb::Write, &error)
}

pub(crate) fn write_snapshot(error: impl Error + 'static) -> StorageError<u64> {
    fault(ErrorSubject::Snapshot(None), ErrorVerb::Write, &error)
}
