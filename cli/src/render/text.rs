//! Replies as text: what people read and scripts have always parsed.

use std::fmt::Write;

use vaylix_proto::{NamedValue, Reply, ScanPage};

use super::escape::Escape;

/// How a missing value in a list is written.
const NIL: &str = "(nil)";

/// Any reply as it stands inside the results of a transaction, which knows one form for entries.
pub(super) fn nested(reply: &Reply, escape: Escape) -> String {
    match reply {
        Reply::Ok => "OK".to_owned(),
        Reply::NotFound => "NOT_FOUND".to_owned(),
        Reply::Value(bytes) => value(bytes, escape),
        Reply::Bool(happened) => happened.to_string(),
        Reply::Count(count) => count.to_string(),
        Reply::Integer(integer) => integer.to_string(),
        Reply::Entries(entries) => pairs(entries, escape),
        Reply::Strings(slots) => joined(slots.iter().map(|slot| match slot {
            Some(bytes) => value(bytes, escape),
            None => NIL.to_owned(),
        })),
        Reply::Scan(page) => scan(page, "", escape),
        Reply::Exec(results) => {
            let lines: Vec<_> = results.iter().map(|result| nested(result, escape)).collect();
            lines.join("\n")
        }
    }
}

/// A page of keys; `empty` stands for no keys.
pub(super) fn scan(page: &ScanPage, empty: &str, escape: Escape) -> String {
    let keys = if page.keys.is_empty() {
        empty.to_owned()
    } else {
        joined(page.keys.iter().map(|key| escape.apply(key).into_owned()))
    };
    format!("cursor={}, keys=[{keys}]", page.next_cursor)
}

/// `key=value, …` in the order given.
pub(super) fn pairs<'a>(entries: impl IntoIterator<Item = &'a NamedValue>, escape: Escape) -> String {
    joined(
        entries
            .into_iter()
            .map(|entry| format!("{}={}", escape.apply(&entry.name), value(&entry.value, escape))),
    )
}

/// Text as it is, other bytes as `0x…`.
pub(super) fn value(bytes: &[u8], escape: Escape) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => escape.apply(text).into_owned(),
        Err(_) => bytes.iter().fold("0x".to_owned(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
            hex
        }),
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
