//! One link of the chain: what a line must say so that it follows the line before.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

/// The version of the format that is written and read.
const VERSION: u64 = 1;
/// The only hash there is.
const ALGORITHM: &str = "sha256";

/// Where the chain is: the last event that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// Its sequence number; 0 before the first.
    pub(crate) sequence: u64,
    /// Its hash, 64 hexadecimal digits.
    pub(crate) hash: String,
}

impl Link {
    /// Before the first event.
    pub(crate) fn genesis() -> Self {
        Self { sequence: 0, hash: "0".repeat(64) }
    }

    /// How the next event begins. Its body is an object of its own, which goes on behind its first brace.
    fn head(&self) -> String {
        let sequence = self.sequence.saturating_add(1);
        format!(r#"{{"audit_version":{VERSION},"sequence":{sequence},"previous_hash":"{}","#, self.hash)
    }

    /// Appends the line of the next event to `out` and moves on to it.
    pub(crate) fn append(&mut self, body: &str, out: &mut Vec<u8>) {
        let sequence = self.sequence + 1;
        let head = self.head();
        let tail = &body[1..];
        let hash = hash(&[head.as_bytes(), tail.as_bytes()]);
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(br#""event_hash":""#);
        out.extend_from_slice(hash.as_bytes());
        out.extend_from_slice(br#"","#);
        out.extend_from_slice(tail.as_bytes());
        out.push(b'\n');
        *self = Self { sequence, hash };
    }

    /// Checks that `line` (without its line feed) is the next event, and moves on to it.
    ///
    /// # Errors
    /// What is wrong with the line, in words. The link stays.
    pub(crate) fn follow(&mut self, line: &[u8]) -> Result<(), String> {
        if line.is_empty() {
            return Err("empty audit log line".to_owned());
        }
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if line.audit_version != VERSION {
            return Err(format!("unsupported audit version {}", line.audit_version));
        }
        if line.hash_algorithm != ALGORITHM {
            return Err(format!("unsupported hash algorithm {}", line.hash_algorithm));
        }
        let expected = self.sequence.saturating_add(1);
        if line.sequence != expected {
            return Err(format!("expected sequence {expected}, found {}", line.sequence));
        }
        if line.previous_hash != self.hash {
            return Err("previous hash mismatch".to_owned());
        }
        let claimed = line.event_hash.clone();
        let body = line.into_body().to_json();
        let hash = hash(&[self.head().as_bytes(), &body.as_bytes()[1..]]);
        if claimed != hash {
            return Err("event hash mismatch".to_owned());
        }
        *self = Self { sequence: expected, hash };
        Ok(())
    }
}

/// SHA-256 of the pieces, hexadecimal.
fn hash(pieces: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for piece in pieces {
        hasher.update(piece);
    }
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}

/// A line as it is read.
#[derive(Deserialize)]
struct Line<'a> {
    audit_version: u64,
    sequence: u64,
    #[serde(borrow)]
    previous_hash: Cow<'a, str>,
    #[serde(borrow)]
    event_hash: Cow<'a, str>,
    #[serde(borrow)]
    hash_algorithm: Cow<'a, str>,
    timestamp_ms: u64,
    connection_id: u64,
    #[serde(borrow)]
    peer: Option<Cow<'a, str>>,
    #[serde(borrow)]
    username: Option<Cow<'a, str>>,
    #[serde(borrow)]
    request_id: Cow<'a, str>,
    #[serde(borrow)]
    opcode: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    error_code: Option<Cow<'a, str>>,
    latency_ms: u64,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "details")]
    details: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

impl<'a> Line<'a> {
    fn into_body(self) -> Body<'a> {
        Body {
            hash_algorithm: self.hash_algorithm,
            timestamp_ms: self.timestamp_ms,
            connection_id: self.connection_id,
            peer: self.peer,
            username: self.username,
            request_id: self.request_id,
            opcode: self.opcode,
            status: self.status,
            error_code: self.error_code,
            latency_ms: self.latency_ms,
            event_type: self.event_type,
            details: self.details,
        }
    }
}

/// What an event says, in canonical order, apart from its place in the chain.
#[derive(Serialize)]
pub(crate) struct Body<'a> {
    pub(crate) hash_algorithm: Cow<'a, str>,
    pub(crate) timestamp_ms: u64,
    pub(crate) connection_id: u64,
    pub(crate) peer: Option<Cow<'a, str>>,
    pub(crate) username: Option<Cow<'a, str>>,
    pub(crate) request_id: Cow<'a, str>,
    pub(crate) opcode: Cow<'a, str>,
    pub(crate) status: Cow<'a, str>,
    pub(crate) error_code: Option<Cow<'a, str>>,
    pub(crate) latency_ms: u64,
    pub(crate) event_type: Cow<'a, str>,
    pub(crate) details: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

impl Body<'_> {
    /// The compact object.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and text have a form in JSON")
    }
}

/// The name of the hash, for bodies.
pub(crate) const fn algorithm() -> Cow<'static, str> {
    Cow::Borrowed(ALGORITHM)
}

/// Details with each name once: with a name twice, readers of the line could see another value than the one that
/// was hashed.
fn details<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Cow<'de, str>, Cow<'de, str>>, D::Error> {
    struct Details;

    impl<'de> Visitor<'de> for Details {
        type Value = BTreeMap<Cow<'de, str>, Cow<'de, str>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut details = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<Piece<'de>, Piece<'de>>()? {
                if details.insert(name.0, value.0).is_some() {
                    return Err(A::Error::custom("duplicate name in details"));
                }
            }
            Ok(details)
        }
    }

    deserializer.deserialize_map(Details)
}

/// Text that borrows where it can, inside containers.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Piece<'a>(#[serde(borrow)] Cow<'a, str>);
