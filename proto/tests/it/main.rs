//! Tests of the wire contract, by subject.

#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod codes;
mod frames;
mod fuzz;
mod messages;
mod roundtrip;
mod text;
mod vectors;
