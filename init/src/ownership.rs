//! The directories of the server, and whom everything in them belongs to.
//!
//! Links are never followed: they change hands themselves, and what they point at stays as it is. Paths are looked at one after
//! the other, which is good enough because nobody else runs in the container yet.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::identity::Identity;

/// What could not be done to a path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub(crate) struct Error {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Error {
    fn new(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { what, path: path.to_owned(), source }
    }
}

/// Creates a directory, with its parents, for its owner alone. `is_required` is whether a failure matters: without the rights of
/// root, the server itself says better what it lacks.
///
/// # Errors
/// When it is required and cannot be created, or something else has its name.
pub(crate) fn create(path: &Path, is_required: bool) -> Result<(), Error> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if is_required => Err(Error::new("create the directory", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Gives a directory and everything below it to `owner`. What belongs to it already is not touched.
///
/// # Errors
/// The first path that cannot be looked at or given away, but for one that has just gone.
pub(crate) fn give(root: &Path, owner: &Identity) -> Result<(), Error> {
    // The root itself may be a link: whoever mounted the volume chose it.
    let mut pending = vec![fs::canonicalize(root).map_err(Error::new("look at", root))?];
    while let Some(path) = pending.pop() {
        let found = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found.map_err(Error::new("look at", &path))?,
        };
        if (found.uid(), found.gid()) != (owner.uid, owner.gid) {
            std::os::unix::fs::lchown(&path, Some(owner.uid), Some(owner.gid))
                .map_err(Error::new("change the owner of", &path))?;
        }
        if found.is_dir() {
            for entry in fs::read_dir(&path).map_err(Error::new("list", &path))? {
                pending.push(entry.map_err(Error::new("list", &path))?.path());
            }
        }
    }
    Ok(())
}
