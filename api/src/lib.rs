//! Serves the GraphQL and HTTP API. Only this crate uses async-graphql and axum.
//!
//! A request passes through the modules in this order: `http` receives it, `auth` identifies the user,
//! `query_limits` bounds the document, `limiter` charges for it, and `graphql` executes it.

mod auth;
mod error;
pub mod graphql;
mod http;
mod limiter;
pub mod query_limits;

pub use auth::{Keys, KeysError};
pub use graphql::{Services, sdl};
pub use http::server::{Probes, Server, serve, serve_metrics};
