//! What the line editor shows while a line is typed: completions, hints, colour, and which lines it accepts.

use std::borrow::Cow;

use rustyline::completion::Completer;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Result};
use unicode_width::UnicodeWidthStr;

use super::phrases;

const BOLD_CYAN: &str = "\x1b[1;36m";
const DIMMED: &str = "\x1b[2m";
const NORMAL: &str = "\x1b[0m";

/// What the line being typed is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// A command.
    #[default]
    Command,
    /// The answer to a question.
    Question,
    /// Not to be shown.
    Password,
}

/// The editor's view of our language.
#[derive(Debug, Default)]
pub(super) struct Helper {
    pub(super) kind: Kind,
}

impl rustyline::Helper for Helper {}

impl Completer for Helper {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> Result<(usize, Vec<String>)> {
        match self.kind {
            Kind::Command => Ok(phrases::completions(&line[..pos])),
            Kind::Question | Kind::Password => Ok((pos, Vec::new())),
        }
    }
}

impl Hinter for Helper {
    type Hint = Hint;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<Hint> {
        if self.kind != Kind::Command || pos != line.len() {
            return None;
        }
        phrases::missing(line).map(Hint)
    }
}

/// A hint to look at, not to accept with a key.
pub(super) struct Hint(String);

impl rustyline::hint::Hint for Hint {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Highlighter for Helper {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        match self.kind {
            Kind::Password => Cow::Owned(" ".repeat(line.width())),
            Kind::Question => Cow::Borrowed(line),
            Kind::Command => match phrases::recognised(line) {
                Some(end) => Cow::Owned(format!("{BOLD_CYAN}{}{NORMAL}{}", &line[..end], &line[end..])),
                None => Cow::Borrowed(line),
            },
        }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("{DIMMED}{hint}{NORMAL}"))
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        kind != CmdKind::MoveCursor
    }
}

impl Validator for Helper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        let unknown = match self.kind {
            Kind::Command => phrases::unknown_word(context.input()),
            Kind::Question | Kind::Password => None,
        };
        Ok(match unknown {
            // The editor shows the message dimmed, like a hint.
            Some(word) => ValidationResult::Invalid(Some(format!(" unknown command: {word}"))),
            None => ValidationResult::Valid(None),
        })
    }
}
