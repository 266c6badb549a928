//! Spans, and their way to a collector: the only place that names OpenTelemetry.
//!
//! Every other part makes its spans with `tracing`, under targets that begin with [`TARGET`]. Nobody but the layer of
//! [`Telemetry`] wants them, so without a collector they are disabled where they are made: to find that out costs one load.
//!
//! - A span never holds keys, values, names of users or passwords.
//! - Spans leave in batches, on threads of their own. Those that find the queue full are dropped and counted, and so are
//!   those that the collector does not take.
//! - What a client says about traces chooses ids, and whether its own spans are kept; nothing else.

mod export;
mod trace;

pub use export::{Settings, SettingsError, StartError, Telemetry};
pub use trace::{Trace, finish, join};

/// What the targets of spans for collectors begin with.
pub const TARGET: &str = "span";

/// The target of spans of requests.
pub const REQUEST: &str = "span.request";

/// The target of spans of connections that logs do not show.
pub const CONNECTION: &str = "span.connection";
