//! Against files made by, or accepted by, the public 0.9 release.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::op::{Batch, Op, RestoreEntry};
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
                let manifest = Manifest::parse(text(&format!("rejected/{file}.manifest.json"))).unwrap();
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
        let manifest = Manifest::parse(text(&format!("rejected/{file}.manifest.json"))).unwrap();
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

#[test]
fn what_is_wrong_is_told_in_the_same_order_wherever_it_stands() {
    let code = |text: &str, purpose| Document::parse(text).unwrap_err().code(purpose);
    let bad_entry = r#"{"key":"a","value_base64":"!","version":1}"#;
    let head = r#""created_at_ms":1,"source_engine_version":3,"source_sequence":0"#;
    // The version counts for more than members that are missing, and the document for more than its entries.
    assert_eq!(code(r#"{"version":9}"#, Purpose::Restore), Code::UnsupportedStorageFormat);
    let cut = format!(r#"{{"version":2,"entries":[{bad_entry}],{head}"#);
    assert_eq!(code(&cut, Purpose::Verify), Code::BackupVerificationFailure);
    let incomplete = format!(r#"{{"version":2,"entries":[{bad_entry}]}}"#);
    assert_eq!(code(&incomplete, Purpose::Verify), Code::BackupVerificationFailure);
    let late = format!(r#"{{"entries":[{bad_entry}],{head},"version":3}}"#);
    assert_eq!(code(&late, Purpose::Restore), Code::UnsupportedStorageFormat);
    let late = format!(r#"{{"entries":[{bad_entry}],{head},"version":2}}"#);
    let error = Document::parse(&late).unwrap_err();
    assert!(matches!(error, DumpError::Base64 { position: 1, .. }), "{error}");
    let twice = format!(r#"{{"version":2,"entries":[],"entries":[],{head}}}"#);
    assert_eq!(code(&twice, Purpose::Verify), Code::BackupVerificationFailure);
}

#[test]
fn a_document_that_is_no_text_is_a_file_that_cannot_be_read() {
    let mut bytes = text("backup-v1.json").into_bytes();
    let at = bytes.len() - 3;
    bytes[at] = 0xff;
    bytes[0] = b'x';
    let error = check(bytes.as_slice(), NOW_MS).unwrap_err();
    assert_eq!(error.code(Purpose::Restore), Code::ServerFilesystemIoFailure, "{error}");
    assert_eq!(error.message(Purpose::Restore), "filesystem I/O failed: stream did not contain valid UTF-8");
}

#[test]
fn entries_that_could_never_be_read_again_are_refused() {
    let value = "a".repeat(ENTRY_BYTES_MAX);
    let document = |key: &str| {
        format!(
            r#"{{"version":1,"created_at_ms":1,"source_engine_version":1,"source_sequence":1,"entries":[{{"key":"{key}","value":"{value}"}}]}}"#
        )
    };
    assert_eq!(check(document("").as_bytes(), 0).unwrap().live_count, 1);
    let error = check(document("k").as_bytes(), 0).unwrap_err();
    assert!(matches!(error, DumpError::EntryTooLarge { position: 1, .. }), "{error}");
}

/// A value, a deadline and a version.
type Content = (Vec<u8>, Option<u64>, u64);

fn keyspaces() -> impl Strategy<Value = BTreeMap<String, Content>> {
    let deadline = prop_oneof![Just(None), (NOW_MS + 1..=u64::MAX).prop_map(Some)];
    let version = prop_oneof![Just(1), Just(u64::MAX), 1..=u64::MAX];
    let key = prop_oneof![".*", "[a-c]{0,3}"];
    btree_map(key, (vec(any::<u8>(), 0..200), deadline, version), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Keys, values, versions and deadlines survive, whatever they are, and so does every byte of the document.
    #[test]
    fn what_is_backed_up_is_restored(keys in keyspaces()) {
        let entries = keys.iter().map(|(key, (value, expires_at_ms, version))| RestoreEntry {
            key: key.into(),
            value: value.into(),
            expires_at_ms: *expires_at_ms,
            version: *version,
        });
        let mut state = State::new();
        let ops = vec![Op::Restore { entries: entries.collect() }];
        state.apply(Sequence::FIRST, &Batch { time_ms: NOW_MS, access_revision: 0, ops });
        let mut written = Vec::new();
        let summary = write(&state.root(), NOW_MS, &mut written).unwrap();

        let checked = check(written.as_slice(), NOW_MS).unwrap();
        prop_assert_eq!(&checked.summary, &summary);
        prop_assert_eq!(checked.live_count, keys.len() as u64);
        let document = Document::parse(std::str::from_utf8(&written).unwrap()).unwrap();
        let (reply, root) = restore(document);
        prop_assert_eq!(reply, Reply::Count(keys.len() as u64));
        prop_assert_eq!(content(&root), content(&state.root()));
        let mut again = Vec::new();
        write(&root, NOW_MS, &mut again).unwrap();
        prop_assert_eq!(written, again);
    }
}
