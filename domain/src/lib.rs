//! Defines events, event types and imports, and decides what a write does to them.
//!
//! All functions are pure and work on plain values, so that tests can check them with tables and with
//! generated cases. This crate does no I/O, reads no clock, and knows no ORM and no async code.

pub mod apply;
pub mod canonical_json;
pub mod case_folding;
pub mod content_hash;
pub mod csv_mapping;
pub mod cursor;
pub mod digest;
pub mod draft;
pub mod event_id;
pub mod fault_injection;
pub mod import;
pub mod instant;
pub mod json_text;
pub mod limits;
pub mod payload_objects;
pub mod problem;
pub mod row;
pub mod stats;
pub mod text_repair;
pub mod trace_context;
