//! Faults that a test can inject: a build with the feature `fault-injection` makes the mistake that the environment
//! variable `IDEM_PLANT` names. The suite of injected faults checks with it that other tests fail when they should.
//! Without the feature no fault can be injected.

/// Whether the fault with this name is to be made.
#[cfg(feature = "fault-injection")]
#[must_use]
pub fn is_injected(name: &str) -> bool {
    std::env::var("IDEM_PLANT").is_ok_and(|injected| injected == name)
}

/// Always false, in a build without the feature `fault-injection`.
#[cfg(not(feature = "fault-injection"))]
#[must_use]
pub const fn is_injected(_name: &str) -> bool {
    false
}
