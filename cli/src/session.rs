//! One conversation with a server: parse a line, send the command, print the answer.

use tokio::runtime::Runtime;
use vaylix_dataplane::client::{self, CallError, Cluster, ClusterConfig, Endpoint, Transaction};
use vaylix_proto::reply::QUEUED;
use vaylix_proto::text::{self, Line, USAGES};
use vaylix_proto::{Command, Reply};

use crate::error::Error;
use crate::output::{Log, complain, print};
use crate::render::Renderer;

/// A connected client.
pub(crate) struct Session {
    runtime: Runtime,
    config: ClusterConfig,
    renderer: Renderer,
    log: Log,
    cluster: Cluster,
}

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As asked.
    Done,
    /// The parser or the server refused; the reason has been printed.
    Refused,
    /// The line asks to end the client.
    Exit,
}

impl Session {
    /// Connects and logs in; the answer to the login is printed. A refused login leaves the session anonymous.
    pub(crate) fn open(
        config: ClusterConfig,
        renderer: Renderer,
        log: Log,
    ) -> Result<(Self, Outcome), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let cluster = connect(&runtime, &config, log)?;
        let mut session = Self { runtime, config, renderer, log, cluster };
        let outcome = session.log_in()?;
        Ok((session, outcome))
    }

    /// Connects again after a failure.
    pub(crate) fn reopen(&mut self) -> Result<(), Error> {
        self.cluster = connect(&self.runtime, &self.config, self.log)?;
        self.log_in()?;
        Ok(())
    }

    /// Executes one line; blank lines do nothing.
    ///
    /// # Errors
    /// When the connection or standard output failed, not when the command did.
    pub(crate) fn run(&mut self, line: &str) -> Result<Outcome, Error> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(Outcome::Done);
        }
        match text::parse_line(line) {
            Ok(Line::Command(command)) => {
                let (text, outcome) = self.execute(&command)?;
                print(&text)?;
                Ok(outcome)
            }
            Ok(Line::Help) => {
                print(&self.renderer.help(USAGES))?;
                Ok(Outcome::Done)
            }
            Ok(Line::Exit) => Ok(Outcome::Exit),
            Err(error) => {
                print(&self.renderer.failure(error.code(), &error.to_string()))?;
                Ok(Outcome::Refused)
            }
        }
    }

    /// Whether a transaction may be open.
    pub(crate) fn in_transaction(&self) -> bool {
        self.cluster.transaction() != Transaction::Closed
    }

    /// Whether the connection can carry further commands.
    pub(crate) fn is_usable(&self) -> bool {
        self.cluster.is_usable()
    }

    /// Whether the next command finds another server by itself when the connection is lost.
    pub(crate) fn finds_servers(&self) -> bool {
        self.cluster.has_choice()
    }

    /// Sends one command; its answer as text, and whether it was refused.
    pub(crate) fn execute(&mut self, command: &Command) -> Result<(String, Outcome), Error> {
        self.ask(command, self.renderer)
    }

    fn ask(&mut self, command: &Command, renderer: Renderer) -> Result<(String, Outcome), Error> {
        let in_transaction = self.in_transaction();
        let before = self.cluster.at().clone();
        let answer = self.runtime.block_on(self.cluster.call(command));
        if *self.cluster.at() != before {
            self.log.info("client.session", &format!("now connected to {}", self.cluster.at()))?;
        }
        let answer = match answer {
            Ok(answer) => answer,
            // Nothing was sent: the command is at fault, not the connection.
            Err(CallError::NotSent(error)) if self.cluster.is_usable() => {
                return Ok((renderer.failure(error.code(), &error.to_string()), Outcome::Refused));
            }
            Err(error) => return Err(client::Error::from(error).into()),
        };
        let queued = in_transaction && matches!(&answer, Ok(Reply::Value(value)) if value.as_ref() == QUEUED);
        let outcome = if answer.is_ok() { Outcome::Done } else { Outcome::Refused };
        Ok((renderer.answer(command, &answer, queued), outcome))
    }

    /// Logs in. Where every line of standard output answers a command, only a refusal is worth a word, and that
    /// goes to standard error.
    fn log_in(&mut self) -> Result<Outcome, Error> {
        let Some(credentials) = self.config.connection.credentials.clone() else { return Ok(Outcome::Done) };
        let command = Command::Auth { user: credentials.user, password: credentials.password };
        let aside = self.renderer.json_replies || self.log == Log::Off;
        let (text, outcome) = self.ask(&command, Renderer { json_replies: false, ..self.renderer })?;
        match (aside, outcome) {
            (false, _) => print(&text)?,
            (true, Outcome::Refused) => complain(&text)?,
            (true, _) => {}
        }
        Ok(outcome)
    }
}

fn connect(runtime: &Runtime, config: &ClusterConfig, log: Log) -> Result<Cluster, Error> {
    let seeds: Vec<_> = config.seeds.iter().map(Endpoint::to_string).collect();
    let ssl = config.connection.tls.is_some();
    log.info("client.startup", &format!("connecting to {} ssl={ssl}", seeds.join(",")))?;
    let cluster = runtime.block_on(Cluster::connect(config.clone()))?;
    let at = if cluster.has_choice() { format!(" to {}", cluster.at()) } else { String::new() };
    log.info("client.startup", &format!("connection established{at}"))?;
    Ok(cluster)
}
