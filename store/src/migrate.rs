//! Opens the connections for migrations. They have no statement timeout, because a migration may take any
//! time.

use std::time::Duration;

use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, RuntimeErr, Statement,
};
use tokio::time::sleep;

/// The statement of PostgreSQL that keeps others from migrating, unless another process migrates already. The key
/// of the advisory lock is an arbitrary number that no other lock uses.
///
/// A statement that waits for the lock would have a snapshot, and a migration that builds an index beside writes
/// waits for all older snapshots: both would wait for ever.
const LOCK: &str = "SELECT pg_try_advisory_lock(4011776581)";
/// The pause between two attempts to get that lock.
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// Limits how long a migration waits for the lock of a table. All later statements on the table wait after
/// it, so it fails after 10 s, and can be tried again.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '10s'";

/// Opens a connection for migrations. On PostgreSQL it waits, without a time limit, until no other process
/// migrates, and keeps others from it until the caller closes the connection. On SQLite it creates a database
/// file that is missing.
///
/// # Errors
/// [`DbErr`] if the database cannot be reached.
pub async fn open_to_migrate(url: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = connect_options(url);
    options.map_sqlx_sqlite_opts(|sqlite| sqlite.create_if_missing(true).pragma("journal_mode", "WAL"));
    let connection = Database::connect(options).await?;
    if connection.get_database_backend() == DbBackend::Postgres {
        while !try_lock(&connection).await? {
            sleep(LOCK_PAUSE).await;
        }
        connection.execute_unprepared(LOCK_TIMEOUT).await?;
    }
    Ok(connection)
}

async fn try_lock(connection: &DatabaseConnection) -> Result<bool, DbErr> {
    let row = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, LOCK)).await?;
    row.map_or(Ok(false), |row| row.try_get_by_index(0))
}

/// Opens a connection to find out which migrations were applied, which changes nothing. The caller must close
/// it. Returns `None` if the file of a SQLite database does not exist yet.
///
/// # Errors
/// [`DbErr`] if the URL is not valid or the database cannot be reached.
pub async fn open_to_check_migrations(url: &str) -> Result<Option<DatabaseConnection>, DbErr> {
    let mut options = connect_options(url);
    if url.starts_with("sqlite:") {
        let sqlite: SqliteConnectOptions = url
            .parse()
            .map_err(|error: sea_orm::sqlx::Error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))?;
        let file = sqlite.get_filename().to_owned();
        if !file.exists() {
            return Ok(None);
        }
        let mut wal = file.into_os_string();
        wal.push("-wal");
        // If there is no WAL file, no process uses the database. Reading it would create a WAL file, unless
        // it is opened as immutable.
        let is_unused = !std::path::Path::new(&wal).exists();
        options.map_sqlx_sqlite_opts(move |sqlite| sqlite.read_only(true).immutable(is_unused));
    }
    Database::connect(options).await.map(Some)
}

fn connect_options(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.sqlx_logging(false).max_connections(1);
    options
}
