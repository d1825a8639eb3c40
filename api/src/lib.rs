//! GraphQL and HTTP: async-graphql and axum live here and nowhere else.
//!
//! A request is met by `http`, named by `auth`, weighed by `gate`, paid for at `limiter` and answered by
//! `graphql`.

mod auth;
mod error;
pub mod graphql;
mod http;
mod limiter;
pub mod query_limits;

pub use auth::{Keys, KeysError};
pub use graphql::{Services, sdl};
pub use http::server::{Probes, Server, serve, serve_metrics};
