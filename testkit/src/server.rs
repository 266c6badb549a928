//! A server process on a free loopback port.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::binary;
use crate::process::Process;

/// The text the server logs once it accepts connections, followed by its address.
const READY: &str = "listener ready on ";

/// The text the server logs once its control plane accepts connections, which is before it is ready, and the same for the
/// listener of probes and metrics.
pub const ADMIN_READY: &str = "control plane listens on ";
/// See [`ADMIN_READY`].
pub const METRICS_READY: &str = "probes and metrics listen on ";

/// A running server with a data directory of its own.
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: SocketAddr,
    flags: Vec<String>,
    data_dir: PathBuf,
    /// Keeps a fresh directory alive as long as the server; `None` for a directory of the caller's.
    owned_dir: Option<TempDir>,
    /// What it logged until it was ready.
    startup_log: Vec<String>,
}

impl Server {
    /// Starts a server with these flags on a fresh data directory.
    ///
    /// # Errors
    /// When it cannot be started or ends before it is ready; the message holds its output.
    pub fn start(flags: &[&str]) -> Result<Self> {
        let parent = TempDir::new().context("no temporary directory")?;
        let data_dir = parent.path().join("data");
        let mut server = Self::start_in(&data_dir, flags)?;
        server.owned_dir = Some(parent);
        Ok(server)
    }

    /// Starts a server with these flags on `data_dir`.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_in(data_dir: &Path, flags: &[&str]) -> Result<Self> {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let (process, address, startup_log) = launch(data_dir, &flags)?;
        Ok(Self { process, address, flags, data_dir: data_dir.to_owned(), owned_dir: None, startup_log })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its control plane listens, if it has one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        named_address(&self.startup_log, ADMIN_READY)
    }

    /// Where probes and metrics have a listener of their own, if they have.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        named_address(&self.startup_log, METRICS_READY)
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Bytes of memory that it has resident.
    ///
    /// # Errors
    /// When the system does not say, because it has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// What it logged before it was ready.
    #[must_use]
    pub fn startup_log(&self) -> &[String] {
        &self.startup_log
    }

    /// Waits until it logs a line with this text, after what was looked at before. That line.
    ///
    /// # Errors
    /// When it does not come, or the server ends.
    pub fn logs(&self, text: &str) -> Result<String> {
        while let Some(line) = self.process.next_line()? {
            if line.contains(text) {
                return Ok(line);
            }
        }
        bail!("the server ended before it logged {text:?}")
    }

    /// Takes what it has logged since it was ready, or since the last time.
    #[must_use]
    pub fn take_log(&self) -> Vec<String> {
        self.process.take_lines()
    }

    /// Stops it with this signal and waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self, signal: &str) -> Result<ExitStatus> {
        self.process.signal(signal)?;
        self.process.wait()
    }

    /// The next line of what it logs after it was ready; `None` when it has closed its output.
    ///
    /// # Errors
    /// When nothing comes in time.
    pub fn next_line(&self) -> Result<Option<String>> {
        self.process.next_line()
    }

    /// Sends it this signal.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.process.wait()
    }

    /// Kills it outright, as a crash would.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again, after [`Server::stop`] or [`Server::kill`], on the same directory with the same flags.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn restart(&mut self) -> Result<()> {
        let (process, address, startup_log) = launch(&self.data_dir, &self.flags)?;
        self.process = process;
        self.address = address;
        self.startup_log = startup_log;
        Ok(())
    }
}

/// The server's command line; without `--port` and `--admin-port` among the flags the system chooses them. What has the
/// form `OTEL_NAME=value` among them is no flag but a variable of its environment.
///
/// # Errors
/// When the binary cannot be found or built.
pub fn command(data_dir: &Path, flags: &[String]) -> Result<Command> {
    let mut command = Command::new(binary::SERVER.path()?);
    if !flags.iter().any(|flag| flag == "--port") {
        command.arg("--port").arg("0");
    }
    // Tests run beside each other.
    if !flags.iter().any(|flag| flag == "--admin-port" || flag == "--disable-admin") {
        command.arg("--admin-port").arg("0");
    }
    let variable = |given: &String| {
        let (name, value) = given.split_once('=').filter(|(name, _)| name.starts_with("OTEL_"))?;
        Some((name.to_owned(), value.to_owned()))
    };
    command.arg("--data-dir").arg(data_dir).args(flags.iter().filter(|given| variable(given).is_none()));
    // The surroundings of a test must not configure the server.
    for (name, _) in std::env::vars_os() {
        if ["VAYLIX_", "OTEL_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.envs(flags.iter().filter_map(variable));
    command.stdin(Stdio::null());
    Ok(command)
}

/// The address behind this text in one of the lines.
#[must_use]
pub fn named_address(log: &[String], text: &str) -> Option<SocketAddr> {
    let behind = log.iter().find_map(|line| line.split_once(text).map(|(_, rest)| rest))?;
    address(behind)?.parse().ok()
}

/// The address that a text begins with, in a line for people or in JSON.
fn address(text: &str) -> Option<&str> {
    text.split(|letter: char| letter.is_whitespace() || letter == '"').next()
}

fn launch(data_dir: &Path, flags: &[String]) -> Result<(Process, SocketAddr, Vec<String>)> {
    let mut process = Process::spawn(command(data_dir, flags)?)?;
    let mut log = Vec::new();
    while let Some(line) = process.next_line()? {
        let address = line.split_once(READY).and_then(|(_, rest)| address(rest));
        let address = address.map(str::parse).transpose().context("the ready line names no address")?;
        log.push(line);
        if let Some(address) = address {
            return Ok((process, address, log));
        }
    }
    let status = process.wait()?;
    bail!("the server ended before it was ready ({status}):\n{}", log.join("\n"))
}
