//! What can go wrong with the files, told so that an operator can act on it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use vaylix_proto::Code;

/// A failure of the storage: a stable code, what happened, where, and what to do about it.
///
/// The `Display` form is one line with the message, the file, the byte offset and the advice; the code is
/// separate, so that each surface can show it in its own form.
pub struct StorageError(Box<Inner>);

struct Inner {
    code: Code,
    message: String,
    file: Option<PathBuf>,
    offset: Option<u64>,
    advice: Option<String>,
    trouble: Option<Trouble>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of trouble with the disk a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no room. What was refused has not happened, and may be tried again when something has been freed.
    NoSpace,
    /// The system refused for another reason. What was refused may have happened in part, and may be done anew.
    Refused,
    /// A sync failed. What is on the disk is unknown from then on and asking again does not help (the kernel forgets
    /// the error with the pages): whoever depends on it must stop.
    Sync,
}

impl StorageError {
    /// A failure without a place yet.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            message: message.into(),
            file: None,
            offset: None,
            advice: None,
            trouble: None,
            source: None,
        }))
    }

    /// The operating system refused to do `what` to `file` (`ENG-002`). The advice follows from its reason.
    pub fn io(what: &str, file: &Path, source: io::Error) -> Self {
        Self::new(Code::EngineFilesystemIoFailure, format!("filesystem I/O failed: {what}: {source}"))
            .in_file(file)
            .advise(advice(&source))
            .in_trouble(if is_no_space(&source) { Trouble::NoSpace } else { Trouble::Refused })
            .because(source)
    }

    /// Says what kind of trouble it is.
    #[must_use]
    pub(crate) fn in_trouble(mut self, trouble: Trouble) -> Self {
        self.0.trouble = Some(trouble);
        self
    }

    /// Names the file.
    #[must_use]
    pub fn in_file(mut self, file: &Path) -> Self {
        self.0.file = Some(file.to_owned());
        self
    }

    /// Names the byte of the file at which the trouble begins.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// Says what to do unless that has been said.
    #[must_use]
    pub(crate) fn or_advise(self, advice: &str) -> Self {
        if self.0.advice.is_some() { self } else { self.advise(advice) }
    }

    /// The file has a format that this release does not know yet.
    pub(crate) fn newer_format(message: String) -> Self {
        Self::new(Code::UnsupportedStorageFormat, message)
            .advise("a newer release wrote the file: start that release")
    }

    /// Keeps the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What happened, without file, offset and advice.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The file concerned.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The byte of the file at which the trouble begins.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// What kind of trouble with the disk it is; none for everything else, such as damage.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.0.trouble
    }

    /// Whether doing it anew is safe and may help: a file operation was refused, and it was no sync.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self.0.trouble, Some(Trouble::NoSpace | Trouble::Refused))
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.0.advice.as_deref()
    }
}

/// Whether the reason is that there is no room.
pub(crate) fn is_no_space(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What to do when the operating system refuses for this reason.
fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free space there, or move the data directory to a larger disk"
        }
        io::ErrorKind::PermissionDenied => {
            "the user that runs the server must own the data directory and everything in it"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the data directory must be on a file system that can be written"
        }
        io::ErrorKind::NotADirectory => "the data directory must be a directory",
        _ => "check the disk, its file system and what the operating system logs about them",
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { message, file, offset, advice, .. } = &*self.0;
        f.write_str(message)?;
        if let Some(file) = file {
            write!(f, ": {}", file.display())?;
        }
        if let Some(offset) = offset {
            write!(f, " at byte {offset}")?;
        }
        if let Some(advice) = advice {
            write!(f, " ({advice})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.0.code)
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// A storage failure that passes through `Read` or `Write`; [`From<io::Error>`] finds it again.
impl From<StorageError> for io::Error {
    fn from(error: StorageError) -> Self {
        Self::other(error)
    }
}

/// Takes a [`StorageError`] back out of an `io::Error`, or wraps the foreign one as `ENG-002`.
impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(|error| {
            let trouble = if is_no_space(&error) { Trouble::NoSpace } else { Trouble::Refused };
            Self::new(Code::EngineFilesystemIoFailure, format!("filesystem I/O failed: {error}"))
                .in_trouble(trouble)
                .because(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_the_operating_system_comes_with_advice() {
        for kind in [
            io::ErrorKind::StorageFull,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::NotADirectory,
            io::ErrorKind::Other,
        ] {
            let error = StorageError::io("write to the file", Path::new("/data/x"), kind.into());
            assert!(error.advice().is_some(), "{error}");
            assert!(error.to_string().contains("/data/x"), "{error}");
        }
        let full = StorageError::io("write", Path::new("/data/x"), io::ErrorKind::StorageFull.into());
        assert!(full.advice().is_some_and(|advice| advice.contains("free space")), "{full}");
    }
}
