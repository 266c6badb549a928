//! The client as a process: what it prints where, and how it ends.

mod output;
mod peer;
mod process;
mod startup;
