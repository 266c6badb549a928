//! Structured log lines with timestamps, on standard output; on standard error for work whose result goes to standard
//! output.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::flags::LogFormat;

/// Starts logging for the whole process. `RUST_LOG` chooses what is shown; by default everything from INFO up,
/// of libraries from WARN up.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    // What it has to say is said by the node, once and not with every attempt to reach a node that is down.
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(chosen) if chosen.contains("openraft") => filter,
        _ => filter.add_directive("openraft=off".parse().expect("a constant directive")),
    };
    // Whoever reads the log may go away. That costs lines, never the server: by default the complaint about it
    // goes to standard error, and a second failure there would panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stdout().is_terminal()).init(),
        LogFormat::Json => {
            log.json().flatten_event(true).with_current_span(true).with_span_list(false).init()
        }
    }
}

/// Starts logging for a subcommand: progress and warnings, on standard error. `RUST_LOG` chooses otherwise.
pub(crate) fn start_offline() {
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy().add_directive(
            format!("{}=info", vaylix_engine::progress::TARGET).parse().expect("a module's name and a level"),
        );
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
}
