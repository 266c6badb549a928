//! The METRICS of the protocol: one table of names, kinds, units and help, and one cell for each.
//!
//! The same table renders METRICS, METRICS PROM and the copies inside INFO. Names, order, kinds and units are
//! a contract with clients; the help text is free.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use bytestring::ByteString;
use vaylix_proto::NamedValue;

/// Whether a metric only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

macro_rules! metrics {
    ($($variant:ident, $name:literal, $kind:ident, $unit:literal, $help:literal;)+) => {
        /// One metric of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Metric { $(#[doc = $help] $variant,)+ }

        impl Metric {
            /// Every metric, in the order they are reported.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in METRICS.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)+ }
            }

            const fn unit(self) -> &'static str {
                match self { $(Self::$variant => $unit,)+ }
            }

            const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)+ }
            }
        }
    };
}

metrics! {
    ConnectionsAccepted, "vaylix.server.connection.accepted.count", Counter, "connection",
        "Client connections taken in.";
    ConnectionsActive, "vaylix.server.connection.active", Gauge, "connection",
        "Client connections being served now.";
    ConnectionsCompleted, "vaylix.server.connection.completed.count", Counter, "connection",
        "Client connections that have ended.";
    Requests, "vaylix.server.request.count", Counter, "request",
        "Requests handled, without those refused by the rate limit.";
    LoginsSucceeded, "vaylix.server.auth.success.count", Counter, "authentication",
        "Logins that succeeded.";
    LoginsFailed, "vaylix.server.auth.failure.count", Counter, "authentication",
        "Logins that failed and requests that came without one.";
    LoginsLocked, "vaylix.server.auth.locked.attempt.count", Counter, "authentication",
        "Logins refused because of a lockout.";
    TransactionsBegun, "vaylix.server.transaction.begin.count", Counter, "transaction",
        "Transactions opened by MULTI.";
    TransactionsCommitted, "vaylix.server.transaction.commit.count", Counter, "transaction",
        "Transactions carried out by EXEC.";
    TransactionsDiscarded, "vaylix.server.transaction.discard.count", Counter, "transaction",
        "Transactions dropped by DISCARD or by the end of their connection.";
    TransactionsExpired, "vaylix.server.transaction.timeout.count", Counter, "transaction",
        "Transactions dropped because they stayed open too long.";
    IdleDisconnects, "vaylix.server.connection.idle.disconnect.count", Counter, "disconnect",
        "Connections closed because they were idle too long.";
    Snapshots, "vaylix.persistence.snapshot.completed.count", Counter, "snapshot",
        "Physical snapshots completed, whatever asked for them.";
    Sweeps, "vaylix.storage.expiration.sweep.count", Counter, "sweep",
        "Passes of the expiry sweeper.";
    SweptKeys, "vaylix.storage.expired.key.removed.count", Counter, "key",
        "Expired keys removed by the sweeper.";
    SlowCommands, "vaylix.server.command.slow.count", Counter, "command",
        "Commands slower than the configured threshold.";
    ReplayedEntries, "vaylix.persistence.wal.entry.replayed.count", Counter, "entry",
        "Log entries replayed at the last start.";
    FastReads, "vaylix.server.read.fastpath.hit.count", Counter, "request",
        "Point reads answered from the committed state at once.";
    SlowReads, "vaylix.server.read.fastpath.fallback.count", Counter, "request",
        "Point reads that had to take another way.";
    WriteBatches, "vaylix.server.ha.write.batch.count", Counter, "batch",
        "Batches of writes put into the replicated log.";
    CoordinatedWrites, "vaylix.server.ha.write.coordinated.count", Counter, "request",
        "Writes that went through the replicated log.";
    LargestWriteBatch, "vaylix.server.ha.write.batch.max.size", Gauge, "request",
        "Most writes in one batch since the start.";
    ReadLag, "vaylix.server.read.index.lag", Gauge, "entry",
        "Committed log entries that reads do not see yet.";
    StateChecksAgreed, "vaylix.replication.state.check.agreed.count", Counter, "check",
        "Checks in the log that found the state of this node to be that of the others.";
    StateChecksDiverged, "vaylix.replication.state.check.diverged.count", Counter, "check",
        "Checks in the log that found it to be another one.";
    StateChecksUndecided, "vaylix.replication.state.check.undecided.count", Counter, "check",
        "Comparisons by this node, as a leader, in which no majority had the same state.";
    StateRelearned, "vaylix.replication.state.relearned.count", Counter, "state",
        "Times that this node threw its state away and learnt it anew from its leader.";
    StateQuarantined, "vaylix.replication.state.quarantined", Gauge, "node",
        "1 while the state of this node is known to be wrong and it serves nobody, else 0.";
    TlsHandshakeFailures, "vaylix.server.tls.handshake.failure.count", Counter, "handshake",
        "Connections that failed in the TLS handshake.";
    TlsReloads, "vaylix.server.tls.reload.success.count", Counter, "reload",
        "Times that certificate, key and client authorities were read again and came into force.";
    TlsReloadFailures, "vaylix.server.tls.reload.failure.count", Counter, "reload",
        "Times that they were read again and could not be used.";
    CertificateNotAfter, "vaylix.server.tls.certificate.not.after", Gauge, "second",
        "When the certificate expires, in seconds since 1970; 0 without TLS.";
    CertificateRemaining, "vaylix.server.tls.certificate.remaining", Gauge, "second",
        "How long the certificate is still valid; 0 without TLS and from its end on.";
}

/// The metrics of one server. Every operation is one relaxed atomic access: metrics order nothing.
#[derive(Debug)]
pub struct Counters {
    cells: [AtomicU64; Metric::ALL.len()],
}

impl Default for Counters {
    /// All zero.
    fn default() -> Self {
        Self { cells: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Counters {
    /// Adds one.
    pub fn increment(&self, metric: Metric) {
        self.add(metric, 1);
    }

    /// Adds `count`.
    pub fn add(&self, metric: Metric, count: u64) {
        self.cell(metric).fetch_add(count, Ordering::Relaxed);
    }

    /// Takes one off a gauge that was incremented before.
    pub fn decrement(&self, metric: Metric) {
        let before = self.cell(metric).fetch_sub(1, Ordering::Relaxed);
        assert_ne!(before, 0, "{} went below zero", metric.name());
    }

    /// Sets the value, for gauges and figures that another part of the server counts.
    pub fn set(&self, metric: Metric, value: u64) {
        self.cell(metric).store(value, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self, metric: Metric) -> u64 {
        self.cell(metric).load(Ordering::Relaxed)
    }

    /// The answer of METRICS.
    #[must_use]
    pub fn entries(&self) -> Vec<NamedValue> {
        Metric::ALL
            .iter()
            .map(|metric| NamedValue {
                name: ByteString::from_static(metric.name()),
                value: Bytes::from(self.get(*metric).to_string()),
            })
            .collect()
    }

    /// The answer of METRICS PROM: three lines for each metric, no line feed at the end.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        for metric in Metric::ALL {
            let name = metric.name().replace('.', "_");
            let (kind, unit, help) = (metric.kind().name(), metric.unit(), metric.help());
            let value = self.get(*metric);
            let feed = if text.is_empty() { "" } else { "\n" };
            write!(
                text,
                "{feed}# HELP {name} {help} Unit: {{{unit}}}.\n# TYPE {name} {kind}\n{name} {value}"
            )
            .expect("writing to a string does not fail");
        }
        text
    }

    fn cell(&self, metric: Metric) -> &AtomicU64 {
        &self.cells[metric as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, Metric};

    const GAUGES: [&str; 6] = [
        "vaylix.replication.state.quarantined",
        "vaylix.server.connection.active",
        "vaylix.server.ha.write.batch.max.size",
        "vaylix.server.read.index.lag",
        "vaylix.server.tls.certificate.not.after",
        "vaylix.server.tls.certificate.remaining",
    ];

    /// Name and unit of every metric in order, written down apart from the table.
    const CONTRACT: &str = "\
vaylix.server.connection.accepted.count connection
vaylix.server.connection.active connection
vaylix.server.connection.completed.count connection
vaylix.server.request.count request
vaylix.server.auth.success.count authentication
vaylix.server.auth.failure.count authentication
vaylix.server.auth.locked.attempt.count authentication
vaylix.server.transaction.begin.count transaction
vaylix.server.transaction.commit.count transaction
vaylix.server.transaction.discard.count transaction
vaylix.server.transaction.timeout.count transaction
vaylix.server.connection.idle.disconnect.count disconnect
vaylix.persistence.snapshot.completed.count snapshot
vaylix.storage.expiration.sweep.count sweep
vaylix.storage.expired.key.removed.count key
vaylix.server.command.slow.count command
vaylix.persistence.wal.entry.replayed.count entry
vaylix.server.read.fastpath.hit.count request
vaylix.server.read.fastpath.fallback.count request
vaylix.server.ha.write.batch.count batch
vaylix.server.ha.write.coordinated.count request
vaylix.server.ha.write.batch.max.size request
vaylix.server.read.index.lag entry
vaylix.replication.state.check.agreed.count check
vaylix.replication.state.check.diverged.count check
vaylix.replication.state.check.undecided.count check
vaylix.replication.state.relearned.count state
vaylix.replication.state.quarantined node
vaylix.server.tls.handshake.failure.count handshake
vaylix.server.tls.reload.success.count reload
vaylix.server.tls.reload.failure.count reload
vaylix.server.tls.certificate.not.after second
vaylix.server.tls.certificate.remaining second";

    #[test]
    fn names_order_kinds_and_units_are_the_contract() {
        assert_eq!(CONTRACT.lines().count(), Metric::ALL.len());
        let text = Counters::default().prometheus();
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines.len(), 3 * Metric::ALL.len());
        for (at, contract) in CONTRACT.lines().enumerate() {
            let (name, unit) = contract.split_once(' ').unwrap();
            let kind = if GAUGES.contains(&name) { "gauge" } else { "counter" };
            let prom = name.replace('.', "_");
            assert_eq!(Metric::ALL[at].name(), name);
            assert!(lines[3 * at].starts_with(&format!("# HELP {prom} ")), "{}", lines[3 * at]);
            assert!(lines[3 * at].ends_with(&format!(". Unit: {{{unit}}}.")), "{}", lines[3 * at]);
            assert_eq!(lines[3 * at + 1], format!("# TYPE {prom} {kind}"));
            assert_eq!(lines[3 * at + 2], format!("{prom} 0"));
        }
    }

    #[test]
    fn values_appear_byte_for_byte() {
        let counters = Counters::default();
        counters.increment(Metric::ConnectionsAccepted);
        counters.add(Metric::Requests, 41);
        counters.increment(Metric::Requests);
        counters.increment(Metric::ConnectionsActive);
        counters.increment(Metric::ConnectionsActive);
        counters.decrement(Metric::ConnectionsActive);
        counters.set(Metric::LargestWriteBatch, u64::MAX);
        let prefix = "\
# HELP vaylix_server_connection_accepted_count Client connections taken in. Unit: {connection}.
# TYPE vaylix_server_connection_accepted_count counter
vaylix_server_connection_accepted_count 1
# HELP vaylix_server_connection_active Client connections being served now. Unit: {connection}.
# TYPE vaylix_server_connection_active gauge
vaylix_server_connection_active 1
# HELP ";
        assert!(counters.prometheus().starts_with(prefix));
        let entries = counters.entries();
        assert_eq!(entries[3].name, "vaylix.server.request.count");
        assert_eq!(entries[3].value, "42");
        assert_eq!(entries[21].value, u64::MAX.to_string());
        assert_eq!(entries.len(), Metric::ALL.len());
    }
}
