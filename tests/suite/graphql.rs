//! What is special to GraphQL: the schema, the fast JSON writer, persisted queries.

mod json_writer;
mod persisted_queries;
mod schema;
