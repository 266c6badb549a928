//! `vaylix-client`: an interactive prompt, a reader of scripts, or one command.

mod environment;
mod error;
mod flags;
mod input;
mod oneshot;
mod output;
mod render;
mod repl;
mod session;
mod settings;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use vaylix_dataplane::client;

use environment::Environment;
use error::Error;
use flags::{Flags, Output};
use input::Event;
use output::{Log, complain, print};
use render::Renderer;
use repl::Prompt;
use session::{Outcome, Session};
use settings::Settings;

fn main() -> ExitCode {
    let flags = Flags::try_parse().unwrap_or_else(|error| flags::hinted(error, std::env::args()).exit());
    let environment = Environment::read(|name| std::env::var(name).ok())
        .unwrap_or_else(|error| Flags::command().error(clap::error::ErrorKind::InvalidValue, error).exit());
    run(&flags, &environment).unwrap_or_else(|error| {
        // With standard error gone as well there is nobody left to tell.
        drop(complain(&error.line()));
        ExitCode::FAILURE
    })
}

fn run(flags: &Flags, environment: &Environment) -> Result<ExitCode, Error> {
    let settings = Settings::resolve(flags, environment, password(flags)?)?;
    for warning in &settings.warnings {
        complain(&format!("[WARN] [client.config] {warning}"))?;
    }
    let terminal = io::stdout().is_terminal();
    let renderer = Renderer { output: settings.output, json_replies: flags.json_replies, terminal };
    if !flags.command.is_empty() {
        return oneshot::run(&flags.command, settings, renderer);
    }

    let log = if flags.json_replies || settings.output == Output::Json { Log::Stderr } else { Log::Stdout };
    let (mut session, login) = Session::open(settings.cluster, renderer, log)?;
    if login == Outcome::Refused && flags.exit_on_error {
        return Ok(ExitCode::FAILURE);
    }
    if terminal && io::stdin().is_terminal() {
        converse(&mut session, renderer, log, flags.exit_on_error)
    } else {
        read_script(&mut session, renderer, log, flags.exit_on_error)
    }
}

/// The password, when it comes neither from the command line nor from URL or environment.
fn password(flags: &Flags) -> Result<Option<String>, Error> {
    if flags.password_stdin {
        return match input::next_line(&mut io::stdin().lock())? {
            Event::Line { line, .. } => Ok(Some(line.trim_end_matches('\r').to_owned())),
            Event::Unreadable(error) => Err(error),
            Event::Interrupted | Event::End => {
                Err(client::Error::Configuration("no password on standard input".to_owned()).into())
            }
        };
    }
    if flags.ask_password {
        if !io::stdin().is_terminal() {
            let message = "--ask-password needs a terminal; use --password-stdin";
            return Err(client::Error::Configuration(message.to_owned()).into());
        }
        return repl::ask_password("Password: ").map(Some);
    }
    Ok(None)
}

/// The prompt.
fn converse(
    session: &mut Session,
    renderer: Renderer,
    log: Log,
    exit_on_error: bool,
) -> Result<ExitCode, Error> {
    let (mut prompt, trouble) = Prompt::open()?;
    if let Some(error) = trouble {
        complain(&error.line())?;
    }
    loop {
        let line = match prompt.next() {
            Event::Line { line, trouble } => {
                if let Some(error) = trouble {
                    complain(&error.line())?;
                }
                line
            }
            other => match end(other, renderer, log)? {
                Some(status) => return Ok(status),
                None => continue,
            },
        };
        let in_transaction = session.in_transaction();
        match session.run(&line) {
            Ok(Outcome::Exit) => return leave(log),
            Ok(Outcome::Refused) if exit_on_error => return Ok(ExitCode::FAILURE),
            Ok(_) => {}
            Err(Error::Client(error)) if !session.is_usable() && !in_transaction => {
                complain(&Error::Client(error).line())?;
                if !session.finds_servers() && !reconnect(session, &mut prompt)? {
                    return Ok(ExitCode::FAILURE);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Offers to connect again until it works or nobody wants to.
fn reconnect(session: &mut Session, prompt: &mut Prompt) -> Result<bool, Error> {
    while prompt.confirm("reconnect?") {
        match session.reopen() {
            Ok(()) => return Ok(true),
            Err(error) => complain(&error.line())?,
        }
    }
    Ok(false)
}

/// Lines from a pipe or a file.
fn read_script(
    session: &mut Session,
    renderer: Renderer,
    log: Log,
    exit_on_error: bool,
) -> Result<ExitCode, Error> {
    let mut input = io::stdin().lock();
    loop {
        let outcome = match input::next_line(&mut input)? {
            Event::Line { line, .. } => session.run(&line)?,
            other => match end(other, renderer, log)? {
                Some(status) => return Ok(status),
                None => Outcome::Refused,
            },
        };
        match outcome {
            Outcome::Exit => return leave(log),
            Outcome::Refused if exit_on_error => return Ok(ExitCode::FAILURE),
            Outcome::Refused | Outcome::Done => {}
        }
    }
}

/// What to do when the next line is none: the exit status, or `None` to go on.
fn end(event: Event, renderer: Renderer, log: Log) -> Result<Option<ExitCode>, Error> {
    let reason = match event {
        Event::Unreadable(error) => {
            print(&renderer.failure(error.code(), &error.to_string()))?;
            return Ok(None);
        }
        Event::Interrupted => "readline interrupted",
        Event::End | Event::Line { .. } => "reached end of input",
    };
    log.info("client.session", reason)?;
    log.line("Exiting...")?;
    Ok(Some(ExitCode::SUCCESS))
}

fn leave(log: Log) -> Result<ExitCode, Error> {
    log.info("client.session", "received local exit command")?;
    Ok(ExitCode::SUCCESS)
}
