//! Verifying what the node has on disk while it runs: whoever asks follows it, and what is found is told to the server's log and
//! to the audit log as well.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use vaylix_consensus::background::Pace;
use vaylix_engine::error::StorageError;
use vaylix_engine::scrub::{Scrubbed, Watch};
use vaylix_proto::{ErrorReply, Reply};

use crate::audit::{self, Event, Noise};
use crate::door::Door;
use crate::refusal;
use crate::task::{AdmittedTask, Task};

/// What waits for whoever follows a verification.
const TOLD_AHEAD_MAX: usize = 16;
/// How often it is told how far a verification is.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// Findings of one verification that have an event each; all are counted.
const EVENTS_MAX: u64 = 100;

/// What is told of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Another one is at work: this one begins when that has ended.
    Waiting,
    /// How many bytes have been read of about how many.
    Progress {
        /// So many have been read.
        done_bytes: u64,
        /// Of about so many.
        total_bytes: u64,
    },
    /// Something is damaged, missing or in the wrong place.
    Finding(Finding),
    /// It has come to its end.
    Done(Verified),
}

/// Something that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The file.
    pub file: String,
    /// Where in the file, as far as that can be told.
    pub offset: Option<u64>,
    /// What to do about it.
    pub advice: String,
}

/// What was verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// When it began, in milliseconds since 1970.
    pub begun_at_ms: u64,
    /// When it ended.
    pub ended_at_ms: u64,
    /// Bytes of files read, but for the audit log.
    pub bytes: u64,
    /// Snapshots read.
    pub snapshots: u64,
    /// Segments of the log read.
    pub segments: u64,
    /// Log entries read.
    pub entries: u64,
    /// Events of the audit log whose chain was followed.
    pub audit_events: u64,
    /// How much was found.
    pub findings: u64,
}

impl Door {
    /// Begins an admitted [`Task::VerifyStorage`]. Dropping the receiver ends the work. One at a time; others wait.
    ///
    /// # Errors
    /// `SRV-016` for any other task.
    pub fn verify_storage(
        &self,
        admitted: AdmittedTask,
    ) -> Result<mpsc::Receiver<Result<Verification, ErrorReply>>, ErrorReply> {
        let (task, ticket) = admitted.into_parts();
        let is_meant = task == Task::VerifyStorage;
        ticket.answer(if is_meant { Ok(Reply::Ok) } else { Err(refusal::unsupported()) }).give()?;
        let (told, receiver) = mpsc::channel(TOLD_AHEAD_MAX);
        let door = self.clone();
        tokio::spawn(async move {
            if door.0.scrubs.are_taken() && told.send(Ok(Verification::Waiting)).await.is_err() {
                return;
            }
            let (worker, follower) = (door.clone(), told.clone());
            let work = door.0.scrubs.run_in_background("scrub", move |pace| worker.scrub(pace, follower));
            // Whoever waited for their turn may have gone; work that has begun notices by itself.
            tokio::select! {
                () = told.closed() => {}
                done = work => if let Err(refusal) = done {
                    drop(told.send(Err(refusal)).await);
                }
            }
        });
        Ok(receiver)
    }

    /// How the last verification of this process went that came to its end.
    #[must_use]
    pub fn last_verification(&self) -> Option<Verified> {
        *self.0.last_verified.lock()
    }

    fn scrub(&self, pace: &Pace, told: mpsc::Sender<Result<Verification, ErrorReply>>) {
        let begun_at_ms = audit::now_ms();
        let mut follower =
            Follower { door: self, pace, told, done: 0, total: 0, told_at: Instant::now(), findings: 0 };
        let scrubbed = self.0.node.scrub(&mut follower);
        let (whole, scrubbed) = match scrubbed {
            ControlFlow::Continue(scrubbed) => (follower.advance(0).is_continue(), scrubbed),
            ControlFlow::Break(()) => (false, Scrubbed::default()),
        };
        let audit_events = if whole { follower.audit_log() } else { 0 };
        let Follower { told, done: bytes, findings, .. } = follower;
        let ended_at_ms = audit::now_ms();
        let result = if whole { "complete" } else { "cancelled" };
        let details: [(&str, &str); 3] =
            [("bytes", &bytes.to_string()), ("findings", &findings.to_string()), ("result", result)];
        self.0.audit.write(Event::runtime(ended_at_ms, "storage_verified", &details), None, Noise::Command);
        let took_ms = ended_at_ms.saturating_sub(begun_at_ms);
        tracing::info!(bytes, findings, took_ms, result, "verified what is on disk");
        if !whole {
            return;
        }
        let Scrubbed { snapshots, segments, records: entries } = scrubbed;
        let verified = Verified {
            begun_at_ms,
            ended_at_ms,
            bytes,
            snapshots,
            segments,
            entries,
            audit_events,
            findings,
        };
        *self.0.last_verified.lock() = Some(verified);
        // Nobody may wait for it any more; it is in the status.
        drop(told.blocking_send(Ok(Verification::Done(verified))));
    }
}

/// Whoever follows a verification.
struct Follower<'a> {
    door: &'a Door,
    pace: &'a Pace,
    told: mpsc::Sender<Result<Verification, ErrorReply>>,
    done: u64,
    total: u64,
    told_at: Instant,
    findings: u64,
}

impl Follower<'_> {
    /// Follows the chain of the audit log; returns how many events it has.
    fn audit_log(&mut self) -> u64 {
        let path = &self.door.0.audit.settings().path;
        match audit::verify(path) {
            Ok(chain) => chain.events,
            Err(error) => {
                let file = match &error {
                    audit::VerifyError::Broken { file: Some(file), .. } => file,
                    _ => path,
                };
                self.tell(Finding {
                    code: error.code().code(),
                    file: file.display().to_string(),
                    offset: None,
                    advice: "compare the audit log with a copy of it kept elsewhere; the server goes on writing it, but the next \
                             start refuses a chain that is broken"
                        .to_owned(),
                    message: error.to_string(),
                });
                0
            }
        }
    }

    fn tell(&mut self, finding: Finding) {
        self.findings += 1;
        let Finding { code, message, file, offset, advice } = &finding;
        tracing::error!(code, file, offset, advice, "damage on disk: {message}");
        if self.findings <= EVENTS_MAX {
            let offset = offset.map(|offset| offset.to_string()).unwrap_or_default();
            let details = [("error_code", *code), ("file", file), ("offset", &offset)];
            let event = Event::runtime(audit::now_ms(), "storage_damage", &details);
            self.door.0.audit.write(event, None, Noise::Command);
        }
        // Whoever followed may have gone: then the next piece of work is the last one.
        drop(self.told.blocking_send(Ok(Verification::Finding(finding))));
    }
}

impl Watch for Follower<'_> {
    fn begin(&mut self, total_bytes: u64) {
        self.total = total_bytes;
        let begun = Verification::Progress { done_bytes: 0, total_bytes };
        // Whoever followed may have gone: then the first piece of work is the last one.
        drop(self.told.blocking_send(Ok(begun)));
    }

    fn advance(&mut self, bytes: u64) -> ControlFlow<()> {
        self.done += bytes;
        if self.told.is_closed() {
            return ControlFlow::Break(());
        }
        if self.told_at.elapsed() >= TELL_EVERY {
            self.told_at = Instant::now();
            // The log grows meanwhile.
            let (done_bytes, total_bytes) = (self.done, self.total.max(self.done));
            // Who is slow to take it is told the next time.
            drop(self.told.try_send(Ok(Verification::Progress { done_bytes, total_bytes })));
        }
        self.pace.breathe(1.0);
        ControlFlow::Continue(())
    }

    fn found(&mut self, finding: StorageError) {
        self.tell(Finding {
            code: finding.code().code(),
            message: finding.message().to_owned(),
            file: finding.file().map(|file| file.display().to_string()).unwrap_or_default(),
            offset: finding.offset(),
            advice: finding.advice().unwrap_or_default().to_owned(),
        });
    }
}
