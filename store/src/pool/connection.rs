//! One connection while it is lent: its statements, its transaction, and what becomes of it afterwards.

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use sea_orm::sqlx::{self, Connection};
use sea_orm::{DbErr, ExecResult, QueryResult, RuntimeErr, Statement};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::{AnyConnection, CONNECT_MAX, Engine, PoolOf, Shown, timed_out};
use crate::error::{Error, is_lost_connection};

/// After the last row that is wanted, so many more are read at once; a list with more is ended in the background.
const REST_MAX: usize = 16;
/// How long a connection may take to end what its reader has left. After that it is closed, and the database ends
/// the statement.
const END_MAX: Duration = Duration::from_millis(500);

/// An open connection.
pub(super) struct OpenConnection<DB: Engine> {
    pub(super) connection: DB::Connection,
    /// Set, it ends the statement that runs on this connection. PostgreSQL has none: it ends a statement whose
    /// connection was closed.
    pub(super) interrupt: Option<Arc<AtomicBool>>,
    pub(super) opened_at: Instant,
    pub(super) used_at: Instant,
}

impl<DB: Engine> std::fmt::Debug for OpenConnection<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenConnection").field("opened_at", &self.opened_at).finish_non_exhaustive()
    }
}

/// What a lent connection is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing: it can be lent again.
    Idle,
    /// A statement outside of a transaction.
    Statement,
    /// A transaction, between two statements.
    Transaction,
    /// A transaction of which a statement has failed: it can only be rolled back.
    Failed,
    /// Unknown: it must be closed.
    Unknown,
}

/// A lent connection. However its use ends, it is idle before it is lent again, or closed.
pub(crate) struct PooledConnection<DB: Engine> {
    /// Always there until it is dropped.
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
                if let Some(open) = end(open, state).await {
                    pool.put_back(open);
                }
                drop(permit);
            });
        }
    }
}

/// Ends what a connection is in the middle of. `None`: it had to be closed.
async fn end<DB: Engine>(mut open: OpenConnection<DB>, state: State) -> Option<OpenConnection<DB>> {
    if let Some(interrupt) = &open.interrupt {
        interrupt.store(true, Ordering::Relaxed);
    }
    let connection = &mut open.connection;
    let ended = match state {
        State::Idle => true,
        // What is left of the answer is read first.
        State::Statement => matches!(timeout(END_MAX, connection.ping()).await, Ok(Ok(()))),
        State::Transaction | State::Failed => {
            matches!(timeout(END_MAX, DB::command(connection, "ROLLBACK")).await, Ok(Ok(())))
        }
        State::Unknown => false,
    };
    if ended {
        if let Some(interrupt) = &open.interrupt {
            interrupt.store(false, Ordering::Relaxed);
        }
        return Some(open);
    }
    // Waited for: SQLite gives up the lock of a transaction with it.
    let _closed = timeout(CONNECT_MAX, DB::end(open.connection)).await;
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

    /// Begins a transaction, never one within another.
    async fn begin(&mut self) -> Result<(), Error> {
        if self.state != State::Idle {
            return Err(Error::Bug("a transaction does not begin within another"));
        }
        self.state = State::Unknown;
        self.command(DB::BEGIN).await.map_err(query_failed)?;
        self.state = State::Transaction;
        Ok(())
    }

    /// Commits. If that fails the connection is not used again.
    async fn commit(&mut self) -> Result<(), Error> {
        if self.state != State::Transaction {
            return Err(Error::Bug(
                "a transaction is committed once, and only if all its statements succeeded",
            ));
        }
        self.finish("COMMIT").await
    }

    /// Rolls back. If that fails the connection is not used again.
    async fn roll_back(&mut self) -> Result<(), Error> {
        if !matches!(self.state, State::Transaction | State::Failed) {
            return Err(Error::Bug("only a transaction is rolled back"));
        }
        self.finish("ROLLBACK").await
    }

    async fn finish(&mut self, command: &'static str) -> Result<(), Error> {
        self.state = State::Unknown;
        self.command(command).await.map_err(query_failed)?;
        self.state = State::Idle;
        Ok(())
    }

    async fn command(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        let open = self.open.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        let done = within(&self.pool, DB::command(&mut open.connection, sql)).await;
        self.note(done.as_ref().err());
        done
    }

    async fn execute(&mut self, statement: Statement) -> Result<DB::QueryResult, sqlx::Error> {
        let state = self.enter()?;
        let open = self.open.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        let done = within(&self.pool, DB::execute(&mut open.connection, statement)).await;
        self.leave(state, done.as_ref().err());
        done
    }

    async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<DB::Row>, sqlx::Error> {
        let state = self.enter()?;
        let open = self.open.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        let rows = within(&self.pool, DB::fetch_all(&mut open.connection, statement)).await;
        self.leave(state, rows.as_ref().err());
        rows
    }

    /// Shows the rows of a statement outside of a transaction until no more are wanted.
    pub(super) async fn read(
        mut self,
        statement: Statement,
        mut show: impl FnMut(&DB::Row) -> Shown,
    ) -> Result<(), Error> {
        let state = self.enter().map_err(query_failed)?;
        let Some(open) = &mut self.open else { return Err(Error::Bug("what is lent is there")) };
        let read = async {
            let mut rows = DB::fetch(&mut open.connection, statement);
            let (mut is_wanted, mut rest) = (true, 0);
            while let Some(row) = rows.try_next().await? {
                if is_wanted {
                    match show(&row) {
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
        match within(&self.pool, read).await {
            Ok(Ok(ControlFlow::Continue(()))) => {
                self.leave(state, None);
                Ok(())
            }
            // The rest is ended in the background.
            Ok(Ok(ControlFlow::Break(()))) => Ok(()),
            Ok(Err(refused)) => Err(refused),
            Err(error) => {
                self.leave(state, Some(&error));
                Err(query_failed(error))
            }
        }
    }

    /// A statement begins. Until it has ended, its connection is in the middle of it.
    fn enter(&mut self) -> Result<State, sqlx::Error> {
        let before = self.state;
        self.state = match before {
            State::Idle => State::Statement,
            State::Transaction => State::Unknown,
            State::Statement | State::Failed | State::Unknown => {
                return Err(sqlx::Error::Configuration("a statement before this one has failed".into()));
            }
        };
        Ok(before)
    }

    /// A statement has ended. After a failure a transaction can only be rolled back: SQLite may have done so by
    /// itself, and would store what follows statement by statement.
    fn leave(&mut self, before: State, error: Option<&sqlx::Error>) {
        let is_lost = self.note(error);
        self.state = match (before, error) {
            (_, Some(_)) if is_lost => State::Unknown,
            (State::Transaction, Some(_)) => State::Failed,
            _ => before,
        };
    }

    /// Whether an error means that nothing more can come over this connection: then others may be dead as well.
    fn note(&self, error: Option<&sqlx::Error>) -> bool {
        let is_lost =
            error.is_some_and(|error| matches!(error, sqlx::Error::Io(_)) || is_lost_connection(error));
        if is_lost {
            self.pool.health.distrust();
        }
        is_lost
    }
}

/// Waits for an answer of the database within the bound of a pool.
async fn within<DB: Engine, T>(
    pool: &PoolOf<DB>,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let attempt = pool.health.attempt();
    let answer = timeout(pool.statement_max, answer).await;
    let answer = answer.unwrap_or_else(|_| Err(timed_out("the database does not answer")));
    attempt.end(answer.as_ref().err());
    answer
}

fn query_failed(error: sqlx::Error) -> Error {
    DbErr::Query(RuntimeErr::SqlxError(error.into())).into()
}

impl AnyConnection {
    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::Database`] if the database fails.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        match self {
            Self::Postgres(connection) => connection.begin().await,
            Self::Sqlite(connection) => connection.begin().await,
        }
    }

    /// Commits the transaction.
    ///
    /// # Errors
    /// [`Error::Database`] if the database fails: then it is unknown whether it is committed.
    pub(crate) async fn commit(&mut self) -> Result<(), Error> {
        match self {
            Self::Postgres(connection) => connection.commit().await,
            Self::Sqlite(connection) => connection.commit().await,
        }
    }

    /// Rolls the transaction back.
    ///
    /// # Errors
    /// [`Error::Database`] if the database fails: then the transaction ends with its connection.
    pub(crate) async fn roll_back(&mut self) -> Result<(), Error> {
        match self {
            Self::Postgres(connection) => connection.roll_back().await,
            Self::Sqlite(connection) => connection.roll_back().await,
        }
    }

    /// Runs a statement that returns no rows.
    ///
    /// # Errors
    /// If the statement fails or is not answered in time.
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        let failed = |error: sqlx::Error| DbErr::Exec(RuntimeErr::SqlxError(error.into()));
        Ok(match self {
            Self::Postgres(connection) => connection.execute(statement).await.map_err(failed)?.into(),
            Self::Sqlite(connection) => connection.execute(statement).await.map_err(failed)?.into(),
        })
    }

    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// If the statement fails or is not answered in time.
    pub(crate) async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let failed = |error: sqlx::Error| DbErr::Query(RuntimeErr::SqlxError(error.into()));
        Ok(match self {
            Self::Postgres(connection) => {
                let rows = connection.fetch_all(statement).await.map_err(failed)?;
                rows.into_iter().map(QueryResult::from).collect()
            }
            Self::Sqlite(connection) => {
                let rows = connection.fetch_all(statement).await.map_err(failed)?;
                rows.into_iter().map(QueryResult::from).collect()
            }
        })
    }
}
