//! Writing a backup from a view of the state, entry by entry.

use std::io::{self, BufWriter, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Header, SOURCE_ENGINE_VERSION, Summary, VERSION, hex};
use crate::sequence::Sequence;
use crate::state::Root;

/// An entry as it is written. The order of the fields is the order of the members.
#[derive(Serialize)]
struct Entry<'a> {
    key: &'a str,
    value_base64: &'a str,
    expires_at_ms: Option<u64>,
    version: u64,
}

/// Bytes handed to the sink at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes the keys that are there at `created_at_ms` (unix milliseconds) and returns what a manifest needs to
/// know.
///
/// # Errors
/// Those of `sink`.
pub fn write(root: &Root, created_at_ms: u64, sink: &mut impl Write) -> io::Result<Summary> {
    let header = Header {
        version: VERSION,
        created_at_ms,
        source_engine_version: SOURCE_ENGINE_VERSION,
        source_sequence: root.applied().map_or(0, Sequence::get),
    };
    let now_ms = root.now(created_at_ms);
    let sink = Measured { sink, hash: Sha256::new(), byte_len: 0 };
    let mut sink = BufWriter::with_capacity(BUFFER_BYTES, sink);
    // The header as an object of its own, then its closing brace replaced by what follows.
    let mut head = serde_json::to_vec(&header)?;
    head.pop();
    sink.write_all(&head)?;
    sink.write_all(b",\"entries\":[")?;
    let mut entry_count = 0;
    let mut value_base64 = String::new();
    for entry in root.iter().filter(|entry| entry.is_live(now_ms)) {
        if entry_count > 0 {
            sink.write_all(b",")?;
        }
        value_base64.clear();
        STANDARD.encode_string(entry.value(), &mut value_base64);
        let entry = Entry {
            key: entry.key(),
            value_base64: &value_base64,
            expires_at_ms: entry.expires_at_ms(),
            version: entry.version(),
        };
        serde_json::to_writer(&mut sink, &entry)?;
        entry_count += 1;
    }
    sink.write_all(b"]}")?;
    let sink = sink.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(Summary { header, entry_count, byte_len: sink.byte_len, sha256: hex(&sink.hash.finalize()) })
}

/// A sink that measures what goes through it.
struct Measured<'a, W> {
    sink: &'a mut W,
    hash: Sha256,
    byte_len: u64,
}

impl<W: Write> Write for Measured<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.byte_len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
