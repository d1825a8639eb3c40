//! Reading of lists, on connections that stay out of their pool from one list to the next.
//!
//! sqlx asks a connection for a sign of life whenever it is given back. That round trip behind each statement is
//! a tenth of what a page takes, and cannot be left out. So a connection is given back once a minute, or when
//! it was left in the middle of a list.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::{self, AssertSqlSafe, Database, Executor, IntoArguments, Pool, Postgres, Sqlite};
use sea_orm::{DatabaseConnection, DbBackend, DbErr, RuntimeErr, Statement, Values};
use sea_query_sqlx::SqlxValues;

use super::cells::Row;
use crate::error::Error;

/// From then on a connection goes back to its pool, which knows when it is too old.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// One that nobody has used for as long may be dead.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// What is done about a row; it breaks when no more are wanted.
pub(super) type Shown = Result<ControlFlow<()>, Error>;

/// The connections for lists.
#[derive(Debug, Clone)]
pub(super) enum Readers {
    /// Of PostgreSQL.
    Postgres(Arc<Kept<Postgres>>),
    /// Of SQLite.
    Sqlite(Arc<Kept<Sqlite>>),
}

/// Connections that were taken out of a pool, at most half of its own.
#[derive(Debug)]
pub(super) struct Kept<DB: Database> {
    pool: Pool<DB>,
    at_hand: Mutex<Vec<Reader<DB>>>,
}

/// Dropped, it goes back to its pool.
#[derive(Debug)]
struct Reader<DB: Database> {
    connection: PoolConnection<DB>,
    taken_at: Instant,
    used_at: Instant,
}

impl Readers {
    /// With the connections of this pool.
    pub(super) fn of(pool: &DatabaseConnection) -> Self {
        match pool.get_database_backend() {
            DbBackend::Postgres => Self::Postgres(Arc::new(Kept::of(pool.get_postgres_connection_pool()))),
            _ => Self::Sqlite(Arc::new(Kept::of(pool.get_sqlite_connection_pool()))),
        }
    }

    /// Runs a statement and shows each of its rows, until no more are wanted.
    ///
    /// # Errors
    /// When the database fails, or as `show` says.
    pub(super) async fn read(
        &self,
        statement: Statement,
        mut show: impl FnMut(Row<'_>) -> Shown,
    ) -> Result<(), Error> {
        match self {
            Self::Postgres(kept) => kept.read(statement, |row| show(Row::Postgres(row))).await,
            Self::Sqlite(kept) => kept.read(statement, |row| show(Row::Sqlite(row))).await,
        }
    }

    /// How many wait for work.
    pub(super) fn at_hand(&self) -> usize {
        match self {
            Self::Postgres(kept) => kept.at_hand.lock().map_or(0, |at_hand| at_hand.len()),
            Self::Sqlite(kept) => kept.at_hand.lock().map_or(0, |at_hand| at_hand.len()),
        }
    }

    /// Gives all of them back.
    pub(super) fn clear(&self) {
        match self {
            Self::Postgres(kept) => kept.clear(),
            Self::Sqlite(kept) => kept.clear(),
        }
    }
}

impl<DB: Database> Kept<DB> {
    fn of(pool: &Pool<DB>) -> Self {
        Self { pool: pool.clone(), at_hand: Mutex::default() }
    }

    async fn take(&self) -> Result<Reader<DB>, sqlx::Error> {
        let at_hand = self.at_hand.lock().ok().and_then(|mut at_hand| at_hand.pop());
        match at_hand {
            Some(reader) if reader.used_at.elapsed() < IDLE_MAX => Ok(reader),
            _ => {
                let connection = self.pool.acquire().await?;
                Ok(Reader { connection, taken_at: Instant::now(), used_at: Instant::now() })
            }
        }
    }

    fn keep(&self, reader: Reader<DB>) {
        if reader.taken_at.elapsed() < KEPT_FOR
            && let Ok(mut at_hand) = self.at_hand.lock()
            && at_hand.len() < (self.pool.options().get_max_connections() / 2) as usize
            && !self.pool.is_closed()
        {
            at_hand.push(Reader { used_at: Instant::now(), ..reader });
        }
    }

    fn clear(&self) {
        if let Ok(mut at_hand) = self.at_hand.lock() {
            at_hand.clear();
        }
    }

    async fn read(&self, statement: Statement, mut show: impl FnMut(&DB::Row) -> Shown) -> Result<(), Error>
    where
        SqlxValues: IntoArguments<DB>,
        for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    {
        let values = SqlxValues(statement.values.unwrap_or(Values(Vec::new())));
        let query = sqlx::query_with::<DB, _>(AssertSqlSafe(statement.sql), values);
        let mut reader = self.take().await.map_err(failed)?;
        let mut rows = query.fetch(&mut *reader.connection);
        let mut is_at_end = true;
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            if show(&row)?.is_break() {
                is_at_end = rows.try_next().await.map_err(failed)?.is_none();
                break;
            }
        }
        drop(rows);
        if is_at_end {
            self.keep(reader);
        }
        Ok(())
    }
}

fn failed(error: sqlx::Error) -> Error {
    DbErr::Query(RuntimeErr::SqlxError(error.into())).into()
}
