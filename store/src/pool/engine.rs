//! What a pool needs of each kind of database: how a connection is opened, used and closed.

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

/// SQLite asks after so many steps of its virtual machine whether the statement is still wanted.
const INTERRUPT_STEPS: i32 = 10_000;

/// A connection, and how to interrupt the statement that runs on it where only the client can do that.
pub type Connected<C> = (C, Option<Arc<AtomicBool>>);

/// A kind of database.
pub trait Engine: Database {
    /// How its connections are opened.
    type Settings: Send + Sync + std::fmt::Debug + 'static;

    /// Begins a transaction that writes.
    const BEGIN: &'static str;

    /// Opens a connection and prepares its session.
    fn connect(
        settings: &Self::Settings,
    ) -> impl Future<Output = Result<Connected<Self::Connection>, sqlx::Error>> + Send;

    /// Closes a connection whose state is unknown, without a word to the server.
    fn end(connection: Self::Connection) -> impl Future<Output = ()> + Send;

    /// Runs a statement without parameters or rows.
    fn command(
        connection: &mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Runs a statement and counts what it changed.
    fn execute(
        connection: &mut Self::Connection,
        statement: Statement,
    ) -> impl Future<Output = Result<Self::QueryResult, sqlx::Error>> + Send;

    /// Runs a statement and reads its rows.
    fn fetch_all(
        connection: &mut Self::Connection,
        statement: Statement,
    ) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;

    /// Runs a statement and reads its rows as they come.
    fn fetch(
        connection: &mut Self::Connection,
        statement: Statement,
    ) -> BoxStream<'_, Result<Self::Row, sqlx::Error>>;
}

/// How connections to PostgreSQL are opened.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Where the server is, and as whom to log in.
    pub connect: PgConnectOptions,
    /// What is set on each connection.
    pub session: Session,
    /// What may be lost when another server takes over.
    pub failover: Failover,
}

impl Engine for Postgres {
    type Settings = PostgresOptions;

    const BEGIN: &'static str = "BEGIN";

    async fn connect(settings: &PostgresOptions) -> Result<Connected<PgConnection>, sqlx::Error> {
        let mut connection = settings.connect.connect().await?;
        session::prepare(&mut connection, &settings.session).await?;
        cluster::check(&mut connection, settings.failover).await?;
        Ok((connection, None))
    }

    /// Once the socket is closed the server ends what runs (`client_connection_check_interval`).
    async fn end(connection: PgConnection) {
        drop(connection);
    }

    async fn command(connection: &mut PgConnection, sql: &'static str) -> Result<(), sqlx::Error> {
        connection.execute(sql).await.map(drop)
    }

    async fn execute(
        connection: &mut PgConnection,
        statement: Statement,
    ) -> Result<PgQueryResult, sqlx::Error> {
        query::<Self>(statement).execute(connection).await
    }

    async fn fetch_all(
        connection: &mut PgConnection,
        statement: Statement,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        query::<Self>(statement).fetch_all(connection).await
    }

    fn fetch(
        connection: &mut PgConnection,
        statement: Statement,
    ) -> BoxStream<'_, Result<PgRow, sqlx::Error>> {
        query::<Self>(statement).fetch(connection)
    }
}

impl Engine for Sqlite {
    type Settings = SqliteConnectOptions;

    const BEGIN: &'static str = "BEGIN IMMEDIATE";

    async fn connect(options: &SqliteConnectOptions) -> Result<Connected<SqliteConnection>, sqlx::Error> {
        let mut connection = options.connect().await?;
        let interrupt = Arc::new(AtomicBool::new(false));
        let is_interrupted = Arc::clone(&interrupt);
        let is_wanted = move || !is_interrupted.load(Ordering::Relaxed);
        connection.lock_handle().await?.set_progress_handler(INTERRUPT_STEPS, is_wanted);
        Ok((connection, Some(interrupt)))
    }

    /// Waited for: a transaction gives up its lock when the thread of the connection has closed it.
    async fn end(connection: SqliteConnection) {
        if let Err(error) = connection.close().await {
            tracing::debug!(%error, "a connection did not close");
        }
    }

    async fn command(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
        connection.execute(sql).await.map(drop)
    }

    async fn execute(
        connection: &mut SqliteConnection,
        statement: Statement,
    ) -> Result<SqliteQueryResult, sqlx::Error> {
        query::<Self>(statement).execute(connection).await
    }

    async fn fetch_all(
        connection: &mut SqliteConnection,
        statement: Statement,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        query::<Self>(statement).fetch_all(connection).await
    }

    fn fetch(
        connection: &mut SqliteConnection,
        statement: Statement,
    ) -> BoxStream<'_, Result<SqliteRow, sqlx::Error>> {
        query::<Self>(statement).fetch(connection)
    }
}

fn query<'q, DB: Database>(statement: Statement) -> sqlx::query::Query<'q, DB, SqlxValues>
where
    SqlxValues: sqlx::IntoArguments<DB>,
{
    let values = SqlxValues(statement.values.unwrap_or(Values(Vec::new())));
    sqlx::query_with::<DB, _>(AssertSqlSafe(statement.sql), values)
}
