//! What was seen: how much, how long, and what was wrong.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::network::ANSWER_MAX;

/// Shared by all parts of a soak.
#[derive(Debug, Default)]
pub struct Log {
    acknowledged: AtomicU64,
    unanswered: AtomicU64,
    unavailable: AtomicU64,
    longest_ms: AtomicU64,
    writing_is_over: AtomicBool,
    reading_is_over: AtomicBool,
    outcomes: Mutex<BTreeMap<String, u64>>,
    findings: Mutex<Vec<String>>,
}

impl Log {
    /// Something is as it must not be.
    pub fn wrong(&self, what: String) {
        self.findings.lock().unwrap().push(what);
    }

    pub fn findings(&self) -> Vec<String> {
        self.findings.lock().unwrap().clone()
    }

    /// Enough is wrong to stop.
    pub fn is_over(&self) -> bool {
        !self.findings.lock().unwrap().is_empty()
    }

    /// Something was acknowledged.
    pub fn acknowledged(&self, outcome: &str) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        *self.outcomes.lock().unwrap().entry(outcome.to_owned()).or_default() += 1;
    }

    /// How much was acknowledged so far.
    pub fn progress(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// An answer came after so long, or the wait was given up.
    pub fn waited(&self, time: Duration, what: &str) {
        self.longest_ms.fetch_max(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
        if time >= ANSWER_MAX {
            self.wrong(format!("no answer to {what} for {time:?}"));
        }
    }

    pub fn unanswered(&self) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
    }

    pub fn unavailable(&self) {
        self.unavailable.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something was not to be had.
    pub fn refused(&self) -> u64 {
        self.unavailable.load(Ordering::Relaxed)
    }

    /// No new work is begun.
    pub fn end_writing(&self) {
        self.writing_is_over.store(true, Ordering::Relaxed);
    }

    pub fn is_writing_over(&self) -> bool {
        self.writing_is_over.load(Ordering::Relaxed) || self.is_over()
    }

    /// Nothing changes any more.
    pub fn end_reading(&self) {
        self.reading_is_over.store(true, Ordering::Relaxed);
    }

    pub fn is_reading_over(&self) -> bool {
        self.reading_is_over.load(Ordering::Relaxed) || self.is_over()
    }

    /// In one line.
    pub fn told(&self) -> String {
        let outcomes = self.outcomes.lock().unwrap();
        let outcomes = outcomes.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>();
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        format!(
            "{} acknowledged ({}); {} without an answer, {} unavailable; longest wait {:.1} s",
            of(&self.acknowledged),
            outcomes.join(", "),
            of(&self.unanswered),
            of(&self.unavailable),
            Duration::from_millis(of(&self.longest_ms)).as_secs_f64()
        )
    }
}
