//! `vaylix-init`: the entry point of the container image.
//!
//! A volume that is mounted for the first time belongs to root, and one that was restored from elsewhere to anybody. So the
//! container begins as root: this program creates the data directory and the backup directory, gives them to the user that the
//! server runs as, becomes that user, with no group but its own, and replaces itself by the command it was given. The server then
//! is process 1, and signals reach it without anybody in between.
//!
//! | Variable | Meaning | Default |
//! |---|---|---|
//! | `VAYLIX_DATA_DIR` | the data directory | `/var/lib/vaylix` |
//! | `VAYLIX_BACKUP_DIR` | the directory of backup files | `backups` in the data directory |
//! | `VAYLIX_RUNTIME_UID`, `VAYLIX_RUNTIME_GID` | whom they belong to, and whom the command runs as | 65532 |
//!
//! Started as another user than root, as orchestrators do that allow nothing else, it creates the directories if it may, and leaves
//! the rest to whoever chose that user. What fails is one line, `[vaylix-init] …`, on standard error, with status 1.

mod identity;
mod ownership;

use std::ffi::OsString;
use std::io;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::identity::Identity;

/// Where the image keeps its data.
const DATA_DIR_DEFAULT: &str = "/var/lib/vaylix";

/// Why the command was not started.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no command was given: name the program to start, as in `vaylix-init vaylix`")]
    NoCommand,
    #[error("{variable} is not the number of a user or group: {value:?}")]
    BadId { variable: &'static str, value: OsString },
    #[error(transparent)]
    Ownership(#[from] ownership::Error),
    #[error("cannot {what}: {source}")]
    Identity { what: &'static str, source: io::Error },
    #[error("cannot start {program:?}: {source}")]
    Exec { program: OsString, source: io::Error },
}

fn main() -> ExitCode {
    // It only returns when it fails.
    let Err(error) = run(std::env::args_os().skip(1).collect());
    // Standard error may be gone; the exit status still says that nothing was started.
    let _ = writeln!(io::stderr(), "[vaylix-init] {error}");
    ExitCode::FAILURE
}

fn run(command: Vec<OsString>) -> Result<std::convert::Infallible, Error> {
    let mut words = command.into_iter();
    let program = words.next().ok_or(Error::NoCommand)?;
    let identity = Identity::read(|name| std::env::var_os(name))?;
    let data_dir = directory("VAYLIX_DATA_DIR").unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT));
    let backup_dir = directory("VAYLIX_BACKUP_DIR").unwrap_or_else(|| data_dir.join("backups"));
    let as_root = rustix::process::geteuid().is_root();
    for path in [&data_dir, &backup_dir] {
        ownership::create(path, as_root)?;
    }
    if as_root {
        ownership::give(&data_dir, &identity)?;
        if !backup_dir.starts_with(&data_dir) {
            ownership::give(&backup_dir, &identity)?;
        }
        identity.assume()?;
    }
    let source = Command::new(&program).args(words).exec();
    Err(Error::Exec { program, source })
}

/// The directory that a variable names. An empty one names none.
fn directory(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}
