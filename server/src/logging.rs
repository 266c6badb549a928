//! Structured log lines with timestamps, on standard output; on standard error for work whose result goes to standard
//! output.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};
use vaylix_telemetry::{TARGET, Telemetry};

use crate::flags::LogFormat;

/// Starts logging for the whole process. `RUST_LOG` chooses what is shown; by default everything from INFO up,
/// of libraries from WARN up. Spans go to the collector too, if there is one; those that are made for collectors are
/// disabled otherwise.
pub(crate) fn start(format: LogFormat, telemetry: Option<&Telemetry>) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    // What it has to say is said by the node, once and not with every attempt to reach a node that is down.
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(chosen) if chosen.contains("openraft") => filter,
        _ => filter.add_directive("openraft=off".parse().expect("a constant directive")),
    };
    let filter = filter.add_directive(format!("{TARGET}=off").parse().expect("a target and a level"));
    match telemetry {
        None => registry().with(filter).with(lines(format)).init(),
        Some(telemetry) => {
            registry().with(lines(format).with_filter(filter)).with(telemetry.layer()).init();
        }
    }
}

/// What writes the lines.
fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    // Whoever reads the log may go away. That costs lines, never the server: by default the complaint about it
    // goes to standard error, and a second failure there would panic.
    let log = fmt::layer().log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stdout().is_terminal()).boxed(),
        LogFormat::Json => {
            log.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
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
