//! The open transaction of a session: what is queued between MULTI and EXEC.

use std::time::Instant;

use vaylix_access::{self as access, Queued};

use super::caps::TRANSACTION_BYTES_MAX;

/// The queue would hold more request bytes than a transaction may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Commands waiting for EXEC.
#[derive(Debug)]
pub(crate) struct Transaction<C = Queued> {
    opened_at: Instant,
    commands: Vec<C>,
    bytes: usize,
}

impl<C> Transaction<C> {
    /// What MULTI opens.
    pub(crate) fn open(now: Instant) -> Self {
        Self { opened_at: now, commands: Vec::new(), bytes: 0 }
    }

    /// How the door sees it.
    pub(crate) fn standing(&self, now: Instant) -> access::Transaction {
        access::Transaction::Open {
            queued: self.commands.len(),
            age: now.saturating_duration_since(self.opened_at),
        }
    }

    /// Makes room for a command whose request payload has `bytes` bytes.
    ///
    /// # Errors
    /// [`TooLarge`]; the queue stays as it is.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), TooLarge> {
        let total = self.bytes.saturating_add(bytes);
        if total > TRANSACTION_BYTES_MAX {
            return Err(TooLarge);
        }
        self.bytes = total;
        Ok(())
    }

    /// Queues a command that there is room for.
    pub(crate) fn push(&mut self, command: C) {
        self.commands.push(command);
    }

    /// The queued commands in order.
    pub(crate) fn into_commands(self) -> Vec<C> {
        self.commands
    }
}

#[cfg(test)]
mod tests {
    use super::{TRANSACTION_BYTES_MAX, TooLarge, Transaction};
    use std::time::{Duration, Instant};

    #[test]
    fn it_knows_its_age_and_length_and_keeps_the_order() {
        let start = Instant::now();
        let mut transaction = Transaction::open(start);
        for command in ['a', 'b'] {
            transaction.reserve(1).unwrap();
            transaction.push(command);
        }
        let vaylix_access::Transaction::Open { queued, age } =
            transaction.standing(start + Duration::from_secs(3))
        else {
            panic!("an open transaction is open")
        };
        assert_eq!((queued, age), (2, Duration::from_secs(3)));
        assert_eq!(transaction.into_commands(), ['a', 'b']);
    }

    #[test]
    fn its_bytes_are_bounded_and_a_refusal_changes_nothing() {
        let mut transaction = Transaction::open(Instant::now());
        transaction.push(());
        transaction.reserve(TRANSACTION_BYTES_MAX - 1).unwrap();
        assert_eq!(transaction.reserve(2), Err(TooLarge));
        assert_eq!(transaction.reserve(1), Ok(()));
        assert_eq!(transaction.reserve(1), Err(TooLarge));
        assert_eq!(transaction.into_commands().len(), 1);
    }
}
