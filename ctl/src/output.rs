//! Standard output and standard error: the only place that writes to them.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::Value;

use crate::error::Error;
use crate::flags::Output;
use crate::render::yaml;

/// How answers are shown, and whether a person is there to be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    output: Output,
    /// Whether not to ask.
    yes: bool,
}

impl Screen {
    pub(crate) fn new(output: Output, yes: bool) -> Self {
        Self { output, yes }
    }

    /// Shows an answer; `table` is what people get.
    pub(crate) fn show<T: Serialize>(
        self,
        answer: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Error> {
        match self.output {
            Output::Table => print(&table(answer)),
            Output::Json => print(&serde_json::to_string_pretty(answer).map_err(io::Error::from)?),
            Output::Yaml => print(yaml::document(&value(answer)?).trim_end()),
        }
    }

    /// Shows one of many answers: people get a line, programs a JSON document on one line or a YAML document.
    pub(crate) fn show_next<T: Serialize>(
        self,
        answer: &T,
        line: impl FnOnce(&T) -> String,
    ) -> Result<(), Error> {
        match self.output {
            Output::Table => print(&line(answer)),
            Output::Json => print(&serde_json::to_string(answer).map_err(io::Error::from)?),
            Output::Yaml => print(&format!("---\n{}", yaml::document(&value(answer)?).trim_end())),
        }
    }

    /// Whether people read the answers, who want heads above columns.
    pub(crate) fn is_for_people(self) -> bool {
        self.output == Output::Table
    }

    /// Refuses what is dangerous, before anything is done, where nobody can be asked.
    pub(crate) fn check_can_confirm(self, what: &str) -> Result<(), Error> {
        if self.yes || can_ask() {
            return Ok(());
        }
        Err(Error::Usage(format!("{what} is dangerous and there is no terminal to ask at: say --yes")))
    }

    /// Asks whether to go on.
    pub(crate) fn confirm(self, question: &str) -> Result<(), Error> {
        self.check_can_confirm(question)?;
        if self.yes {
            return Ok(());
        }
        let mut screen = io::stderr().lock();
        write!(screen, "{question}? [y/N] ")?;
        screen.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Error::Here("nothing was done".to_owned())),
        }
    }
}

fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn value<T: Serialize>(answer: &T) -> Result<Value, Error> {
    Ok(serde_json::to_value(answer).map_err(io::Error::from)?)
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// Writes to standard output as it is, and at once.
pub(crate) fn draw(text: &str) -> Result<(), Error> {
    let mut screen = io::stdout().lock();
    screen.write_all(text.as_bytes())?;
    Ok(screen.flush()?)
}

/// Writes to standard error.
pub(crate) fn tell(text: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{text}")
}

const BAR_WIDTH: u64 = 30;

/// How far long work is, on one line of standard error that is written over and over; silent where nobody looks.
pub(crate) struct Progress {
    what: String,
    total: u64,
    done: u64,
    shown: Option<u64>,
    is_seen: bool,
}

impl Progress {
    pub(crate) fn new(what: String, total: u64) -> Self {
        Self { what, total, done: 0, shown: None, is_seen: io::stderr().is_terminal() }
    }

    /// So many bytes more.
    pub(crate) fn add(&mut self, bytes: u64) -> io::Result<()> {
        self.reach(self.done + bytes, self.total)
    }

    /// So many bytes of so many.
    pub(crate) fn reach(&mut self, done: u64, total: u64) -> io::Result<()> {
        (self.done, self.total) = (done, total);
        let percent = (self.done.min(self.total) * 100).checked_div(self.total).unwrap_or(100);
        if self.is_seen && self.shown != Some(percent) {
            self.shown = Some(percent);
            let mut screen = io::stderr().lock();
            write!(screen, "\r{} {} {percent:3} %", self.what, bar(percent))?;
            screen.flush()?;
        }
        Ok(())
    }

    /// Leaves its line to something else, and begins anew below that.
    pub(crate) fn interrupt(&mut self) -> io::Result<()> {
        if self.shown.take().is_some() { tell("") } else { Ok(()) }
    }
}

/// So much of a bar is full.
fn bar(percent: u64) -> String {
    (0..BAR_WIDTH).map(|cell| if cell * 100 < percent * BAR_WIDTH { '#' } else { '.' }).collect()
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            // What comes next begins on a line of its own; without a screen there is no next.
            drop(writeln!(io::stderr().lock()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_the_work_is_done() {
        let full = |percent| bar(percent).chars().filter(|cell| *cell == '#').count();
        assert_eq!([0, 1, 50, 99, 100].map(full), [0, 1, 15, 30, 30]);
        assert!([0, 33, 100].iter().all(|percent| bar(*percent).len() == 30));
    }
}
