//! Refuses, before it is carried out, what could not be answered afterwards.
//!
//! GETDEL, GETEX and SET with GET answer what they destroy or replace, and a transaction answers everything at
//! once. If such an answer did not fit in the negotiated frame, the change would have happened while its value
//! were lost, so these are measured against the state as it is and refused with `TRN-006` when they are too
//! long. The measure is taken after the connection's own writes have ended where they could matter; only
//! another connection that replaces the value by a longer one in the moment between measuring and applying can
//! still outgrow the frame. Where values of the greatest permitted length fit in the frame, as they do unless
//! the client has asked for small frames, nobody can write one that does.
//!
//! Reads are not measured: a read that cannot be answered loses nothing.

use vaylix_access::Admitted;
use vaylix_proto::{Command, Reply, Text};

use super::reply_len::{PREFIX_LEN, payload_len};

/// Digits of the longest number that INCR stores.
const NUMBER_LEN_MAX: usize = 20;

/// What a listing adds to a key and its value.
const ENTRY_LEN: usize = 6;

/// Whether a write answers a value that is gone or replaced afterwards.
pub(crate) fn tells_a_value(command: &Command) -> bool {
    match command {
        Command::GetDel { .. } | Command::GetEx { .. } => true,
        Command::Set { options, .. } => options.return_previous,
        _ => false,
    }
}

/// The key whose value a command answers.
fn told_key(command: &Command) -> Option<&Text> {
    match command {
        Command::Get { key } => Some(key),
        Command::GetDel { key } | Command::GetEx { key, .. } | Command::Set { key, .. }
            if tells_a_value(command) =>
        {
            Some(key)
        }
        _ => None,
    }
}

/// Length of the body that would answer a write that tells a value. `probe` answers reads.
pub(crate) fn answer_len(command: &Command, probe: &mut dyn FnMut(Command) -> Option<Reply>) -> usize {
    told_key(command).map_or(PREFIX_LEN, |key| value_answer_len(value_len(key, probe)))
}

/// Length of the body that answers a value of `value_len` bytes.
pub(crate) fn value_answer_len(value_len: usize) -> usize {
    PREFIX_LEN + 4 + value_len
}

/// Length of the body that would answer a transaction, at most. `queued_bytes` are the request bytes of its
/// commands; `probe` answers reads.
pub(crate) fn exec_answer_len(
    queue: &[Admitted],
    queued_bytes: usize,
    probe: &mut dyn FnMut(Command) -> Option<Reply>,
) -> usize {
    let slack = queued_bytes + queue.len() * (NUMBER_LEN_MAX + ENTRY_LEN);
    let written_max = queue.iter().map(|queued| written_len(queued.command())).max().unwrap_or(0);
    let results = queue.iter().map(|queued| 1 + result_len(queued.command(), slack, written_max, probe));
    PREFIX_LEN + 4 + results.sum::<usize>()
}

/// Length of one result, at most, when earlier commands may have written values of `written_max` bytes and
/// lengthened listings by `slack` bytes.
fn result_len(
    command: &Command,
    slack: usize,
    written_max: usize,
    probe: &mut dyn FnMut(Command) -> Option<Reply>,
) -> usize {
    let mut told = |key: &Text| value_len(key, probe).max(written_max);
    match command {
        Command::Ping { message } => 4 + message.as_ref().map_or(4, |message| message.len()),
        Command::MGet { keys } => 4 + keys.iter().map(|key| 5 + told(key)).sum::<usize>(),
        Command::List | Command::Scan { .. } => {
            probe(command.clone()).map_or(0, |reply| payload_len(&reply)) + slack
        }
        _ => match told_key(command) {
            Some(key) => 4 + told(key),
            None => 8,
        },
    }
}

/// Length of the longest value that a command stores.
fn written_len(command: &Command) -> usize {
    match command {
        Command::Set { value, .. } | Command::SetNx { value, .. } => value.len(),
        Command::MSet { pairs } => pairs.iter().map(|(_, value)| value.len()).max().unwrap_or(0),
        Command::Incr { .. } | Command::Decr { .. } => NUMBER_LEN_MAX,
        _ => 0,
    }
}

fn value_len(key: &Text, probe: &mut dyn FnMut(Command) -> Option<Reply>) -> usize {
    match probe(Command::Get { key: key.clone() }) {
        Some(Reply::Value(value)) => value.len(),
        _ => 0,
    }
}
