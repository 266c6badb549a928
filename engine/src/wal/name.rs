//! The names of segments: `active-<start>.wal` and `<start>-<end>.wal`, decimal without padding, ends inclusive.

use std::path::{Path, PathBuf};

/// What the name of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The segment being written.
    Active { start: u64 },
    /// A finished segment.
    Sealed { start: u64, end: u64 },
}

impl Name {
    /// The path of a segment of this name.
    pub(super) fn path(self, directory: &Path) -> PathBuf {
        directory.join(match self {
            Self::Active { start } => format!("active-{start}.wal"),
            Self::Sealed { start, end } => format!("{start}-{end}.wal"),
        })
    }

    /// Reads a file name; `None` when it is not exactly one of the two forms.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (left, right) = name.strip_suffix(".wal")?.split_once('-')?;
        if left == "active" {
            return Some(Self::Active { start: number(right)? });
        }
        let (start, end) = (number(left)?, number(right)?);
        (start <= end).then_some(Self::Sealed { start, end })
    }

    /// The index of the first record.
    pub(super) fn start(self) -> u64 {
        match self {
            Self::Active { start } | Self::Sealed { start, .. } => start,
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_forms_are_names() {
        assert_eq!(Name::parse("active-7.wal"), Some(Name::Active { start: 7 }));
        assert_eq!(Name::parse("1-20.wal"), Some(Name::Sealed { start: 1, end: 20 }));
        for bad in [
            "",
            "1.wal",
            "2-1.wal",
            "01-2.wal",
            "+1-2.wal",
            "active-.wal",
            "active-x.wal",
            "1-2.wal.tmp",
            "1-2-3.wal",
        ] {
            assert_eq!(Name::parse(bad), None, "{bad}");
        }
    }
}
