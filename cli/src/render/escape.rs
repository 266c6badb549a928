//! Characters that a terminal would obey instead of show.
//!
//! Values come from anybody who may write; on a terminal they must not move the cursor, clear the screen or turn
//! the reading direction around. In pipes and files values stay as they are.

use std::borrow::Cow;

/// Whether and how to escape text for standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escape {
    /// Not a terminal: bytes as they are.
    Off,
    /// Everything a terminal would obey.
    All,
    /// As `All`, but line feeds stand: for replies that are documents of several lines.
    KeepLines,
}

impl Escape {
    /// `text` in this form: `\n`, `\r`, `\t` and `\u{…}` for what is escaped.
    pub(crate) fn apply(self, text: &str) -> Cow<'_, str> {
        let obeyed = |c: char| match self {
            Self::Off => false,
            Self::All => is_obeyed(c),
            Self::KeepLines => c != '\n' && is_obeyed(c),
        };
        if !text.contains(obeyed) {
            return Cow::Borrowed(text);
        }
        let mut escaped = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if obeyed(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
        }
        Cow::Owned(escaped)
    }
}

/// Escapes what is left over in a JSON text, whose own line feeds are layout.
pub(crate) fn json(text: String) -> String {
    let obeyed = |c: char| c != '\n' && is_obeyed(c);
    if !text.contains(obeyed) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // All of them lie in the basic plane, so four digits do.
        if obeyed(c) { escaped.push_str(&format!("\\u{:04x}", u32::from(c))) } else { escaped.push(c) }
    }
    escaped
}

/// C0 and C1 controls, DEL, line separators, and what changes the reading direction.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_the_bytes() {
        assert_eq!(Escape::Off.apply("a\x1b[2J\n"), "a\x1b[2J\n");
    }

    #[test]
    fn a_terminal_gets_nothing_to_obey() {
        assert_eq!(Escape::All.apply("héllo→🎉 \\ x"), "héllo→🎉 \\ x");
        assert_eq!(
            Escape::All.apply("a\x1b[2J\tb\r\nc\x07\u{9b}\u{202e}"),
            r"a\u{1b}[2J\tb\r\nc\u{7}\u{9b}\u{202e}"
        );
        assert_eq!(Escape::KeepLines.apply("a\r\nb\x1b"), "a\\r\nb\\u{1b}");
    }

    #[test]
    fn json_stays_json() {
        let text = serde_json::to_string("a\n\u{9b}\u{7f}\u{202e}é").unwrap();
        let escaped = json(text);
        assert_eq!(escaped, "\"a\\n\\u009b\\u007f\\u202eé\"");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), "a\n\u{9b}\u{7f}\u{202e}é");
    }
}
