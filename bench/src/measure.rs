//! Figures: one measurement, and the medians of several.

use std::time::Duration;

use serde::Serialize;

/// Seconds of CPU, apart by who used them.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// Our server, its worker included; `None` when it has no part in the work.
    pub server: Option<f64>,
    /// PostgreSQL with all its backends.
    pub postgres: f64,
    /// Whoever makes the load.
    pub client: f64,
}

impl Spent {
    /// What came to it since.
    pub fn since(self, before: Self) -> Self {
        Self {
            server: self.server.zip(before.server).map(|(after, before)| after - before),
            postgres: self.postgres - before.postgres,
            client: self.client - before.client,
        }
    }

    /// A share of it.
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
    /// Items a second.
    pub rate: f64,
    /// Of a call, milliseconds.
    pub p50_ms: Option<f64>,
    /// Of a call, milliseconds.
    pub p95_ms: Option<f64>,
    /// Of a call, milliseconds.
    pub p99_ms: Option<f64>,
    /// CPU of our server an item, microseconds.
    pub server_us: Option<f64>,
    /// CPU of PostgreSQL an item, microseconds.
    pub postgres_us: f64,
    /// CPU of whoever makes the load an item, microseconds.
    pub client_us: f64,
}

impl Sample {
    /// Makes one of what was counted; without latencies where there are no calls to speak of.
    pub fn new(items: usize, elapsed: Duration, mut latencies_us: Vec<u64>, spent: Spent) -> Self {
        latencies_us.sort_unstable();
        let percentile = |share: f64| {
            let last = latencies_us.len().checked_sub(1)?;
            // Nearest rank: the least latency that so large a share does not exceed.
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

    /// The median of each figure by itself.
    pub fn median(samples: &[Self]) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        let of = |figure: fn(&Self) -> f64| median(samples.iter().map(figure).collect());
        let of_some = |figure: fn(&Self) -> Option<f64>| {
            let figures: Vec<f64> = samples.iter().filter_map(figure).collect();
            (!figures.is_empty()).then(|| median(figures))
        };
        Some(Self {
            rate: of(|sample| sample.rate),
            p50_ms: of_some(|sample| sample.p50_ms),
            p95_ms: of_some(|sample| sample.p95_ms),
            p99_ms: of_some(|sample| sample.p99_ms),
            server_us: of_some(|sample| sample.server_us),
            postgres_us: of(|sample| sample.postgres_us),
            client_us: of(|sample| sample.client_us),
        })
    }
}

/// The one in the middle, or between the two in the middle.
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
    fn percentiles_are_of_nearest_rank_and_medians_in_the_middle() {
        let spent = Spent { server: Some(0.5), postgres: 0.25, client: 0.0 };
        let sample = Sample::new(100, Duration::from_secs(2), (1..=100).rev().collect(), spent);
        assert_eq!((sample.p50_ms, sample.p95_ms, sample.p99_ms), (Some(0.05), Some(0.095), Some(0.099)));
        assert_eq!((sample.rate, sample.server_us, sample.postgres_us), (50.0, Some(5_000.0), 2_500.0));
        assert_eq!((median(vec![3.0, 1.0, 2.0]), median(vec![4.0, 1.0])), (2.0, 2.5));
    }
}
