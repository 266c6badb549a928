//! Places below the backup directory, reached component by component and never through a link.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::Watch;
use crate::disk::Operation;

/// What the name of a manifest has behind that of its document.
const MANIFEST_SUFFIX: &str = ".manifest.json";

/// Bytes of a path that are looked at; the operating system takes no more in one piece either.
const PATH_BYTES_MAX: usize = 4096;

/// The components of a path below one of `roots` (absolute paths of the same directory), none for the directory
/// itself. `None` for a path that is not inside, or could be meant to lead out.
pub(super) fn names<'p>(path: &'p str, roots: &[&Path]) -> Option<Vec<&'p str>> {
    if path.len() > PATH_BYTES_MAX || path.contains('\0') {
        return None;
    }
    let path = Path::new(path);
    let inside =
        if path.is_absolute() { roots.iter().find_map(|root| path.strip_prefix(root).ok())? } else { path };
    let mut names = Vec::new();
    for component in inside.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str()?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(names)
}

/// A file that may or may not exist: a name in an open directory.
pub(super) struct Place {
    pub(super) directory: Directory,
    pub(super) name: String,
}

impl Place {
    /// The name of the manifest beside it.
    pub(super) fn manifest(&self) -> String {
        manifest_name(&self.name)
    }

    /// Whether a file may be put here: there is nothing yet, or a file, but no link, neither for it nor for its
    /// manifest.
    pub(super) fn is_usable(&self) -> io::Result<bool> {
        if self.name.ends_with(MANIFEST_SUFFIX) {
            let message = format!("a name that ends with {MANIFEST_SUFFIX} is that of a manifest");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        for name in [&self.name, &self.manifest()] {
            match self.directory.kind(name)? {
                None | Some(FileType::RegularFile) => {}
                Some(FileType::Symlink) => return Ok(false),
                Some(FileType::Directory) => return Err(Errno::ISDIR.into()),
                Some(_) => return Err(not_a_file()),
            }
        }
        Ok(true)
    }
}

/// The name of a document's manifest.
pub(super) fn manifest_name(document: &str) -> String {
    format!("{document}{MANIFEST_SUFFIX}")
}

/// An open directory.
pub(super) struct Directory {
    file: File,
    /// Where it was reached, for messages and probes only.
    path: PathBuf,
}

impl Directory {
    /// Opens a directory by a path that may contain links.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file =
            rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { file: file.into(), path: path.to_owned() })
    }

    /// The path of a file in it, for messages and probes only.
    pub(super) fn shown(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a directory in this one; `None` when the name is a link.
    pub(super) fn enter(&self, name: &str) -> io::Result<Option<Self>> {
        match self.open_at(name, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(Some(file)) => Ok(Some(Self { file, path: self.shown(name) })),
            Ok(None) => Ok(None),
            // Asked for a directory, Linux calls a link no directory rather than a link. What is a directory now was
            // none when it was opened: somebody swaps it.
            Err(error)
                if error.raw_os_error() == Some(Errno::NOTDIR.raw_os_error())
                    && matches!(self.kind(name)?, Some(FileType::Symlink | FileType::Directory)) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The same for a directory that is created, durably, when it is missing.
    pub(super) fn enter_or_create(&self, name: &str, watch: &Watch) -> io::Result<Option<Self>> {
        match rustix::fs::mkdirat(&self.file, name, Mode::RWXU) {
            Ok(()) => self.sync(watch)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.enter(name)
    }

    /// Opens a file for reading; `None` when the name is a link.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<File>> {
        // A pipe without a writer must not hold anybody up.
        let Some(file) = self.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK)? else { return Ok(None) };
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            Err(Errno::ISDIR.into())
        } else if metadata.is_file() {
            Ok(Some(file))
        } else {
            Err(not_a_file())
        }
    }

    fn open_at(&self, name: &str, flags: OFlags) -> io::Result<Option<File>> {
        match rustix::fs::openat(&self.file, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a file that must not exist.
    pub(super) fn create(&self, name: &str, watch: &Watch) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        watch.run(Operation::Create, &self.shown(name), || {
            Ok(rustix::fs::openat(&self.file, name, flags, Mode::RUSR | Mode::WUSR)?.into())
        })
    }

    /// Moves a file over whatever file has the other name.
    pub(super) fn rename(&self, from: &str, to: &str, watch: &Watch) -> io::Result<()> {
        watch.run(Operation::Rename, &self.shown(to), || {
            Ok(rustix::fs::renameat_with(&self.file, from, &self.file, to, RenameFlags::empty())?)
        })
    }

    /// Removes a file; one that does not exist is fine.
    pub(super) fn remove(&self, name: &str, watch: &Watch) -> io::Result<()> {
        watch.run(Operation::Remove, &self.shown(name), || {
            match rustix::fs::unlinkat(&self.file, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Makes creations, renames and removals durable.
    pub(super) fn sync(&self, watch: &Watch) -> io::Result<()> {
        watch.run(Operation::SyncDirectory, &self.path, || self.file.sync_all())
    }

    /// What has this name; `None` when nothing has. Links are not followed.
    pub(super) fn kind(&self, name: &str) -> io::Result<Option<FileType>> {
        match rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => Ok(Some(FileType::from_raw_mode(status.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in it that `select` makes something of; those that are no text are passed over.
    pub(super) fn list<T>(&self, select: impl Fn(&str) -> Option<T>) -> io::Result<Vec<T>> {
        let mut found = Vec::new();
        for entry in Dir::read_from(&self.file)? {
            found.extend(entry?.file_name().to_str().ok().and_then(&select));
        }
        Ok(found)
    }

    /// Waits until no other process has the directory locked; `None` where there are no locks. Ends when dropped.
    pub(super) fn lock(&self) -> Option<File> {
        let locked = self.open_at(".", OFlags::RDONLY | OFlags::DIRECTORY).and_then(|file| {
            file.as_ref().map_or(Ok(()), File::lock)?;
            Ok(file)
        });
        locked.unwrap_or_else(|error| {
            tracing::debug!(%error, "the backup directory cannot be locked against other processes");
            None
        })
    }
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_inside_or_refused() {
        let roots = [Path::new("/srv/link"), Path::new("/srv/backups")];
        for (path, expected) in [
            ("a", Some(vec!["a"])),
            ("./a//b/", Some(vec!["a", "b"])),
            ("a/./b", Some(vec!["a", "b"])),
            ("/srv/backups/a", Some(vec!["a"])),
            ("/srv/link/a/b", Some(vec!["a", "b"])),
            ("/srv/backups", Some(vec![])),
            ("", Some(vec![])),
            (".", Some(vec![])),
            ("..", None),
            ("../a", None),
            ("a/../b", None),
            ("a/..", None),
            ("/srv/backups/../backups/a", None),
            ("/srv/backups2/a", None),
            ("/etc/a", None),
            ("/", None),
            ("a\0b", None),
        ] {
            assert_eq!(names(path, &roots), expected, "{path:?}");
        }
        assert_eq!(names(&"a/".repeat(PATH_BYTES_MAX), &roots), None);
        assert_eq!(names("...", &roots), Some(vec!["..."]));
    }
}
