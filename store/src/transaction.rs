//! Transactions that write, and connections for reading, as SeaORM's queries take them.

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement};
use tokio::sync::Mutex;

use super::Store;
use super::lock::LockPermit;
use super::pool::{AnyConnection, Pool};
use crate::error::{Error, is_lost_connection};

/// A transaction that writes. Dropped without [`Tx::commit`], it is rolled back.
pub struct Tx {
    pub(super) inner: Statements,
    pub(super) store: Store,
    /// Other writes of its user that need a lock come after it.
    pub(super) permit: Option<LockPermit>,
}

/// The connection of a transaction.
pub(super) struct Statements {
    connection: Mutex<AnyConnection>,
    backend: DbBackend,
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

impl Tx {
    /// Begins a transaction on a connection of `pool`. If that connection is dead, another one is tried.
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
        let inner = Statements { connection: Mutex::new(connection), backend: pool.backend() };
        Ok(Self { inner, store: store.clone(), permit: None })
    }

    /// Makes the transaction durable and visible.
    ///
    /// # Errors
    /// [`Error::Database`] if the database failed or did not answer: then it is unknown whether the transaction is
    /// committed. [`Error::Bug`] if one of its statements had failed.
    pub async fn commit(self) -> Result<(), Error> {
        self.inner.connection.into_inner().commit().await
    }

    /// Ends a transaction that has written nothing. PostgreSQL has noted the locks in its log, and a commit would
    /// wait for the disk to have them.
    ///
    /// # Errors
    /// [`Error::Database`] if the database did not answer.
    pub async fn release(self) -> Result<(), Error> {
        self.inner.connection.into_inner().roll_back().await
    }

    pub(super) fn backend(&self) -> DbBackend {
        self.inner.backend
    }
}

#[async_trait]
impl ConnectionTrait for Statements {
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

/// Reads with the connections of a pool, each statement on one of its own.
#[derive(Debug, Clone)]
pub struct Reader(pub(super) Pool);

impl Reader {
    pub(super) fn backend(&self) -> DbBackend {
        self.0.backend()
    }

    async fn try_query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut connection = self.0.acquire().await.map_err(into_db_err)?;
        connection.fetch_all(statement).await
    }
}

/// What SeaORM can say of an error of a pool.
fn into_db_err(error: Error) -> DbErr {
    match error {
        Error::Database(error) => error,
        other => DbErr::Conn(RuntimeErr::Internal(other.to_string())),
    }
}

#[async_trait]
impl ConnectionTrait for Reader {
    fn get_database_backend(&self) -> DbBackend {
        self.0.backend()
    }

    async fn execute_raw(&self, _: Statement) -> Result<ExecResult, DbErr> {
        Err(DbErr::Custom("a reader does not write".to_owned()))
    }

    async fn execute_unprepared(&self, _: &str) -> Result<ExecResult, DbErr> {
        Err(DbErr::Custom("a reader does not write".to_owned()))
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    /// If its connection turns out to be dead, the statement runs once more on another one.
    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self.try_query(statement.clone()).await {
            Err(DbErr::Query(RuntimeErr::SqlxError(error))) if is_lost_connection(&error) => {
                self.try_query(statement).await
            }
            other => other,
        }
    }
}
