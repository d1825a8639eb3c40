//! Injects faults for tests.
//!
//! A build with the feature `fault-injection` makes the mistake that the environment variable `IDEM_PLANT`
//! names. `tests/suite/injected_faults.rs` uses this to check that other tests fail if the server has a
//! defect. Without the feature no fault can be injected.

/// Whether the environment variable `IDEM_PLANT` names this fault, so that the caller must behave wrongly.
#[cfg(feature = "fault-injection")]
#[must_use]
pub fn is_injected(name: &str) -> bool {
    std::env::var("IDEM_PLANT").is_ok_and(|injected| injected == name)
}

/// Whether the fault is injected: never, because this build lacks the feature `fault-injection`.
#[cfg(not(feature = "fault-injection"))]
#[must_use]
pub const fn is_injected(_name: &str) -> bool {
    false
}
