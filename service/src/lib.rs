//! The use cases of the server, one in each file. Each runs in one transaction of its own, or in its
//! caller's.
//!
//! This is the only crate that may write through `store`. It knows nothing of HTTP, GraphQL or the queue.
//! Functions of `store` that `api` and `worker` may call without a use case are re-exported here: [`queries`]
//! writes nothing but account rows, and [`import_lease`] and [`import_upkeep`] are for workers.

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
pub use receive_payload::{Receipt, load_payload_offset, receive_payload};
pub use stored_payload::StoredPayload;

pub use store::clock::Clock;
pub use store::detached;
pub use store::error::Error;
pub use store::log_throttle::LogThrottle;
pub use store::payload::Payloads;
pub use store::{Failover, Store, open_to_check_migrations, open_to_migrate, preflight};

/// Functions that only read, for callers that need no use case. They may still write the account row of the
/// user: create it, or begin a new feed epoch in it. All but those of `account` take the id of the user whose
/// rows they return.
pub mod queries {
    pub use store::page;

    /// Finds the user id for the issuer and the subject of a token. Creates the account row if there is none.
    pub mod account {
        pub use store::account::find_or_create_user_id;
    }

    /// Computes checksums over the living events or event types of a user, which a client compares with its
    /// own.
    pub mod digest {
        pub use store::digest::compute_digest;
    }

    /// Reads the events of a user.
    pub mod event {
        pub use store::event::{Filter, Key, count_matching, find_by_ids_or_aliases, load_page};
    }

    /// Reads the event types of a user.
    pub mod event_type {
        pub use store::event_type::{Key, count_living, find_by_ids_or_aliases, find_by_row_ids, load_page};
    }

    /// Reads the change feed of a user, and checks the cursors of clients.
    pub mod feed {
        pub use store::feed::{
            Change, ChangePage, PageBounds, Reset, count_changes_after_cursor, cursor_at_head,
            load_head_cursor, load_page, resolve_cursor,
        };
    }

    /// Reads the imports of a user.
    pub mod import_job {
        pub use store::import_job::{Key, count_of_user, find, find_by_ids, load_page};
    }

    /// Reads the stored rejections of an import: its records that were rejected, or that differ from the
    /// stored event.
    pub mod import_rejection {
        pub use store::import_rejection::{count_rejections_of_import, load_page};
    }

    /// Counts and adds up the events of a user in the buckets of a calendar.
    pub mod stats {
        pub use store::stats::{Statistics, TOO_SLOW, compute_statistics, count_event_points};
    }

    /// Counts the events, event types and imports of a user. Clients show these totals as the status of their
    /// synchronization.
    pub mod status {
        pub use store::status::{SourceTotals, Totals, load_source_totals, load_totals};
    }
}

/// What a worker needs to run an import: to claim, renew and release its lease, and to ask for the daily
/// limit and for other imports that wait.
pub mod import_lease {
    pub use store::import_job::{
        Held, Release, claim, count_records_of_last_day, find_owners_of_active_import,
        is_another_import_waiting, record_problem, release, renew_lease,
    };
}

/// Regular maintenance of the imports of all users, for the sweeper: it finds the imports to notify workers
/// of, fails expired uploads, and removes old data.
pub mod import_upkeep {
    pub use store::import_job::{
        fail_expired_uploads, find_and_mark_due, find_payloads_past_retention,
        find_rejections_past_retention, longest_wait_ms, mark_payload_and_excerpts_removed, remove_old_usage,
        remove_rejections,
    };
}

/// Backfills: they compute derived columns again for rows that an older version of the program has written.
pub mod backfill {
    pub use store::backfill::{Backfill, Step, load_all, restart_all, run_step};
}

/// Begins a new generation of all change feeds, after a backup was restored. Every client then starts its
/// synchronization over.
pub mod feeds {
    pub use store::account::renew_generation;
}

/// The user who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The id of the user.
    pub user_id: Uuid,
    /// The `iss` claim of the token. Empty if the token has none.
    pub issuer: String,
    /// The `sub` claim of the token.
    pub subject: String,
}
