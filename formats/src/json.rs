//! Events as JSON: an array of objects, and the objects themselves, which NDJSON has as well.

mod array;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use array::Array;
pub(crate) use record::parse_leniently;
pub use record::{parse as parse_record, write as write_record};
