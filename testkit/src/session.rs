//! A client process that is typed into, one line at a time.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::binary;
use crate::process::Process;

/// A running client. Its input is a pipe, so it prints no prompt.
#[derive(Debug)]
pub struct Session {
    process: Process,
    stdin: Option<ChildStdin>,
    typed: u64,
    /// The home of the client's history, so that a test never touches the user's.
    _home: TempDir,
}

/// What a typed line led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The lines that were printed, complete.
    Lines(Vec<String>),
    /// The lines that were printed before the client ended by itself.
    Exited(Vec<String>, Option<i32>),
}

impl Session {
    /// Starts a client against `server` with these flags; returns it with what it printed up to the reply of
    /// its automatic login, without the two start-up log lines.
    ///
    /// # Errors
    /// When it cannot be started or talked to.
    pub fn open(server: SocketAddr, flags: &[&str]) -> Result<(Self, Answer)> {
        let mut command = command(flags)?;
        command.arg("--host").arg(server.ip().to_string());
        command.arg("--port").arg(server.port().to_string());
        let home = TempDir::new().context("no temporary directory")?;
        command.env("HOME", home.path()).env("XDG_DATA_HOME", home.path());
        command.stdin(Stdio::piped());
        let mut process = Process::spawn(command)?;
        let stdin = process.take_stdin();
        let mut session = Self { process, stdin, typed: 0, _home: home };
        let answer = match session.settle()? {
            Answer::Lines(lines) => Answer::Lines(without_log(lines)),
            Answer::Exited(lines, status) => Answer::Exited(without_log(lines), status),
        };
        Ok((session, answer))
    }

    /// Types one line and collects what it leads to.
    ///
    /// # Errors
    /// When the client does not answer in time.
    pub fn type_line(&mut self, line: &str) -> Result<Answer> {
        self.write(line)?;
        self.settle()
    }

    /// Ends the input and collects the rest of the output and the exit status.
    ///
    /// # Errors
    /// When the client does not end in time.
    pub fn close(mut self) -> Result<(Vec<String>, ExitStatus)> {
        drop(self.stdin.take());
        let mut lines = Vec::new();
        while let Some(line) = self.process.next_line()? {
            lines.push(line);
        }
        Ok((lines, self.process.wait()?))
    }

    /// Collects output up to a mark of our own: a line that the client refuses by itself, with a text that
    /// appears nowhere else and without talking to the server.
    fn settle(&mut self) -> Result<Answer> {
        self.typed += 1;
        let mark = format!("mark{}", self.typed);
        self.write(&format!("scan {mark}"))?;
        let mark = format!("[CMD-004] Invalid Integer Argument: invalid integer for cursor: {mark}");
        let mut lines = Vec::new();
        loop {
            match self.process.next_line()? {
                Some(line) if line == mark => return Ok(Answer::Lines(lines)),
                Some(line) => lines.push(line),
                None => return Ok(Answer::Exited(lines, self.process.wait()?.code())),
            }
        }
    }

    fn write(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the session's input is closed")?;
        match stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush()) {
            // The client is gone; what it said last is still to be read.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.context("cannot type into the client"),
        }
    }
}

/// The client's command line with these flags and nothing configured by the surroundings.
///
/// # Errors
/// When the binary cannot be found or built.
pub fn command(flags: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary::CLIENT.path()?);
    command.args(flags);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VAYLIX_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

fn without_log(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().filter(|line| !line.starts_with("[INFO] [client.startup] ")).collect()
}
