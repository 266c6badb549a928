//! The history of the prompt: where it is kept and what never gets into it.
//!
//! `history.txt` in the user's data directory for Vaylix (`$XDG_DATA_HOME/vaylix`, else
//! `~/.local/share/vaylix`), readable by its owner only. Lines that carry passwords are not recorded.

use std::path::PathBuf;
use std::{fs, io};

use crate::error::Error;

/// How many lines are kept.
pub(super) const LINES_MAX: usize = 1000;

/// The history file; its directory is created (mode 0700) when missing.
pub(super) fn file(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Error> {
    // A relative path in these variables is to be ignored, says the base directory specification.
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    let directory = absolute("XDG_DATA_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/share")))
        .ok_or(Error::NoDataDirectory)?
        .join("vaylix");
    create_private(&directory)?;
    Ok(directory.join("history.txt"))
}

fn create_private(directory: &std::path::Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Whether a line may be recorded: not when it starts with `auth`, `create user` or `alter user`, however these
/// words are written, nor when it merely looks as if it was meant to.
pub(super) fn may_record(line: &str) -> bool {
    // Quotes separate words, and a backslash inside quotes vanishes.
    let plain = line.replace('"', " ").replace('\\', "").to_ascii_lowercase();
    let mut words = plain.split_whitespace();
    match (words.next(), words.next()) {
        (Some("auth" | "alter"), _) => false,
        (Some("create"), second) => second == Some("role"),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_passwords_are_not_recorded() {
        for line in [
            "auth bob secret",
            "  AUTH\tbob secret",
            "\"auth\" bob secret",
            "\"a\\uth\" bob secret",
            "auth\"bob\"secret",
            "auth bob \"secret",
            "create user bob password secret",
            "CREATE  \"user\" bob password secret",
            "create\"user\"bob password secret",
            "create usr bob password secret",
            "alter user bob password secret",
            "alter usr bob password secret",
        ] {
            assert!(!may_record(line), "{line}");
        }
    }

    #[test]
    fn other_lines_are() {
        for line in ["get auth", "create role r", "set create user", "authors", "whoami", "show users"] {
            assert!(may_record(line), "{line}");
        }
    }

    #[test]
    fn the_file_lies_in_the_data_directory() {
        let root = tempfile::tempdir().unwrap();
        let check = |name: &'static str, value: PathBuf, expected: &str| {
            let file = file(|asked| (asked == name).then(|| value.clone())).unwrap();
            assert_eq!(file, root.path().join(expected));
            assert!(file.parent().unwrap().is_dir());
        };
        check("XDG_DATA_HOME", root.path().join("data"), "data/vaylix/history.txt");
        check("HOME", root.path().join("me"), "me/.local/share/vaylix/history.txt");
        assert!(matches!(file(|_| None), Err(Error::NoDataDirectory)));
        assert!(matches!(file(|_| Some("relative".into())), Err(Error::NoDataDirectory)));
    }
}
