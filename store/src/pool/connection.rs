//! A connection while it is checked out of the pool: it runs statements and a transaction, and is cleaned up
//! afterwards.
//!
//! The connection knows what it is in the middle of. If its user is dropped there, the statement or
//! transaction is ended in the background before the connection is reused.

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use sea_orm::sqlx::{self, Connection};
use sea_orm::{DbErr, QueryResult, RuntimeErr, Statement};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use super::{AnyConnection, CONNECT_MAX, Engine, PoolOf, RowResult, timeout_error};
use crate::error::{Error, is_lost_connection, is_timeout};

/// The most rows that are read and dropped after the last wanted row of a statement. If it has more, the
/// statement is ended in the background.
const REST_MAX: usize = 16;
/// How long a connection may take to end a statement or transaction that was abandoned. After that it is
/// closed, and the database ends the statement.
const END_MAX: Duration = Duration::from_millis(500);

/// An open connection, idle in a pool or checked out.
pub(super) struct OpenConnection<DB: Engine> {
    pub(super) connection: DB::Connection,
    /// Setting it ends the statement that runs on this connection. `None` on PostgreSQL, which ends a
    /// statement by itself when its connection is closed.
    pub(super) interrupt: Option<Arc<AtomicBool>>,
    pub(super) opened_at: Instant,
    pub(super) used_at: Instant,
}

impl<DB: Engine> std::fmt::Debug for OpenConnection<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenConnection").field("opened_at", &self.opened_at).finish_non_exhaustive()
    }
}

/// What a connection that is checked out is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing runs. The connection can be reused.
    Idle,
    /// A statement outside of a transaction runs.
    Statement,
    /// A transaction is open, and no statement runs.
    Transaction,
    /// A statement of the transaction has failed. The transaction can only be rolled back.
    Failed,
    /// The state is unknown. The connection must be closed.
    Unknown,
}

/// A connection that is checked out of a pool. When it is dropped, what it is in the middle of is ended in
/// the background, and then it goes back to the pool or is closed.
pub(crate) struct PooledConnection<DB: Engine> {
    /// `None` only while it is dropped.
    open: Option<OpenConnection<DB>>,
    state: State,
    pool: Arc<PoolOf<DB>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<DB: Engine> Drop for PooledConnection<DB> {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        if self.state == State::Idle {
            self.pool.put_back(open);
        } else if let Ok(runtime) = Handle::try_current() {
            let (pool, permit) = (Arc::clone(&self.pool), self.permit.take());
            let state = self.state;
            runtime.spawn(async move {
                if let Some(open) = end_abandoned_work(open, state).await {
                    pool.put_back(open);
                }
                drop(permit);
            });
        }
    }
}

/// Ends the statement, or rolls back the transaction, that a dropped connection is in the middle of. Returns
/// `None` if the connection had to be closed.
async fn end_abandoned_work<DB: Engine>(
    mut open: OpenConnection<DB>,
    state: State,
) -> Option<OpenConnection<DB>> {
    if let Some(interrupt) = &open.interrupt {
        interrupt.store(true, Ordering::Relaxed);
    }
    let connection = &mut open.connection;
    let ended = match state {
        State::Idle => true,
        // To get the response of the ping, the driver first reads the remaining rows of the statement.
        State::Statement => matches!(timeout(END_MAX, connection.ping()).await, Ok(Ok(()))),
        State::Transaction | State::Failed => {
            matches!(timeout(END_MAX, DB::run_command(connection, "ROLLBACK")).await, Ok(Ok(())))
        }
        State::Unknown => false,
    };
    if ended {
        if let Some(interrupt) = &open.interrupt {
            interrupt.store(false, Ordering::Relaxed);
        }
        return Some(open);
    }
    // Closing is awaited, because SQLite releases the lock of a transaction only then.
    let _closed = timeout(CONNECT_MAX, DB::close_connection(open.connection)).await;
    None
}

impl<DB: Engine> PooledConnection<DB> {
    pub(super) fn new(
        open: OpenConnection<DB>,
        pool: &Arc<PoolOf<DB>>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self { open: Some(open), state: State::Idle, pool: Arc::clone(pool), permit: Some(permit) }
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::Database`] if the database fails; [`Error::Bug`] if a transaction is open already.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        if self.state != State::Idle {
            return Err(Error::Bug("a transaction does not begin within another"));
        }
        self.state = State::Unknown;
        self.run_command("BEGIN").await.map_err(to_query_error)?;
        self.state = State::Transaction;
        Ok(())
    }

    /// Commits the transaction. If that fails the connection is not used again.
    ///
    /// # Errors
    /// [`Error::Database`] if the database fails; then it is unknown whether the transaction is committed.
    /// [`Error::Bug`] if no transaction is open, or one of its statements has failed.
    pub(crate) async fn commit(&mut self) -> Result<(), Error> {
        if self.state != State::Transaction {
            return Err(Error::Bug(
                "a transaction is committed once, and only if all its statements succeeded",
            ));
        }
        self.end_transaction("COMMIT").await
    }

    /// Rolls the transaction back. If that fails the connection is not used again.
    ///
    /// # Errors
    /// [`Error::Database`] if the database fails; then closing the connection ends the transaction.
    /// [`Error::Bug`] if no transaction is open.
    pub(crate) async fn roll_back(&mut self) -> Result<(), Error> {
        if !matches!(self.state, State::Transaction | State::Failed) {
            return Err(Error::Bug("only a transaction is rolled back"));
        }
        self.end_transaction("ROLLBACK").await
    }

    /// Ends the transaction with `command`, which is COMMIT or ROLLBACK.
    async fn end_transaction(&mut self, command: &'static str) -> Result<(), Error> {
        self.state = State::Unknown;
        self.run_command(command).await.map_err(to_query_error)?;
        self.state = State::Idle;
        Ok(())
    }

    async fn run_command(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        let open = self.open.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        let done = with_timeout(&self.pool, DB::run_command(&mut open.connection, sql)).await;
        self.distrust_all_if_lost(done.as_ref().err());
        done
    }

    /// Runs a statement, and returns the result of the driver, which has the number of changed rows.
    ///
    /// # Errors
    /// [`DbErr::Exec`] if the statement fails or does not finish in time.
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<DB::QueryResult, DbErr> {
        let failed = |error: sqlx::Error| DbErr::Exec(RuntimeErr::SqlxError(error.into()));
        let state = self.enter_statement().map_err(failed)?;
        let open = self.open.as_mut().ok_or(failed(sqlx::Error::WorkerCrashed))?;
        let done = with_timeout(&self.pool, DB::execute(&mut open.connection, statement)).await;
        self.leave_statement(state, done.as_ref().err());
        done.map_err(failed)
    }

    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// [`DbErr::Query`] if the statement fails or does not finish in time.
    pub(crate) async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<DB::Row>, DbErr> {
        let failed = |error: sqlx::Error| DbErr::Query(RuntimeErr::SqlxError(error.into()));
        let state = self.enter_statement().map_err(failed)?;
        let open = self.open.as_mut().ok_or(failed(sqlx::Error::WorkerCrashed))?;
        let rows = with_timeout(&self.pool, DB::fetch_all(&mut open.connection, statement)).await;
        self.leave_statement(state, rows.as_ref().err());
        rows.map_err(failed)
    }

    /// Runs a statement outside of a transaction, and calls `on_row` for each row until it breaks.
    pub(super) async fn read_rows(
        mut self,
        statement: Statement,
        mut on_row: impl FnMut(&DB::Row) -> RowResult,
    ) -> Result<(), Error> {
        let state = self.enter_statement().map_err(to_query_error)?;
        let Some(open) = &mut self.open else { return Err(Error::Bug("a pooled connection is open")) };
        let read = async {
            let mut rows = DB::stream_rows(&mut open.connection, statement);
            let (mut is_wanted, mut rest) = (true, 0);
            while let Some(row) = rows.try_next().await? {
                // Many rows can be there at once. Other requests must not wait until all of them are read.
                consume_budget().await;
                if is_wanted {
                    match on_row(&row) {
                        Ok(next) => is_wanted = next.is_continue(),
                        Err(error) => return Ok(Err(error)),
                    }
                } else {
                    rest += 1;
                }
                if rest > REST_MAX {
                    return Ok(Ok(ControlFlow::Break(())));
                }
            }
            Ok(Ok(ControlFlow::Continue(())))
        };
        match with_timeout(&self.pool, read).await {
            Ok(Ok(ControlFlow::Continue(()))) => {
                self.leave_statement(state, None);
                Ok(())
            }
            // The state stays `Statement`, so that the rest of the rows is ended in the background.
            Ok(Ok(ControlFlow::Break(()))) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(error) => {
                self.leave_statement(state, Some(&error));
                Err(to_query_error(error))
            }
        }
    }

    /// Enters the state of a running statement. Returns the state before, to which [`Self::leave_statement`]
    /// goes back.
    fn enter_statement(&mut self) -> Result<State, sqlx::Error> {
        let before = self.state;
        self.state = match before {
            State::Idle => State::Statement,
            State::Transaction => State::Unknown,
            State::Statement | State::Failed | State::Unknown => {
                return Err(sqlx::Error::Configuration(
                    "an earlier statement of the transaction has failed".into(),
                ));
            }
        };
        Ok(before)
    }

    /// Leaves the state of a running statement. After a failure a transaction can only be rolled back. SQLite
    /// may have rolled it back by itself, and would then store each further statement on its own.
    fn leave_statement(&mut self, before: State, error: Option<&sqlx::Error>) {
        let is_lost = self.distrust_all_if_lost(error);
        self.state = match (before, error) {
            (_, Some(_)) if is_lost => State::Unknown,
            (State::Transaction, Some(_)) => State::Failed,
            _ => before,
        };
    }

    /// Whether an error means that the connection is dead or does not answer. If so, it marks all connections
    /// opened so far as distrusted.
    fn distrust_all_if_lost(&self, error: Option<&sqlx::Error>) -> bool {
        let is_lost =
            error.is_some_and(|error| matches!(error, sqlx::Error::Io(_)) || is_lost_connection(error));
        if is_lost {
            self.pool.health.distrust_open_connections();
        }
        is_lost
    }
}

/// Waits for a result of the database, at most for the pool's `statement_max`. Then the error is a timeout.
/// It also records whether the database answered.
async fn with_timeout<DB: Engine, T>(
    pool: &PoolOf<DB>,
    result: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let attempt = pool.health.begin_attempt();
    let result = timeout(pool.statement_max, result).await;
    let result = result.unwrap_or_else(|_| Err(timeout_error("the database does not answer")));
    attempt.finish_attempt(result.as_ref().is_err_and(is_timeout));
    result
}

fn to_query_error(error: sqlx::Error) -> Error {
    DbErr::Query(RuntimeErr::SqlxError(error.into())).into()
}

impl AnyConnection {
    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// [`DbErr::Query`] if the statement fails or does not finish in time.
    pub(crate) async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        Ok(match self {
            Self::Postgres(connection) => {
                let rows = connection.fetch_all(statement).await?;
                rows.into_iter().map(QueryResult::from).collect()
            }
            Self::Sqlite(connection) => {
                let rows = connection.fetch_all(statement).await?;
                rows.into_iter().map(QueryResult::from).collect()
            }
        })
    }
}
