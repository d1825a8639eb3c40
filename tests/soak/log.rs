//! Counts the responses of a soak test and collects its findings.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::network::RESPONSE_MAX;

/// The counts and findings, which all parts of a soak test share.
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
    /// Records a finding.
    pub fn wrong(&self, finding: String) {
        self.findings.lock().unwrap().push(finding);
    }

    pub fn findings(&self) -> Vec<String> {
        self.findings.lock().unwrap().clone()
    }

    /// Whether the test has to stop, because there is a finding.
    pub fn is_over(&self) -> bool {
        !self.findings.lock().unwrap().is_empty()
    }

    /// Counts an acknowledged write by its outcome.
    pub fn acknowledged(&self, outcome: &str) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        *self.outcomes.lock().unwrap().entry(outcome.to_owned()).or_default() += 1;
    }

    /// Returns the number of acknowledged writes.
    pub fn progress(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Records how long a request took. It is a finding if that is too long.
    pub fn waited(&self, time: Duration, request: &str) {
        self.longest_ms.fetch_max(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
        if time >= RESPONSE_MAX {
            self.wrong(format!("no response to {request} for {time:?}"));
        }
    }

    /// Counts a request without a response.
    pub fn unanswered(&self) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that was refused because the server was unavailable.
    pub fn unavailable(&self) {
        self.unavailable.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many requests were refused because the server was unavailable.
    pub fn refused(&self) -> u64 {
        self.unavailable.load(Ordering::Relaxed)
    }

    /// Tells the writers to start no new write.
    pub fn end_writing(&self) {
        self.writing_is_over.store(true, Ordering::Relaxed);
    }

    pub fn is_writing_over(&self) -> bool {
        self.writing_is_over.load(Ordering::Relaxed) || self.is_over()
    }

    /// Tells the readers that nothing changes any more.
    pub fn end_reading(&self) {
        self.reading_is_over.store(true, Ordering::Relaxed);
    }

    pub fn is_reading_over(&self) -> bool {
        self.reading_is_over.load(Ordering::Relaxed) || self.is_over()
    }

    /// Returns all counts in one line.
    pub fn summary(&self) -> String {
        let outcomes = self.outcomes.lock().unwrap();
        let outcomes = outcomes.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        format!(
            "{} acknowledged ({}); {} without a response, {} unavailable; longest wait {:.1} s",
            load(&self.acknowledged),
            outcomes.join(", "),
            load(&self.unanswered),
            load(&self.unavailable),
            Duration::from_millis(load(&self.longest_ms)).as_secs_f64()
        )
    }
}
