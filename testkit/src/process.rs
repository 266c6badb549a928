//! One child process whose output is collected line by line.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long anything a test waits for may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Lines a process has printed and nobody has looked at yet.
#[derive(Debug, Default)]
struct Output {
    lines: VecDeque<String>,
    ended: bool,
}

/// A running child. Killed, by its own process id, when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: Arc<(Mutex<Output>, Condvar)>,
}

impl Process {
    /// Starts `command` with standard output and standard error joined in one stream.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn(mut command: Command) -> Result<Self> {
        let (reader, writer) = std::io::pipe().context("no pipe for the output")?;
        command.stdout(writer.try_clone().context("no second pipe end")?).stderr(writer);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        // The parent's copies of the write end live in `command`; without them the reader sees the end.
        drop(command);
        let output = Arc::new((Mutex::new(Output::default()), Condvar::new()));
        let sink = Arc::clone(&output);
        std::thread::spawn(move || collect(reader, &sink));
        Ok(Self { child, output })
    }

    /// The operating system's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child's standard input, if it was piped and not taken before.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// The next line of output without its line end; `None` when the process has closed its output.
    ///
    /// # Errors
    /// When nothing arrives within [`PATIENCE`].
    pub fn next_line(&self) -> Result<Option<String>> {
        let (lock, changed) = &*self.output;
        let deadline = Instant::now() + PATIENCE;
        let mut output = guard(lock);
        loop {
            if let Some(line) = output.lines.pop_front() {
                return Ok(Some(line));
            }
            if output.ended {
                return Ok(None);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no output within {PATIENCE:?}");
            }
            output = changed.wait_timeout(output, left).map_or_else(|e| e.into_inner().0, |(o, _)| o);
        }
    }

    /// Takes the lines that have arrived and nobody has looked at, without waiting.
    #[must_use]
    pub fn take_lines(&self) -> Vec<String> {
        guard(&self.output.0).lines.drain(..).collect()
    }

    /// Sends a signal by name.
    ///
    /// # Errors
    /// When `kill` cannot be run or refuses.
    pub fn signal(&self, name: &str) -> Result<()> {
        Self::signal_id(self.id(), name)
    }

    /// Sends a signal by name to a child that is not one of ours to collect output from.
    ///
    /// # Errors
    /// When `kill` cannot be run or refuses.
    pub fn signal_id(id: u32, name: &str) -> Result<()> {
        let status =
            Command::new("kill").args(["-s", name, &id.to_string()]).status().context("cannot run kill")?;
        if !status.success() {
            bail!("kill -s {name} {id}: {status}");
        }
        Ok(())
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// When it is still running after [`PATIENCE`].
    pub fn wait(&mut self) -> Result<ExitStatus> {
        // The end of the output is the event to wait for; the exit follows at once.
        let (lock, changed) = &*self.output;
        let deadline = Instant::now() + PATIENCE;
        let mut output = guard(lock);
        while !output.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("process {} still runs after {PATIENCE:?}", self.child.id());
            }
            output = changed.wait_timeout(output, left).map_or_else(|e| e.into_inner().0, |(o, _)| o);
        }
        drop(output);
        self.child.wait().context("cannot wait for the process")
    }

    /// Kills the process outright and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill the process")?;
        self.child.wait().context("cannot wait for the killed process")?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either may fail only because the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn guard(lock: &Mutex<Output>) -> MutexGuard<'_, Output> {
    lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn collect(reader: impl Read, sink: &(Mutex<Output>, Condvar)) {
    let (lock, changed) = sink;
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).unwrap_or(0);
        let mut output = guard(lock);
        if read == 0 {
            output.ended = true;
            changed.notify_all();
            return;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        output.lines.push_back(String::from_utf8_lossy(&line).into_owned());
        changed.notify_all();
    }
}
