//! All SQL. Every function takes a transaction or a connection, and the user whose rows it touches.
//!
//! What differs between SQLite and PostgreSQL is in [`dialect`] and nowhere else.

pub mod account;
mod bulk;
mod cells;
mod dialect;
pub mod digest;
pub mod event;
pub mod event_type;
pub mod feed;
pub mod import_job;
pub mod import_rejection;
pub mod load;
mod model;
pub mod page;
mod readers;
pub mod save;
pub mod status;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lru::LruCache;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use tokio::sync::{Mutex as FairMutex, OwnedMutexGuard};
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::Error;
use crate::limits::{GROUP_WRITERS, USER_CACHE_ENTRIES_MAX};
use dialect::Plans;
use readers::Readers;

/// The database, opened once per process and pool.
#[derive(Debug, Clone)]
pub struct Store {
    writer: DatabaseConnection,
    /// For single writes, which go in groups: each writer of groups always meets the same connection, with
    /// warm caches.
    groups: Arc<[DatabaseConnection]>,
    reader: DatabaseConnection,
    /// For lists.
    lists: Readers,
    /// SQLite has one writer: a fair gate in front of it instead of its busy loop.
    gate: Option<Arc<FairMutex<()>>>,
    users: Arc<Mutex<LruCache<(String, String), Uuid>>>,
    /// The present.
    pub clock: Clock,
}

/// A transaction that writes. Dropped without [`Tx::commit`], it is rolled back.
#[derive(Debug)]
pub struct Tx {
    inner: DatabaseTransaction,
    store: Store,
    _gate: Option<OwnedMutexGuard<()>>,
}

impl Store {
    /// Opens `sqlite://…` or `postgres://…` with at most `connections` to PostgreSQL.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn open(url: &str, connections: u32, clock: Clock) -> Result<Self, DbErr> {
        let mut options = ConnectOptions::new(url);
        options
            .sqlx_logging(false)
            .test_before_acquire(false)
            .test_before_acquire_if_idle_for(Duration::from_secs(30))
            .acquire_timeout(Duration::from_secs(10));
        let (writer, groups, reader, lists, gate) = if url.starts_with("sqlite:") {
            dialect::tune_sqlite(&mut options);
            let writer = Database::connect(options.clone().max_connections(1).to_owned()).await?;
            let reader = Database::connect(options.max_connections(4).to_owned()).await?;
            let lists = Readers::like(&reader, 4);
            (writer.clone(), vec![writer], reader, lists, Some(Arc::default()))
        } else {
            dialect::tune_postgres(&mut options, Plans::Fitted);
            let for_writing = (connections / 2).max(1);
            let for_reading = ((connections - for_writing) / 2).max(1);
            let reader = Database::connect(options.clone().max_connections(for_reading).to_owned()).await?;
            let lists = Readers::like(&reader, for_reading);
            dialect::tune_postgres(&mut options, Plans::Kept);
            options.connect_lazy(true);
            let writer = Database::connect(options.clone().max_connections(for_writing).to_owned()).await?;
            let mut groups = Vec::new();
            for _ in 0..GROUP_WRITERS {
                groups.push(Database::connect(options.clone().max_connections(1).to_owned()).await?);
            }
            (writer, groups, reader, lists, None)
        };
        let entries = NonZeroUsize::new(USER_CACHE_ENTRIES_MAX).expect("not zero");
        let groups = groups.into();
        let users = Arc::new(Mutex::new(LruCache::new(entries)));
        Ok(Self { writer, groups, reader, lists, gate, users, clock })
    }

    /// A transaction that writes: on SQLite the only one, in order of arrival.
    ///
    /// It begins in a task of its own: a `BEGIN` that was sent and not waited for would go back to the
    /// pool inside a transaction that sqlx does not know of.
    ///
    /// # Errors
    /// When no connection can be had.
    pub async fn begin(&self) -> Result<Tx, Error> {
        let gate = self.gate().await;
        let store = self.clone();
        detached(async move { store.begin_on(&store.writer, gate).await }).await
    }

    /// As [`Store::begin`], for the writer of groups with that number; in a task that nobody drops.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub(crate) async fn begin_group(&self, writer: usize) -> Result<Tx, Error> {
        let gate = self.gate().await;
        let pool = self.groups.get(writer).ok_or(Error::Bug("each writer has a connection"))?;
        self.begin_on(pool, gate).await
    }

    /// How many groups may be written at once.
    pub(crate) fn group_writers(&self) -> usize {
        self.groups.len()
    }

    async fn gate(&self) -> Option<OwnedMutexGuard<()>> {
        match &self.gate {
            Some(gate) => Some(Arc::clone(gate).lock_owned().await),
            None => None,
        }
    }

    async fn begin_on(
        &self,
        pool: &DatabaseConnection,
        gate: Option<OwnedMutexGuard<()>>,
    ) -> Result<Tx, Error> {
        let options = TransactionOptions {
            sqlite_transaction_mode: gate.as_ref().map(|_| SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let inner = pool.begin_with_options(options).await?;
        Ok(Tx { inner, store: self.clone(), _gate: gate })
    }

    /// For reading.
    #[must_use]
    pub fn reader(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// Connections that work for somebody, and those that wait for work.
    #[must_use]
    pub fn connections(&self) -> (u32, u32) {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let of = |pool: &DatabaseConnection| match self.gate {
            Some(_) => {
                let pool = pool.get_sqlite_connection_pool();
                (pool.size(), pool.num_idle())
            }
            None => {
                let pool = pool.get_postgres_connection_pool();
                (pool.size(), pool.num_idle())
            }
        };
        // The writer of SQLite is the one of its groups.
        let apart: &[DatabaseConnection] = if self.gate.is_some() { &[] } else { &self.groups };
        let pools: Vec<(u32, usize)> = apart.iter().chain([&self.writer, &self.reader]).map(of).collect();
        let open: u32 = pools.iter().map(|(size, _)| size).sum();
        let idle: u32 = pools.iter().map(|(_, idle)| number(*idle)).sum();
        let (lent, at_hand) = self.lists.connections();
        (open.saturating_sub(idle) + number(lent), idle + number(at_hand))
    }

    /// For the migrations and for whoever asks whether they ran.
    #[must_use]
    pub fn migrations(&self) -> &DatabaseConnection {
        &self.writer
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.lists.close().await;
        for pool in self.groups.iter().chain([&self.writer, &self.reader]) {
            if let Err(error) = pool.close_by_ref().await {
                tracing::debug!(%error, "a pool did not close");
            }
        }
    }
}

/// Runs a transaction to its end even if whoever waits for it goes away: dropped in the middle, it would
/// hand its connection back inside a transaction.
async fn detached<T: Send + 'static>(
    transaction: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(transaction).await.unwrap_or(Err(Error::Bug("a transaction does not panic")))
}

impl Tx {
    /// Makes it lasting.
    ///
    /// # Errors
    /// When the database did not answer; it may be lasting all the same.
    pub async fn commit(self) -> Result<(), Error> {
        Ok(self.inner.commit().await?)
    }

    /// Ends it where nothing was written. PostgreSQL has noted the locks in its log, and a commit would wait
    /// for the disk to have them.
    ///
    /// # Errors
    /// When the database did not answer.
    pub(crate) async fn release(self) -> Result<(), Error> {
        Ok(self.inner.rollback().await?)
    }

    fn backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }
}
