//! Judges whether what clients saw can be explained by one register per key that does one thing at a time.
//!
//! Clients record a [`History`]: for every operation when it was invoked, when its answer arrived, and what was
//! answered. [`check`] then looks, key by key, for an order of the operations that a single register would have
//! answered the same way and that agrees with real time: what returned before another was invoked comes before it.
//! If there is no such order, an acknowledged write was lost, a read was stale, an increment was applied twice, or
//! something else happened that a linearizable store never does; a [`Violation`] says which operations cannot be
//! explained.
//!
//! Operations have three outcomes ([`Outcome`]). *Acknowledged* ones must be in the order, *refused* ones must not,
//! and *unknown* ones may be anywhere after their invocation, however late, or nowhere.
//!
//! Keys are independent, so they are checked apart, which is what makes this fast. For one key the search is that of
//! Wing and Gong with Lowe's memory of configurations: each pair of "these are done" and "this is the state" is
//! looked at once.

mod explain;
mod history;
mod register;
mod report;
mod search;

pub use explain::Violation;
pub use history::{History, Input, Operation, Outcome, Output};
pub use register::State;
pub use report::{Report, check};
