//! What happens to the database under a running server, and what its users see of it.

mod backfill;
mod commits;
mod failover;
mod heavy;
mod locks;
mod migrations;
mod query_plans;
mod readiness;
mod silence;
mod unusual;
