//! What is asked of a database before a process uses it. Whatever would lose or garble something later refuses the
//! start, each with one line that says what to do.

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{self, ConnectOptions, Connection, Executor, PgConnection, Row};
use tokio::time::timeout;

use super::pool::{ACQUIRE_MAX, PAUSE_FIRST, PAUSE_MAX, is_passing};
use crate::clock::Clock;
use domain::limits::CLOCK_SKEW_MS_MAX;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It cannot be reached.
    #[error("the database cannot be reached{hint}", hint = hint(.0))]
    Unreachable(#[source] sqlx::Error),
    /// It does not answer.
    #[error("the database does not answer within {} s", ACQUIRE_MAX.as_secs())]
    Silent,
    /// It cannot hold all texts.
    #[error("the database is encoded in {0}, which cannot hold all texts: create it with ENCODING 'UTF8'")]
    Encoding(String),
    /// Its clock and ours differ.
    #[error(
        "the clocks of this machine and of the database differ by {} s, more than {} s: set them by NTP",
        .ahead_ms.abs() / 1000,
        CLOCK_SKEW_MS_MAX / 1000
    )]
    Clocks {
        /// By so much ours is ahead, in milliseconds.
        ahead_ms: i64,
    },
    /// Something in between gives the statements of a session to several sessions of the database.
    #[error(
        "a pooler gives each transaction to another session of the database: set pool_mode = session in PgBouncer, \
         or connect to PostgreSQL itself"
    )]
    Pooler,
}

/// What to do about an error, where its own words do not say so.
fn hint(error: &sqlx::Error) -> &'static str {
    let is_version = |text: &str| text.contains("UnsupportedCertVersion");
    match error {
        sqlx::Error::Tls(error) if is_version(&error.to_string()) => VERSION_1,
        sqlx::Error::Io(error) if is_version(&error.to_string()) => VERSION_1,
        _ => "",
    }
}

const VERSION_1: &str = ": its TLS certificate is of X.509 version 1, which is not accepted: give it one of version 3 \
    (openssl: -addext or -extensions), or sslmode=disable where the way to it is private";

/// Asks PostgreSQL for all of it; SQLite has none of these faults.
///
/// # Errors
/// If the database must not be used.
pub async fn preflight(url: &str, clock: &Clock) -> Result<(), Unfit> {
    if url.starts_with("sqlite:") {
        return Ok(());
    }
    let options: PgConnectOptions = url.parse().map_err(Unfit::Unreachable)?;
    // Some poolers refuse this one at the start of a session.
    let options = options.application_name("idem").extra_float_digits(None).disable_statement_logging();
    timeout(ACQUIRE_MAX, ask(&options, clock)).await.unwrap_or(Err(Unfit::Silent))
}

async fn ask(options: &PgConnectOptions, clock: &Clock) -> Result<(), Unfit> {
    let mut first = connect(options).await?;
    let encoding: String = one(&mut first, "SHOW server_encoding").await?;
    if encoding != "UTF8" {
        return Err(Unfit::Encoding(encoding));
    }
    let before_ms = clock.now_ms();
    let now = "SELECT (extract(epoch from clock_timestamp()) * 1000)::bigint";
    let of_database_ms: i64 = one(&mut first, now).await?;
    // Somewhere between the question and the answer.
    let ahead_ms = (before_ms - of_database_ms).max(0) + (clock.now_ms() - of_database_ms).min(0);
    if ahead_ms.abs() > CLOCK_SKEW_MS_MAX {
        return Err(Unfit::Clocks { ahead_ms });
    }
    let mut second = connect(options).await?;
    is_one_session(&mut first, &mut second).await?;
    for connection in [first, second] {
        if let Err(error) = connection.close().await {
            tracing::debug!(%error, "a connection did not close");
        }
    }
    Ok(())
}

/// A pooler that shares sessions gives the one of the first connection to the second, as soon as that needs one.
async fn is_one_session(first: &mut PgConnection, second: &mut PgConnection) -> Result<(), Unfit> {
    let session = "SELECT pg_backend_pid()";
    let before: i32 = one(first, session).await?;
    second.execute("BEGIN").await.map_err(|error| match error {
        // Some poolers allow none.
        sqlx::Error::Database(_) => Unfit::Pooler,
        other => Unfit::Unreachable(other),
    })?;
    let other: i32 = one(second, session).await?;
    let after: i32 = one(first, session).await?;
    second.execute("ROLLBACK").await.map_err(Unfit::Unreachable)?;
    if before == after && before != other { Ok(()) } else { Err(Unfit::Pooler) }
}

/// Tries for as long as the database starts or has no room.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Unfit> {
    let mut pause = PAUSE_FIRST;
    loop {
        match options.connect().await {
            Err(error) if is_passing(&error) => tokio::time::sleep(pause).await,
            connected => return connected.map_err(Unfit::Unreachable),
        }
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

/// The one cell that a statement without parameters returns. It is not prepared: a pooler that shares sessions would
/// fail for that first.
async fn one<T>(connection: &mut PgConnection, sql: &'static str) -> Result<T, Unfit>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let row = connection.fetch_one(sql).await.map_err(Unfit::Unreachable)?;
    row.try_get(0).map_err(Unfit::Unreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_too_old_is_told_with_what_to_do() {
        let cause = || "invalid peer certificate: UnsupportedCertVersion";
        for error in [
            sqlx::Error::Tls(cause().into()),
            sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, cause())),
        ] {
            let said = Unfit::Unreachable(error).to_string();
            assert!(said.contains("version 1") && said.contains("sslmode=disable"), "{said}");
        }
        let other = Unfit::Unreachable(sqlx::Error::PoolClosed).to_string();
        assert_eq!(other, "the database cannot be reached");
    }
}
