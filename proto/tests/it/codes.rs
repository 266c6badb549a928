//! The table of error codes and the document about it say the same.

use std::collections::HashSet;

use vaylix_proto::{Code, Retry, WireError};

const DOCUMENT: &str = include_str!("../../../docs/error-codes.md");

/// Code, name, retry, occasion and message of every row of the document.
fn rows() -> Vec<[&'static str; 5]> {
    DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect::<Vec<_>>())
        .filter(|cells| is_code(cells[0]))
        .map(|cells| cells.try_into().expect("five cells"))
        .collect()
}

fn is_code(cell: &str) -> bool {
    matches!(cell.split_once('-'), Some((area, number)) if area.len() == 3 && number.len() == 3)
}

#[test]
fn the_document_lists_the_table_in_order() {
    let documented: Vec<_> = rows().iter().map(|[code, name, retry, ..]| (*code, *name, *retry)).collect();
    let table: Vec<_> = Code::ALL
        .iter()
        .map(|code| {
            let retry = match code.retry() {
                Retry::Never => "never",
                Retry::Backoff => "later",
                Retry::AtLeader => "at the leader",
                Retry::OutcomeUnknown => "unknown",
            };
            (code.code(), code.name(), retry)
        })
        .collect();
    assert_eq!(documented, table);
}

#[test]
fn every_row_says_when_and_what() {
    for [code, _, _, occasion, message] in rows() {
        assert!(occasion.ends_with('.'), "{code}: {occasion}");
        assert!(message.len() > 2 && message.starts_with('`') && message.ends_with('`'), "{code}: {message}");
    }
}

#[test]
fn codes_are_unique_and_found_again() {
    let codes: HashSet<_> = Code::ALL.iter().map(|code| code.code()).collect();
    assert_eq!(codes.len(), Code::ALL.len());
    for code in Code::ALL {
        assert_eq!(Code::from_code(code.code()), Some(*code));
        assert_eq!(code.to_string(), code.code());
    }
    assert_eq!(Code::from_code("TRN-000"), None);
}

#[test]
fn failures_of_the_codec_say_what_the_document_says() {
    for error in [
        WireError::InvalidFrame,
        WireError::UnknownOpcode(0),
        WireError::UnknownStatus(3),
        WireError::UnsupportedCommand("REPLICATION_VOTE"),
        WireError::VersionMismatch { found: 1 },
        WireError::FrameTooLarge { size: 2, max: 1 },
        WireError::UnexpectedEnd,
        WireError::CorruptedPayload,
        WireError::ChecksumMismatch { expected: 0xAB, found: 0xCD },
        WireError::UnsupportedFrameFlags(2),
        WireError::CompressionFailure,
        WireError::InvalidUtf8,
        WireError::NegotiationFailed("reason"),
        WireError::CapabilityMismatch("reason"),
        WireError::DecompressedTooLarge { size: 2, max: 1 },
        WireError::StateViolation("reason"),
    ] {
        let row = rows().into_iter().find(|row| row[0] == error.code().code()).unwrap();
        assert!(fits(&error.to_string(), row[4].trim_matches('`')), "{error} is not {}", row[4]);
    }
    let mismatch = WireError::ChecksumMismatch { expected: 0xAB, found: 0xCD };
    assert_eq!(mismatch.to_string(), "frame checksum mismatch: expected 0x000000AB, got 0x000000CD");
    assert_eq!(WireError::UnknownStatus(3).to_string(), "unknown status: 0x03");
}

/// Whether `message` is `template` with something in place of each `<blank>`.
fn fits(message: &str, template: &str) -> bool {
    let Some((before, rest)) = template.split_once('<') else { return message == template };
    let (_, after) = rest.split_once('>').expect("a blank ends");
    message.strip_prefix(before).is_some_and(|message| {
        (1..=message.len()).any(|filled| message.is_char_boundary(filled) && fits(&message[filled..], after))
    })
}

#[test]
fn the_document_lists_the_conflicts_of_options() {
    let listed: HashSet<_> = DOCUMENT
        .lines()
        .filter_map(|line| {
            let (command, rule) = line.strip_prefix("| ")?.strip_suffix("` |")?.split_once(" | `")?;
            // Rows with more cells are about codes.
            (!command.contains('|')).then(|| format!("conflicting options for {command}: {rule}"))
        })
        .collect();
    let raised: HashSet<_> = include_str!("../data/text-errors.txt")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("[CMD-006] Conflicting Command Options: ")?.to_owned()))
        .collect();
    assert_eq!(listed.len(), 13);
    assert_eq!(listed, raised);
}
