//! Checks whether a connection leads to the same PostgreSQL cluster that has assigned the feed positions so
//! far (decision 0060).
//!
//! After a failover to a standby that lacks the last writes, and after a restore, positions would be assigned
//! twice. A device would then miss the changes at positions that it believes to know. PostgreSQL begins a new
//! timeline in these cases (manual, section 26.3.5), and another cluster has another system identifier.
//!
//! Each new connection reads both before it is used, and compares them with the row of `cluster_state`. If
//! they differ, all feeds get a new generation. Every earlier cursor then leads to a reset, and the devices
//! send again what was lost.

use sea_orm::sqlx::{self, Connection, PgConnection, Row};

use crate::clock::Clock;

/// What a failover to another server may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failover {
    /// The last writes may be lost, because replication is asynchronous, or because it is not known to be
    /// synchronous.
    Lossy,
    /// No acknowledged write is lost, because a write is acknowledged only when the standby that may take
    /// over has it.
    Lossless,
}

/// The error codes of hosted services that do not let a role read the identity of the cluster:
/// `insufficient_privilege`, `undefined_function`, `feature_not_supported`.
const IDENTITY_REFUSED: [&str; 3] = ["42501", "42883", "0A000"];

/// Which PostgreSQL cluster a server belongs to, and on which timeline it is.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    system_identifier: String,
    timeline: i64,
}

/// Compares the cluster of a connection with the recorded one. If it is another one, it is recorded. Unless
/// the failover is lossless, all earlier cursors are then invalid before this returns.
///
/// # Errors
/// [`sqlx::Error`] if the database fails, or if the server is a standby.
pub(super) async fn check_and_record_cluster(
    connection: &mut PgConnection,
    failover: Failover,
) -> Result<(), sqlx::Error> {
    let state = "SELECT pg_is_in_recovery(), to_regclass('cluster_state') IS NOT NULL";
    let state = sqlx::query(state).fetch_one(&mut *connection).await?;
    if state.try_get(0)? {
        // It counts as a server that does not listen, and is tried again: the name may soon lead to the new
        // primary.
        let standby = "the server is a standby, which writes nothing";
        return Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, standby)));
    }
    // The table does not exist before the migrations ran. Then there are no cursors either.
    if !state.try_get::<bool, _>(1)? {
        return Ok(());
    }
    match read_identity(connection).await {
        Ok(now) => record_identity_if_changed(connection, now, failover).await,
        Err(sqlx::Error::Database(error))
            if error.code().is_some_and(|code| IDENTITY_REFUSED.contains(&&*code)) =>
        {
            tracing::warn!(
                %error,
                "the database role may not identify the cluster; a failover that loses writes will go \
                 unnoticed"
            );
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn read_identity(connection: &mut PgConnection) -> Result<Identity, sqlx::Error> {
    // The name of the current WAL file begins with the timeline. It changes at once;
    // `pg_control_checkpoint()` shows a new timeline only after a checkpoint.
    let sql = "SELECT (SELECT system_identifier::text FROM pg_control_system()), \
        ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint";
    let row = sqlx::query(sql).fetch_one(connection).await?;
    Ok(Identity { system_identifier: row.try_get(0)?, timeline: row.try_get(1)? })
}

async fn record_identity_if_changed(
    connection: &mut PgConnection,
    now: Identity,
    failover: Failover,
) -> Result<(), sqlx::Error> {
    let recorded = "SELECT system_identifier, timeline FROM cluster_state WHERE id = 1";
    let Some(row) = sqlx::query(recorded).fetch_optional(&mut *connection).await? else {
        return Ok(());
    };
    let (Some(system_identifier), Some(timeline)) = (row.try_get(0)?, row.try_get(1)?) else {
        return record_identity(connection, &now, None).await.map(drop);
    };
    let before = Identity { system_identifier, timeline };
    if before == now {
        return Ok(());
    }
    // If nothing was recorded here, another process has recorded the same a moment before.
    if record_identity(connection, &now, Some((&before, failover))).await? && failover == Failover::Lossy {
        metrics::counter!("idem_failovers_total").increment(1);
        tracing::warn!(
            ?before,
            ?now,
            "another database cluster has taken over; every device starts its sync over"
        );
    }
    Ok(())
}

/// Records `now` as the cluster if the recorded one is still `before`. Returns whether it did. After a lossy
/// failover it begins a new generation of all feeds in the same statement.
async fn record_identity(
    connection: &mut PgConnection,
    now: &Identity,
    before: Option<(&Identity, Failover)>,
) -> Result<bool, sqlx::Error> {
    // A random number, because the cluster that was lost may have begun further generations. Never 0, which
    // stands for the first one.
    let generation = match before {
        Some((_, Failover::Lossy)) => Some(Clock::System.random_i64() | 1),
        _ => None,
    };
    let sql = "UPDATE cluster_state SET system_identifier = $1, timeline = $2, \
        generation = coalesce($3, generation) WHERE id = 1 \
        AND system_identifier IS NOT DISTINCT FROM $4 AND timeline IS NOT DISTINCT FROM $5";
    let before = before.map(|(before, _)| before);
    // A server that has just taken over may have no standby yet. Waiting for one to confirm this commit would
    // stop even reads. If the commit is lost with the server, the next server is another cluster again.
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
