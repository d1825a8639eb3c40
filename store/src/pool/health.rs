//! Keeps track of whether the database answers, and which connections may be dead.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Whether the database answers, and which connections may be dead. All pools of a process share it.
#[derive(Debug)]
pub struct Health {
    begun_at: Instant,
    /// When the first attempt began that has had no answer since the last answer: milliseconds after
    /// `begun_at`, plus 1. It is 0 if there is no such attempt.
    silent_since: AtomicU64,
    /// When the last attempt to run a statement or to connect began, in the unit of `silent_since`.
    asked_at: AtomicU64,
    /// Connections that were opened before this instant are closed instead of used again.
    distrusted_before: Mutex<Instant>,
}

/// A statement or an attempt to connect that is under way.
pub(crate) struct Attempt<'h> {
    health: &'h Health,
    /// The value to which this attempt has set [`Health::silent_since`]. `None` if another one had set it.
    since: Option<u64>,
}

impl Default for Health {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            begun_at: now,
            silent_since: AtomicU64::new(0),
            asked_at: AtomicU64::new(0),
            distrusted_before: Mutex::new(now),
        }
    }
}

impl Health {
    /// How long the database has not answered: the time from the first attempt without an answer to the last
    /// attempt. It is zero after an answer, and does not grow while nothing is attempted.
    #[must_use]
    pub fn silence_duration(&self) -> Duration {
        match self.silent_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(self.asked_at.load(Ordering::Relaxed).saturating_sub(since)),
        }
    }

    /// Records that a statement or an attempt to connect begins.
    pub(crate) fn begin_attempt(&self) -> Attempt<'_> {
        let mut since = None;
        let now = u64::try_from(self.begun_at.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        self.asked_at.store(now, Ordering::Relaxed);
        if self.silent_since.load(Ordering::Relaxed) == 0 {
            since = self.replace_silent_since(0, now).then_some(now);
        }
        Attempt { health: self, since }
    }

    fn replace_silent_since(&self, from: u64, to: u64) -> bool {
        self.silent_since.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Records that a connection was dead. All connections that were opened before now may be dead too.
    pub(super) fn distrust_open_connections(&self) {
        if let Ok(mut before) = self.distrusted_before.lock() {
            *before = Instant::now();
        }
    }

    pub(super) fn distrusted_before(&self) -> Instant {
        self.distrusted_before.lock().map_or_else(|_| Instant::now(), |before| *before)
    }
}

impl Attempt<'_> {
    /// Records the end of a statement or of an attempt to connect. Every answer shows that the database is
    /// alive, also an error; only a timeout (`has_timed_out`) does not.
    pub(crate) fn finish_attempt(mut self, has_timed_out: bool) {
        if !has_timed_out {
            self.health.silent_since.store(0, Ordering::Relaxed);
        }
        self.since = None;
    }
}

/// An attempt that is dropped before its end says nothing about the database, so its start is forgotten.
impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.since {
            let _is_first = self.health.replace_silent_since(since, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn silence_lasts_from_the_first_attempt_without_an_answer_to_the_last_one() {
        let health = Health::default();
        health.begin_attempt().finish_attempt(true);
        sleep(Duration::from_millis(30));
        assert_eq!(health.silence_duration(), Duration::ZERO, "nothing was attempted since");
        health.begin_attempt().finish_attempt(true);
        assert!(health.silence_duration() >= Duration::from_millis(30));
        health.begin_attempt().finish_attempt(false);
        assert_eq!(health.silence_duration(), Duration::ZERO, "an error is an answer");
    }
}
