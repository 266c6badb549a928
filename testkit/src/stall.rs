//! A disk that hangs: every sync of a running process, from now until it is let go of.
//!
//! A debugger (`strace`) holds each thread that asks for a sync before the system call begins. Everything else in the
//! process goes on, which is what tells a stuck disk from a frozen process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::Process;

/// Ten minutes: longer than any test.
const HELD_FOR_MICROS: &str = "600000000";

/// While it lives, no sync of the process ends. Dropped, it lets the process go on.
#[derive(Debug)]
pub struct Stall {
    tracer: Child,
}

impl Stall {
    /// Begins to hold the syncs of the process `id` and of all its threads.
    ///
    /// # Errors
    /// When `strace` (a Debian package of that name) is missing or is not allowed to attach.
    pub fn begin(id: u32) -> Result<Self> {
        let inject = format!("inject=fdatasync,fsync:delay_enter={HELD_FOR_MICROS}");
        let tracer = Command::new("strace")
            .args(["-f", "-e", "trace=fdatasync,fsync", "-e", &inject, "-o", "/dev/null", "-p"])
            .arg(id.to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start strace, a Debian package of that name")?;
        let mut stall = Self { tracer };
        stall.await_attached()?;
        Ok(stall)
    }

    fn await_attached(&mut self) -> Result<()> {
        let stderr = self.tracer.stderr.take().context("its messages are piped")?;
        let mut messages = BufReader::new(stderr);
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            ensure!(messages.read_line(&mut line)? != 0, "strace could not attach");
        }
        // Nobody reads the rest; without a reader it would wait for one.
        std::thread::spawn(move || std::io::copy(&mut messages, &mut std::io::sink()));
        Ok(())
    }

    /// Lets the process go on.
    ///
    /// # Errors
    /// When the tracer cannot be told or waited for.
    pub fn end(mut self) -> Result<()> {
        self.detach()
    }

    fn detach(&mut self) -> Result<()> {
        if self.tracer.try_wait()?.is_none() {
            Process::signal_id(self.tracer.id(), "INT")?;
        }
        self.tracer.wait().context("cannot wait for strace")?;
        Ok(())
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        // What is traced goes on when its tracer is gone, however that came about.
        if self.detach().is_err() {
            let _ = self.tracer.kill();
            let _ = self.tracer.wait();
        }
    }
}
