//! The Vaylix server: reads its settings, puts the parts together, serves until it is told to stop.
//!
//! With a subcommand it does some other work instead ([`offline`]).
//!
//! This is the composition root. It owns no rules: what a setting means is decided by the part it is handed to.

mod cluster;
mod control;
mod error;
mod flags;
mod kek;
mod logging;
mod offline;
mod settings_file;
mod shown;
mod signals;
mod startup;

use std::process::ExitCode;

use vaylix_telemetry::Telemetry;

use crate::error::ServerError;
use crate::startup::Ended;

fn main() -> ExitCode {
    let mut given = flags::read(std::env::args_os());
    let result = match given.flags.command.take() {
        Some(command) => offline::run(command, &given),
        None if given.flags.print_config => offline::print(&shown::as_file(&given.shown)),
        None => run(given),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write as _;
            // Standard error may be gone; the exit status still says that the start failed.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Threads that serve connections and decide. One core is left to the thread that writes the log: with as many
/// threads as cores, traces show them waking each other several times for one write.
fn async_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

/// The way of spans to a collector, if the environment names one.
fn telemetry() -> Result<Option<Telemetry>, ServerError> {
    let unusable = |error: &dyn std::fmt::Display| ServerError::Arguments(error.to_string());
    let settings = vaylix_telemetry::Settings::read(|name| std::env::var(name).ok());
    let Some(settings) = settings.map_err(|error| unusable(&error))? else { return Ok(None) };
    let telemetry = Telemetry::start(settings, env!("CARGO_PKG_VERSION"));
    telemetry.map(Some).map_err(|error| unusable(&error))
}

fn run(given: flags::Given) -> Result<(), ServerError> {
    let config = startup::Config::check(given)?;
    let telemetry = telemetry()?;
    logging::start(config.log_format(), telemetry.as_ref());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(async_threads())
        .enable_all()
        .build()
        .map_err(ServerError::Runtime)?;
    // Its own thread: probes are answered while the others are busy, and nobody's administration holds up a client.
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control-plane")
        .enable_all()
        .build()
        .map_err(ServerError::Runtime)?;
    let ended = runtime.block_on(startup::serve(config, control.handle(), telemetry.as_ref()));
    if let Some(telemetry) = telemetry {
        telemetry.stop();
    }
    // Whatever it still does is of no use to anybody.
    control.shutdown_background();
    if ended? == Ended::BeforeReady {
        // Recovery is left where it is, as a crash would leave it: every step of it is made for that.
        runtime.shutdown_background();
    }
    Ok(())
}
