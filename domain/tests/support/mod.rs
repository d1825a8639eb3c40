//! What the oracle test of `apply` is made of: the oracle, and the calls it is asked about.

pub mod oracle;
pub mod universe;
