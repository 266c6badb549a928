//! What the door says to a session: what has been admitted, and how it is to be carried out.

use std::fmt;
use std::time::Duration;

use vaylix_proto::{Command, Text};

use crate::identity::Identity;

/// A command that passed quota, login, role and permission checks. Only [`Door::admit`](crate::Door::admit)
/// makes one, and only a door carries one out.
#[derive(Clone)]
pub struct Admitted {
    pub(crate) command: Command,
    /// Who asked; none only for what needs no login.
    pub(crate) who: Option<Identity>,
    /// The access revision the decision rests on.
    pub(crate) revision: u64,
    pub(crate) way: Way,
}

/// How a command is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Answered from the state as it is.
    Read,
    /// Changes keys through the log; writes of one session may be under way together.
    Write,
    /// Everything else: it must not overtake, nor be overtaken.
    Other,
}

impl Admitted {
    /// The command.
    #[must_use]
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// Whether it goes through the log as one change of keys. A session may have several of these under way
    /// ([`Door::submit`](crate::Door::submit)); it carries out everything else only when they have ended.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.way == Way::Write
    }
}

impl fmt::Debug for Admitted {
    /// Leaves the command out: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("who", &self.who).field("way", &self.way).finish_non_exhaustive()
    }
}

/// What a session is to do with a command.
pub enum Admission {
    /// Carry it out.
    Run(Admitted),
    /// Put it into the open transaction and answer [`QUEUED`](vaylix_proto::reply::QUEUED).
    Queue(Admitted),
    /// Call [`Door::login`](crate::Door::login); only on success the session has a new identity.
    Login {
        /// The name given.
        user: Text,
        /// The password given.
        password: Text,
    },
    /// Open a transaction and answer `Ok`.
    Begin,
    /// Take the queue out of the session and carry it out with [`Door::commit`](crate::Door::commit). The
    /// transaction is over, whatever the answer is.
    Commit,
    /// Drop the queue and answer `Ok`.
    Discard,
    /// The access rules have changed. Wait until the session's writes under way have ended, then ask again
    /// with this command: admitted now, it could overtake one that has to be admitted anew.
    AfterWrites(Command),
}

impl fmt::Debug for Admission {
    /// Leaves commands and passwords out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(admitted) => f.debug_tuple("Run").field(admitted).finish(),
            Self::Queue(admitted) => f.debug_tuple("Queue").field(admitted).finish(),
            Self::Login { .. } => f.write_str("Login"),
            Self::Begin => f.write_str("Begin"),
            Self::Commit => f.write_str("Commit"),
            Self::Discard => f.write_str("Discard"),
            Self::AfterWrites(_) => f.write_str("AfterWrites"),
        }
    }
}

/// What the door must know of a session besides its identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// Its transaction.
    pub transaction: Transaction,
    /// Whether writes that were submitted have not been finished.
    pub writes_in_flight: bool,
}

/// The transaction of a session.
#[derive(Clone, Copy, Debug, Default)]
pub enum Transaction {
    /// There is none.
    #[default]
    Closed,
    /// It waits for EXEC.
    Open {
        /// Commands queued so far, without MULTI.
        queued: usize,
        /// Time since MULTI.
        age: Duration,
    },
}
