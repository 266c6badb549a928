//! Breaks things under load and checks that nobody noticed more than a pause: crashes, frozen processes, disks that hang,
//! cut and slow links, restarts.
//!
//! Clients read and write the same few keys at once through everything, and `vaylix-checker` judges what they saw:
//! what was acknowledged is there, what was refused is not, and every answer fits one order of all operations. Beside
//! them a client at each node writes there all the time, which tells how long nobody took writes, and whether anything
//! that was acknowledged is missing in the end. Then all nodes must hold the same keys, values, versions and expiries.
//!
//! # What a cluster promises, and where that is tested
//!
//! | Promise | Tests |
//! |---|---|
//! | Nothing acknowledged is lost with a leader that is killed, and another one is there soon | [`leader`]`::the_leader_is_killed`, [`long`] |
//! | The same when it is frozen, cut off, not heard, has a disk that hangs; when all listen on `0.0.0.0`; over TLS | [`leader`]; `cluster/tls.rs` |
//! | All nodes are killed at once: nothing is missing, and writes go on when they are back | [`members`]`::all_nodes_are_killed_at_once` |
//! | A leader is killed and started again, and the next one killed as soon as it leads | [`leader`]`::two_leaders_in_a_row_are_killed` |
//! | A node that missed much catches up, from the log and from a snapshot | [`content`]`::a_node_that_missed_much_catches_up`; `cluster/transfer.rs` |
//! | Everything that may be written is replicated, however large, and is there after a restart | [`content`]`::the_largest_of_everything_is_on_all_nodes`; `cluster/transfer.rs` |
//! | Values, versions and expiries are the same on all nodes | the end of every test here; [`content`]`::what_expires_and_what_is_counted_is_the_same_on_all_nodes` |
//! | Users are the same on all nodes and survive a failover | `cluster/forming.rs` |
//! | What is not acknowledged is never seen; a leader without a majority steps down and says so | [`leader`]`::what_was_not_acknowledged_is_seen_by_nobody`; `cluster/failover.rs` |
//! | Nodes join and leave, also the leader; nonsense is refused | `cluster/membership.rs` |
//! | Bad passwords keep no node from being elected | [`members`]`::bad_passwords_keep_no_node_from_being_elected` |
//! | A leader that is told to stop hands over, and no write fails that is made twice | [`planned`] |
//! | Five nodes survive the loss of two | [`members`]`::five_nodes_survive_two` |
//!
//! # Longer runs
//! What takes longest is left to `tests/slow`, which runs all of it (`--include-ignored`), in release builds.
//! `VAYLIX_FAULT_ROUNDS` sets how often each test breaks things (default 1), `VAYLIX_FAULT_MEGABYTES` how much a node misses
//! (default 8), `VAYLIX_FAULT_ENTRIES` how long the log is before leaders die in a row (default 500),
//! `VAYLIX_FAULT_KILLS` and `VAYLIX_FAULT_PAUSES` how often one run kills and freezes leaders (default 2 and 1).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are for whoever runs the long version")]

mod alone;
mod content;
mod leader;
mod long;
mod members;
mod planned;
mod trial;
