//! A client of several servers: it finds one that serves, and the leader for writes.
//!
//! With several seeds, a [`Cluster`]
//! - connects to whichever seed answers first, in their order, again and again until the deadline;
//! - goes to the leader when a node answers `SRV-037`: by the address in the answer, else by trying the other seeds.
//!   The command had no effect there, so it is sent again whatever it is. Commands about one node
//!   (`PROMOTE FOLLOWER`, `PAUSE` and `RESUME REPLICATION`, `SAVE`, files of backups) are not: their refusal is the
//!   answer;
//! - connects elsewhere when a connection breaks, and logs in as before. What was under way is sent again only if it
//!   changes nothing ([`may_repeat`]); of anything else the outcome is *unknown*, and the caller is told so
//!   ([`CallError::Unanswered`]).
//!
//! An open transaction lives on one connection, so nothing of this is done for its commands; the answer to a lost
//! connection is to begin again with `MULTI`.
//!
//! With one seed it does none of this: it is that server's connection.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use vaylix_proto::{Code, Command, ErrorReply, Reply};

use super::config::{Config, Credentials};
use super::connection::Connection;
use super::endpoint::Endpoint;
use super::error::Error;
use super::redirect::leader_address;
use super::repeat::{is_for_this_node, may_repeat, takes_its_time};
use super::transaction::Transaction;

/// How long one of several seeds may take to be connected to before the next is tried.
const SEED_CONNECT_MAX: Duration = Duration::from_secs(2);

/// How long to wait before the seeds are asked once more; doubles up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(320));

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The servers to try, in this order. At least one.
    pub seeds: Vec<Endpoint>,
    /// Everything else about the connections; its host and port are not used.
    pub connection: Config,
    /// How long a call may take, with all attempts. Not applied to commands that may take long by themselves, such as
    /// backups, once they are sent.
    pub deadline: Duration,
    /// How long the answer to one attempt may take before a command that may be repeated is sent to another server.
    pub attempt_timeout: Duration,
}

impl ClusterConfig {
    /// The cluster at `seeds`, with 15 seconds for a call and 4 for an attempt.
    #[must_use]
    pub fn new(seeds: Vec<Endpoint>, connection: Config) -> Self {
        Self { seeds, connection, deadline: Duration::from_secs(15), attempt_timeout: Duration::from_secs(4) }
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing was executed, and nothing of it will be.
    #[error(transparent)]
    NotSent(Error),
    /// The request was sent, and its answer will not come. Unless it [may be repeated](may_repeat), whether it was
    /// executed is not known.
    #[error(transparent)]
    Unanswered(Error),
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(error) | CallError::Unanswered(error) => error,
        }
    }
}

/// What a call gives.
type Answer = Result<Reply, ErrorReply>;

/// A connection to one of several servers at a time.
///
/// Dropping the future of a call closes the connection, because the answer that was due would come into the way of
/// the next; the outcome of the request is then unknown.
#[derive(Debug)]
pub struct Cluster {
    config: ClusterConfig,
    connection: Option<Connection>,
    /// Whom the connection is, or was last, with.
    at: Endpoint,
    /// The seed to try next.
    next: usize,
    /// As whom to log in on the next connection: whoever was accepted last.
    login: Option<Credentials>,
}

/// What to do with an answer.
enum Verdict {
    Deliver,
    AskLeader(Option<Endpoint>),
    AskAnother,
}

impl Cluster {
    /// Connects to the first seed that can be reached. Does not log in.
    ///
    /// # Errors
    /// With one seed as [`Connection::connect`]. With several, what happened at the last of them when the deadline
    /// passed; [`Error::Configuration`] when there is no seed; and at once what trying again would not change, such as
    /// certificates that cannot be read.
    pub async fn connect(config: ClusterConfig) -> Result<Self, Error> {
        let Some(first) = config.seeds.first().cloned() else {
            return Err(Error::Configuration("no server is given".to_owned()));
        };
        let deadline = Instant::now() + config.deadline;
        let mut cluster = Self { config, connection: None, at: first, next: 0, login: None };
        let mut pace = Pace::new(cluster.config.seeds.len());
        loop {
            let seed = cluster.next_seed();
            match cluster.open(&seed, deadline).await {
                Ok(()) => return Ok(cluster),
                Err(error) if !cluster.has_choice() || is_final(&error) => return Err(error),
                Err(error) if !pace.wait(deadline).await => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Logs in with the configured credentials, now and on every later connection; without any this does nothing and
    /// succeeds.
    ///
    /// # Errors
    /// As [`Cluster::call`]. A refused login leaves the client anonymous.
    pub async fn log_in(&mut self) -> Result<Answer, CallError> {
        let Some(credentials) = self.config.connection.credentials.clone() else { return Ok(Ok(Reply::Ok)) };
        self.call(&Command::Auth { user: credentials.user, password: credentials.password }).await
    }

    /// Sends one command to where it can be executed, and waits for its answer.
    ///
    /// A refusal is the answer of the last server that was asked; in particular `SRV-037` says that no leader was
    /// found in time. When a new connection's login is refused, that refusal is the answer, and the command was not
    /// sent there.
    ///
    /// # Errors
    /// [`CallError`], which says whether the command may have been executed.
    pub async fn call(&mut self, command: &Command) -> Result<Answer, CallError> {
        let answer = if !self.has_choice() || self.transaction() != Transaction::Closed {
            self.call_here(command).await
        } else {
            self.call_anywhere(command).await
        };
        if let (Command::Auth { user, password }, Ok(Ok(_))) = (command, &answer) {
            self.login = Some(Credentials { user: user.clone(), password: password.clone() });
        }
        answer
    }

    /// Whom this client is connected to, or was last.
    #[must_use]
    pub fn at(&self) -> &Endpoint {
        &self.at
    }

    /// Whether there are several seeds.
    #[must_use]
    pub fn has_choice(&self) -> bool {
        self.config.seeds.len() > 1
    }

    /// Whether a transaction is open, judged by the answers received so far.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        self.connection.as_ref().map_or(Transaction::Closed, Connection::transaction)
    }

    /// Whether the present connection can carry requests. With several seeds the next call finds another one.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::is_usable)
    }

    /// On the present connection and no other.
    async fn call_here(&mut self, command: &Command) -> Result<Answer, CallError> {
        let limit = self.has_choice() && !takes_its_time(command);
        let deadline = limit.then(|| Instant::now() + self.config.deadline);
        let Some(connection) = self.connection.take() else {
            return Err(CallError::NotSent(Error::Unusable));
        };
        self.attempt(connection, command, deadline).await
    }

    async fn call_anywhere(&mut self, command: &Command) -> Result<Answer, CallError> {
        let deadline = Instant::now() + self.config.deadline;
        let mut pace = Pace::new(self.config.seeds.len());
        let mut leader = None;
        loop {
            let mut present = self.connection.take();
            if let Some(connection) = &mut present {
                connection.notice_end().await;
            }
            let connection = match present.filter(Connection::is_usable) {
                Some(connection) => connection,
                None => {
                    let hinted = leader.take();
                    let target = hinted.unwrap_or_else(|| self.next_seed());
                    match self.open_as_before(&target, deadline, command).await {
                        Ok(Ok(connection)) => connection,
                        Ok(Err(refusal)) => return Ok(Err(refusal)),
                        Err(error) if is_final(&error) => return Err(CallError::NotSent(error)),
                        Err(error) if !pace.wait(deadline).await => return Err(CallError::NotSent(error)),
                        Err(_) => continue,
                    }
                }
            };
            let repeatable = may_repeat(command);
            let until = if repeatable {
                deadline.min(Instant::now() + self.config.attempt_timeout)
            } else {
                deadline
            };
            let limit = (!takes_its_time(command)).then_some(until);
            match self.attempt(connection, command, limit).await {
                Ok(answer) => {
                    match verdict(command, &answer) {
                        Verdict::Deliver => return Ok(answer),
                        Verdict::AskLeader(hint) => leader = hint,
                        Verdict::AskAnother => {}
                    }
                    // A hint is followed at once the first time; nodes that point at each other are given time.
                    let more = match leader {
                        Some(_) => pace.follow(deadline).await,
                        None => pace.wait(deadline).await,
                    };
                    if !more {
                        return Ok(answer);
                    }
                    self.connection = None;
                }
                Err(CallError::Unanswered(error)) if repeatable => {
                    if !pace.wait(deadline).await {
                        return Err(CallError::Unanswered(error));
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One request and its answer. The connection is kept if it can still be used.
    async fn attempt(
        &mut self,
        mut connection: Connection,
        command: &Command,
        deadline: Option<Instant>,
    ) -> Result<Answer, CallError> {
        let answer = match deadline {
            Some(deadline) => timeout_at(deadline, connection.call(command)).await.unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time").into())
            }),
            None => connection.call(command).await,
        };
        match answer {
            Ok(answer) => {
                self.connection = Some(connection);
                Ok(answer)
            }
            // The request could not even be written down: it is at fault, not the connection.
            Err(error @ (Error::Wire(_) | Error::PipelineFull | Error::Unusable))
                if connection.is_usable() =>
            {
                self.connection = Some(connection);
                Err(CallError::NotSent(error))
            }
            Err(error @ Error::Unusable) => Err(CallError::NotSent(error)),
            Err(error) => Err(CallError::Unanswered(error)),
        }
    }

    /// Connects to `target`; the connection is kept, anonymous.
    async fn open(&mut self, target: &Endpoint, deadline: Instant) -> Result<(), Error> {
        let mut config =
            Config { host: target.host.clone(), port: target.port, ..self.config.connection.clone() };
        if self.has_choice() {
            let left = deadline.saturating_duration_since(Instant::now());
            config.connect_timeout = config.connect_timeout.min(SEED_CONNECT_MAX).min(left);
        }
        let connection = Connection::connect(&config).await?;
        self.at = target.clone();
        self.connection = Some(connection);
        Ok(())
    }

    /// Connects to `target` and logs in as on the connection before. The inner error is a refused login.
    async fn open_as_before(
        &mut self,
        target: &Endpoint,
        deadline: Instant,
        command: &Command,
    ) -> Result<Result<Connection, ErrorReply>, Error> {
        let login = self.login.clone().filter(|_| !matches!(command, Command::Auth { .. }));
        self.open(target, deadline).await?;
        let Some(mut connection) = self.connection.take() else { return Err(Error::Unusable) };
        if let Some(Credentials { user, password }) = login {
            let answer = timeout_at(deadline, connection.call(&Command::Auth { user, password })).await;
            let late = || io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time");
            if let Err(refusal) = answer.unwrap_or_else(|_| Err(late().into()))? {
                return Ok(Err(refusal));
            }
        }
        Ok(Ok(connection))
    }

    fn next_seed(&mut self) -> Endpoint {
        let seed = self.config.seeds[self.next].clone();
        self.next = (self.next + 1) % self.config.seeds.len();
        seed
    }
}

/// Whether another server could give a better answer.
fn verdict(command: &Command, answer: &Answer) -> Verdict {
    let Err(refusal) = answer else { return Verdict::Deliver };
    match refusal.known_code() {
        Some(Code::FollowerWriteRejected) if !is_for_this_node(command) => {
            Verdict::AskLeader(leader_address(refusal))
        }
        // A node that has lost its leader or is about to stop cannot answer reads, another can.
        Some(
            Code::ReplicationAcknowledgementUnavailable
            | Code::ReplicationAcknowledgementTimeout
            | Code::EngineWorkerClosed,
        ) if may_repeat(command) && !is_for_this_node(command) => Verdict::AskAnother,
        _ => Verdict::Deliver,
    }
}

/// Whether no other attempt can end differently.
fn is_final(error: &Error) -> bool {
    match error {
        Error::File { .. } | Error::MalformedUrl(_) | Error::Configuration(_) => true,
        // What this client needs and a server does not have; a seed of another release must not hide that.
        Error::Wire(error) => error.code() == Code::TransportCapabilityMismatch,
        _ => false,
    }
}

/// Counts fruitless attempts and spaces them out.
struct Pace {
    seeds: usize,
    attempts: usize,
    pause: Duration,
}

impl Pace {
    fn new(seeds: usize) -> Self {
        Self { seeds, attempts: 0, pause: PAUSE.0 }
    }

    /// After a node pointed at another: pauses unless it is the first to do so.
    async fn follow(&mut self, deadline: Instant) -> bool {
        self.count(self.attempts == 0, deadline).await
    }

    /// After an attempt: pauses each time all seeds had their turn. Whether there is time for another one.
    async fn wait(&mut self, deadline: Instant) -> bool {
        let at_once = !(self.attempts + 1).is_multiple_of(self.seeds);
        self.count(at_once, deadline).await
    }

    async fn count(&mut self, at_once: bool, deadline: Instant) -> bool {
        self.attempts += 1;
        if !at_once {
            let until = Instant::now() + self.pause;
            self.pause = (self.pause * 2).min(PAUSE.1);
            if until >= deadline {
                return false;
            }
            sleep_until(until).await;
        }
        Instant::now() < deadline
    }
}

#[cfg(test)]
mod tests;
