//! `vaylixctl`: the control plane at the command line.

mod connection;
mod contexts;
mod error;
mod flags;
mod output;
mod password;
mod render;
mod settings;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

use error::Error;
use flags::Flags;

fn main() -> ExitCode {
    let flags = Flags::parse();
    match verbs::run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, Error::Negative) {
                // With standard error gone as well there is nobody left to tell.
                drop(output::tell(&format!("vaylixctl: {error}")));
            }
            ExitCode::from(error.exit_status())
        }
    }
}
