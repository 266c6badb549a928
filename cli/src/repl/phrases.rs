//! What the line editor knows about commands: which phrase a line starts with, what can follow, what is missing.

use vaylix_proto::text::{USAGES, Usage};

/// The longest command phrase that `line` starts with, and where it ends in `line`.
fn phrase(line: &str) -> Option<(Usage, usize)> {
    USAGES.iter().filter_map(|&usage| Some((usage, end_of(usage.phrase, line)?))).max_by_key(|&(_, end)| end)
}

/// Where `phrase` ends in `line`, if the line starts with its words.
fn end_of(phrase: &str, line: &str) -> Option<usize> {
    let mut end = 0;
    for word in phrase.split(' ') {
        let rest = &line[end..];
        let start = end + (rest.len() - rest.trim_start().len());
        let length = line[start..].find(char::is_whitespace).unwrap_or(line.len() - start);
        if !line[start..start + length].eq_ignore_ascii_case(word) {
            return None;
        }
        end = start + length;
    }
    Some(end)
}

/// How many bytes of `line` are its command phrase.
pub(super) fn recognised(line: &str) -> Option<usize> {
    phrase(line).map(|(_, end)| end)
}

/// The rest of the usage, once `line` is a complete phrase and nothing else.
pub(super) fn missing(line: &str) -> Option<String> {
    let (Usage { phrase, usage }, end) = phrase(line)?;
    if !line[end..].trim().is_empty() {
        return None;
    }
    let rest = usage.strip_prefix(phrase)?.trim_start();
    let blank = if end == line.len() { " " } else { "" };
    (!rest.is_empty()).then(|| format!("{blank}{rest}"))
}

/// The words that can stand at the end of `line`, and where that last word starts.
pub(super) fn completions(line: &str) -> (usize, Vec<String>) {
    let start = line.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
    let before: Vec<_> = line[..start].split_whitespace().map(str::to_ascii_lowercase).collect();
    let typed = line[start..].to_ascii_lowercase();
    let mut words: Vec<String> = Vec::new();
    for Usage { phrase, .. } in USAGES {
        let mut rest = phrase.split(' ');
        if !before.iter().all(|word| rest.next() == Some(word)) {
            continue;
        }
        if let Some(word) = rest.next().filter(|word| word.starts_with(&typed))
            && !words.iter().any(|known| known == word)
        {
            words.push(word.to_owned());
        }
    }
    (start, words)
}

/// The first word of `line` if no command starts with it.
pub(super) fn unknown_word(line: &str) -> Option<String> {
    let mut words = line.trim_start().split(|c: char| c.is_whitespace() || c == '"');
    let word = words.next().unwrap_or_default().to_ascii_lowercase();
    let known = USAGES.iter().any(|usage| usage.phrase.split(' ').next() == Some(&word));
    (!word.is_empty() && !known).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_the_longest_phrase() {
        assert_eq!(recognised("get key"), Some(3));
        assert_eq!(recognised("  SHOW  Grants for USER bob"), Some(23));
        assert_eq!(recognised("show grants"), Some(11));
        assert_eq!(recognised("metrics prom"), Some(12));
        assert_eq!(recognised("getx"), None);
        assert_eq!(recognised(""), None);
    }

    #[test]
    fn tells_what_is_missing() {
        assert_eq!(missing("get").as_deref(), Some(" <key>"));
        assert_eq!(missing("GET ").as_deref(), Some("<key>"));
        assert_eq!(missing("get k"), None);
        assert_eq!(missing("whoami"), None);
        assert_eq!(missing("nope"), None);
    }

    #[test]
    fn completes_words_of_phrases_only() {
        let check = |line: &str, start, words: &[&str]| {
            assert_eq!(
                completions(line),
                (start, words.iter().map(|&word| word.to_owned()).collect()),
                "{line}"
            );
        };
        check("whoa", 0, &["whoami"]);
        check("REN", 0, &["rename", "renamenx"]);
        check("show ", 5, &["users", "roles", "grants", "cluster", "replication"]);
        check("show grants f", 12, &["for"]);
        check("show grants for ", 16, &["user", "role"]);
        check("get k", 4, &[]);
    }

    #[test]
    fn finds_unknown_words() {
        assert_eq!(unknown_word("Bogus x").as_deref(), Some("bogus"));
        assert_eq!(unknown_word("# comment").as_deref(), Some("#"));
        assert_eq!(unknown_word("  SET a b"), None);
        assert_eq!(unknown_word("ping\"x\""), None);
        assert_eq!(unknown_word("\"ping\""), None);
        assert_eq!(unknown_word("   "), None);
    }
}
