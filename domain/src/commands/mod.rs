//! One use case, one file. A command is one transaction, or rides one.

pub mod apply_chunk;
mod apply_mutation;
pub mod apply_mutations;
mod control_import;
pub mod create_import;
mod import_events;
mod receive_payload;
pub mod roll_back_chunk;

use uuid::Uuid;

pub use apply_mutation::apply_mutation;
pub use control_import::control_import;
pub use import_events::{EventsDraft, import_events};
pub use receive_payload::{Receipt, payload_offset, receive_payload};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Their user.
    pub user_id: Uuid,
    /// The `iss` of their token; empty when it has none.
    pub issuer: String,
    /// The `sub` of their token.
    pub subject: String,
}
