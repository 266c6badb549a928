//! Every bound of this crate that is not an operator's, by name.

use std::time::Duration;

/// How often one request is admitted anew because the access rules moved on while it was under way.
pub(crate) const ADMISSIONS_MAX: usize = 16;

/// Places of unfinished scans that are remembered for one login. Each costs at most a key and a pattern.
pub(crate) const SCAN_PLACES_MAX: usize = 16;

/// Logical backups that are written or read at once. Each takes memory in proportion to a frame.
pub(crate) const DOCUMENTS_AT_ONCE_MAX: usize = 2;

/// Backup files that are written or read at once. Each takes a few megabytes, and most of a core and of the disk.
pub(crate) const BACKUP_FILES_AT_ONCE_MAX: usize = 2;

/// Reads of many keys that are answered at once off the threads that serve connections. Each takes memory for
/// one frame; the others wait in order.
pub(crate) const LONG_READS_AT_ONCE_MAX: usize = 2;

/// Keys that a read may look at where connections are served: about as long as a batch of point reads takes.
/// What needs more begins anew elsewhere.
pub(crate) const LOOKS_INLINE_MAX: usize = 512;

/// Audit events that wait to be written. Each is some hundred bytes, and at most a few dozen KiB.
pub(crate) const AUDIT_QUEUE_EVENTS: usize = 4096;

/// Audit events that are written with one call.
pub(crate) const AUDIT_BATCH_EVENTS_MAX: usize = 512;

/// Bytes of the audit log that are written before a sync that is not due yet.
pub(crate) const AUDIT_UNSYNCED_BYTES_MAX: usize = 1024 * 1024;

/// How long a request waits for room in the audit log before it looks whether the log can be written at all.
pub(crate) const AUDIT_PATIENCE: Duration = Duration::from_millis(250);

/// Backups on their way to and from clients at once; each keeps a thread while it lasts.
pub(crate) const TRANSFERS_AT_ONCE_MAX: usize = 4;

/// Reads of the audit log at once.
pub(crate) const AUDIT_READS_AT_ONCE_MAX: usize = 2;
