//! Warnings about what happens often: one a minute says that it happens, a metric says how often.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The least time between two warnings.
const EVERY: Duration = Duration::from_secs(60);

/// Lets one warning a minute pass and counts the others.
#[derive(Debug)]
pub struct Rarely {
    begun_at: OnceLock<Instant>,
    /// Milliseconds after `begun_at` from which on the next warning may pass.
    next_ms: AtomicU64,
    held_back: AtomicU64,
}

impl Rarely {
    /// The first warning passes.
    #[must_use]
    pub const fn new() -> Self {
        Self { begun_at: OnceLock::new(), next_ms: AtomicU64::new(0), held_back: AtomicU64::new(0) }
    }

    /// Whether to warn now; if so, how many warnings were held back since the last one.
    pub fn pass(&self) -> Option<u64> {
        let elapsed = self.begun_at.get_or_init(Instant::now).elapsed();
        let now_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        let later_ms = now_ms.saturating_add(u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX));
        let passes = now_ms >= next_ms
            && self.next_ms.compare_exchange(next_ms, later_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if passes {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl Default for Rarely {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Rarely;

    #[test]
    fn of_a_thousand_warnings_at_once_one_passes() {
        let rarely = Rarely::new();
        assert_eq!((0..1_000).filter_map(|_| rarely.pass()).collect::<Vec<_>>(), [0]);
    }
}
