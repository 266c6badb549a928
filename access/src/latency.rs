//! How long requests took, by what kind of request they were: a short closed list.

use std::time::Duration;

use vaylix_engine::durations::{Durations, SharedDurations};
use vaylix_proto::opcode::Opcode;

/// What kind of request one is. Figures have a label with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestClass {
    /// Looks at keys.
    Read,
    /// Changes keys.
    Write,
    /// Opens, ends or carries out a transaction.
    Transaction,
    /// Logs in, or asks who one is and whether anybody is there.
    Session,
    /// Everything else: users, cluster, backups, figures, tasks of the control plane.
    Admin,
    /// Was refused before anybody looked at what it asks for: too many of them, or it cannot be read.
    Refused,
}

impl RequestClass {
    /// Every class.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Write, Self::Transaction, Self::Session, Self::Admin, Self::Refused];

    /// Its name in figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Transaction => "transaction",
            Self::Session => "session",
            Self::Admin => "admin",
            Self::Refused => "refused",
        }
    }

    /// The class of the requests with this opcode.
    #[must_use]
    pub const fn of(opcode: Opcode) -> Self {
        match opcode {
            Opcode::Get
            | Opcode::MGet
            | Opcode::Exists
            | Opcode::Ttl
            | Opcode::Scan
            | Opcode::DbSize
            | Opcode::List
            | Opcode::Count => Self::Read,
            Opcode::Set
            | Opcode::SetNx
            | Opcode::MSet
            | Opcode::Del
            | Opcode::GetDel
            | Opcode::GetEx
            | Opcode::Incr
            | Opcode::Decr
            | Opcode::Expire
            | Opcode::Persist
            | Opcode::Rename
            | Opcode::RenameNx
            | Opcode::Clear => Self::Write,
            Opcode::Multi | Opcode::Exec | Opcode::Discard => Self::Transaction,
            Opcode::Auth | Opcode::Ping | Opcode::WhoAmI => Self::Session,
            _ => Self::Admin,
        }
    }
}

/// How long the requests of one class took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTimes {
    /// The class.
    pub class: RequestClass,
    /// From when a request was looked at until its answer was known. What needed no waiting took no time.
    pub durations: Durations,
}

/// How long the requests of every class took.
#[derive(Debug, Default)]
pub(crate) struct Latencies([SharedDurations; RequestClass::ALL.len()]);

impl Latencies {
    pub(crate) fn count(&self, class: RequestClass, latency: Duration) {
        self.0[class as usize].count(latency);
    }

    pub(crate) fn of(&self, class: RequestClass) -> Durations {
        self.0[class as usize].get()
    }

    pub(crate) fn get(&self) -> Vec<RequestTimes> {
        RequestClass::ALL.into_iter().map(|class| RequestTimes { class, durations: self.of(class) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_counted_by_itself() {
        let latencies = Latencies::default();
        for (at, class) in RequestClass::ALL.into_iter().enumerate() {
            (0..=at).for_each(|_| latencies.count(class, Duration::from_millis(1)));
        }
        let counted: Vec<_> =
            latencies.get().iter().map(|times| (times.class, times.durations.len())).collect();
        let expected: Vec<_> = RequestClass::ALL.into_iter().zip(1..).collect();
        assert_eq!(counted, expected);
    }

    #[test]
    fn opcodes_are_classed_by_what_they_do() {
        for (opcode, class) in [
            (Opcode::Get, RequestClass::Read),
            (Opcode::GetDel, RequestClass::Write),
            (Opcode::Exec, RequestClass::Transaction),
            (Opcode::Auth, RequestClass::Session),
            (Opcode::CreateUser, RequestClass::Admin),
            (Opcode::Restore, RequestClass::Admin),
        ] {
            assert_eq!(RequestClass::of(opcode), class, "{}", opcode.name());
        }
    }
}
