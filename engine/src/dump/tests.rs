//! Against files made by, or accepted by, the public 0.9 release.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::op::{Batch, Op};
use crate::sequence::Sequence;
use crate::state::{Outcome, Root, State};
use vaylix_proto::{Code, Reply};

/// A moment between the deadlines that are over and those that are not.
const NOW_MS: u64 = 1_800_000_000_000;

#[derive(Deserialize)]
struct Expected {
    accepted: Vec<Accepted>,
    rejected: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Accepted {
    file: String,
    backup_verify_from: BTreeMap<String, String>,
    restore_count: u64,
    entries_after_restore: Value,
}

fn text(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/backups").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn expected() -> Expected {
    serde_json::from_str(&text("expected-backups.json")).unwrap()
}

fn restore(document: Document) -> (Reply, Root) {
    let mut state = State::new();
    let entries = document.into_entries(NOW_MS);
    let batch = Batch { time_ms: NOW_MS, access_revision: 0, ops: vec![Op::Restore { entries }] };
    let bytes = batch.encode();
    let outcome = state.apply(Sequence::FIRST, &Batch::decode(&bytes).unwrap()).remove(0);
    let Outcome::Reply(reply) = outcome else { panic!("{outcome:?}") };
    (reply, state.root())
}

fn content(root: &Root) -> Value {
    root.iter()
        .map(|entry| {
            serde_json::json!({
                "key": entry.key(),
                "value_hex": hex(entry.value()),
                "version": entry.version(),
                "expires_at_ms": entry.expires_at_ms(),
            })
        })
        .collect()
}

#[test]
fn accepted_documents_restore_to_exactly_their_content() {
    for accepted in expected().accepted {
        let document = Document::parse(&text(&accepted.file)).unwrap();
        let summary = document.summary().clone();
        let verified = BTreeMap::from([
            ("status".to_owned(), "ok".to_owned()),
            ("entries".to_owned(), document.live_count(NOW_MS).to_string()),
            ("entry_count".to_owned(), summary.entry_count.to_string()),
            ("sha256".to_owned(), summary.sha256.clone()),
        ]);
        assert_eq!(verified, accepted.backup_verify_from, "{}", accepted.file);
        let manifest = text(&format!("{}.manifest.json", accepted.file));
        Manifest::parse(&manifest).unwrap().verify(&summary).unwrap();
        assert_eq!(Manifest::of(&summary).to_json(), manifest.trim_end(), "{}", accepted.file);

        let (reply, root) = restore(document);
        assert_eq!(reply, Reply::Count(accepted.restore_count), "{}", accepted.file);
        assert_eq!(content(&root), accepted.entries_after_restore, "{}", accepted.file);
    }
}

#[test]
fn a_document_of_the_release_is_written_back_byte_for_byte() {
    let original = text("backup-v2.json");
    let document = Document::parse(&original).unwrap();
    let header = document.summary().header;
    let mut state = State::new();
    // The sequence in the header is that of the last log entry.
    for number in 1..header.source_sequence {
        state.skip(Sequence::new(number).unwrap());
    }
    let entries = document.clone().into_entries(NOW_MS);
    let batch = Batch { time_ms: 1, access_revision: 0, ops: vec![Op::Restore { entries }] };
    state.apply(Sequence::new(header.source_sequence).unwrap(), &batch);
    let mut written = Vec::new();
    let summary = write(&state.root(), header.created_at_ms, &mut written).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), original);
    assert_eq!(&summary, document.summary());
}

#[test]
fn rejected_files_are_rejected_with_the_codes_of_the_release_or_more_strictly() {
    for (file, answers) in expected().rejected {
        let code = |purpose| match Document::parse(&text(&format!("rejected/{file}"))) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.code(purpose).to_string(),
        };
        let strict = file == "bad-base64.json";
        let restore = if strict { "ENG-004" } else { &answers["RestoreFrom"] };
        assert_eq!(code(Purpose::Restore), restore, "{file}");
        let verify = match (answers["BackupVerifyFrom"].as_str(), file.as_str()) {
            ("accepted", _) if strict => "ENG-004",
            // A missing manifest is the business of whoever opens the files.
            (_, "no-manifest.json") => continue,
            (code, _) => code,
        };
        let verified = match Document::parse(&text(&format!("rejected/{file}"))) {
            Err(error) => error.code(Purpose::Verify),
            Ok(document) => {
                let manifest = Manifest::parse(&text(&format!("rejected/{file}.manifest.json"))).unwrap();
                assert!(manifest.verify(document.summary()).is_err(), "{file}");
                Code::BackupVerificationFailure
            }
        };
        assert_eq!(verified.to_string(), verify, "{file}");
    }
}

#[test]
fn manifest_faults_are_named() {
    let name = |file: &str| {
        let document = Document::parse(&text(&format!("rejected/{file}"))).unwrap();
        let manifest = Manifest::parse(&text(&format!("rejected/{file}.manifest.json"))).unwrap();
        manifest.verify(document.summary()).unwrap_err().to_string()
    };
    assert_eq!(name("manifest-version-2.json"), "unsupported manifest version 2");
    assert!(name("manifest-other-hash.json").starts_with("unsupported hash algorithm "));
    assert_eq!(name("wrong-digest.json"), "backup manifest does not match dump");
    assert_eq!(name("wrong-length.json"), "backup manifest does not match dump");
    let summary = Document::parse(&text("backup-v1.json")).unwrap().summary().clone();
    let loud = Manifest::of(&Summary { sha256: summary.sha256.to_uppercase(), ..summary.clone() });
    assert!(matches!(loud.verify(&summary), Err(ManifestError::Mismatch)));
    assert!(matches!(Manifest::parse("{}"), Err(ManifestError::Document(_))));
}

#[test]
fn reading_rules() {
    let document = |entries: &str| {
        format!(
            r#"{{"entries":{entries},"version":2,"created_at_ms":1,"source_engine_version":3,"source_sequence":0}}"#
        )
    };
    let restore_code = |text: &str| Document::parse(text).map(|_| ()).map_err(|e| e.code(Purpose::Restore));
    let verify_code = |text: &str| Document::parse(text).map(|_| ()).map_err(|e| e.code(Purpose::Verify));
    assert_eq!(restore_code(&document("[]")), Ok(()));
    assert_eq!(restore_code(&(document("[]") + " \n")), Ok(()));
    for broken in [
        "\u{feff}".to_owned() + &document("[]"),
        document("[]") + "x",
        "nonsense".to_owned(),
        "{}".to_owned(),
    ] {
        assert_eq!(restore_code(&broken), Err(Code::SnapshotDeserializationFailure), "{broken}");
        assert_eq!(verify_code(&broken), Err(Code::BackupVerificationFailure), "{broken}");
    }
    for entries in [
        "null",
        r#"[{"value_base64":"","version":1}]"#,
        r#"[{"key":"a","value":"","version":1}]"#,
        r#"[{"key":"a","value_base64":"","version":-1}]"#,
        r#"[{"key":"a","value_base64":"","version":1.5}]"#,
        r#"[{"key":"a","value_base64":"","version":1,"expires_at_ms":-5}]"#,
        r#"[{"key":"a","value_base64":"YQ","version":1}]"#,
        r#"[{"key":"a","value_base64":"YQ=","version":1}]"#,
        r#"[{"key":"a","value_base64":"Y Q==","version":1}]"#,
        r#"[{"key":"a","value_base64":"_-8=","version":1}]"#,
    ] {
        let broken = document(entries);
        assert_eq!(restore_code(&broken), Err(Code::SnapshotDeserializationFailure), "{entries}");
        assert_eq!(verify_code(&broken), Err(Code::SnapshotDeserializationFailure), "{entries}");
    }
    let future = document("[]").replace("\"version\":2", "\"version\":9");
    let error = Document::parse(&future).unwrap_err();
    assert_eq!(error.code(Purpose::Restore), Code::UnsupportedStorageFormat);
    assert_eq!(error.message(Purpose::Restore), "unsupported storage format for logical backup");
    assert_eq!(error.message(Purpose::Verify), "backup verification failed: unsupported backup version 9");
}
