//! Tests of the wire contract, by subject.

mod frames;
mod fuzz;
mod messages;
mod roundtrip;
mod text;
mod vectors;
