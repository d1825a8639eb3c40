//! A pool of database connections. A connection is checked out for one statement or one transaction (decision
//! 0057).
//!
//! Every wait is bounded: for a free connection, for a new one, and for the result of each statement. If a
//! failed statement, COMMIT or ROLLBACK leaves the state of a connection unknown, the connection is closed
//! and never reused.
//!
//! sqlx's own pool is not used, for three reasons. It pings a connection each time it is given back, which
//! takes a tenth of the time of a page. It waits for that ping without a bound. It keeps a connection whose
//! COMMIT has failed.

mod cluster;
mod connection;
mod engine;
mod health;
mod session;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::sqlx::{self, Connection, Postgres, Sqlite};
use sea_orm::{DbBackend, DbErr, RuntimeErr, Statement};
use tokio::sync::{Semaphore, TryAcquireError};
use tokio::time::{sleep, timeout, timeout_at};

use super::row_reader::Row;
use crate::error::{Error, is_timeout};
pub use cluster::Failover;
use connection::OpenConnection;
pub(super) use connection::PooledConnection;
use domain::limits::{ACQUIRE_MS_MAX, CONNECT_MS_MAX};
pub(super) use engine::{Engine, PostgresOptions};
pub use health::Health;
pub(super) use session::Session;

/// A connection that is older than this is closed when it is given back.
const AGE_MAX: Duration = Duration::from_secs(30 * 60);
/// A connection that was idle for longer than this is pinged before it is used again.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// The first pause between two attempts to connect; it doubles up to [`PAUSE_MAX`].
pub(super) const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// The longest pause between two attempts to connect.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a statement or transaction waits for a connection, new or given back.
pub(super) const ACQUIRE_MAX: Duration = Duration::from_millis(ACQUIRE_MS_MAX);
/// How long one attempt to connect, a ping, or closing a connection may take.
pub(super) const CONNECT_MAX: Duration = Duration::from_millis(CONNECT_MS_MAX);

/// Whether a statement reads or writes. Only one that reads may run again after its connection turned out to
/// be dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Writes,
}

/// What a callback for a row returns: `Continue` for the next row, or `Break` if it wants no more rows.
pub(super) type RowResult = Result<std::ops::ControlFlow<()>, Error>;

/// A pool of connections to either database.
#[derive(Debug, Clone)]
pub enum Pool {
    /// Connections to PostgreSQL.
    Postgres(Arc<PoolOf<Postgres>>),
    /// Connections to SQLite.
    Sqlite(Arc<PoolOf<Sqlite>>),
}

/// A pool of connections to one kind of database.
#[derive(Debug)]
pub struct PoolOf<DB: Engine> {
    options: DB::Options,
    size: usize,
    /// How long a statement may take until the client gives up waiting for it.
    statement_max: Duration,
    /// One permit for each connection that can still be checked out. Waiters get permits in order of arrival.
    free: Arc<Semaphore>,
    /// `None` once the pool is closed.
    idle: Mutex<Option<Vec<OpenConnection<DB>>>>,
    health: Arc<Health>,
}

/// A pooled connection to either database.
pub(super) enum AnyConnection {
    Postgres(PooledConnection<Postgres>),
    Sqlite(PooledConnection<Sqlite>),
}

impl Pool {
    /// Makes a pool of at most `size` connections to PostgreSQL. It opens a connection only when one is
    /// needed.
    pub(super) fn new_postgres(
        options: PostgresOptions,
        size: u32,
        statement_max: Duration,
        health: &Arc<Health>,
    ) -> Self {
        Self::Postgres(Arc::new(PoolOf::new(options, size, statement_max, health)))
    }

    /// Makes a pool of at most `size` connections to SQLite. It opens a connection only when one is needed.
    pub(super) fn new_sqlite(
        options: SqliteConnectOptions,
        size: u32,
        statement_max: Duration,
        health: &Arc<Health>,
    ) -> Self {
        Self::Sqlite(Arc::new(PoolOf::new(options, size, statement_max, health)))
    }

    /// Runs a statement that only reads, and calls `on_row` for each row until it breaks. If the connection
    /// turns out to be dead before the first row, the statement runs once more on another connection.
    ///
    /// # Errors
    /// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the statement fails or does
    /// not finish in time; any error that `on_row` returns.
    pub(super) async fn read_rows(
        &self,
        statement: Statement,
        on_row: impl FnMut(Row<'_>) -> RowResult,
    ) -> Result<(), Error> {
        self.run_statement(statement, Effect::Reads, on_row).await
    }

    /// Runs a statement that writes, and calls `on_row` for each row that it returns. It never runs the
    /// statement twice.
    ///
    /// # Errors
    /// As [`Self::read_rows`]. After [`Error::Database`] it is unknown whether the statement took effect.
    pub(super) async fn run_write(
        &self,
        statement: Statement,
        on_row: impl FnMut(Row<'_>) -> RowResult,
    ) -> Result<(), Error> {
        self.run_statement(statement, Effect::Writes, on_row).await
    }

    async fn run_statement(
        &self,
        statement: Statement,
        effect: Effect,
        mut on_row: impl FnMut(Row<'_>) -> RowResult,
    ) -> Result<(), Error> {
        match self {
            Self::Postgres(pool) => {
                pool.run_retrying_reads(statement, effect, |row| on_row(Row::Postgres(row))).await
            }
            Self::Sqlite(pool) => {
                pool.run_retrying_reads(statement, effect, |row| on_row(Row::Sqlite(row))).await
            }
        }
    }

    /// Checks a connection out: an idle one, or a new one. It waits for at most [`ACQUIRE_MAX`].
    ///
    /// # Errors
    /// [`Error::Busy`] if none is free in time; [`Error::Database`] if a new one cannot be opened.
    pub(super) async fn acquire(&self) -> Result<AnyConnection, Error> {
        Ok(match self {
            Self::Postgres(pool) => AnyConnection::Postgres(pool.acquire().await?),
            Self::Sqlite(pool) => AnyConnection::Sqlite(pool.acquire().await?),
        })
    }

    /// Checks a connection to PostgreSQL out, as [`Self::acquire`] does.
    ///
    /// # Errors
    /// As [`Self::acquire`]; [`Error::Bug`] if it is a pool of SQLite.
    pub(super) async fn acquire_postgres(&self) -> Result<PooledConnection<Postgres>, Error> {
        match self {
            Self::Postgres(pool) => pool.acquire().await,
            Self::Sqlite(_) => Err(Error::Bug("connections of a pool do not write to SQLite")),
        }
    }

    pub(super) fn backend(&self) -> DbBackend {
        match self {
            Self::Postgres(_) => DbBackend::Postgres,
            Self::Sqlite(_) => DbBackend::Sqlite,
        }
    }

    /// How many connections are in use, and how many are idle.
    pub(super) fn connection_counts(&self) -> (usize, usize) {
        match self {
            Self::Postgres(pool) => pool.connection_counts(),
            Self::Sqlite(pool) => pool.connection_counts(),
        }
    }

    /// Closes the idle connections now, and those in use when they are given back. It does not wait for those
    /// in use.
    pub(super) async fn close_idle_and_stop_reuse(&self) {
        match self {
            Self::Postgres(pool) => pool.close_idle_and_stop_reuse().await,
            Self::Sqlite(pool) => pool.close_idle_and_stop_reuse().await,
        }
    }
}

impl<DB: Engine> PoolOf<DB> {
    fn new(options: DB::Options, size: u32, statement_max: Duration, health: &Arc<Health>) -> Self {
        let (size, health) = (size as usize, Arc::clone(health));
        let (free, idle) = (Arc::new(Semaphore::new(size)), Mutex::new(Some(Vec::new())));
        Self { options, size, statement_max, free, idle, health }
    }

    async fn acquire(self: &Arc<Self>) -> Result<PooledConnection<DB>, Error> {
        let deadline = Instant::now() + ACQUIRE_MAX;
        // Usually a connection is free, and then no timer is needed.
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(Error::Busy),
            Err(TryAcquireError::NoPermits) => {
                let permit = timeout_at(deadline.into(), Arc::clone(&self.free).acquire_owned()).await;
                permit.ok().and_then(Result::ok).ok_or(Error::Busy)?
            }
        };
        loop {
            let Some(open) = self.pop_idle()? else { break };
            if let Some(open) = self.drop_unless_usable(open, deadline).await {
                return Ok(PooledConnection::new(open, self, permit));
            }
        }
        let open = self.open_with_retries(deadline).await?;
        Ok(PooledConnection::new(open, self, permit))
    }

    /// Removes and returns the idle connection that was used last, if there is one. So the others grow old
    /// and are closed.
    fn pop_idle(&self) -> Result<Option<OpenConnection<DB>>, Error> {
        let mut idle = self.idle.lock().map_err(|_| Error::Busy)?;
        Ok(idle.as_mut().ok_or(Error::Busy)?.pop())
    }

    /// Checks an idle connection that was taken out of the pool, with a ping if it was idle for long. Returns
    /// it if it can be used, and drops it otherwise. If the ping fails, all connections opened so far are
    /// distrusted.
    async fn drop_unless_usable(
        &self,
        mut open: OpenConnection<DB>,
        deadline: Instant,
    ) -> Option<OpenConnection<DB>> {
        if open.opened_at < self.health.distrusted_before() {
            return None;
        }
        if open.used_at.elapsed() < IDLE_MAX {
            return Some(open);
        }
        match timeout(attempt_timeout(deadline), open.connection.ping()).await {
            Ok(Ok(())) => Some(open),
            _ => {
                self.health.distrust_open_connections();
                None
            }
        }
    }

    /// Opens a connection. It tries again until the deadline, while the server does not listen yet or has no
    /// room for more connections.
    async fn open_with_retries(&self, deadline: Instant) -> Result<OpenConnection<DB>, Error> {
        let mut pause = PAUSE_FIRST;
        loop {
            let error = match self.connect_once(attempt_timeout(deadline)).await {
                Ok(open) => return Ok(open),
                Err(error) => error,
            };
            if !is_transient_connect_error(&error) || Instant::now() + pause >= deadline {
                return Err(DbErr::Conn(RuntimeErr::SqlxError(error.into())).into());
            }
            sleep(pause).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    async fn connect_once(&self, most: Duration) -> Result<OpenConnection<DB>, sqlx::Error> {
        let attempt = self.health.begin_attempt();
        // The time before the attempt: if other connections turn out to be dead during it, this one may lead
        // to the same host, and is distrusted too.
        let opened_at = Instant::now();
        let opened = timeout(most, DB::connect(&self.options)).await;
        let opened =
            opened.unwrap_or_else(|_| Err(timeout_error("the database does not accept connections")));
        attempt.finish_attempt(opened.as_ref().is_err_and(is_timeout));
        let (connection, interrupt) = opened?;
        Ok(OpenConnection { connection, interrupt, opened_at, used_at: Instant::now() })
    }

    /// Keeps a connection in the pool for the next use. It is closed instead if it is too old, may be dead,
    /// or the pool is closed.
    fn put_back(&self, open: OpenConnection<DB>) {
        if open.opened_at.elapsed() < AGE_MAX
            && open.opened_at >= self.health.distrusted_before()
            && let Ok(mut idle) = self.idle.lock()
            && let Some(idle) = idle.as_mut()
        {
            idle.push(OpenConnection { used_at: Instant::now(), ..open });
        }
    }

    fn connection_counts(&self) -> (usize, usize) {
        let idle = self.idle.lock().map_or(0, |idle| idle.as_ref().map_or(0, Vec::len));
        (self.size - self.free.available_permits(), idle)
    }

    async fn close_idle_and_stop_reuse(&self) {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.take());
        for open in idle.into_iter().flatten() {
            if !matches!(timeout(CONNECT_MAX, open.connection.close()).await, Ok(Ok(()))) {
                tracing::debug!("an idle connection did not close when its pool was closed");
            }
        }
    }

    async fn run_retrying_reads(
        self: &Arc<Self>,
        statement: Statement,
        effect: Effect,
        mut on_row: impl FnMut(&DB::Row) -> RowResult,
    ) -> Result<(), Error> {
        let mut rows = 0_usize;
        let mut count = |row: &DB::Row| {
            rows += 1;
            on_row(row)
        };
        let again = if effect == Effect::Reads { Some(statement.clone()) } else { None };
        let Err(error) = self.acquire().await?.read_rows(statement, &mut count).await else { return Ok(()) };
        match again {
            Some(statement) if rows == 0 && error.is_lost_connection() => {
                self.acquire().await?.read_rows(statement, &mut on_row).await
            }
            _ => Err(error),
        }
    }
}

/// How long an attempt to connect, or a ping, may take: until the deadline, but at most [`CONNECT_MAX`].
fn attempt_timeout(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).min(CONNECT_MAX)
}

/// Whether another attempt to connect may succeed soon: the server does not listen or answer yet, is starting
/// (`cannot_connect_now`), or has no room (`too_many_connections`).
pub(super) fn is_transient_connect_error(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => {
            matches!(error.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::TimedOut)
        }
        sqlx::Error::Database(error) => error.code().is_some_and(|code| ["57P03", "53300"].contains(&&*code)),
        _ => false,
    }
}

/// Makes the error that stands for a wait that took too long: an I/O error of the kind `TimedOut`.
pub(super) fn timeout_error(what: &'static str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
}

#[cfg(test)]
mod tests;
