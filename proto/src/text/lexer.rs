//! Lines into words.
//!
//! Space, tab, line feed and carriage return separate words; everything else is part of one. A `"` always starts
//! a word of its own, which runs to the next `"` and may be empty. Inside, `\n` and `\t` are line feed and tab, and
//! a backslash before any other character stands for that character. Outside, nothing is special.

use super::TextError;

/// The words of a line.
pub(super) fn words(line: &str) -> Result<Vec<String>, TextError> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(is_separator);
        if let Some(quoted) = rest.strip_prefix('"') {
            let at = line.len().saturating_sub(rest.len());
            let (word, after) = quoted_word(quoted).ok_or(TextError::UnterminatedQuote { at })?;
            words.push(word);
            rest = after;
        } else if rest.is_empty() {
            return Ok(words);
        } else {
            let end = rest.find(|c| is_separator(c) || c == '"').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            words.push(word.to_owned());
            rest = after;
        }
    }
}

/// Whether `c` stands between words.
pub(super) const fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// The word behind an opening quote, and what follows its closing quote. `None` when there is none.
fn quoted_word(quoted: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((word, chars.as_str())),
            '\\' => word.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            plain => word.push(plain),
        }
    }
}
