//! What there is in the backup directory.

use std::io;
use std::time::UNIX_EPOCH;

use rustix::fs::FileType;

use super::BackupDir;
use super::leftovers;
use super::place::{Directory, manifest_name};

/// How deep below the directory is looked, and how many backups are listed at most.
const DEPTH_MAX: usize = 8;
const FILES_MAX: usize = 10_000;

/// A backup in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFile {
    /// Its path below the directory.
    pub path: String,
    /// The length of the document, in bytes.
    pub size_bytes: u64,
    /// When the document was last written, in milliseconds since 1970.
    pub modified_at_ms: u64,
    /// Whether it has a manifest, which a backup needs to be verified.
    pub has_manifest: bool,
}

impl BackupDir {
    /// The backups, by path: every file that is neither a manifest nor one that is being written. Links are passed over.
    ///
    /// # Errors
    /// The system's reason.
    pub fn list(&self) -> io::Result<Vec<BackupFile>> {
        let mut found = Vec::new();
        list(&self.0.root()?, "", DEPTH_MAX, &mut found)?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }
}

fn list(directory: &Directory, prefix: &str, depth: usize, found: &mut Vec<BackupFile>) -> io::Result<()> {
    let names = directory.list(|name| (name != "." && name != "..").then(|| name.to_owned()))?;
    for name in &names {
        if found.len() >= FILES_MAX || leftovers::is_reserved(name) {
            continue;
        }
        let is_manifest = name
            .strip_suffix(&manifest_name(""))
            .is_some_and(|document| names.iter().any(|other| other == document));
        match directory.kind(name)? {
            Some(FileType::RegularFile) if !is_manifest => {
                // One that is removed meanwhile is not there.
                let Ok(Some(file)) = directory.read(name) else { continue };
                let metadata = file.metadata()?;
                let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                let manifest = manifest_name(name);
                found.push(BackupFile {
                    path: format!("{prefix}{name}"),
                    size_bytes: metadata.len(),
                    modified_at_ms: u64::try_from(modified.as_millis()).unwrap_or(u64::MAX),
                    has_manifest: names.contains(&manifest),
                });
            }
            Some(FileType::Directory) if depth > 0 => {
                if let Ok(Some(inner)) = directory.enter(name) {
                    list(&inner, &format!("{prefix}{name}/"), depth - 1, found)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}
