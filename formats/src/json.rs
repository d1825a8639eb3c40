//! Reads events as JSON: an array of objects, or single objects, which NDJSON has as well.

mod array;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use array::ArrayReader;
pub(crate) use record::parse_leniently;
pub use record::{parse as parse_record, write as write_record};
