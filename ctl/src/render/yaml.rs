//! YAML, as far as JSON documents need it. Every text is quoted as in JSON, which is YAML as well, unless it plainly can
//! be nothing but a text.

use serde_json::Value;

/// A document, with a line feed at its end.
pub(crate) fn document(value: &Value) -> String {
    let mut text = String::new();
    match scalar(value) {
        Some(scalar) => {
            text.push_str(&scalar);
            text.push('\n');
        }
        None => block(value, 0, false, &mut text),
    }
    text
}

/// What stands on one line; none for lists and maps that hold something.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Array(items) if items.is_empty() => Some("[]".to_owned()),
        Value::Object(fields) if fields.is_empty() => Some("{}".to_owned()),
        Value::Array(_) | Value::Object(_) => None,
        Value::String(text) => Some(quoted(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
    }
}

/// Lines of a list or a map; the first one without blanks in front, when it goes on behind the dash of a list.
fn block(value: &Value, depth: usize, goes_on: bool, text: &mut String) {
    let begin = |text: &mut String, first: bool| {
        if !(first && goes_on) {
            text.extend(std::iter::repeat_n("  ", depth));
        }
    };
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                begin(text, index == 0);
                text.push_str("- ");
                match scalar(item) {
                    Some(scalar) => {
                        text.push_str(&scalar);
                        text.push('\n');
                    }
                    None => block(item, depth + 1, true, text),
                }
            }
        }
        Value::Object(fields) => {
            for (index, (name, field)) in fields.iter().enumerate() {
                begin(text, index == 0);
                text.push_str(&quoted(name));
                text.push(':');
                match scalar(field) {
                    Some(scalar) => {
                        text.push(' ');
                        text.push_str(&scalar);
                        text.push('\n');
                    }
                    None => {
                        text.push('\n');
                        block(field, depth + 1, false, text);
                    }
                }
            }
        }
        _ => {}
    }
}

/// Words that YAML 1.1 takes for something else than a text.
const WORDS: [&str; 12] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "none"];

fn quoted(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { escaped(text) }
}

/// As in JSON, with what YAML does not let stand in a document written out too.
fn escaped(text: &str) -> String {
    let mut quoted = String::new();
    for c in Value::String(text.to_owned()).to_string().chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_and_lists_are_indented() {
        let value = json!({
            "name": "n1",
            "list": [{"a": 1, "b": ["x", []]}, "plain", [true, null]],
            "none": {},
        });
        assert_eq!(
            document(&value),
            "list:\n  - a: 1\n    b:\n      - x\n      - []\n  - plain\n  - - true\n    - null\nname: n1\n\"none\": {}\n"
        );
    }

    #[test]
    fn texts_stay_texts() {
        for (text, expected) in [
            ("leader", "leader"),
            ("127.0.0.1:9174", "\"127.0.0.1:9174\""),
            ("12", "\"12\""),
            ("yes", "\"yes\""),
            ("No", "\"No\""),
            ("", "\"\""),
            ("a: b", "\"a: b\""),
            ("# x", "\"# x\""),
            ("line\nfeed", "\"line\\nfeed\""),
            ("\u{85}", "\"\\u0085\""),
            ("é", "\"é\""),
        ] {
            assert_eq!(document(&json!(text)), format!("{expected}\n"));
        }
    }
}
