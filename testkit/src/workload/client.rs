//! One client: what it asks, and how it writes down what came of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use vaylix_checker::{Input, Operation, Outcome, Output};
use vaylix_dataplane::client::{CallError, Cluster, ClusterConfig};
use vaylix_proto::command::Condition;
use vaylix_proto::{Command, ErrorReply, Reply, SetOptions, Text};

use super::class::{Class, classify};
use super::{OPERATIONS_PER_KEY, Record, SLOTS, Shared, Workload};

/// Values of different clients never meet: each counts on from its number times this.
const VALUES_PER_CLIENT: i64 = 1_000_000_000;

/// The highest version that a conditional write guesses.
const VERSION_GUESS_MAX: u64 = 12;

pub(super) struct Client {
    number: u32,
    config: ClusterConfig,
    pause: std::time::Duration,
    shared: Arc<Shared>,
    dice: Dice,
    value: i64,
    cluster: Option<Cluster>,
    record: Record,
}

impl Client {
    pub(super) fn new(number: u32, workload: &Workload, shared: Arc<Shared>) -> Self {
        Self {
            number,
            config: workload.cluster_config(),
            pause: workload.pause,
            shared,
            dice: Dice(workload.seed ^ u64::from(number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            value: i64::from(number + 1) * VALUES_PER_CLIENT,
            cluster: None,
            record: Record::default(),
        }
    }

    /// Works until it is told to stop.
    pub(super) async fn work(mut self) -> Record {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let (key, input) = self.choose();
            let command = command(&key, input);
            let invoked = self.shared.now();
            let answer = self.call(&command).await;
            let returned = self.shared.now();
            let outcome = match classify(&command, answer) {
                Class::Acknowledged(reply) => {
                    if !input.is_read() {
                        self.shared.note_write(invoked, returned);
                    }
                    match output(input, &reply) {
                        Ok(output) => Outcome::Acknowledged { returned, output },
                        Err(strange) => panic!("{command:?}: {strange:#}"),
                    }
                }
                Class::Refused(reason) => self.count(reason, Outcome::Refused),
                Class::Unknown(reason) => self.count(reason, Outcome::Unknown),
            };
            self.record.history.record(&key, Operation { client: self.number, invoked, input, outcome });
            tokio::time::sleep(self.pause).await;
        }
        self.record
    }

    fn count(&mut self, reason: String, outcome: Outcome) -> Outcome {
        *self.record.refusals.entry(reason).or_default() += 1;
        outcome
    }

    /// Sends one command, over a connection that is opened when there is none.
    async fn call(&mut self, command: &Command) -> Result<Result<Reply, ErrorReply>, CallError> {
        let cluster = match &mut self.cluster {
            Some(cluster) => cluster,
            None => {
                let mut cluster = Cluster::connect(self.config.clone()).await.map_err(CallError::NotSent)?;
                if let Err(refusal) =
                    cluster.log_in().await.map_err(|error| CallError::NotSent(error.into()))?
                {
                    return Ok(Err(refusal));
                }
                self.cluster.insert(cluster)
            }
        };
        cluster.call(command).await
    }

    fn choose(&mut self) -> (String, Input) {
        let begun = self.shared.begun.fetch_add(1, Ordering::Relaxed);
        let generation = begun / (OPERATIONS_PER_KEY * SLOTS * 2);
        let slot = self.dice.roll(SLOTS);
        if self.dice.roll(2) == 0 {
            let input = match self.dice.roll(8) {
                0..3 => Input::Read,
                7 => Input::Add(-1),
                _ => Input::Add(1),
            };
            return (format!("counter:{generation}:{slot}"), input);
        }
        self.value += 1;
        let value = self.value;
        let input = match self.dice.roll(16) {
            0..5 => Input::Read,
            5..9 => Input::Write(value),
            9 | 10 => Input::WriteIfVersion { value, version: 1 + self.dice.roll(VERSION_GUESS_MAX) },
            11 => Input::WriteIfVersion { value, version: 1 },
            12 => Input::WriteIfAbsent(value),
            13 => Input::Exchange(value),
            14 => Input::Take,
            _ => Input::Delete,
        };
        (format!("register:{generation}:{slot}"), input)
    }
}

/// The command that asks for this.
fn command(key: &str, input: Input) -> Command {
    let key = Text::from(key);
    let set = |key, value: i64, options| Command::Set { key, value: value.to_string().into(), options };
    let plain = SetOptions::default();
    match input {
        Input::Read => Command::Get { key },
        Input::ReadVersion => panic!("GET does not tell the version"),
        Input::Write(value) => set(key, value, plain),
        Input::Exchange(value) => set(key, value, SetOptions { return_previous: true, ..plain }),
        Input::WriteIfAbsent(value) => {
            set(key, value, SetOptions { condition: Condition::IfMissing, ..plain })
        }
        Input::WriteIfVersion { value, version } => {
            set(key, value, SetOptions { if_version: Some(version), ..plain })
        }
        Input::Delete => Command::Del { keys: vec![key] },
        Input::Take => Command::GetDel { key },
        Input::Add(1) => Command::Incr { key },
        Input::Add(-1) => Command::Decr { key },
        Input::Add(delta) => panic!("no command adds {delta}"),
    }
}

/// What a reply to this means.
fn output(input: Input, reply: &Reply) -> Result<Output> {
    Ok(match (input, reply) {
        (Input::Write(_), Reply::Ok) => Output::Done,
        (Input::Read | Input::Exchange(_) | Input::Take, Reply::NotFound) => Output::Value(None),
        (Input::Read | Input::Exchange(_) | Input::Take, Reply::Value(bytes)) => {
            Output::Value(Some(number(bytes)?))
        }
        (Input::WriteIfAbsent(_) | Input::WriteIfVersion { .. }, Reply::Bool(applied)) => {
            Output::Applied(*applied)
        }
        (Input::Delete, Reply::Count(count)) => Output::Applied(*count == 1),
        (Input::Add(_), Reply::Integer(sum)) => Output::Integer(*sum),
        (_, reply) => anyhow::bail!("answered {reply:?}"),
    })
}

/// The value that these bytes stand for.
pub(super) fn number(bytes: &[u8]) -> Result<i64> {
    let text = std::str::from_utf8(bytes).context("a value that nobody wrote")?;
    text.parse().with_context(|| format!("a value that nobody wrote: {text}"))
}

/// A generator of random numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ bits >> 31) % below
    }
}
