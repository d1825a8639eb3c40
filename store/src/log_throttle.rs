//! Limits a warning about something frequent to one a minute. A metric beside it says how often it happens.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The shortest time between two warnings.
const INTERVAL: Duration = Duration::from_secs(60);

/// Lets one warning a minute pass, and counts those that it suppresses. It logs nothing itself.
#[derive(Debug)]
pub struct LogThrottle {
    begun_at: OnceLock<Instant>,
    /// When the next warning may pass, in milliseconds after `begun_at`.
    next_ms: AtomicU64,
    suppressed: AtomicU64,
}

impl LogThrottle {
    /// Makes a throttle that lets the first warning pass.
    #[must_use]
    pub const fn new() -> Self {
        Self { begun_at: OnceLock::new(), next_ms: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Asks whether a warning may be logged now. Returns `None` if not, and counts it as suppressed.
    /// Otherwise it returns how many were suppressed since the last one that could be logged.
    pub fn allow_once_a_minute(&self) -> Option<u64> {
        let elapsed = self.begun_at.get_or_init(Instant::now).elapsed();
        let now_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        let later_ms = now_ms.saturating_add(u64::try_from(INTERVAL.as_millis()).unwrap_or(u64::MAX));
        let passes = now_ms >= next_ms
            && self.next_ms.compare_exchange(next_ms, later_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if passes {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl Default for LogThrottle {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::LogThrottle;

    #[test]
    fn of_a_thousand_warnings_at_once_one_passes() {
        let rarely = LogThrottle::new();
        assert_eq!((0..1_000).filter_map(|_| rarely.allow_once_a_minute()).collect::<Vec<_>>(), [0]);
    }
}
