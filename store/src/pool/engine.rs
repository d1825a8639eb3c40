//! Opens, uses and closes the connections of each kind of database, for the pool.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::BoxStream;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgQueryResult, PgRow};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteQueryResult, SqliteRow};
use sea_orm::sqlx::{
    self, AssertSqlSafe, ConnectOptions, Connection, Database, Executor, PgConnection, Postgres, Sqlite,
    SqliteConnection,
};
use sea_orm::{Statement, Values};
use sea_query_sqlx::SqlxValues;

use super::cluster::{self, Failover};
use super::session::{self, Session};

/// After this many steps of its virtual machine, SQLite checks whether its running statement was interrupted.
const INTERRUPT_STEPS: i32 = 10_000;

/// A connection, and a flag that interrupts its running statement. PostgreSQL has no flag: it ends a
/// statement by itself when the connection is closed.
pub type Connected<C> = (C, Option<Arc<AtomicBool>>);

/// A kind of database: PostgreSQL or SQLite.
pub trait Engine: Database {
    /// What it takes to open a connection: the driver's options, and for PostgreSQL also the session settings
    /// and the failover rule.
    type Options: Send + Sync + std::fmt::Debug + 'static;

    /// Opens a connection and prepares its session.
    fn connect(
        options: &Self::Options,
    ) -> impl Future<Output = Result<Connected<Self::Connection>, sqlx::Error>> + Send;

    /// Closes a connection whose state is unknown, without sending anything to the server.
    fn close_connection(connection: Self::Connection) -> impl Future<Output = ()> + Send;

    /// Runs a statement without parameters or rows.
    fn run_command(
        connection: &mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Runs a statement and counts the rows that it changed.
    fn execute(
        connection: &mut Self::Connection,
        statement: Statement,
    ) -> impl Future<Output = Result<Self::QueryResult, sqlx::Error>> + Send;

    /// Runs a statement and returns all its rows.
    fn fetch_all(
        connection: &mut Self::Connection,
        statement: Statement,
    ) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;

    /// Runs a statement and returns its rows as a stream.
    fn stream_rows(
        connection: &mut Self::Connection,
        statement: Statement,
    ) -> BoxStream<'_, Result<Self::Row, sqlx::Error>>;
}

/// The options with which connections to PostgreSQL are opened.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The address of the server, and the login.
    pub connect: PgConnectOptions,
    /// The settings of each session.
    pub session: Session,
    /// What a failover may lose.
    pub failover: Failover,
}

impl Engine for Postgres {
    type Options = PostgresOptions;

    async fn connect(options: &PostgresOptions) -> Result<Connected<PgConnection>, sqlx::Error> {
        let mut connection = options.connect.connect().await?;
        session::apply_settings(&mut connection, &options.session).await?;
        cluster::check_and_record_cluster(&mut connection, options.failover).await?;
        Ok((connection, None))
    }

    /// Once the socket is closed, the server ends the running statement: of a read at once
    /// (`client_connection_check_interval`), of a write when it next sends something.
    async fn close_connection(connection: PgConnection) {
        drop(connection);
    }

    async fn run_command(connection: &mut PgConnection, sql: &'static str) -> Result<(), sqlx::Error> {
        connection.execute(sql).await.map(drop)
    }

    async fn execute(
        connection: &mut PgConnection,
        statement: Statement,
    ) -> Result<PgQueryResult, sqlx::Error> {
        build_query::<Self>(statement).execute(connection).await
    }

    async fn fetch_all(
        connection: &mut PgConnection,
        statement: Statement,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        build_query::<Self>(statement).fetch_all(connection).await
    }

    fn stream_rows(
        connection: &mut PgConnection,
        statement: Statement,
    ) -> BoxStream<'_, Result<PgRow, sqlx::Error>> {
        build_query::<Self>(statement).fetch(connection)
    }
}

impl Engine for Sqlite {
    type Options = SqliteConnectOptions;

    async fn connect(options: &SqliteConnectOptions) -> Result<Connected<SqliteConnection>, sqlx::Error> {
        let mut connection = options.connect().await?;
        let interrupt = Arc::new(AtomicBool::new(false));
        let is_interrupted = Arc::clone(&interrupt);
        let is_wanted = move || !is_interrupted.load(Ordering::Relaxed);
        connection.lock_handle().await?.set_progress_handler(INTERRUPT_STEPS, is_wanted);
        Ok((connection, Some(interrupt)))
    }

    /// It waits until the connection is closed, because a transaction releases its lock only when the thread
    /// of the connection has closed it.
    async fn close_connection(connection: SqliteConnection) {
        if let Err(error) = connection.close().await {
            tracing::debug!(%error, "a connection that was given up did not close");
        }
    }

    async fn run_command(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
        connection.execute(sql).await.map(drop)
    }

    async fn execute(
        connection: &mut SqliteConnection,
        statement: Statement,
    ) -> Result<SqliteQueryResult, sqlx::Error> {
        build_query::<Self>(statement).execute(connection).await
    }

    async fn fetch_all(
        connection: &mut SqliteConnection,
        statement: Statement,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        build_query::<Self>(statement).fetch_all(connection).await
    }

    fn stream_rows(
        connection: &mut SqliteConnection,
        statement: Statement,
    ) -> BoxStream<'_, Result<SqliteRow, sqlx::Error>> {
        build_query::<Self>(statement).fetch(connection)
    }
}

fn build_query<'q, DB: Database>(statement: Statement) -> sqlx::query::Query<'q, DB, SqlxValues>
where
    SqlxValues: sqlx::IntoArguments<DB>,
{
    let values = SqlxValues(statement.values.unwrap_or(Values(Vec::new())));
    sqlx::query_with::<DB, _>(AssertSqlSafe(statement.sql), values)
}
