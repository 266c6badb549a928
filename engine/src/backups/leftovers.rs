//! What an interrupted backup leaves behind, and how it is brought to an end.

use std::fs::TryLockError;
use std::io;

use super::Watch;
use super::place::{Directory, manifest_name};

/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 16;

/// The next content of a file, under the name of its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Document,
    Manifest,
}

impl Kind {
    fn suffix(self) -> &'static str {
        match self {
            Self::Document => ".next",
            Self::Manifest => ".next-manifest",
        }
    }
}

/// The names under which a document and its manifest are prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prepared {
    target: String,
    id: String,
}

impl Prepared {
    pub(super) fn new(target: &str, id: u64) -> Self {
        Self { target: target.to_owned(), id: format!("{id:016x}") }
    }

    pub(super) fn document(&self) -> String {
        self.name(Kind::Document)
    }

    pub(super) fn manifest(&self) -> String {
        self.name(Kind::Manifest)
    }

    fn name(&self, kind: Kind) -> String {
        format!(".{}.{}{}", self.target, self.id, kind.suffix())
    }

    fn parse(name: &str) -> Option<(Self, Kind)> {
        let kind = |kind: Kind| name.strip_suffix(kind.suffix()).map(|name| (name, kind));
        let (name, kind) = kind(Kind::Document).or_else(|| kind(Kind::Manifest))?;
        let (target, id) = name.strip_prefix('.')?.rsplit_once('.')?;
        let is_id = id.len() == ID_DIGITS && id.bytes().all(|digit| digit.is_ascii_hexdigit());
        let prepared = Self { target: target.to_owned(), id: id.to_owned() };
        (is_id && !target.is_empty()).then_some((prepared, kind))
    }
}

/// Whether clients must not use this name.
pub(super) fn is_reserved(name: &str) -> bool {
    Prepared::parse(name).is_some()
}

/// Brings every backup to an end that was interrupted in this directory.
///
/// A prepared document is one that nobody has seen: it is removed, after its manifest, unless the process that writes
/// it still holds it. A prepared manifest without a prepared document belongs to a document that has its name
/// already: it gets its own.
pub(super) fn settle(directory: &Directory, watch: &Watch) -> io::Result<()> {
    let found = directory.list(Prepared::parse)?;
    if found.is_empty() {
        return Ok(());
    }
    let of_kind = |wanted: Kind| found.iter().filter(move |(_, kind)| *kind == wanted).map(|(p, _)| p);
    for prepared in of_kind(Kind::Document) {
        if is_held(directory, &prepared.document()) {
            continue;
        }
        directory.remove(&prepared.manifest(), watch)?;
        directory.sync(watch)?;
        directory.remove(&prepared.document(), watch)?;
        tracing::info!(file = prepared.target, "removed what an interrupted backup had left");
    }
    for prepared in of_kind(Kind::Manifest) {
        if of_kind(Kind::Document).any(|document| document == prepared) {
            continue;
        }
        if directory.kind(&prepared.target)?.is_some() {
            directory.rename(&prepared.manifest(), &manifest_name(&prepared.target), watch)?;
            tracing::info!(file = prepared.target, "finished an interrupted backup");
        } else {
            directory.remove(&prepared.manifest(), watch)?;
        }
    }
    directory.sync(watch)
}

/// Whether a process holds this file, or may hold it.
fn is_held(directory: &Directory, name: &str) -> bool {
    let locked = match directory.read(name) {
        Ok(Some(file)) => file.try_lock(),
        // Nothing of ours.
        Ok(None) => return true,
        Err(error) => Err(TryLockError::Error(error)),
    };
    match locked {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => {
            tracing::warn!(file = name, %error, "a prepared backup stays: nobody can say whether it is in use");
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_own_are_reserved() {
        let prepared = Prepared::new("a.manifest.json", 7);
        assert_eq!(Prepared::parse(&prepared.document()), Some((prepared.clone(), Kind::Document)));
        assert_eq!(Prepared::parse(&prepared.manifest()), Some((prepared.clone(), Kind::Manifest)));
        assert!(is_reserved(&Prepared::new("a", u64::MAX).document()));
        for name in
            ["a.json", ".a.next", ".a.0123.next", "a.0123456789abcdef.next", "..0123456789abcdef.next"]
        {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
