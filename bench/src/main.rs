//! `vaylix-bench`: puts load on a server and says what came of it.
//!
//! The generator shares its machine with what it measures, so it must cost little: see [`template`] for how
//! requests are made and [`connection`] for how they travel.

mod connection;
mod flags;
mod load;
mod random;
mod report;
mod run;
mod stats;
mod template;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use vaylix_dataplane::client::{Config, Credentials, TlsOptions};

use flags::Flags;
use report::Report;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let result = measure(&flags);
    let outcome = match &result {
        Ok(text) => writeln!(std::io::stdout().lock(), "{text}"),
        Err(error) => writeln!(std::io::stderr().lock(), "vaylix-bench: {error:#}"),
    };
    if result.is_ok() && outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(flags: &Flags) -> anyhow::Result<String> {
    let config = Config {
        host: flags.host.clone(),
        port: flags.port,
        tls: flags.ssl.then(|| TlsOptions { ca_cert: flags.tls_ca_cert.clone(), ..TlsOptions::default() }),
        credentials: (!flags.disable_auth)
            .then(|| Credentials::new(flags.user.clone(), flags.password.clone())),
        compression: false,
        client_name: "vaylix-bench".to_owned(),
        ..Config::default()
    };
    let report = Report::new(flags, &run::run(flags, &config)?);
    Ok(if flags.json { report.json()? } else { report.text()? })
}
