//! Tests faults and changes of the database under a running server, and what users see of them.

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
