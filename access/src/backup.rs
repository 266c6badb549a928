//! Logical backups sent and received inside requests, and physical snapshots on demand.
//!
//! Documents can be large, so they are written and read on the blocking pool, a few at a time; the keys they are taken from are
//! a consistent view that neither waits for writers nor makes them wait.

use std::io::{self, ErrorKind, Write};

use vaylix_consensus::{Payload, Proposal, ProposeError, SnapshotError, View};
use vaylix_engine::dump::{self, Checked, Document, DumpError, Purpose};
use vaylix_proto::{Code, ErrorReply, Reply, Text};

use crate::admission::Pass;
use crate::door::Door;
use crate::entries::Entries;
use crate::execute::refused;
use crate::limits::ADMISSIONS_MAX;
use crate::refusal;

impl Door {
    /// SAVE and SNAPSHOT.
    pub(crate) async fn snapshot(&self) -> Result<Reply, ErrorReply> {
        match self.0.node.snapshot().await {
            Ok(()) => Ok(Reply::Ok),
            Err(SnapshotError::Storage(error)) => Err(refusal::engine(error.code(), error)),
            Err(SnapshotError::Closed) => Err(refusal::closed()),
        }
    }

    /// BACKUP: the whole keyspace as a document, as long as it fits in a frame. It sees what any read of this node sees:
    /// a follower's backup is of its own keys.
    pub(crate) async fn backup(&self, fresh: bool) -> Result<Reply, ErrorReply> {
        let View { reader, now_ms } = self.view(fresh).await?;
        let len_max = self.0.report.frame_len_max;
        let written = self.0.documents.run(move || {
            let mut document = Bounded { bytes: Vec::new(), len_max };
            match dump::write(&reader.root(), now_ms, &mut document) {
                Ok(_) => Ok(Reply::Value(document.bytes.into())),
                Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                    Err(refusal::backup_too_large(len_max))
                }
                Err(error) => Err(refusal::engine(Code::SnapshotSerializationFailure, error)),
            }
        });
        written.await?
    }

    /// BACKUP VERIFY: what the document holds.
    pub(crate) async fn verify_backup(&self, document: &Text) -> Result<Reply, ErrorReply> {
        Ok(verified(&self.check(document, Purpose::Verify).await?))
    }

    /// RESTORE CHECK: how many entries RESTORE would restore.
    pub(crate) async fn check_restore(&self, document: &Text) -> Result<Reply, ErrorReply> {
        Ok(Reply::Count(self.check(document, Purpose::Restore).await?.live_count))
    }

    /// RESTORE: the document's entries take the place of all keys, as one change.
    pub(crate) async fn restore(&self, mut pass: Pass, document: &Text) -> Result<Reply, ErrorReply> {
        let document = document.clone();
        let document = self.0.documents.run(move || Document::parse(&document)).await?;
        let document = document.map_err(|error| rejected(&error, Purpose::Restore))?;
        for _ in 0..ADMISSIONS_MAX {
            let payload = Payload::Restore(document.clone().into_entries(self.0.node.local().now_ms));
            let proposal = Proposal {
                span: tracing::Span::none(),
                caller: pass.caller,
                access_revision: pass.revision,
                payload,
            };
            match self.0.node.propose(proposal).await {
                Err(ProposeError::Stale) => self.readmit(&mut pass)?,
                answer => return answer.map_err(refused),
            }
        }
        Err(refusal::contended())
    }

    async fn check(&self, document: &Text, purpose: Purpose) -> Result<Checked, ErrorReply> {
        let (document, now_ms) = (document.clone(), self.0.node.local().now_ms);
        let checked = self.0.documents.run(move || dump::check(document.as_bytes().as_ref(), now_ms)).await?;
        checked.map_err(|error| rejected(&error, purpose))
    }
}

/// The answer of a verification.
pub(crate) fn verified(checked: &Checked) -> Reply {
    Entries::default()
        .add("status", "ok")
        .add("entries", checked.live_count)
        .add("entry_count", checked.summary.entry_count)
        .add("sha256", &checked.summary.sha256)
        .reply()
}

/// A document in memory that may not grow beyond a length: larger ones could not be sent anyway.
struct Bounded {
    bytes: Vec<u8>,
    len_max: usize,
}

impl Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > self.len_max {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a client is told about a document that cannot be used.
fn rejected(error: &DumpError, purpose: Purpose) -> ErrorReply {
    refused_document(error.code(purpose), error.message(purpose))
}

/// The same from a code and a message: some codes are the engine's, and their messages say so.
pub(crate) fn refused_document(code: Code, message: String) -> ErrorReply {
    match code {
        Code::SnapshotDeserializationFailure | Code::UnsupportedStorageFormat => {
            refusal::engine(code, message)
        }
        Code::EngineWorkerClosed => refusal::closed(),
        _ => ErrorReply::new(code, message),
    }
}
