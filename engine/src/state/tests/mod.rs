//! The rules by example, against a model, and under concurrency.

mod allowances;
mod digest;
mod image;
mod model;
mod readers;
mod restoring;
mod rules;
mod scanning;
mod system;

use bytes::Bytes;
use vaylix_proto::{Command, Condition, Expiration, SetOptions, Text};

use super::*;
use crate::op::RestoreEntry;

/// A state that is fed by hand.
struct Bench {
    state: State,
    now_ms: u64,
    at: Option<Sequence>,
}

impl Bench {
    fn new() -> Self {
        Self { state: State::new(), now_ms: 1_000_000, at: None }
    }

    fn from_root(root: Root) -> Self {
        Self { now_ms: root.time_ms(), at: root.applied(), state: State::from_root(root) }
    }

    /// Applies operations as one batch that has been through the log.
    fn apply(&mut self, ops: Vec<Op<'_>>) -> Vec<Outcome> {
        let batch = Batch { time_ms: self.now_ms, access_revision: self.state.access_revision(), ops };
        self.apply_batch(&batch)
    }

    fn apply_batch(&mut self, batch: &Batch<'_>) -> Vec<Outcome> {
        let bytes = batch.encode();
        let at = self.at.map_or(Sequence::FIRST, Sequence::next);
        self.at = Some(at);
        self.state.apply(at, &Batch::decode(&bytes).unwrap())
    }

    fn outcome(&mut self, command: &Command) -> Outcome {
        self.apply(vec![Op::from_command(command).expect("an operation on keys")]).remove(0)
    }

    /// Carries out a command, in the log or, if it can be read, also from the reader and the root.
    #[track_caller]
    fn run(&mut self, command: &Command) -> Reply {
        let read = self.state.reader().query(command, self.now_ms, &mut ample()).unwrap();
        assert_eq!(self.state.root().query(command, self.now_ms, &mut ample()), Ok(read.clone()));
        match self.outcome(command) {
            Outcome::Reply(reply) => {
                assert_eq!(read.unwrap_or_else(|| reply.clone()), reply, "{command:?}");
                reply
            }
            other => panic!("{command:?}: {other:?}"),
        }
    }

    #[track_caller]
    fn fails(&mut self, command: &Command) -> ApplyError {
        match self.outcome(command) {
            Outcome::Failed(error) => error,
            other => panic!("{command:?}: {other:?}"),
        }
    }

    fn exec(&mut self, commands: &[Command]) -> Outcome {
        let steps = commands.iter().map(|command| Op::from_command(command).unwrap()).collect();
        self.apply(vec![Op::Exec(steps)]).remove(0)
    }

    /// The version of a key, as only backups show it.
    fn version(&self, key: &str) -> Option<u64> {
        self.state.root().get(key, self.now_ms).map(Entry::version)
    }
}

/// More than any answer here takes.
fn ample() -> Allowance {
    Allowance::bytes(usize::MAX)
}

fn text(text: &str) -> Text {
    Text::from(text)
}

fn value(value: &str) -> Reply {
    Reply::Value(Bytes::copy_from_slice(value.as_bytes()))
}

fn set(key: &str, value: &str) -> Command {
    set_with(key, value, SetOptions::default())
}

fn set_with(key: &str, value: &str, options: SetOptions) -> Command {
    Command::Set { key: text(key), value: Bytes::copy_from_slice(value.as_bytes()), options }
}

fn set_px(key: &str, value: &str, millis: u64) -> Command {
    set_with(key, value, SetOptions { expiration: Some(Expiration::Millis(millis)), ..SetOptions::default() })
}

fn if_version(version: u64) -> SetOptions {
    SetOptions { if_version: Some(version), ..SetOptions::default() }
}

fn when(condition: Condition) -> SetOptions {
    SetOptions { condition, ..SetOptions::default() }
}

fn get(key: &str) -> Command {
    Command::Get { key: text(key) }
}

fn del(keys: &[&str]) -> Command {
    Command::Del { keys: keys.iter().copied().map(text).collect() }
}

fn mset(pairs: &[(&str, &str)]) -> Command {
    let pair = |(key, value): &(&str, &str)| (text(key), Bytes::copy_from_slice(value.as_bytes()));
    Command::MSet { pairs: pairs.iter().map(pair).collect() }
}

fn incr(key: &str) -> Command {
    Command::Incr { key: text(key) }
}

fn decr(key: &str) -> Command {
    Command::Decr { key: text(key) }
}

fn ttl(key: &str) -> Command {
    Command::Ttl { key: text(key) }
}

fn expire(key: &str, seconds: u64) -> Command {
    Command::Expire { key: text(key), seconds }
}

fn persist(key: &str) -> Command {
    Command::Persist { key: text(key) }
}

fn exists(key: &str) -> Command {
    Command::Exists { key: text(key) }
}

fn rename(source: &str, destination: &str) -> Command {
    Command::Rename { source: text(source), destination: text(destination) }
}

fn rename_nx(source: &str, destination: &str) -> Command {
    Command::RenameNx { source: text(source), destination: text(destination) }
}

fn get_ex(key: &str, expiration: Option<Expiration>, persist: bool) -> Command {
    Command::GetEx { key: text(key), expiration, persist }
}

fn scan(cursor: u64, pattern: Option<&str>, count: Option<u16>) -> Command {
    Command::Scan { cursor, pattern: pattern.map(text), count }
}
