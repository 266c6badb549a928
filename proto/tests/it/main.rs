//! Tests of the wire contract, by subject.

mod vectors;
