//! Checks a database before a process uses it.
//!
//! Anything that would lose or corrupt data later fails the start of the process, with one line that says
//! what to do.

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{self, ConnectOptions, Connection, Executor, PgConnection, Row};
use tokio::time::timeout;

use super::pool::{ACQUIRE_MAX, PAUSE_FIRST, PAUSE_MAX, is_transient_connect_error};
use crate::clock::Clock;
use domain::limits::CLOCK_SKEW_MS_MAX;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The database cannot be reached.
    #[error("the database cannot be reached{hint}", hint = error_hint(.0))]
    Unreachable(#[source] sqlx::Error),
    /// The database did not answer all checks in time.
    #[error("the database does not answer within {} s", ACQUIRE_MAX.as_secs())]
    Silent,
    /// The database has this encoding, which cannot store all texts.
    #[error("the database is encoded in {0}, which cannot store all texts: create it with ENCODING 'UTF8'")]
    Encoding(String),
    /// The clocks of this machine and of the database differ too much.
    #[error(
        "the clocks of this machine and of the database differ by {} s, more than {} s: set them by NTP",
        .ahead_ms.abs() / 1000,
        CLOCK_SKEW_MS_MAX / 1000
    )]
    Clocks {
        /// How far the clock of this machine is ahead, in milliseconds; negative if it is behind.
        ahead_ms: i64,
    },
    /// A connection pooler in front of PostgreSQL does not keep one session for each connection.
    #[error(
        "a pooler gives each transaction to another session of the database: set pool_mode = session in \
         PgBouncer, or connect to PostgreSQL itself"
    )]
    Pooler,
}

/// Returns what to do about an error whose own text does not say so, or an empty text.
fn error_hint(error: &sqlx::Error) -> &'static str {
    let is_version = |text: &str| text.contains("UnsupportedCertVersion");
    match error {
        sqlx::Error::Tls(error) if is_version(&error.to_string()) => VERSION_1,
        sqlx::Error::Io(error) if is_version(&error.to_string()) => VERSION_1,
        _ => "",
    }
}

const VERSION_1: &str = ": its TLS certificate is of X.509 version 1, which is not accepted: give it one of \
    version 3 (openssl: -addext or -extensions), or set sslmode=disable if the network is private";

/// Connects to PostgreSQL and checks its encoding, its clock, and that no pooler shares sessions. On SQLite
/// there is nothing to check, and it does not connect.
///
/// # Errors
/// [`PreflightError`] with the reason why the database must not be used.
pub async fn preflight(url: &str, clock: &Clock) -> Result<(), PreflightError> {
    if url.starts_with("sqlite:") {
        return Ok(());
    }
    let options: PgConnectOptions = url.parse().map_err(PreflightError::Unreachable)?;
    // Some poolers refuse the startup option `extra_float_digits`, which sqlx sends by default.
    let options = options.application_name("idem").extra_float_digits(None).disable_statement_logging();
    timeout(ACQUIRE_MAX, check_postgres(&options, clock)).await.unwrap_or(Err(PreflightError::Silent))
}

async fn check_postgres(options: &PgConnectOptions, clock: &Clock) -> Result<(), PreflightError> {
    let mut first = connect_with_retries(options).await?;
    let encoding: String = fetch_one_cell(&mut first, "SHOW server_encoding").await?;
    if encoding != "UTF8" {
        return Err(PreflightError::Encoding(encoding));
    }
    let before_ms = clock.now_ms();
    let now = "SELECT (extract(epoch from clock_timestamp()) * 1000)::bigint";
    let of_database_ms: i64 = fetch_one_cell(&mut first, now).await?;
    // The database read its clock at some instant between the two readings of ours. If its time lies between
    // them, the clocks do not differ.
    let ahead_ms = (before_ms - of_database_ms).max(0) + (clock.now_ms() - of_database_ms).min(0);
    if ahead_ms.abs() > CLOCK_SKEW_MS_MAX {
        return Err(PreflightError::Clocks { ahead_ms });
    }
    let mut second = connect_with_retries(options).await?;
    check_no_session_sharing(&mut first, &mut second).await?;
    for connection in [first, second] {
        if let Err(error) = connection.close().await {
            tracing::debug!(%error, "a connection of the start-up check did not close");
        }
    }
    Ok(())
}

/// Checks that no pooler shares sessions. Such a pooler gives the session of the first connection to the
/// second one as soon as that needs one.
async fn check_no_session_sharing(
    first: &mut PgConnection,
    second: &mut PgConnection,
) -> Result<(), PreflightError> {
    let session = "SELECT pg_backend_pid()";
    let before: i32 = fetch_one_cell(first, session).await?;
    second.execute("BEGIN").await.map_err(|error| match error {
        // Some poolers allow no transactions.
        sqlx::Error::Database(_) => PreflightError::Pooler,
        other => PreflightError::Unreachable(other),
    })?;
    let other: i32 = fetch_one_cell(second, session).await?;
    let after: i32 = fetch_one_cell(first, session).await?;
    second.execute("ROLLBACK").await.map_err(PreflightError::Unreachable)?;
    if before == after && before != other { Ok(()) } else { Err(PreflightError::Pooler) }
}

/// Connects, and tries again without end while the database is starting or has no room for more connections.
/// The caller limits the time.
async fn connect_with_retries(options: &PgConnectOptions) -> Result<PgConnection, PreflightError> {
    let mut pause = PAUSE_FIRST;
    loop {
        match options.connect().await {
            Err(error) if is_transient_connect_error(&error) => tokio::time::sleep(pause).await,
            connected => return connected.map_err(PreflightError::Unreachable),
        }
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

/// Runs a statement without parameters and returns its only cell. The statement is not prepared, because a
/// pooler that shares sessions would refuse that before the check of the pooler.
async fn fetch_one_cell<T>(connection: &mut PgConnection, sql: &'static str) -> Result<T, PreflightError>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let row = connection.fetch_one(sql).await.map_err(PreflightError::Unreachable)?;
    row.try_get(0).map_err(PreflightError::Unreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_a_certificate_of_version_1_says_what_to_do() {
        let cause = || "invalid peer certificate: UnsupportedCertVersion";
        for error in [
            sqlx::Error::Tls(cause().into()),
            sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, cause())),
        ] {
            let text = PreflightError::Unreachable(error).to_string();
            assert!(text.contains("version 1") && text.contains("sslmode=disable"), "{text}");
        }
        let other = PreflightError::Unreachable(sqlx::Error::PoolClosed).to_string();
        assert_eq!(other, "the database cannot be reached");
    }
}
