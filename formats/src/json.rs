//! Reads events as JSON: an array of objects, or single objects, which NDJSON has as well.

mod array;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use array::ArrayReader;
pub(crate) use record::parse_record_reporting_unknown_fields;
pub use record::{draft_to_ndjson_line, parse_record};
