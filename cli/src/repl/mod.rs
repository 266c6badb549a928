//! The prompt on a terminal: line editing, history, questions.

mod helper;
mod history;
mod phrases;

use std::collections::VecDeque;
use std::path::PathBuf;

use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::history::{FileHistory, History, SearchDirection};
use rustyline::{ColorMode, CompletionType, Config, EditMode, Editor};

use crate::error::Error;
use crate::input::Event;
use helper::{Helper, Kind};

/// A line editor with history.
pub(crate) struct Prompt {
    editor: Editor<Helper, FileHistory>,
    history: Option<PathBuf>,
    /// Lines that were pasted together with one that has been handed out.
    pasted: VecDeque<String>,
}

impl Prompt {
    /// Opens the prompt. A history that cannot be used is no reason to refuse: the second value says what is
    /// wrong with it.
    pub(crate) fn open() -> Result<(Self, Option<Error>), Error> {
        let mut prompt = Self { editor: editor()?, history: None, pasted: VecDeque::new() };
        let trouble = prompt.load_history().err();
        Ok((prompt, trouble))
    }

    /// Waits for the next line.
    pub(crate) fn next(&mut self) -> Event {
        let line = match self.pasted.pop_front() {
            Some(line) => Ok(line),
            None => self.editor.readline("vaylix> ").map(|text| self.first_line(&text)),
        };
        match line {
            Ok(line) => {
                if let Err(error) = self.record(&line) {
                    // One complaint is enough: from here on nothing is recorded.
                    self.history = None;
                    return Event::Line { line, trouble: Some(error) };
                }
                Event::Line { line, trouble: None }
            }
            Err(ReadlineError::Eof) => Event::End,
            Err(ReadlineError::Interrupted) => Event::Interrupted,
            Err(error) => Event::Unreadable(error.into()),
        }
    }

    /// The first of several lines that were pasted at once; the others come next. Read as one command they would
    /// mean something nobody wrote.
    fn first_line(&mut self, text: &str) -> String {
        let mut lines = text.lines().map(str::to_owned);
        let first = lines.next().unwrap_or_default();
        self.pasted.extend(lines);
        first
    }

    /// Asks a question that is answered with yes (also by just pressing Enter) or no (anything else).
    pub(crate) fn confirm(&mut self, question: &str) -> bool {
        self.set_kind(Kind::Question);
        let answer = self.editor.readline(&format!("{question} [Y/n] "));
        self.set_kind(Kind::Command);
        answer.is_ok_and(|answer| matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes"))
    }

    fn set_kind(&mut self, kind: Kind) {
        if let Some(helper) = self.editor.helper_mut() {
            helper.kind = kind;
        }
    }

    fn load_history(&mut self) -> Result<(), Error> {
        let file = history::file(|name| std::env::var_os(name).map(PathBuf::from))?;
        match self.editor.load_history(&file) {
            Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            loaded => loaded?,
        }
        self.forget_passwords(&file)?;
        self.history = Some(file);
        Ok(())
    }

    /// Removes what older clients recorded and we would not.
    fn forget_passwords(&mut self, file: &std::path::Path) -> Result<(), Error> {
        let mut lines = Vec::new();
        for index in 0..self.editor.history().len() {
            if let Some(found) = self.editor.history().get(index, SearchDirection::Forward)? {
                lines.push(found.entry.into_owned());
            }
        }
        if lines.iter().all(|line| history::may_record(line)) {
            return Ok(());
        }
        self.editor.clear_history()?;
        for line in lines.iter().filter(|line| history::may_record(line)) {
            self.editor.add_history_entry(line)?;
        }
        Ok(self.editor.save_history(file)?)
    }

    /// Records at once, so that a lost connection or a crash loses no history.
    fn record(&mut self, line: &str) -> Result<(), Error> {
        if line.trim().is_empty() || !history::may_record(line) {
            return Ok(());
        }
        self.editor.add_history_entry(line)?;
        match &self.history {
            Some(file) => Ok(self.editor.append_history(file)?),
            None => Ok(()),
        }
    }
}

/// Asks for a password; what is typed is not shown.
pub(crate) fn ask_password(question: &str) -> Result<String, Error> {
    let mut editor = editor()?;
    // The mask is a matter of highlighting, which must then not depend on the terminal's colours.
    editor.set_color_mode(ColorMode::Forced);
    if let Some(helper) = editor.helper_mut() {
        helper.kind = Kind::Password;
    }
    let cursor = editor.set_cursor_visibility(false)?;
    let password = editor.readline(question);
    drop(cursor);
    Ok(password?)
}

fn editor() -> Result<Editor<Helper, FileHistory>, Error> {
    let config = Config::builder()
        .max_history_size(history::LINES_MAX)?
        .auto_add_history(false)
        .completion_type(CompletionType::List)
        .edit_mode(EditMode::Emacs)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Helper::default()));
    Ok(editor)
}
