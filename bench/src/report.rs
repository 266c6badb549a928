//! The result, for people or for programs.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::ValueEnum;

use crate::flags::Flags;
use crate::run::Measurement;
use crate::stats::Latencies;

/// Everything worth knowing about a run.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Report {
    workload: String,
    connections: u32,
    depth: u32,
    threads: u32,
    value_size: u32,
    keys: u64,
    requests: u64,
    seconds: f64,
    requests_per_second: f64,
    latency_ms: Latencies,
    not_found: u64,
    errors: BTreeMap<String, u64>,
}

impl Report {
    /// The report of one run.
    pub(crate) fn new(flags: &Flags, measurement: &Measurement) -> Self {
        let seconds = measurement.elapsed.as_secs_f64();
        let requests = measurement.stats.answered;
        #[expect(clippy::cast_precision_loss, reason = "nobody counts 2^53 requests")]
        let per_second = if requests == 0 { 0.0 } else { requests as f64 / seconds };
        Self {
            workload: flags
                .workload
                .to_possible_value()
                .map_or_else(String::new, |value| value.get_name().to_owned()),
            connections: flags.connections,
            depth: flags.depth,
            threads: flags.threads.min(flags.connections),
            value_size: flags.value_size,
            keys: flags.keys,
            requests,
            seconds: (seconds * 1e3).round() / 1e3,
            requests_per_second: per_second.round(),
            latency_ms: measurement.stats.latencies(),
            not_found: measurement.stats.not_found,
            errors: measurement.stats.errors.clone(),
        }
    }

    /// One JSON object on one line.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// A few lines for people.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        writeln!(
            text,
            "load       {}, {} connections, depth {}, {}-byte values, {} keys, threads {}",
            self.workload, self.connections, self.depth, self.value_size, self.keys, self.threads
        )?;
        writeln!(
            text,
            "answered   {} requests in {:.3} s: {:.0} per second",
            self.requests, self.seconds, self.requests_per_second
        )?;
        let Latencies { p50, p90, p99, p999, max } = self.latency_ms;
        write!(text, "latency    p50 {p50} ms, p90 {p90} ms, p99 {p99} ms, p99.9 {p999} ms, max {max} ms")?;
        if self.not_found > 0 {
            write!(text, "\nnot found  {}", self.not_found)?;
        }
        for (code, count) in &self.errors {
            write!(text, "\nrefused    {count} with {code}")?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::stats::Stats;

    fn report() -> Report {
        let flags =
            Flags::try_parse_from(["vaylix-bench", "--workload", "get", "--connections", "2"]).unwrap();
        let mut stats = Stats::default();
        for _ in 0..4 {
            stats.answer(Duration::from_millis(1));
        }
        stats.not_found = 1;
        stats.error("SRV-012");
        Report::new(&flags, &Measurement { stats, elapsed: Duration::from_secs(2) })
    }

    #[test]
    fn text_names_what_went_wrong() {
        let text = report().text().unwrap();
        assert!(text.contains("answered   4 requests in 2.000 s: 2 per second"), "{text}");
        assert!(text.contains("not found  1") && text.contains("refused    1 with SRV-012"), "{text}");
    }

    #[test]
    fn json_has_stable_names() {
        let json: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert_eq!(json["workload"], "get");
        assert_eq!(json["requests_per_second"], 2.0);
        assert_eq!(json["errors"]["SRV-012"], 1);
        assert!(json["latency_ms"]["p99.9"].as_f64().unwrap() > 0.9);
    }
}
