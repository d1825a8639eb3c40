//! Computes the figures of one measurement, and the medians of several.

use std::time::Duration;

use serde::Serialize;

/// Seconds of CPU time, by process.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// The idem server with its worker. `None` if it does not take part in the work.
    pub server: Option<f64>,
    /// PostgreSQL with all its backends.
    pub postgres: f64,
    /// The process that makes the load.
    pub client: f64,
}

impl Spent {
    /// The CPU time that was used since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            server: self.server.zip(before.server).map(|(after, before)| after - before),
            postgres: self.postgres - before.postgres,
            client: self.client - before.client,
        }
    }

    /// The given share of the CPU time.
    pub fn times(self, share: f64) -> Self {
        Self {
            server: self.server.map(|seconds| seconds * share),
            postgres: self.postgres * share,
            client: self.client * share,
        }
    }
}

/// One measurement, or the medians of several.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Items per second.
    pub rate: f64,
    /// Latency of a call in milliseconds, percentile 50.
    pub p50_ms: Option<f64>,
    /// Latency of a call in milliseconds, percentile 95.
    pub p95_ms: Option<f64>,
    /// Latency of a call in milliseconds, percentile 99.
    pub p99_ms: Option<f64>,
    /// CPU time of the idem server per item, in microseconds.
    pub server_us: Option<f64>,
    /// CPU time of PostgreSQL per item, in microseconds.
    pub postgres_us: f64,
    /// CPU time of the process that makes the load per item, in microseconds.
    pub client_us: f64,
}

impl Sample {
    /// Computes the figures of one measurement. Without latencies, the percentiles are `None`.
    pub fn new(items: usize, elapsed: Duration, mut latencies_us: Vec<u64>, spent: Spent) -> Self {
        latencies_us.sort_unstable();
        let percentile = |share: f64| {
            let last = latencies_us.len().checked_sub(1)?;
            // Nearest rank: the smallest latency that at least this share of the calls does not exceed.
            let rank = (share * latencies_us.len() as f64).ceil() as usize;
            Some(latencies_us[rank.saturating_sub(1).min(last)] as f64 / 1_000.0)
        };
        let each_us = |seconds: f64| seconds * 1e6 / items.max(1) as f64;
        Self {
            rate: items as f64 / elapsed.as_secs_f64(),
            p50_ms: percentile(0.50),
            p95_ms: percentile(0.95),
            p99_ms: percentile(0.99),
            server_us: spent.server.map(each_us),
            postgres_us: each_us(spent.postgres),
            client_us: each_us(spent.client),
        }
    }

    /// The median of each figure on its own. `None` if there are no samples.
    pub fn median(samples: &[Self]) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        let median_of = |figure: fn(&Self) -> f64| median(samples.iter().map(figure).collect());
        let median_of_some = |figure: fn(&Self) -> Option<f64>| {
            let figures: Vec<f64> = samples.iter().filter_map(figure).collect();
            (!figures.is_empty()).then(|| median(figures))
        };
        Some(Self {
            rate: median_of(|sample| sample.rate),
            p50_ms: median_of_some(|sample| sample.p50_ms),
            p95_ms: median_of_some(|sample| sample.p95_ms),
            p99_ms: median_of_some(|sample| sample.p99_ms),
            server_us: median_of_some(|sample| sample.server_us),
            postgres_us: median_of(|sample| sample.postgres_us),
            client_us: median_of(|sample| sample.client_us),
        })
    }
}

/// The median: the middle figure, or the mean of the two middle figures. NaN if there are none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(figures[middle - 1], figures[middle]),
        _ => figures[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_use_the_nearest_rank_and_medians_the_middle() {
        let spent = Spent { server: Some(0.5), postgres: 0.25, client: 0.0 };
        let sample = Sample::new(100, Duration::from_secs(2), (1..=100).rev().collect(), spent);
        assert_eq!((sample.p50_ms, sample.p95_ms, sample.p99_ms), (Some(0.05), Some(0.095), Some(0.099)));
        assert_eq!((sample.rate, sample.server_us, sample.postgres_us), (50.0, Some(5_000.0), 2_500.0));
        assert_eq!((median(vec![3.0, 1.0, 2.0]), median(vec![4.0, 1.0])), (2.0, 2.5));
    }
}
