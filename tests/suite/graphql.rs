//! Tests the schema, the fast JSON writer and persisted queries.

mod json_writer;
mod persisted_queries;
mod schema;
