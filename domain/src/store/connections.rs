//! Connections for single statements, which no pool asks for a sign of life.
//!
//! sqlx does that whenever a connection is given back: a round trip behind each statement, a tenth of what a page
//! takes, that cannot be left out. These are as many as statements may run at once, and whoever waits has a turn.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{
    self, AssertSqlSafe, ConnectOptions, Connection, Database, Executor, IntoArguments, Postgres, Sqlite,
};
use sea_orm::{DatabaseConnection, DbBackend, DbErr, RuntimeErr, Statement, Values};
use sea_query_sqlx::SqlxValues;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::cells::Row;
use crate::error::Error;

/// From then on a connection is replaced by a new one.
const AGE_MAX: Duration = Duration::from_secs(30 * 60);
/// One that nobody has used for as long may be dead.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// For a turn, for a new connection, and for a sign of life.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Between two tries to connect, at first; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// And at most.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// So many rows behind the last one that is wanted are read at once.
const REST_MAX: usize = 16;

/// What is done about a row; it breaks when no more are wanted.
pub(super) type Shown = Result<ControlFlow<()>, Error>;

/// The connections of one process.
#[derive(Debug, Clone)]
pub enum Connections {
    /// To PostgreSQL.
    Postgres(Arc<Kept<Postgres>>),
    /// To SQLite.
    Sqlite(Arc<Kept<Sqlite>>),
}

/// Connections that are kept open from one statement to the next.
#[derive(Debug)]
pub struct Kept<DB: Database> {
    options: Arc<<DB::Connection as Connection>::Options>,
    most: usize,
    turns: Arc<Semaphore>,
    /// None: closed.
    at_hand: Mutex<Option<Vec<Open<DB::Connection>>>>,
}

#[derive(Debug)]
struct Open<C> {
    connection: C,
    opened_at: Instant,
    used_at: Instant,
}

/// A connection for one statement. However that ends, it is brought to an end before the next one.
struct Lent<DB: Database> {
    /// Always there, until it is dropped.
    open: Option<Open<DB::Connection>>,
    is_at_rest: bool,
    kept: Arc<Kept<DB>>,
    turn: Option<OwnedSemaphorePermit>,
}

impl<DB: Database> Drop for Lent<DB> {
    fn drop(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        if self.is_at_rest {
            self.kept.keep(open);
        } else if let Ok(runtime) = Handle::try_current() {
            // What is left of the answer is read, in front of the sign of life.
            let (kept, turn) = (Arc::clone(&self.kept), self.turn.take());
            runtime.spawn(async move {
                if open.is_alive().await {
                    kept.keep(open);
                }
                drop(turn);
            });
        }
    }
}

impl<C: Connection> Open<C> {
    async fn is_alive(&mut self) -> bool {
        timeout(WAIT_MAX, self.connection.ping()).await.is_ok_and(|pong| pong.is_ok())
    }
}

impl Connections {
    /// At most so many, which are opened as this pool opens its own; those to PostgreSQL are `tuned`.
    pub(super) fn like(
        pool: &DatabaseConnection,
        most: u32,
        tuned: impl FnOnce(PgConnectOptions) -> PgConnectOptions,
    ) -> Self {
        let most = most as usize;
        match pool.get_database_backend() {
            DbBackend::Postgres => {
                let options = pool.get_postgres_connection_pool().connect_options();
                let options = tuned(options.as_ref().clone());
                Self::Postgres(Arc::new(Kept::new(Arc::new(options), most)))
            }
            _ => Self::Sqlite(Arc::new(Kept::new(pool.get_sqlite_connection_pool().connect_options(), most))),
        }
    }

    /// Runs a statement and shows each of its rows, until no more are wanted.
    ///
    /// # Errors
    /// When the database fails, when there is no turn to be had, or as `show` says.
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

    pub(super) fn backend(&self) -> DbBackend {
        match self {
            Self::Postgres(_) => DbBackend::Postgres,
            Self::Sqlite(_) => DbBackend::Sqlite,
        }
    }

    /// How many work for somebody, and how many wait for work.
    pub(super) fn connections(&self) -> (usize, usize) {
        match self {
            Self::Postgres(kept) => kept.connections(),
            Self::Sqlite(kept) => kept.connections(),
        }
    }

    /// Closes those that wait for work, and the others when they are done.
    pub(super) async fn close(&self) {
        match self {
            Self::Postgres(kept) => kept.close().await,
            Self::Sqlite(kept) => kept.close().await,
        }
    }
}

impl<DB: Database> Kept<DB> {
    fn new(options: Arc<<DB::Connection as Connection>::Options>, most: usize) -> Self {
        let (turns, at_hand) = (Arc::new(Semaphore::new(most)), Mutex::new(Some(Vec::new())));
        Self { options, most, turns, at_hand }
    }

    async fn lend(self: &Arc<Self>) -> Result<Lent<DB>, Error> {
        let turn = timeout(WAIT_MAX, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or(Error::Busy)?;
        let at_hand = match self.at_hand.lock().ok().as_mut().and_then(|at_hand| at_hand.as_mut()) {
            Some(at_hand) => at_hand.pop(),
            None => return Err(Error::Busy),
        };
        let open = match at_hand {
            Some(open) => self.look_at(open).await?,
            None => self.open().await?,
        };
        Ok(Lent { open: Some(open), is_at_rest: false, kept: Arc::clone(self), turn: Some(turn) })
    }

    /// The same one, or another in its place.
    async fn look_at(&self, mut open: Open<DB::Connection>) -> Result<Open<DB::Connection>, Error> {
        if open.used_at.elapsed() < IDLE_MAX || open.is_alive().await {
            return Ok(open);
        }
        self.open().await
    }

    async fn open(&self) -> Result<Open<DB::Connection>, Error> {
        let opened = timeout(WAIT_MAX, self.connect()).await.map_err(|_| Error::Busy)?;
        let now = Instant::now();
        Ok(Open { connection: opened.map_err(failed)?, opened_at: now, used_at: now })
    }

    /// As often as it takes, while the database starts or has no room.
    async fn connect(&self) -> Result<DB::Connection, sqlx::Error> {
        let mut pause = PAUSE_FIRST;
        loop {
            match self.options.connect().await {
                Err(error) if is_passing(&error) => sleep(pause).await,
                opened => return opened,
            }
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    fn keep(&self, open: Open<DB::Connection>) {
        if open.opened_at.elapsed() < AGE_MAX
            && let Ok(mut at_hand) = self.at_hand.lock()
            && let Some(at_hand) = at_hand.as_mut()
        {
            at_hand.push(Open { used_at: Instant::now(), ..open });
        }
    }

    fn connections(&self) -> (usize, usize) {
        let idle = self.at_hand.lock().map_or(0, |at_hand| at_hand.as_ref().map_or(0, Vec::len));
        (self.most - self.turns.available_permits(), idle)
    }

    async fn close(&self) {
        let at_hand = self.at_hand.lock().ok().and_then(|mut at_hand| at_hand.take());
        for open in at_hand.into_iter().flatten() {
            if let Err(error) = open.connection.close().await {
                tracing::debug!(%error, "a connection did not close");
            }
        }
    }

    async fn read(
        self: &Arc<Self>,
        statement: Statement,
        mut show: impl FnMut(&DB::Row) -> Shown,
    ) -> Result<(), Error>
    where
        SqlxValues: IntoArguments<DB>,
        for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    {
        let values = SqlxValues(statement.values.unwrap_or(Values(Vec::new())));
        let query = sqlx::query_with::<DB, _>(AssertSqlSafe(statement.sql), values);
        let mut lent = self.lend().await?;
        let Some(open) = &mut lent.open else { return Err(Error::Bug("what is lent is there")) };
        let mut rows = query.fetch(&mut open.connection);
        let (mut is_wanted, mut rest) = (true, 0);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            if is_wanted {
                is_wanted = show(&row)?.is_continue();
            } else {
                rest += 1;
            }
            if rest > REST_MAX {
                return Ok(());
            }
        }
        drop(rows);
        lent.is_at_rest = true;
        Ok(())
    }
}

/// Whether nobody listens yet, or whoever does has no room: `cannot_connect_now`, `too_many_connections`.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| ["57P03", "53300"].contains(&&*code)),
        _ => false,
    }
}

fn failed(error: sqlx::Error) -> Error {
    DbErr::Query(RuntimeErr::SqlxError(error.into())).into()
}

#[cfg(test)]
mod tests;
