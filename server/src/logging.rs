//! Structured log lines with timestamps, on standard output.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging for a command that prints its answer to standard output: warnings and errors go to standard error.
pub(crate) fn start_offline() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
}

/// Starts logging for the whole process. `RUST_LOG` chooses what is shown; by default everything from INFO up,
/// of libraries from WARN up.
pub(crate) fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy()
        .add_directive("openraft=warn".parse().expect("a constant directive"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stdout().is_terminal())
        // Whoever reads the log may go away. That costs lines, never the server: by default the complaint about it
        // goes to standard error, and a second failure there would panic.
        .log_internal_errors(false)
        .init();
}
