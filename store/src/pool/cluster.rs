//! Whether a connection leads to the cluster that handed out the positions of the feeds so far.
//!
//! After a failover to a standby that had not received everything, and after a restore, positions would be handed out
//! twice, and a device would miss what stands at those that it knows already. PostgreSQL begins a new timeline then
//! (manual, section 26.3.5), and another cluster has another system identifier. Each new connection looks at both
//! before it is used, and compares them with a row of ours. If they differ, the feeds get a new generation: every
//! cursor of before is answered with a reset, and the devices bring back what was lost.

use sea_orm::sqlx::{self, Connection, PgConnection, Row};

use crate::clock::Clock;

/// What may be lost when another server takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failover {
    /// The last writes: replication is asynchronous, or nobody knows.
    Lossy,
    /// Nothing: a write is acknowledged when the standby that may take over has it.
    Lossless,
}

/// Some services do not let a role ask: `insufficient_privilege`, `undefined_function`, `feature_not_supported`.
const NOT_TOLD: [&str; 3] = ["42501", "42883", "0A000"];

/// The identity of a cluster.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    system_identifier: String,
    timeline: i64,
}

/// Compares the cluster with the one that was recorded. Cursors of a cluster that is another one become invalid before
/// this returns.
///
/// # Errors
/// If the database fails, or is a standby.
pub(super) async fn check(connection: &mut PgConnection, failover: Failover) -> Result<(), sqlx::Error> {
    let state = "SELECT pg_is_in_recovery(), to_regclass('cluster_state') IS NOT NULL";
    let state = sqlx::query(state).fetch_one(&mut *connection).await?;
    if state.try_get(0)? {
        // As one that does not listen: the name may lead to another server in a moment.
        let standby = "the server is a standby, which writes nothing";
        return Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, standby)));
    }
    // Before the migrations there are no cursors either.
    if !state.try_get::<bool, _>(1)? {
        return Ok(());
    }
    match identity(connection).await {
        Ok(now) => compare(connection, now, failover).await,
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| NOT_TOLD.contains(&&*code)) => {
            tracing::warn!(%error, "a lossy failover would not be noticed: the cluster cannot be identified");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn identity(connection: &mut PgConnection) -> Result<Identity, sqlx::Error> {
    // The name of the log file that is written tells the timeline at once, other functions after a checkpoint.
    let sql = "SELECT (SELECT system_identifier::text FROM pg_control_system()), \
        ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint";
    let row = sqlx::query(sql).fetch_one(connection).await?;
    Ok(Identity { system_identifier: row.try_get(0)?, timeline: row.try_get(1)? })
}

async fn compare(
    connection: &mut PgConnection,
    now: Identity,
    failover: Failover,
) -> Result<(), sqlx::Error> {
    let recorded = "SELECT system_identifier, timeline FROM cluster_state WHERE id = 1";
    let Some(row) = sqlx::query(recorded).fetch_optional(&mut *connection).await? else {
        return Ok(());
    };
    let (Some(system_identifier), Some(timeline)) = (row.try_get(0)?, row.try_get(1)?) else {
        return record(connection, &now, None).await.map(drop);
    };
    let before = Identity { system_identifier, timeline };
    if before == now {
        return Ok(());
    }
    // If it is not recorded, another process was faster and has done the same.
    if record(connection, &now, Some((&before, failover))).await? && failover == Failover::Lossy {
        metrics::counter!("idem_failovers_total").increment(1);
        tracing::warn!(?before, ?now, "another database cluster has taken over: all devices sync anew");
    }
    Ok(())
}

/// Records the cluster, unless something else than `before` is recorded by now.
async fn record(
    connection: &mut PgConnection,
    now: &Identity,
    before: Option<(&Identity, Failover)>,
) -> Result<bool, sqlx::Error> {
    // Random and never 0: the cluster that was lost may have counted on.
    let generation = match before {
        Some((_, Failover::Lossy)) => Some(Clock::System.random() | 1),
        _ => None,
    };
    let sql = "UPDATE cluster_state SET system_identifier = $1, timeline = $2, \
        generation = coalesce($3, generation) WHERE id = 1 \
        AND system_identifier IS NOT DISTINCT FROM $4 AND timeline IS NOT DISTINCT FROM $5";
    let before = before.map(|(before, _)| before);
    // A server that has just taken over may have no standby yet that would confirm it, and nobody could even read.
    // If this is lost with the server, the next one is another cluster again.
    let mut tx = connection.begin().await?;
    sqlx::query("SET LOCAL synchronous_commit = local").execute(&mut *tx).await?;
    let recorded = sqlx::query(sql)
        .bind(&now.system_identifier)
        .bind(now.timeline)
        .bind(generation)
        .bind(before.map(|before| &before.system_identifier))
        .bind(before.map(|before| before.timeline))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(recorded.rows_affected() == 1)
}
