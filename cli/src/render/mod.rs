//! From replies to text. Pure: same reply, same text.
//!
//! Without `--json-replies` the texts are a contract with scripts; only what a terminal would obey is written
//! differently there, see [`escape`].

mod escape;
mod json;
mod table;
mod text;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use vaylix_proto::text::Usage;
use vaylix_proto::{Code, Command, ErrorReply, NamedValue, Reply};

pub(crate) use escape::Escape;

use crate::flags::Output;
use json::Document;

/// How replies are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renderer {
    /// The form of entries.
    pub output: Output,
    /// Every reply as a JSON document.
    pub json_replies: bool,
    /// Whether standard output is a terminal.
    pub terminal: bool,
}

impl Renderer {
    /// The answer to `command`, without a final line feed. `queued`: it was queued in a transaction.
    pub(crate) fn answer(
        &self,
        command: &Command,
        answer: &Result<Reply, ErrorReply>,
        queued: bool,
    ) -> String {
        let escape = self.escape(command);
        if self.json_replies {
            let document = match answer {
                Ok(_) if queued => Document::Queued {},
                Ok(reply) => Document::reply(reply),
                Err(error) => Document::error(error),
            };
            return document.line(escape);
        }
        match answer {
            Ok(Reply::Entries(entries)) => self.entries(&sorted(entries), escape),
            Ok(Reply::Scan(page)) => text::scan(page, "(empty)", escape),
            Ok(reply) => text::nested(reply, escape),
            Err(error) => escape.apply(&format!("ERROR {error}")).into_owned(),
        }
    }

    /// A failure on our side of the wire, without a final line feed.
    pub(crate) fn failure(&self, code: Code, message: &str) -> String {
        let error = ErrorReply::new(code, message);
        let escape = self.default_escape();
        if self.json_replies {
            return Document::error(&error).line(escape);
        }
        escape.apply(&error.to_string()).into_owned()
    }

    /// The command table.
    pub(crate) fn help(&self, rows: &[Usage]) -> String {
        if self.json_replies {
            return Document::help(rows).line(self.default_escape());
        }
        let rows: Vec<_> = rows.iter().map(|row| [row.phrase.into(), row.usage.into()]).collect();
        format!("Vaylix command help\n\n{}", table::two_columns(["command", "usage"], &rows))
    }

    fn entries(&self, entries: &[&NamedValue], escape: Escape) -> String {
        match self.output {
            Output::Plain => text::pairs(entries.iter().copied(), escape),
            Output::Json => json::entries(entries, escape),
            Output::Table => {
                let rows: Vec<_> = entries
                    .iter()
                    .map(|entry| [escape.apply(&entry.name), Cow::Owned(text::value(&entry.value, escape))])
                    .collect();
                table::two_columns(["key", "value"], &rows)
            }
        }
    }

    fn escape(&self, command: &Command) -> Escape {
        match command {
            Command::MetricsProm if self.terminal => Escape::KeepLines,
            _ => self.default_escape(),
        }
    }

    fn default_escape(&self) -> Escape {
        if self.terminal { Escape::All } else { Escape::Off }
    }
}

/// Entries by key, then value, as they are shown.
fn sorted(entries: &[NamedValue]) -> Vec<&NamedValue> {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
    sorted
}
