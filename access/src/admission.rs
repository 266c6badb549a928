//! What the door says to a session: what has been admitted, and how it is to be carried out.

use std::fmt;
use std::time::Duration;

use vaylix_proto::reply::QUEUED;
use vaylix_proto::{Command, ErrorReply, Reply, Text};

use crate::identity::Identity;
use crate::ticket::{Answer, Ticket};

/// A command that passed quota, login, role and permission checks, and the ticket of its request. Only
/// [`Door::admit`](crate::Door::admit) makes one, and only a door carries one out.
pub struct Admitted {
    pub(crate) pass: Pass,
    pub(crate) ticket: Ticket,
}

/// What has been admitted, without the request that asked for it.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) command: Command,
    /// The connection that it came by.
    pub(crate) caller: u64,
    /// Who asked; none only for what needs no login.
    pub(crate) who: Option<Identity>,
    /// The access revision the decision rests on.
    pub(crate) revision: u64,
    pub(crate) way: Way,
    /// Whether a read must see everything acknowledged, also where another node leads.
    pub(crate) fresh: bool,
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
        &self.pass.command
    }

    /// Whether it goes through the log as one change of keys. A session may have several of these under way
    /// ([`Door::submit`](crate::Door::submit)); it carries out everything else only when they have ended.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.pass.way == Way::Write
    }

    /// Answers that it waits for EXEC, and hands it over for that.
    pub fn queue(self) -> (Queued, Answer) {
        let Self { pass, ticket } = self;
        // What it does is told of when it is done.
        let answer = ticket.without_subject().answer_at_once(Ok(Reply::Value(QUEUED.into())));
        (Queued(pass), answer)
    }

    /// Answers with a refusal after all.
    pub fn refuse(self, refusal: ErrorReply) -> Answer {
        self.ticket.refuse(refusal)
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pass.fmt(f)
    }
}

impl fmt::Debug for Pass {
    /// Leaves the command out: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("who", &self.who).field("way", &self.way).finish_non_exhaustive()
    }
}

/// An admitted command that waits for EXEC.
#[derive(Debug)]
pub struct Queued(pub(crate) Pass);

/// A password to be checked.
pub struct Login {
    pub(crate) user: Text,
    pub(crate) password: Text,
    pub(crate) ticket: Ticket,
}

impl Login {
    /// Answers with a refusal instead.
    pub fn refuse(self, refusal: ErrorReply) -> Answer {
        self.ticket.refuse(refusal)
    }
}

impl fmt::Debug for Login {
    /// Leaves name and password out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// What a session is to do with a command.
#[derive(Debug)]
pub enum Admission {
    /// Carry it out.
    Run(Admitted),
    /// Put it into the open transaction: [`Admitted::queue`].
    Queue(Admitted),
    /// Call [`Door::login`](crate::Door::login).
    Login(Login),
    /// Open a transaction, and answer.
    Begin(Answer),
    /// Take the queue out of the session and carry it out with [`Door::commit`](crate::Door::commit). The
    /// transaction is over, whatever the answer is.
    Commit(Ticket),
    /// Drop the queue, and answer.
    Discard(Answer),
    /// The access rules have changed. Wait until the session's writes under way have ended, then ask again
    /// with this command: admitted now, it could overtake one that has to be admitted anew.
    AfterWrites(Postponed),
    /// Answer. The transaction goes on.
    Refused(Answer),
    /// Answer. The transaction has outlived its time and is over.
    Expired(Answer),
}

/// A command to be admitted later.
pub struct Postponed {
    /// The command.
    pub command: Command,
    /// The ticket of its request.
    pub ticket: Ticket,
}

impl fmt::Debug for Postponed {
    /// Leaves the command out: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postponed")
    }
}

/// What the door must know of a session besides its visitor.
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
