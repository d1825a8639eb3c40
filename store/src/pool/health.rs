//! What a process knows of its database: whether it answers, and since when its connections cannot be trusted.

use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sea_orm::sqlx;

/// Shared by all pools of a process.
#[derive(Debug)]
pub struct Health {
    begun_at: Instant,
    /// Attempts that are under way or were given up since the database answered last; 0 means none.
    /// Milliseconds after `begun_at`, and 1 more, of the first of them.
    silent_since: AtomicU64,
    /// When something was asked last, in the same way.
    asked_at: AtomicU64,
    /// Connections that were opened before are closed instead of lent.
    distrusted_before: Mutex<Instant>,
}

/// Something that was asked of the database.
pub(super) struct Attempt<'h> {
    health: &'h Health,
    /// What it has set `silent_since` to, if it was the first.
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
    /// How long the database has been silent though it was asked: from the first question without an answer to the
    /// last one. Zero after an answer.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        match self.silent_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(self.asked_at.load(Ordering::Relaxed).saturating_sub(since)),
        }
    }

    /// Something is asked.
    pub(super) fn attempt(&self) -> Attempt<'_> {
        let mut since = None;
        let now = u64::try_from(self.begun_at.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        self.asked_at.store(now, Ordering::Relaxed);
        if self.silent_since.load(Ordering::Relaxed) == 0 {
            since = self.replace_silence(0, now).then_some(now);
        }
        Attempt { health: self, since }
    }

    fn replace_silence(&self, from: u64, to: u64) -> bool {
        self.silent_since.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A connection was found dead: all that were opened before now may be.
    pub(super) fn distrust(&self) {
        if let Ok(mut before) = self.distrusted_before.lock() {
            *before = Instant::now();
        }
    }

    pub(super) fn distrusted_before(&self) -> Instant {
        self.distrusted_before.lock().map_or_else(|_| Instant::now(), |before| *before)
    }
}

impl Attempt<'_> {
    /// It has ended. Any answer is a sign of life, a refusal included; only silence is none.
    pub(super) fn end(mut self, error: Option<&sqlx::Error>) {
        let is_silence = matches!(error, Some(sqlx::Error::Io(error)) if error.kind() == ErrorKind::TimedOut);
        if !is_silence {
            self.health.silent_since.store(0, Ordering::Relaxed);
        }
        self.since = None;
    }
}

/// Nobody waits for it any more: it tells nothing.
impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.since {
            let _answered_since = self.health.replace_silence(since, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn silence_lasts_from_the_first_question_without_an_answer_to_the_last_one() {
        let health = Health::default();
        let silence = sqlx::Error::Io(ErrorKind::TimedOut.into());
        health.attempt().end(Some(&silence));
        sleep(Duration::from_millis(30));
        assert_eq!(health.silent_for(), Duration::ZERO, "nobody has asked since");
        health.attempt().end(Some(&silence));
        assert!(health.silent_for() >= Duration::from_millis(30));
        health.attempt().end(Some(&sqlx::Error::RowNotFound));
        assert_eq!(health.silent_for(), Duration::ZERO, "a refusal is an answer");
    }
}
