//! `vaylix-client -- set city paris`: one command, one answer, and an exit status that says how it went.
//!
//! Only the answer is written to standard output; a refusal goes to standard error, except with
//! `--json-replies`, where it is the answer.

use std::process::ExitCode;

use vaylix_proto::Command;
use vaylix_proto::text::{self, Line, USAGES};

use crate::error::Error;
use crate::output::{Log, complain, print};
use crate::render::Renderer;
use crate::session::{Outcome, Session};
use crate::settings::Settings;

/// Parses and executes the words of one command.
pub(crate) fn run(words: &[String], settings: Settings, renderer: Renderer) -> Result<ExitCode, Error> {
    match text::parse_line(&line(words)) {
        Ok(Line::Command(command)) => execute(&command, settings, renderer),
        Ok(Line::Help) => {
            print(&renderer.help(USAGES))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Line::Exit) => Ok(ExitCode::SUCCESS),
        Err(error) => refused(&renderer.failure(error.code(), &error.to_string()), renderer),
    }
}

fn execute(command: &Command, settings: Settings, renderer: Renderer) -> Result<ExitCode, Error> {
    let (mut session, login) = Session::open(settings.cluster, renderer, Log::Off)?;
    if login == Outcome::Refused {
        return Ok(ExitCode::FAILURE);
    }
    match session.execute(command)? {
        (text, Outcome::Refused) => refused(&text, renderer),
        (text, _) => {
            print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn refused(text: &str, renderer: Renderer) -> Result<ExitCode, Error> {
    if renderer.json_replies {
        print(text)?
    } else {
        complain(text)?
    }
    Ok(ExitCode::FAILURE)
}

/// The words as a line: each one quoted, so that it is one token whatever it contains.
fn line(words: &[String]) -> String {
    let quoted: Vec<_> =
        words.iter().map(|word| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use vaylix_proto::SetOptions;

    use super::*;

    #[test]
    fn every_argument_is_one_token() {
        for value in ["two words", "say \"hi\"", "a\\nb\\", "line\nfeed\ttab", "", " ", "'x'", "nx"] {
            let words = ["set", "k", value].map(str::to_owned);
            let expected = Command::Set {
                key: "k".into(),
                value: value.to_owned().into(),
                options: SetOptions::default(),
            };
            assert_eq!(text::parse_line(&line(&words)).unwrap(), Line::Command(expected), "{value:?}");
        }
    }
}
