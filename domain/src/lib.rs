//! What an event is and what may happen to it: pure functions over plain values, held by tables and by
//! generated cases. No I/O, no clock, no ORM, no async.

pub mod apply;
pub mod canonical_json;
pub mod content_hash;
pub mod csv_mapping;
pub mod cursor;
pub mod digest;
pub mod draft;
pub mod event_id;
pub mod fault_injection;
pub mod folded;
pub mod import;
pub mod instant;
pub mod json_text;
pub mod limits;
pub mod mended;
pub mod payload_objects;
pub mod problem;
pub mod row;
pub mod trace_context;
