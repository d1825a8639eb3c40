//! Transactions that write, and single reads, on either database: [`Tx`] and [`Reader`]. They run the queries
//! that SeaORM builds.
//!
//! SeaORM's own transactions and sqlx's pool are not used, because they lend a connection again after a
//! COMMIT that has failed (decision 0057).

use async_trait::async_trait;
use rusqlite::Connection;
use sea_orm::sqlx::Postgres;
use sea_orm::sqlx::postgres::PgRow;
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, ExecResult, FromQueryResult,
    QueryResult, QueryTrait, RuntimeErr, Select, Statement, TryIntoModel,
};
use tokio::sync::Mutex;

use super::lock::LockPermit;
use super::pool::{Pool, PooledConnection};
use super::sqlite::{self, Ending, SqliteTransaction};
use super::{Store, WriteConnections};
use crate::error::{Error, is_lost_connection};

/// A transaction that can write. If it is dropped without [`Tx::commit`], it is rolled back in the
/// background.
pub struct Tx {
    connection: Mutex<TxConnection>,
    backend: DbBackend,
    pub(super) store: Store,
    /// While the transaction holds it, no other write of the same user in this process can ask for a lock.
    pub(super) permit: Option<LockPermit>,
}

/// The connection of a transaction.
enum TxConnection {
    Postgres(PooledConnection<Postgres>),
    Sqlite(SqliteTransaction),
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

impl Tx {
    /// Waits for a connection that writes, and begins a transaction on it.
    ///
    /// # Errors
    /// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
    pub(super) async fn begin(store: &Store) -> Result<Self, Error> {
        match &store.writer {
            WriteConnections::Postgres(pool) => Self::begin_on_postgres(store, pool).await,
            WriteConnections::Sqlite(writer) => {
                let connection = TxConnection::Sqlite(SqliteTransaction::begin(writer).await?);
                Ok(Self::new(store, connection, DbBackend::Sqlite))
            }
        }
    }

    /// Waits for a connection of a pool of PostgreSQL, and begins a transaction on it. If that connection
    /// turns out to be dead, it tries one more.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) async fn begin_on_postgres(store: &Store, pool: &Pool) -> Result<Self, Error> {
        let mut connection = pool.acquire_postgres().await?;
        if let Err(error) = connection.begin().await {
            if !error.is_lost_connection() {
                return Err(error);
            }
            drop(connection);
            connection = pool.acquire_postgres().await?;
            connection.begin().await?;
        }
        Ok(Self::new(store, TxConnection::Postgres(connection), DbBackend::Postgres))
    }

    fn new(store: &Store, connection: TxConnection, backend: DbBackend) -> Self {
        Self { connection: Mutex::new(connection), backend, store: store.clone(), permit: None }
    }

    /// Commits: makes the changes durable and visible to others.
    ///
    /// # Errors
    /// [`Error::Database`] if the database failed or did not answer. Then it is unknown whether the
    /// transaction is committed. [`Error::Bug`] if one of its statements had failed before.
    pub async fn commit(self) -> Result<(), Error> {
        match self.connection.into_inner() {
            TxConnection::Postgres(mut connection) => connection.commit().await,
            TxConnection::Sqlite(tx) => tx.end(Ending::Commit).await,
        }
    }

    /// Rolls the transaction back. If it has written nothing, this is cheaper than a commit: PostgreSQL has
    /// written the row locks to its log, and a commit would wait until the log is on disk.
    ///
    /// # Errors
    /// [`Error::Database`] if the database did not answer; [`Error::Bug`] if an earlier statement has lost
    /// the connection. In both cases the connection is closed, which ends the transaction.
    pub async fn roll_back(self) -> Result<(), Error> {
        match self.connection.into_inner() {
            TxConnection::Postgres(mut connection) => connection.roll_back().await,
            TxConnection::Sqlite(tx) => tx.end(Ending::RollBack).await,
        }
    }

    pub(super) fn backend(&self) -> DbBackend {
        self.backend
    }

    /// Runs a query that changes rows, and returns how many it has changed.
    ///
    /// # Errors
    /// [`Error::Database`] if the database fails or does not answer. [`Error::Bug`] on SQLite if an earlier
    /// statement of the transaction has failed.
    pub(super) async fn execute(&self, query: &(impl QueryTrait + Sync)) -> Result<u64, Error> {
        self.execute_statement(query.build(self.backend)).await
    }

    /// Runs a statement that changes rows, and returns how many it has changed.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub(super) async fn execute_statement(&self, statement: Statement) -> Result<u64, Error> {
        match &mut *self.connection.lock().await {
            TxConnection::Postgres(connection) => Ok(connection.execute(statement).await?.rows_affected()),
            TxConnection::Sqlite(tx) => {
                tx.run(move |connection| sqlite::execute(connection, &statement)).await
            }
        }
    }

    /// Reads the rows that a query selects.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub(super) async fn find_all<E>(&self, query: &Select<E>) -> Result<Vec<E::Model>, Error>
    where
        E: EntityTrait,
        E::ActiveModel: ActiveModelTrait<Entity = E> + TryIntoModel<E::Model>,
    {
        let statement = query.build(self.backend);
        match &mut *self.connection.lock().await {
            TxConnection::Postgres(connection) => {
                let rows = connection.fetch_all(statement).await?;
                let rows =
                    rows.into_iter().map(|row| E::Model::from_query_result(&QueryResult::from(row), ""));
                Ok(rows.collect::<Result<_, _>>()?)
            }
            TxConnection::Sqlite(tx) => {
                tx.run(move |connection| sqlite::find_models::<E>(connection, &statement)).await
            }
        }
    }

    /// Runs a statement whose rows have one 64-bit integer, and returns the integer of the first row.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub(super) async fn find_integer(&self, statement: Statement) -> Result<Option<i64>, Error> {
        match &mut *self.connection.lock().await {
            TxConnection::Postgres(connection) => {
                let rows = connection.fetch_all(statement).await?.into_iter().map(QueryResult::from);
                Ok(rows.map(|row| row.try_get_by_index(0)).next().transpose()?)
            }
            TxConnection::Sqlite(tx) => {
                tx.run(move |connection| sqlite::find_integer(connection, &statement)).await
            }
        }
    }

    /// Runs a statement of PostgreSQL, and returns its rows.
    ///
    /// # Errors
    /// As [`Self::execute`]; [`Error::Bug`] on SQLite.
    pub(super) async fn query_rows(&self, statement: Statement) -> Result<Vec<PgRow>, Error> {
        match &mut *self.connection.lock().await {
            TxConnection::Postgres(connection) => Ok(connection.fetch_all(statement).await?),
            TxConnection::Sqlite(_) => Err(Error::Bug("SQL for PostgreSQL is not sent to SQLite")),
        }
    }

    /// Runs a function on the connection that writes to SQLite.
    ///
    /// # Errors
    /// Any error of the function. [`Error::Bug`] on PostgreSQL.
    pub(super) async fn run_on_sqlite<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match &mut *self.connection.lock().await {
            TxConnection::Postgres(_) => Err(Error::Bug("a function of SQLite runs on SQLite")),
            TxConnection::Sqlite(tx) => tx.run(job).await,
        }
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
