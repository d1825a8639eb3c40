//! The parts of the oracle test of `apply`: the oracle, and a generator of calls.

pub mod generator;
pub mod oracle;
