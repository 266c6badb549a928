//! The register that a key has to behave like.

use std::fmt;

use crate::history::{Input, Output};

/// What a key holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing.
    #[default]
    Absent,
    /// A value in a version: 1 when the key came to be, one more with each new value.
    Present {
        /// The value.
        value: i64,
        /// Its version.
        version: u64,
    },
}

impl State {
    /// What one operation makes of this state and answers; `None` when the register refuses it (a sum that is no
    /// 64-bit number).
    #[must_use]
    pub fn apply(self, input: Input) -> Option<(Self, Output)> {
        Some(match input {
            Input::Read => (self, Output::Value(self.value())),
            Input::ReadVersion => (self, Output::Versioned(self.versioned())),
            Input::Write(value) => (self.written(value), Output::Done),
            Input::Exchange(value) => (self.written(value), Output::Value(self.value())),
            Input::WriteIfAbsent(value) if self == Self::Absent => {
                (self.written(value), Output::Applied(true))
            }
            Input::WriteIfVersion { value, version }
                if self.versioned().is_some_and(|(_, current)| current == version) =>
            {
                (self.written(value), Output::Applied(true))
            }
            Input::WriteIfAbsent(_) | Input::WriteIfVersion { .. } => (self, Output::Applied(false)),
            Input::Delete => (Self::Absent, Output::Applied(self != Self::Absent)),
            Input::Take => (Self::Absent, Output::Value(self.value())),
            Input::Add(delta) => {
                let sum = self.value().unwrap_or(0).checked_add(delta)?;
                (self.written(sum), Output::Integer(sum))
            }
        })
    }

    fn value(self) -> Option<i64> {
        self.versioned().map(|(value, _)| value)
    }

    fn versioned(self) -> Option<(i64, u64)> {
        match self {
            Self::Absent => None,
            Self::Present { value, version } => Some((value, version)),
        }
    }

    fn written(self, value: i64) -> Self {
        let version = self.versioned().map_or(1, |(_, version)| version + 1);
        Self::Present { value, version }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nothing"),
            Self::Present { value, version } => write!(f, "{value} in version {version}"),
        }
    }
}
