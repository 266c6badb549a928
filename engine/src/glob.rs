//! Patterns over keys: `*` is any run of characters, `?` exactly one, everything else stands for itself.
//!
//! There are no classes and no escapes, and a pattern always speaks of the whole key. Matching never
//! backtracks further than to the latest star, so it takes at most length of the pattern times length of the
//! key, and stars beside plain text take only the length of the key.

/// A parsed pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern<'a>(&'a str);

impl<'a> Pattern<'a> {
    /// Matches every key.
    pub const ALL: Pattern<'static> = Pattern("*");

    /// The pattern with this text. Every text is a pattern.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The text of the pattern.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// What every matching key begins with.
    #[must_use]
    pub fn literal_prefix(self) -> &'a str {
        self.0.find(['*', '?']).map_or(self.0, |end| &self.0[..end])
    }

    /// Whether the pattern matches exactly one key: its own text.
    #[must_use]
    pub fn is_literal(self) -> bool {
        self.literal_prefix().len() == self.0.len()
    }

    /// Whether the whole of `key` matches.
    #[must_use]
    pub fn matches(self, key: &str) -> bool {
        let Some((head, rest)) = self.0.split_once('*') else {
            return strip_part(key, self.0) == Some("");
        };
        let Some(mut key) = strip_part(key, head) else { return false };
        let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
        for part in middle.split('*').filter(|part| !part.is_empty()) {
            match find_part(key, part) {
                Some(rest) => key = rest,
                None => return false,
            }
        }
        // The last part is tied to the end: exactly its number of characters remains there.
        let tail_start = match tail.chars().count() {
            0 => return true,
            count => key.char_indices().rev().nth(count - 1).map(|(at, _)| at),
        };
        tail_start.is_some_and(|at| strip_part(&key[at..], tail) == Some(""))
    }
}

/// What follows `part`, which has no star, at the beginning of `key`.
fn strip_part<'k>(key: &'k str, part: &str) -> Option<&'k str> {
    if !part.contains('?') {
        return key.strip_prefix(part);
    }
    let mut rest = key.chars();
    part.chars()
        .all(|want| rest.next().is_some_and(|got| want == '?' || want == got))
        .then_some(rest.as_str())
}

/// What follows the first occurrence of `part`, which has no star, in `key`.
fn find_part<'k>(key: &'k str, part: &str) -> Option<&'k str> {
    if !part.contains('?') {
        return key.find(part).map(|at| &key[at + part.len()..]);
    }
    key.char_indices().find_map(|(at, _)| strip_part(&key[at..], part))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, as slow as it is plain.
    fn matches_by_definition(pattern: &[char], key: &[char]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some(('*', rest)), _) => (0..=key.len()).any(|skip| matches_by_definition(rest, &key[skip..])),
            (Some(('?', rest)), Some((_, key))) => matches_by_definition(rest, key),
            (Some((want, rest)), Some((got, key))) => want == got && matches_by_definition(rest, key),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab?*é]{0,9}", key in "[abé]{0,10}") {
            let plain = matches_by_definition(
                &pattern.chars().collect::<Vec<_>>(),
                &key.chars().collect::<Vec<_>>(),
            );
            prop_assert_eq!(Pattern::new(&pattern).matches(&key), plain);
        }

        #[test]
        fn every_match_begins_with_the_literal_prefix(pattern in "[ab?*]{0,6}", key in "[ab]{0,6}") {
            let pattern = Pattern::new(&pattern);
            prop_assert!(!pattern.matches(&key) || key.starts_with(pattern.literal_prefix()));
            prop_assert!(!pattern.is_literal() || pattern.matches(&key) == (pattern.as_str() == key));
        }
    }

    #[test]
    fn nothing_but_star_and_question_mark_is_special() {
        for (pattern, key, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "anything", true),
            ("?", "", false),
            ("?", "é", true),
            ("???", "Zed", true),
            ("w[a]", "w[a]", true),
            ("w[a]", "wa", false),
            (r"w\*", r"w\*", true),
            (r"w\*", "w*", false),
            ("*er*1*", "user:10", true),
            ("USER:*", "user:1", false),
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("a*c*e", "abcde", true),
            ("*a?", "aaa", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(key), expected, "{pattern:?} on {key:?}");
        }
    }

    #[test]
    fn many_stars_on_a_long_key_are_no_burden() {
        let key = "a".repeat(1024);
        let pattern = "*a".repeat(512) + "b";
        assert!(!Pattern::new(&pattern).matches(&key));
        assert!(Pattern::new(&"a*".repeat(512)).matches(&key));
    }
}
