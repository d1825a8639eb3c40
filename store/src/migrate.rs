//! Connections for the migrations. They have no time-outs: a migration takes as long as it takes.

use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, RuntimeErr};

/// Only one process at a time migrates; the number is any that nobody else uses.
const LOCK: &str = "SELECT pg_advisory_lock(4011776581)";
/// A migration that waits for a table keeps everybody else from it: it had better fail, and be tried again.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '10s'";

/// A connection for migrations, with the lock that lets only one process migrate. Must be closed after use.
///
/// # Errors
/// When the database cannot be reached.
pub async fn open_to_migrate(url: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = options(url);
    options.map_sqlx_sqlite_opts(|sqlite| sqlite.create_if_missing(true).pragma("journal_mode", "WAL"));
    let connection = Database::connect(options).await?;
    if connection.get_database_backend() == DbBackend::Postgres {
        connection.execute_unprepared(LOCK).await?;
        connection.execute_unprepared(LOCK_TIMEOUT).await?;
    }
    Ok(connection)
}

/// A connection to look which migrations were applied, which changes nothing. Must be closed after use. `None` if
/// there is no database of SQLite yet.
///
/// # Errors
/// When the database cannot be reached.
pub async fn open_to_look(url: &str) -> Result<Option<DatabaseConnection>, DbErr> {
    let mut options = options(url);
    if url.starts_with("sqlite:") {
        let sqlite: SqliteConnectOptions = url
            .parse()
            .map_err(|error: sea_orm::sqlx::Error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))?;
        let file = sqlite.get_filename().to_owned();
        if !file.exists() {
            return Ok(None);
        }
        let mut log = file.into_os_string();
        log.push("-wal");
        // Without a log nobody uses it, and even to read it would make one, unless it is taken for immutable.
        let is_at_rest = !std::path::Path::new(&log).exists();
        options.map_sqlx_sqlite_opts(move |sqlite| sqlite.read_only(true).immutable(is_at_rest));
    }
    Database::connect(options).await.map(Some)
}

fn options(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.sqlx_logging(false).max_connections(1);
    options
}
