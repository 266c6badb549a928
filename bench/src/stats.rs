//! What was measured: latencies, and how requests ended.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Finest distinction and largest latency that are kept, in nanoseconds.
const LATENCY_NS_MIN: u64 = 1_000;
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Significant decimal digits of a latency.
const DIGITS: u8 = 3;

/// The outcome of a number of requests.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    latencies: Histogram<u64>,
    /// Requests answered, in whatever way.
    pub answered: u64,
    /// Of those: keys that were not there.
    pub not_found: u64,
    /// Of those: refusals, by error code.
    pub errors: BTreeMap<String, u64>,
}

/// Latencies below which a part of the requests was answered, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Latencies {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p999: f64,
    pub max: f64,
}

impl Default for Stats {
    fn default() -> Self {
        let latencies = Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, DIGITS)
            .expect("the bounds are in order and far enough apart");
        Self { latencies, answered: 0, not_found: 0, errors: BTreeMap::new() }
    }
}

impl Stats {
    /// Counts one answer.
    pub(crate) fn answer(&mut self, latency: Duration) {
        self.answered += 1;
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts one refusal, besides [`answer`](Self::answer).
    pub(crate) fn error(&mut self, code: &str) {
        match self.errors.get_mut(code) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(code.to_owned(), 1)),
        }
    }

    /// Adds what another connection measured.
    pub(crate) fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies).expect("all histograms have the same bounds");
        self.answered += other.answered;
        self.not_found += other.not_found;
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
    }

    /// The distribution of the latencies; zeros when nothing was measured.
    pub(crate) fn latencies(&self) -> Latencies {
        let at = |quantile| milliseconds(self.latencies.value_at_quantile(quantile));
        Latencies {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: milliseconds(self.latencies.max()),
        }
    }
}

/// Milliseconds with three decimals, the precision of what is kept.
fn milliseconds(ns: u64) -> f64 {
    (Duration::from_nanos(ns).as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_what_connections_measured() {
        let mut one = Stats::default();
        let mut two = Stats::default();
        for ms in 1..=50 {
            one.answer(Duration::from_millis(ms));
            two.answer(Duration::from_millis(ms + 50));
        }
        one.error("SRV-012");
        two.error("SRV-012");
        two.error("SRV-017");
        two.not_found += 3;
        one.add(&two);

        assert_eq!((one.answered, one.not_found), (100, 3));
        assert_eq!(one.errors, BTreeMap::from([("SRV-012".to_owned(), 2), ("SRV-017".to_owned(), 1)]));
        let latencies = one.latencies();
        let near = |value: f64, expected: f64| (value - expected).abs() <= expected * 0.002;
        assert!(near(latencies.p50, 50.0) && near(latencies.p90, 90.0), "{latencies:?}");
        assert!(near(latencies.p99, 99.0) && near(latencies.max, 100.0), "{latencies:?}");
    }

    #[test]
    fn an_absurd_latency_is_cut_not_lost() {
        let mut stats = Stats::default();
        stats.answer(Duration::from_secs(3600));
        stats.answer(Duration::ZERO);
        assert_eq!(stats.answered, 2);
        assert!(stats.latencies().max >= 60_000.0);
    }

    #[test]
    fn nothing_measured_is_all_zeros() {
        assert_eq!(Stats::default().latencies().max, 0.0);
    }
}
