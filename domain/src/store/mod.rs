//! All SQL. Every function takes a transaction or a connection, and the user whose rows it touches.
//!
//! What differs between SQLite and PostgreSQL is in [`dialect`] and nowhere else.

pub mod account;
mod bulk;
mod cells;
pub(crate) mod connections;
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
pub mod save;
pub mod status;

use std::convert::identity;
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
use crate::detached::detached;
use crate::error::Error;
use crate::limits::{GROUP_WRITERS, USER_CACHE_ENTRIES_MAX};
use connections::Connections;
use dialect::Plans;

/// The database, opened once per process and pool.
#[derive(Debug, Clone)]
pub struct Store {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    /// For lists.
    lists: Connections,
    /// For writes that lock nothing before they store. SQLite has none: there is one writer, and nothing is won.
    free: Option<Free>,
    /// SQLite has one writer: a fair gate in front of it instead of its busy loop.
    gate: Option<Arc<FairMutex<()>>>,
    users: Arc<Mutex<LruCache<(String, String), Uuid>>>,
    /// The present.
    pub clock: Clock,
}

/// Connections for writes that lock nothing before they store.
#[derive(Debug, Clone)]
pub(crate) struct Free {
    /// For groups of single writes.
    pub(crate) groups: Connections,
    /// For batches, and for what is read ahead of its turn.
    pub(crate) batches: Connections,
}

/// A transaction that writes. Dropped without [`Tx::commit`], it is rolled back.
#[derive(Debug)]
pub struct Tx {
    inner: DatabaseTransaction,
    store: Store,
    _gate: Option<OwnedMutexGuard<()>>,
}

impl Store {
    /// Opens `sqlite://…` or `postgres://…`, with at most `connections` to PostgreSQL for reading and for what is
    /// locked, and a quarter of as many and two more for what is not.
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
        let (writer, reader, lists, free, gate) = if url.starts_with("sqlite:") {
            dialect::tune_sqlite(&mut options);
            let writer = Database::connect(options.clone().max_connections(1).to_owned()).await?;
            let reader = Database::connect(options.max_connections(4).to_owned()).await?;
            let lists = Connections::like(&reader, 4, identity);
            (writer, reader, lists, None, Some(Arc::default()))
        } else {
            dialect::tune_postgres(&mut options, Plans::Fitted);
            let (half, quarter) = ((connections / 2).max(1), (connections / 4).max(1));
            let reader = Database::connect(options.clone().max_connections(quarter).to_owned()).await?;
            let lists = Connections::like(&reader, quarter, dialect::tune_for_lists);
            dialect::tune_postgres(&mut options, Plans::Kept);
            options.connect_lazy(true).max_connections(half);
            let writer = Database::connect(options).await?;
            let of_free = |most| Connections::like(&writer, most, identity);
            let free = Free { groups: of_free(GROUP_WRITERS), batches: of_free(quarter) };
            (writer, reader, lists, Some(free), None)
        };
        let entries = NonZeroUsize::new(USER_CACHE_ENTRIES_MAX).expect("not zero");
        let users = Arc::new(Mutex::new(LruCache::new(entries)));
        Ok(Self { writer, reader, lists, free, gate, users, clock })
    }

    /// A transaction that writes: on SQLite the only one, in order of arrival.
    ///
    /// Once it begins it has begun: a `BEGIN` that was sent and not waited for would go back to the pool
    /// inside a transaction that sqlx does not know of.
    ///
    /// # Errors
    /// When no connection can be had.
    pub async fn begin(&self) -> Result<Tx, Error> {
        let store = self.clone();
        let gate = self.gate().await;
        to_its_end(async move { store.begin_behind(gate).await }).await
    }

    /// The connections for writes that lock nothing before they store, where there are any.
    pub(crate) fn free(&self) -> Option<&Free> {
        self.free.as_ref()
    }

    /// Whether what an import brings can be read without a lock, and decided before its turn.
    #[must_use]
    pub fn can_read_ahead(&self) -> bool {
        self.free.is_some()
    }

    /// How many groups may be written at once.
    pub(crate) fn group_writers(&self) -> usize {
        if self.free.is_some() { GROUP_WRITERS as usize } else { 1 }
    }

    async fn gate(&self) -> Option<OwnedMutexGuard<()>> {
        match &self.gate {
            Some(gate) => Some(Arc::clone(gate).lock_owned().await),
            None => None,
        }
    }

    async fn begin_behind(&self, gate: Option<OwnedMutexGuard<()>>) -> Result<Tx, Error> {
        let options = TransactionOptions {
            sqlite_transaction_mode: gate.as_ref().map(|_| SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let inner = self.writer.begin_with_options(options).await?;
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
        let pools = [&self.writer, &self.reader].map(of).map(|(size, idle)| {
            let idle = number(idle);
            (size.saturating_sub(idle), idle)
        });
        let kept = self.kept().map(|kept| {
            let (lent, at_hand) = kept.connections();
            (number(lent), number(at_hand))
        });
        pools.into_iter().chain(kept).fold((0, 0), |all, some| (all.0 + some.0, all.1 + some.1))
    }

    /// All connections without a pool.
    fn kept(&self) -> impl Iterator<Item = &Connections> {
        let of_writes = self.free.iter().flat_map(|free| [&free.groups, &free.batches]);
        of_writes.chain([&self.lists])
    }

    /// For the migrations and for whoever asks whether they ran.
    #[must_use]
    pub fn migrations(&self) -> &DatabaseConnection {
        &self.writer
    }

    /// Closes all connections.
    pub async fn close(&self) {
        for kept in self.kept() {
            kept.close().await;
        }
        for pool in [&self.writer, &self.reader] {
            if let Err(error) = pool.close_by_ref().await {
                tracing::debug!(%error, "a pool did not close");
            }
        }
    }
}

/// Runs a transaction to its end even if whoever waits for it goes away: dropped in the middle, it would
/// hand its connection back inside a transaction.
async fn to_its_end<T: Send + 'static>(
    transaction: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    detached(transaction).await.unwrap_or(Err(Error::Bug("a transaction does not panic")))
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
