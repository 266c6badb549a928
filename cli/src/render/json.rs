//! Replies as JSON: the array of `--output json` and the documents of `--json-replies`.
//!
//! One document per reply, on one line, distinguished by `status`:
//!
//! | `status` | Other members |
//! | --- | --- |
//! | `ok` | none, or `type` and `value` |
//! | `not_found` | |
//! | `queued` | |
//! | `error` | `code`, `name`, `message` |
//!
//! | `type` | `value` |
//! | --- | --- |
//! | `value` | a value |
//! | `boolean`, `count`, `integer` | `true`/`false`, a number |
//! | `list` | array of values or `null` |
//! | `entries` | array of `{"key", "value"}`, ordered by key |
//! | `scan` | `{"cursor": number, "keys": array of strings}` |
//! | `exec` | array of documents |
//! | `help` | array of `{"command", "usage"}` |
//!
//! A value is a string when its bytes are UTF-8, otherwise `{"base64": "…"}` (standard alphabet, padded).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap, Serializer};
use vaylix_proto::text::Usage;
use vaylix_proto::{ErrorReply, NamedValue, Reply};

use super::escape::{self, Escape};
use super::text;

/// One reply as a document.
#[derive(serde::Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(super) enum Document<'a> {
    Ok(Success<'a>),
    NotFound {},
    Queued {},
    Error { code: &'a str, name: &'a str, message: &'a str },
}

#[derive(Default, serde::Serialize)]
pub(super) struct Success<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Content<'a>>,
}

#[derive(serde::Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Value(Value<'a>),
    Bool(bool),
    Count(u64),
    Integer(i64),
    List(Vec<Option<Value<'a>>>),
    Entries(Vec<Entry<'a, Value<'a>>>),
    Scan { cursor: u64, keys: Vec<&'a str> },
    Exec(Vec<Document<'a>>),
    Help(Vec<HelpRow>),
}

#[derive(serde::Serialize)]
struct Entry<'a, V> {
    key: &'a str,
    value: V,
}

#[derive(serde::Serialize)]
struct HelpRow {
    command: &'static str,
    usage: &'static str,
}

struct Value<'a>(&'a [u8]);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &STANDARD.encode(self.0))?;
                map.end()
            }
        }
    }
}

impl<'a> Document<'a> {
    pub(super) fn reply(reply: &'a Reply) -> Self {
        let (kind, value) = match reply {
            Reply::Ok => return Self::Ok(Success::default()),
            Reply::NotFound => return Self::NotFound {},
            Reply::Value(bytes) => ("value", Content::Value(Value(bytes))),
            Reply::Bool(happened) => ("boolean", Content::Bool(*happened)),
            Reply::Count(count) => ("count", Content::Count(*count)),
            Reply::Integer(integer) => ("integer", Content::Integer(*integer)),
            Reply::Strings(slots) => {
                let slots = slots.iter().map(|slot| slot.as_deref().map(Value)).collect();
                ("list", Content::List(slots))
            }
            Reply::Entries(entries) => {
                let entries = super::sorted(entries)
                    .into_iter()
                    .map(|entry| Entry { key: &entry.name, value: Value(&entry.value) })
                    .collect();
                ("entries", Content::Entries(entries))
            }
            Reply::Scan(page) => {
                let keys = page.keys.iter().map(|key| &**key).collect();
                ("scan", Content::Scan { cursor: page.next_cursor, keys })
            }
            Reply::Exec(results) => ("exec", Content::Exec(results.iter().map(Self::reply).collect())),
        };
        Self::Ok(Success { kind: Some(kind), value: Some(value) })
    }

    pub(super) fn error(error: &'a ErrorReply) -> Self {
        Self::Error { code: &error.code, name: &error.name, message: &error.message }
    }

    pub(super) fn help(rows: &[Usage]) -> Self {
        let rows = rows.iter().map(|row| HelpRow { command: row.phrase, usage: row.usage }).collect();
        Self::Ok(Success { kind: Some("help"), value: Some(Content::Help(rows)) })
    }

    /// The document on one line.
    pub(super) fn line(&self, escape: Escape) -> String {
        finished(serde_json::to_string(self), escape)
    }
}

/// Entries as the array of `--output json`, where every value is a string.
pub(super) fn entries(entries: &[&NamedValue], escape: Escape) -> String {
    let rows: Vec<_> = entries
        .iter()
        .map(|entry| Entry { key: &entry.name, value: text::value(&entry.value, Escape::Off) })
        .collect();
    finished(serde_json::to_string_pretty(&rows), escape)
}

fn finished(json: serde_json::Result<String>, escape: Escape) -> String {
    let json = json.expect("strings, numbers and arrays always serialise");
    if escape == Escape::Off { json } else { escape::json(json) }
}
