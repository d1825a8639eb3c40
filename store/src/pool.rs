//! Database connections, lent for one statement or one transaction.
//!
//! Every wait has a bound: for a free connection, for a new one, and for the answer to each statement. A connection
//! whose statement, COMMIT or ROLLBACK has failed in a way that leaves its state unknown is closed, never lent again.
//! sqlx's own pool is not used: it sends a ping whenever a connection is given back, which takes a tenth of the time
//! of a page, it waits for that ping without a bound, and it keeps a connection whose COMMIT has failed.

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
use crate::error::Error;
pub use cluster::Failover;
use connection::OpenConnection;
pub(super) use connection::PooledConnection;
use domain::limits::{ACQUIRE_MS_MAX, CONNECT_MS_MAX};
pub(super) use engine::{Engine, PostgresOptions};
pub use health::Health;
pub(super) use session::Session;

/// A connection that is older is closed when it is given back.
const AGE_MAX: Duration = Duration::from_secs(30 * 60);
/// A connection that was idle for longer is asked for an answer before it is lent.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// The first pause between two attempts to connect; it doubles up to [`PAUSE_MAX`].
pub(super) const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// The longest pause between two attempts to connect.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long whoever needs a connection waits for one, new or given back.
pub(super) const ACQUIRE_MAX: Duration = Duration::from_millis(ACQUIRE_MS_MAX);
/// How long one attempt to connect may take, and a ping.
const CONNECT_MAX: Duration = Duration::from_millis(CONNECT_MS_MAX);

/// What a statement does, and so whether it may run again if its connection was dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Writes,
}

/// What the reader of a row wants next: `Break` means no more rows.
pub(super) type Shown = Result<std::ops::ControlFlow<()>, Error>;

/// A pool of connections to either database.
#[derive(Debug, Clone)]
pub enum Pool {
    /// To PostgreSQL.
    Postgres(Arc<PoolOf<Postgres>>),
    /// To SQLite.
    Sqlite(Arc<PoolOf<Sqlite>>),
}

/// A pool of connections to one kind of database.
#[derive(Debug)]
pub struct PoolOf<DB: Engine> {
    options: DB::Settings,
    size: usize,
    /// How long the answer to a statement may take.
    statement_max: Duration,
    free: Arc<Semaphore>,
    /// `None` once the pool is closed.
    idle: Mutex<Option<Vec<OpenConnection<DB>>>>,
    health: Arc<Health>,
}

/// A lent connection to either database.
pub(super) enum AnyConnection {
    Postgres(PooledConnection<Postgres>),
    Sqlite(PooledConnection<Sqlite>),
}

impl Pool {
    /// A pool of at most `size` connections to PostgreSQL. None is opened before it is needed.
    pub(super) fn postgres(
        options: PostgresOptions,
        size: u32,
        statement_max: Duration,
        health: &Arc<Health>,
    ) -> Self {
        Self::Postgres(Arc::new(PoolOf::new(options, size, statement_max, health)))
    }

    /// A pool of at most `size` connections to SQLite. None is opened before it is needed.
    pub(super) fn sqlite(
        options: SqliteConnectOptions,
        size: u32,
        statement_max: Duration,
        health: &Arc<Health>,
    ) -> Self {
        Self::Sqlite(Arc::new(PoolOf::new(options, size, statement_max, health)))
    }

    /// Runs a statement that only reads, and shows each row until no more are wanted. If the connection turns out
    /// to be dead before the first row, the statement runs once more on another one.
    ///
    /// # Errors
    /// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the statement fails or is not
    /// answered in time; whatever `show` returns.
    pub(super) async fn read(
        &self,
        statement: Statement,
        mut show: impl FnMut(Row<'_>) -> Shown,
    ) -> Result<(), Error> {
        match self {
            Self::Postgres(pool) => pool.read(statement, Effect::Reads, |row| show(Row::Postgres(row))).await,
            Self::Sqlite(pool) => pool.read(statement, Effect::Reads, |row| show(Row::Sqlite(row))).await,
        }
    }

    /// Runs a statement that writes, once, and shows each row that it returns.
    ///
    /// # Errors
    /// As [`Self::read`]. After [`Error::Database`] it is unknown whether the statement took effect.
    pub(super) async fn write(
        &self,
        statement: Statement,
        mut show: impl FnMut(Row<'_>) -> Shown,
    ) -> Result<(), Error> {
        match self {
            Self::Postgres(pool) => {
                pool.read(statement, Effect::Writes, |row| show(Row::Postgres(row))).await
            }
            Self::Sqlite(pool) => pool.read(statement, Effect::Writes, |row| show(Row::Sqlite(row))).await,
        }
    }

    /// Lends a connection.
    ///
    /// # Errors
    /// [`Error::Busy`] if none is free in time; [`Error::Database`] if a new one cannot be opened.
    pub(super) async fn acquire(&self) -> Result<AnyConnection, Error> {
        Ok(match self {
            Self::Postgres(pool) => AnyConnection::Postgres(pool.acquire().await?),
            Self::Sqlite(pool) => AnyConnection::Sqlite(pool.acquire().await?),
        })
    }

    pub(super) fn backend(&self) -> DbBackend {
        match self {
            Self::Postgres(_) => DbBackend::Postgres,
            Self::Sqlite(_) => DbBackend::Sqlite,
        }
    }

    /// How many connections are lent, and how many are idle.
    pub(super) fn usage(&self) -> (usize, usize) {
        match self {
            Self::Postgres(pool) => pool.usage(),
            Self::Sqlite(pool) => pool.usage(),
        }
    }

    /// Closes the idle connections now, and the lent ones when they are given back.
    pub(super) async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite(pool) => pool.close().await,
        }
    }
}

impl<DB: Engine> PoolOf<DB> {
    fn new(options: DB::Settings, size: u32, statement_max: Duration, health: &Arc<Health>) -> Self {
        let (size, health) = (size as usize, Arc::clone(health));
        let (free, idle) = (Arc::new(Semaphore::new(size)), Mutex::new(Some(Vec::new())));
        Self { options, size, statement_max, free, idle, health }
    }

    async fn acquire(self: &Arc<Self>) -> Result<PooledConnection<DB>, Error> {
        let deadline = Instant::now() + ACQUIRE_MAX;
        // Most often one is free, and no timer is needed.
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(Error::Busy),
            Err(TryAcquireError::NoPermits) => {
                let permit = timeout_at(deadline.into(), Arc::clone(&self.free).acquire_owned()).await;
                permit.ok().and_then(Result::ok).ok_or(Error::Busy)?
            }
        };
        loop {
            let Some(open) = self.pop()? else { break };
            if let Some(open) = self.check_alive(open, deadline).await {
                return Ok(PooledConnection::new(open, self, permit));
            }
        }
        let open = self.open(deadline).await?;
        Ok(PooledConnection::new(open, self, permit))
    }

    /// The connection that was used last, if there is an idle one.
    fn pop(&self) -> Result<Option<OpenConnection<DB>>, Error> {
        let mut idle = self.idle.lock().map_err(|_| Error::Busy)?;
        Ok(idle.as_mut().ok_or(Error::Busy)?.pop())
    }

    async fn check_alive(
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
        match timeout(bounded(deadline), open.connection.ping()).await {
            Ok(Ok(())) => Some(open),
            _ => {
                self.health.distrust();
                None
            }
        }
    }

    /// Opens a connection, and tries again while nobody listens or there is no room.
    async fn open(&self, deadline: Instant) -> Result<OpenConnection<DB>, Error> {
        let mut pause = PAUSE_FIRST;
        loop {
            let error = match self.connect(bounded(deadline)).await {
                Ok(open) => return Ok(open),
                Err(error) => error,
            };
            if !is_passing(&error) || Instant::now() + pause >= deadline {
                return Err(DbErr::Conn(RuntimeErr::SqlxError(error.into())).into());
            }
            sleep(pause).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    async fn connect(&self, most: Duration) -> Result<OpenConnection<DB>, sqlx::Error> {
        let attempt = self.health.attempt();
        // Whoever connects while others find their connections dead may have met the same host.
        let opened_at = Instant::now();
        let opened = timeout(most, DB::connect(&self.options)).await;
        let opened = opened.unwrap_or_else(|_| Err(timed_out("the database does not take connections")));
        attempt.end(opened.as_ref().err());
        let (connection, interrupt) = opened?;
        Ok(OpenConnection { connection, interrupt, opened_at, used_at: Instant::now() })
    }

    fn put_back(&self, open: OpenConnection<DB>) {
        if open.opened_at.elapsed() < AGE_MAX
            && open.opened_at >= self.health.distrusted_before()
            && let Ok(mut idle) = self.idle.lock()
            && let Some(idle) = idle.as_mut()
        {
            idle.push(OpenConnection { used_at: Instant::now(), ..open });
        }
    }

    fn usage(&self) -> (usize, usize) {
        let idle = self.idle.lock().map_or(0, |idle| idle.as_ref().map_or(0, Vec::len));
        (self.size - self.free.available_permits(), idle)
    }

    async fn close(&self) {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.take());
        for open in idle.into_iter().flatten() {
            if !matches!(timeout(CONNECT_MAX, open.connection.close()).await, Ok(Ok(()))) {
                tracing::debug!("a connection did not close");
            }
        }
    }

    async fn read(
        self: &Arc<Self>,
        statement: Statement,
        effect: Effect,
        mut show: impl FnMut(&DB::Row) -> Shown,
    ) -> Result<(), Error> {
        let mut shown = 0_usize;
        let mut count = |row: &DB::Row| {
            shown += 1;
            show(row)
        };
        let first = if effect == Effect::Reads { Some(statement.clone()) } else { None };
        let Err(error) = self.acquire().await?.read(statement, &mut count).await else { return Ok(()) };
        match first {
            Some(statement) if shown == 0 && error.is_lost_connection() => {
                self.acquire().await?.read(statement, &mut show).await
            }
            _ => Err(error),
        }
    }
}

/// How long a step may take of what is left until a deadline.
fn bounded(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).min(CONNECT_MAX)
}

/// Whether nobody listens yet, or the server has no room or is starting: `cannot_connect_now`,
/// `too_many_connections`.
pub(super) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => {
            matches!(error.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::TimedOut)
        }
        sqlx::Error::Database(error) => error.code().is_some_and(|code| ["57P03", "53300"].contains(&&*code)),
        _ => false,
    }
}

/// A wait that has reached its bound, in the terms of the driver.
fn timed_out(what: &'static str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
}

#[cfg(test)]
mod tests;
