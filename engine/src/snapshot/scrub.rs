//! Reads the snapshots of a directory in use, while they are replaced, set aside and removed.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use vaylix_proto::Code;

use super::content::check_state;
use super::manifest::Manifest;
use super::{RESTORE, Reader, missing, older, open_file};
use crate::content::Content;
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;
use crate::scrub::Watch;

type Opened = Reader<BufReader<File>>;

/// The files of all snapshots, the last one first.
pub(crate) fn files(dir: &DataDir) -> Result<Vec<PathBuf>, StorageError> {
    let mut files = Vec::from_iter(Some(dir.snapshot()).filter(|path| path.exists()));
    let directory = dir.older_snapshots();
    let failed = |source| StorageError::io("list the directory", &directory, source);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        files.push(entry.map_err(failed)?.path());
    }
    Ok(files)
}

/// Judges the manifest and every snapshot. Returns how many there were.
pub(crate) fn scrub(
    dir: &DataDir,
    keyring: &Keyring,
    content: &impl Content,
    watch: &mut dyn Watch,
) -> ControlFlow<(), u64> {
    let mut count = 0;
    let last = loop {
        match last(dir, keyring) {
            Ok(Agreed::Changed) => watch.advance(0)?,
            Ok(Agreed::On(last)) => break last.map(|last| *last),
            Err(finding) => {
                watch.found(finding);
                break None;
            }
        }
    };
    watch.advance(dir.manifest().metadata().map_or(0, |metadata| metadata.len()))?;
    let number = last.as_ref().map(|(_, reader)| reader.header().number);
    if let Some((path, reader)) = last {
        count += 1;
        judge(&path, reader, content, watch, None)?;
    }
    // Listed now, so that one that has just been read and is set aside is at worst read again.
    let files = match files(dir) {
        Ok(files) => files,
        Err(finding) => {
            watch.found(finding);
            Vec::new()
        }
    };
    for path in files.iter().filter(|path| **path != dir.snapshot()) {
        match open_older(path, keyring) {
            Ok(reader) if Some(reader.header().number) == number => {}
            Ok(reader) => {
                count += 1;
                judge(path, reader, content, watch, Some(older::ADVICE))?;
            }
            // Removed, because nobody needs it any more.
            Err(_) if !path.exists() => {}
            Err(finding) => watch.found(finding),
        }
    }
    ControlFlow::Continue(count)
}

/// What manifest and snapshot say of each other.
enum Agreed {
    /// One of them was replaced while they were read.
    Changed,
    /// The last snapshot, if there is one.
    On(Option<Box<(PathBuf, Opened)>>),
}

fn last(dir: &DataDir, keyring: &Keyring) -> Result<Agreed, StorageError> {
    let before = Manifest::load(dir, keyring)?;
    let opened = match older::last(dir) {
        Ok(None) => Ok(None),
        Ok(Some(found)) => match open_file(&found.path, keyring) {
            Err(_) if !found.path.exists() => return Ok(Agreed::Changed),
            opened => opened.map(|reader| Some(Box::new((found.path, reader)))),
        },
        Err(error) => Err(error),
    };
    // What was opened is judged by a manifest that was there before and after.
    if Manifest::load(dir, keyring)? != before {
        return Ok(Agreed::Changed);
    }
    let opened = opened?;
    let (Some(manifest), Some((path, reader))) = (before.as_ref(), opened.as_deref()) else {
        return if before.is_some() { Err(missing(dir)) } else { Ok(Agreed::On(opened)) };
    };
    let header = reader.header();
    let refuse = |code, what| Err(StorageError::new(code, what).in_file(path).at(0).advise(RESTORE));
    if manifest.number > header.number {
        if *path != dir.snapshot() {
            return Err(missing(dir));
        }
        return refuse(Code::ManifestDeserializationFailure, "the manifest describes a newer snapshot");
    }
    // A newer snapshot is one whose manifest is about to be written.
    if manifest.number == header.number && *manifest != Manifest::of(header, reader.file_len()?) {
        let what = "the snapshot is not the one that the manifest describes";
        return refuse(Code::ChecksumValidationFailure, what);
    }
    Ok(Agreed::On(opened))
}

fn open_older(path: &Path, keyring: &Keyring) -> Result<Opened, StorageError> {
    let reader = open_file(path, keyring).map_err(|error| error.advise(older::ADVICE))?;
    let named = reader.header().last.map(|last| format!("{}.bin", last.index));
    if path.file_name().and_then(|name| name.to_str()) != named.as_deref() {
        let what = "the file is not named by the last record of the snapshot in it";
        let error = StorageError::new(Code::ManifestDeserializationFailure, what);
        return Err(error.in_file(path).at(0).advise(older::ADVICE));
    }
    Ok(reader)
}

/// Reads a snapshot to its end. `advice`, if there is any, says what to do about damage in it.
fn judge(
    path: &Path,
    reader: Opened,
    content: &impl Content,
    watch: &mut dyn Watch,
    advice: Option<&str>,
) -> ControlFlow<()> {
    let head = content.check_head(&reader.head()).map_err(|error| error.in_file(path).at(0));
    let whole = head.and_then(|()| check_state(reader, &mut |bytes| watch.advance(bytes)));
    match whole {
        Ok(Some(_)) => ControlFlow::Continue(()),
        Ok(None) => ControlFlow::Break(()),
        Err(finding) => {
            watch.found(match advice {
                Some(advice) => finding.advise(advice),
                None => finding,
            });
            ControlFlow::Continue(())
        }
    }
}
