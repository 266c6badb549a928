//! What clients recorded.

use std::collections::BTreeMap;
use std::fmt;

/// What a client asked of one key. Values are numbers; a client that writes bytes derives them from a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Answered with [`Output::Value`].
    Read,
    /// Reads value and version. Answered with [`Output::Versioned`].
    ReadVersion,
    /// Answered with [`Output::Done`].
    Write(i64),
    /// Writes and answers what was there before, with [`Output::Value`].
    Exchange(i64),
    /// Writes if the key is missing. Answered with [`Output::Applied`].
    WriteIfAbsent(i64),
    /// Writes if the key exists in exactly this version. Answered with [`Output::Applied`].
    WriteIfVersion {
        /// The new value.
        value: i64,
        /// The version it must have.
        version: u64,
    },
    /// Answered with [`Output::Applied`]: whether there was something to delete.
    Delete,
    /// Deletes and answers what was there, with [`Output::Value`].
    Take,
    /// Adds to the number, starting from 0 when the key is missing. Answered with [`Output::Integer`].
    Add(i64),
}

impl Input {
    /// Whether it can never change anything.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self, Self::Read | Self::ReadVersion)
    }
}

/// What the store answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// It was done.
    Done,
    /// The value, or nothing.
    Value(Option<i64>),
    /// Value and version, or nothing.
    Versioned(Option<(i64, u64)>),
    /// Whether the condition held.
    Applied(bool),
    /// The number after the change.
    Integer(i64),
}

/// What the client knows about the end of an operation. Times are of the same clock as the invocation's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect between the invocation and this answer.
    Acknowledged {
        /// When the answer arrived, in nanoseconds.
        returned: u64,
        /// The answer.
        output: Output,
    },
    /// It certainly had no effect and never will.
    Refused,
    /// It may have taken effect at any time after the invocation, may still do so, or never.
    Unknown,
}

/// One operation on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub client: u32,
    /// When, in nanoseconds of a clock that all clients share and that never goes back.
    pub invoked: u64,
    /// What was asked.
    pub input: Input,
    /// How it ended.
    pub outcome: Outcome,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {:<3} {:>12}", self.client, Micros(self.invoked))?;
        match self.outcome {
            Outcome::Acknowledged { returned, .. } => write!(f, " ..{:>12}", Micros(returned))?,
            _ => write!(f, " ..{:>12}", "")?,
        }
        match self.input {
            Input::Read => write!(f, "  read")?,
            Input::ReadVersion => write!(f, "  read with version")?,
            Input::Write(value) => write!(f, "  write {value}")?,
            Input::Exchange(value) => write!(f, "  exchange for {value}")?,
            Input::WriteIfAbsent(value) => write!(f, "  write {value} if absent")?,
            Input::WriteIfVersion { value, version } => write!(f, "  write {value} if version {version}")?,
            Input::Delete => write!(f, "  delete")?,
            Input::Take => write!(f, "  take")?,
            Input::Add(delta) => write!(f, "  add {delta}")?,
        }
        match self.outcome {
            Outcome::Refused => write!(f, " -> refused"),
            Outcome::Unknown => write!(f, " -> unknown"),
            Outcome::Acknowledged { output, .. } => match output {
                Output::Done => write!(f, " -> done"),
                Output::Value(None) | Output::Versioned(None) => write!(f, " -> nothing"),
                Output::Value(Some(value)) | Output::Integer(value) => write!(f, " -> {value}"),
                Output::Versioned(Some((value, version))) => write!(f, " -> {value} in version {version}"),
                Output::Applied(true) => write!(f, " -> yes"),
                Output::Applied(false) => write!(f, " -> no"),
            },
        }
    }
}

/// Nanoseconds, shown as microseconds.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:03}us", self.0 / 1000, self.0 % 1000))
    }
}

/// All operations, by key.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub(crate) keys: BTreeMap<String, Vec<Operation>>,
}

impl History {
    /// An empty history. Every key is missing at its beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an operation; the order of adding does not matter.
    ///
    /// # Panics
    /// When it returned before it was invoked.
    pub fn record(&mut self, key: &str, operation: Operation) {
        if let Outcome::Acknowledged { returned, .. } = operation.outcome {
            assert!(returned >= operation.invoked, "returned before it was invoked: {operation}");
        }
        match self.keys.get_mut(key) {
            Some(operations) => operations.push(operation),
            None => {
                self.keys.insert(key.to_owned(), vec![operation]);
            }
        }
    }

    /// Adds everything that another client recorded with the same clock.
    pub fn merge(&mut self, other: Self) {
        for (key, operations) in other.keys {
            self.keys.entry(key).or_default().extend(operations);
        }
    }

    /// How many operations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Every key with its operations.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &[Operation])> {
        self.keys.iter().map(|(key, operations)| (key.as_str(), operations.as_slice()))
    }

    /// How many operations were acknowledged, refused, and left unknown.
    #[must_use]
    pub fn outcomes(&self) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for operation in self.keys.values().flatten() {
            match operation.outcome {
                Outcome::Acknowledged { .. } => counts.0 += 1,
                Outcome::Refused => counts.1 += 1,
                Outcome::Unknown => counts.2 += 1,
            }
        }
        counts
    }
}
