//! Gives SeaORM's queries the connections of [`super::pool`]: [`Tx`] for transactions, [`Reader`] for single
//! reads.
//!
//! SeaORM's own transactions and sqlx's pool are not used, because they lend a connection again after a
//! COMMIT that has failed (decision 0057).

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement};
use tokio::sync::Mutex;

use super::Store;
use super::lock::LockPermit;
use super::pool::{AnyConnection, Pool};
use crate::error::{Error, is_lost_connection};

/// A transaction that can write. If it is dropped without [`Tx::commit`], it is rolled back in the
/// background.
pub struct Tx {
    pub(super) inner: TxConnection,
    pub(super) store: Store,
    /// While the transaction holds it, no other write of the same user in this process can ask for a lock.
    pub(super) permit: Option<LockPermit>,
}

/// The connection of a transaction, on which SeaORM runs its queries.
pub(super) struct TxConnection {
    connection: Mutex<AnyConnection>,
    backend: DbBackend,
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

impl Tx {
    /// Waits for a connection of `pool` and begins a transaction on it. If that connection turns out to be
    /// dead, it tries one more.
    ///
    /// # Errors
    /// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
    pub(super) async fn begin(store: &Store, pool: &Pool) -> Result<Self, Error> {
        let mut connection = pool.acquire().await?;
        if let Err(error) = connection.begin().await {
            if !error.is_lost_connection() {
                return Err(error);
            }
            drop(connection);
            connection = pool.acquire().await?;
            connection.begin().await?;
        }
        let inner = TxConnection { connection: Mutex::new(connection), backend: pool.backend() };
        Ok(Self { inner, store: store.clone(), permit: None })
    }

    /// Commits: makes the changes durable and visible to others.
    ///
    /// # Errors
    /// [`Error::Database`] if the database failed or did not answer. Then it is unknown whether the
    /// transaction is committed. [`Error::Bug`] if one of its statements had failed before.
    pub async fn commit(self) -> Result<(), Error> {
        self.inner.connection.into_inner().commit().await
    }

    /// Rolls the transaction back. If it has written nothing, this is cheaper than a commit: PostgreSQL has
    /// written the row locks to its log, and a commit would wait until the log is on disk.
    ///
    /// # Errors
    /// [`Error::Database`] if the database did not answer; [`Error::Bug`] if an earlier statement has lost
    /// the connection. In both cases the connection is closed, which ends the transaction.
    pub async fn roll_back(self) -> Result<(), Error> {
        self.inner.connection.into_inner().roll_back().await
    }

    pub(super) fn backend(&self) -> DbBackend {
        self.inner.backend
    }
}

#[async_trait]
impl ConnectionTrait for TxConnection {
    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.connection.lock().await.execute(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.execute_raw(Statement::from_string(self.backend, sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.connection.lock().await.fetch_all(statement).await
    }
}

/// Runs each statement outside of a transaction, on any connection of a pool. It is for statements that read,
/// because a statement may run twice; `execute` always fails.
#[derive(Debug, Clone)]
pub struct Reader(pub(super) Pool);

impl Reader {
    pub(super) fn backend(&self) -> DbBackend {
        self.0.backend()
    }

    async fn query_once(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut connection = self.0.acquire().await.map_err(Error::into_db_err)?;
        connection.fetch_all(statement).await
    }
}

const READ_ONLY: &str = "a reader runs only statements that read; begin a transaction to write";

#[async_trait]
impl ConnectionTrait for Reader {
    fn get_database_backend(&self) -> DbBackend {
        self.0.backend()
    }

    async fn execute_raw(&self, _: Statement) -> Result<ExecResult, DbErr> {
        Err(DbErr::Custom(READ_ONLY.to_owned()))
    }

    async fn execute_unprepared(&self, _: &str) -> Result<ExecResult, DbErr> {
        Err(DbErr::Custom(READ_ONLY.to_owned()))
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    /// Runs a statement that reads. If the connection turns out to be dead, it runs once more on another one.
    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self.query_once(statement.clone()).await {
            Err(DbErr::Query(RuntimeErr::SqlxError(error))) if is_lost_connection(&error) => {
                self.query_once(statement).await
            }
            other => other,
        }
    }
}
