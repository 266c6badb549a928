//! What INFO, METRICS and the audit log tell of the certificate of this node.
//!
//! The door knows nothing of TLS; whoever keeps the certificate says here what has become of it.

use parking_lot::Mutex;
use vaylix_proto::Code;

use crate::audit::{Event, Noise, now_ms};
use crate::counters::Metric;
use crate::door::Door;
use crate::entries::Entries;

const DAY_MS: i128 = 24 * 60 * 60 * 1000;

/// What a certificate says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is, as RFC 4514 writes names; may be empty.
    pub subject: String,
    /// SHA-256 of the certificate, in hexadecimal digits of lower case.
    pub fingerprint: String,
    /// The moment from which on it is valid, in milliseconds since 1970.
    pub not_before_ms: u64,
    /// The last second in which it is valid, in milliseconds since 1970.
    pub not_after_ms: u64,
}

impl Certificate {
    /// The first moment at which it is not valid any more: its last second counts as a whole.
    #[must_use]
    pub fn over_from_ms(&self) -> u64 {
        self.not_after_ms.saturating_add(1000)
    }

    /// Whole days from `now_ms` to its end; negative when it is over.
    #[must_use]
    pub fn days_remaining(&self, now_ms: u64) -> i64 {
        let left_ms = i128::from(self.not_after_ms) - i128::from(now_ms);
        i64::try_from(left_ms.div_euclid(DAY_MS)).unwrap_or(i64::MAX)
    }
}

/// The certificate in use, and how the last attempts to replace it went.
#[derive(Default)]
pub(crate) struct Tls(Mutex<State>);

#[derive(Default)]
struct State {
    certificate: Option<Certificate>,
    succeeded_at_ms: Option<u64>,
    failed_at_ms: Option<u64>,
}

impl Tls {
    /// The certificate in use, if there is one.
    pub(crate) fn certificate(&self) -> Option<Certificate> {
        self.0.lock().certificate.clone()
    }
}

impl Door {
    /// Says which certificate the listener shows from the start on.
    pub fn tls_started(&self, certificate: Certificate) {
        self.0.tls.0.lock().certificate = Some(certificate);
    }

    /// Says that the certificate was replaced, or could not be and why: for INFO, METRICS and the audit log.
    pub fn tls_reloaded(&self, result: Result<Certificate, Code>) {
        let now_ms = now_ms();
        let details: &[(&str, &str)] = {
            let mut state = self.0.tls.0.lock();
            match &result {
                Ok(certificate) => {
                    state.certificate = Some(certificate.clone());
                    state.succeeded_at_ms = Some(now_ms);
                    self.0.counters.increment(Metric::TlsReloads);
                    &[("result", "ok")]
                }
                Err(code) => {
                    state.failed_at_ms = Some(now_ms);
                    self.0.counters.increment(Metric::TlsReloadFailures);
                    &[("error_code", code.code()), ("result", "error")]
                }
            }
        };
        // Rare, and caused by operators alone: it is counted only when the queue of the log is full.
        self.0.audit.write(Event::runtime(now_ms, "tls_reload", details), None, Noise::Command);
    }

    /// Brings the metrics of the certificate up to date.
    pub(crate) fn count_certificate(&self) {
        let not_after_ms = self.0.tls.0.lock().certificate.as_ref().map_or(0, |at| at.not_after_ms);
        let counters = &self.0.counters;
        counters.set(Metric::CertificateNotAfter, not_after_ms / 1000);
        counters.set(Metric::CertificateRemaining, not_after_ms.saturating_sub(now_ms()) / 1000);
    }

    /// The lines of INFO.
    pub(crate) fn add_tls(&self, entries: &mut Entries) {
        let (report, state) = (&self.0.report, self.0.tls.0.lock());
        let certificate = state.certificate.as_ref();
        entries
            .add_or_none("security.cert_days_remaining", certificate.map(|at| at.days_remaining(now_ms())))
            .add_or_none("security.cert_fingerprint_sha256", certificate.map(|at| &*at.fingerprint))
            .add_or_none("security.cert_not_after_ms", certificate.map(|at| at.not_after_ms))
            .add_or_none("security.cert_not_before_ms", certificate.map(|at| at.not_before_ms))
            .add_or_none("security.cert_subject", certificate.map(|at| &*at.subject))
            .add_or_none("security.last_tls_reload_failure_at_ms", state.failed_at_ms)
            .add_or_none("security.last_tls_reload_success_at_ms", state.succeeded_at_ms)
            .add("security.mtls_enabled", report.mtls)
            .add("security.tls_enabled", report.tls)
            .add("security.tls_mode", if report.tls { "tls" } else { "plaintext" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_go_below_zero() {
        let ends = |not_after_ms| Certificate {
            subject: String::new(),
            fingerprint: String::new(),
            not_before_ms: 0,
            not_after_ms,
        };
        const DAY: u64 = 86_400_000;
        for (not_after_ms, now_ms, days) in
            [(10 * DAY, 0, 10), (10 * DAY, 1, 9), (DAY, DAY, 0), (DAY, DAY + 1, -1), (0, 3 * DAY, -3)]
        {
            assert_eq!(ends(not_after_ms).days_remaining(now_ms), days, "{not_after_ms} {now_ms}");
        }
        assert!(ends(u64::MAX).days_remaining(0) > 0);
    }
}
