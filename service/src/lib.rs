//! The use cases of the server, one a file. A use case runs in one transaction, or within its caller's.
//!
//! No other crate writes through `store`. What `api` and `worker` may call without a use case of its own is
//! re-exported here: [`queries`] only read, [`import_lease`] and [`import_upkeep`] are for workers.

pub mod apply_chunk;
mod apply_mutation;
pub mod apply_mutations;
mod control_import;
pub mod create_import;
mod import_events;
pub mod notifier;
mod receive_payload;
pub mod roll_back_chunk;
mod stored_payload;
pub mod write;

use uuid::Uuid;

pub use apply_mutation::apply_mutation;
pub use control_import::control_import;
pub use import_events::{EventsDraft, import_events};
pub use receive_payload::{Receipt, payload_offset, receive_payload};
pub use stored_payload::StoredPayload;

pub use store::clock::Clock;
pub use store::detached;
pub use store::error::Error;
pub use store::payload::Payloads;
pub use store::rarely::Rarely;
pub use store::{Failover, Store, open_to_look, open_to_migrate, preflight};

/// Reads that need no use case. Each names the user whose rows it may see.
pub mod queries {
    pub use store::page;

    /// Users and the newest positions of their feeds.
    pub mod account {
        pub use store::account::resolve;
    }

    /// Checksums of what a user has.
    pub mod digest {
        pub use store::digest::digest;
    }

    /// Events.
    pub mod event {
        pub use store::event::{Filter, Key, count, find, page};
    }

    /// Event types.
    pub mod event_type {
        pub use store::event_type::{Key, count, find, known, page};
    }

    /// The change feed.
    pub mod feed {
        pub use store::feed::{
            Change, ChangePage, PageBounds, Reset, end_of, head_cursor, page, pending, resolve,
        };
    }

    /// Imports.
    pub mod import_job {
        pub use store::import_job::{Key, count, find, find_all, page};
    }

    /// Records of imports that were rejected.
    pub mod import_rejection {
        pub use store::import_rejection::{count, page};
    }

    /// What a client shows of its sync.
    pub mod status {
        pub use store::status::{SourceTotals, Totals, sources, totals};
    }
}

/// The lease by which a worker holds an import.
pub mod import_lease {
    pub use store::import_job::{
        Held, Release, claim, is_another_waiting, note, owners, records_of_day, release, renew,
    };
}

/// What has to be done for imports from time to time.
pub mod import_upkeep {
    pub use store::import_job::{
        due, expire, forget_payload, forget_rejections, forget_usage, longest_wait_ms, stale_payloads,
        stale_rejections,
    };
}

/// Derived columns of older rows, which are filled anew.
pub mod backfill {
    pub use store::backfill::{Backfill, Step, all, restart, step};
}

/// The generation of all feeds.
pub mod feeds {
    pub use store::account::renew_all;
}

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
