//! Faults to order, for the tests of the tests: a build with the feature `plant` makes the mistake
//! that `IDEM_PLANT` names. Without the feature nothing can be planted.

/// Whether this mistake is to be made.
#[cfg(feature = "plant")]
#[must_use]
pub fn is_planted(name: &str) -> bool {
    std::env::var("IDEM_PLANT").is_ok_and(|planted| planted == name)
}

/// Never, in a build without the feature `plant`.
#[cfg(not(feature = "plant"))]
#[must_use]
pub const fn is_planted(_name: &str) -> bool {
    false
}
