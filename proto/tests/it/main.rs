//! Tests of the wire contract, by subject.

mod text;
mod vectors;
