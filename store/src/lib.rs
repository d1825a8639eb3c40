//! All SQL, and the objects of payloads. Every function takes a transaction or a connection, and the user
//! whose rows it touches.
//!
//! What differs between SQLite and PostgreSQL is in `dialect` and nowhere else.

pub mod account;
pub mod backfill;
mod bulk;
pub mod clock;
pub mod detached;
mod dialect;
pub mod digest;
pub mod error;
pub mod event;
pub mod event_type;
pub mod feed;
pub mod import_job;
pub mod import_rejection;
pub mod load;
pub(crate) mod lock;
mod migrate;
mod model;
pub mod page;
pub mod payload;
pub mod pool;
mod preflight;
pub mod rarely;
mod row_reader;
pub mod save;
pub mod status;
mod transaction;

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lru::LruCache;
use sea_orm::{DbBackend, DbErr, RuntimeErr, Statement};
use uuid::Uuid;

use crate::clock::Clock;
use crate::detached::detached;
use crate::error::Error;
use domain::limits::{
    GROUP_WRITERS, HEAVY_READERS, LOCK_WAITERS, PROBE_MS_MAX, READ_MS_MAX, USER_CACHE_ENTRIES_MAX,
    WRITE_MS_MAX,
};
use lock::{LockPermit, LockQueues};
pub use migrate::{open_to_look, open_to_migrate};
use pool::Pool;
pub use pool::{Failover, Health};
pub use preflight::{Unfit, preflight};
use row_reader::RowReader;
pub use transaction::{Reader, Tx};

/// How long a statement that writes may take.
const WRITE_MAX: Duration = Duration::from_millis(WRITE_MS_MAX);
/// How long a statement that reads may take.
const READ_MAX: Duration = Duration::from_millis(READ_MS_MAX);

/// How long the question may take whether the database can be used.
const PROBE_MAX: Duration = Duration::from_millis(PROBE_MS_MAX);

/// The database, opened once per process.
#[derive(Debug, Clone)]
pub struct Store {
    /// For transactions. SQLite has one: whoever writes waits for a permit, in order of arrival.
    writer: Pool,
    /// For transactions that wait for a row which somebody else holds. SQLite has none.
    waiters: Option<Pool>,
    lock_queues: Arc<LockQueues>,
    reader: Reader,
    /// For lists.
    lists: Pool,
    /// For what may read everything that a user has: few, so that lists do not wait for it.
    heavy: Pool,
    heavy_queues: Arc<LockQueues>,
    /// For writes that lock nothing before they store. SQLite has none: there is one writer, and nothing is won.
    optimistic: Option<OptimisticPools>,
    /// For whoever asks whether the database can be used, and for nobody else.
    probe: Pool,
    health: Arc<Health>,
    users: Arc<Mutex<LruCache<(String, String), Uuid>>>,
    /// The present.
    pub clock: Clock,
}

/// The right of a user to read much.
pub(crate) struct HeavyReader {
    pub(crate) reader: Reader,
    _permit: LockPermit,
}

/// Connections for writes that lock nothing before they store.
#[derive(Debug, Clone)]
pub struct OptimisticPools {
    /// For groups of single writes.
    pub groups: Pool,
    /// For batches, and for what is read ahead of its permit.
    pub batches: Pool,
}

impl Store {
    /// Opens `sqlite://…` or `postgres://…`, of which so much may be lost by a failover. To PostgreSQL there are at most
    /// `connections` for transactions, lists and other reads, a quarter of as many for batches, and eight: two for groups,
    /// two for heavy reads, three that wait for locks, and one to ask whether it is there.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn open(url: &str, connections: u32, failover: Failover, clock: Clock) -> Result<Self, Error> {
        let health = Arc::new(Health::default());
        let invalid = |error: sea_orm::sqlx::Error| DbErr::Conn(RuntimeErr::SqlxError(error.into()));
        let (writer, waiters, reader, lists, heavy, optimistic, probe);
        if url.starts_with("sqlite:") {
            let options = dialect::sqlite_options(url).map_err(invalid)?;
            let pool = |size, most| Pool::sqlite(options.clone(), size, most, &health);
            (writer, reader, lists) = (pool(1, WRITE_MAX), pool(4, READ_MAX), pool(4, READ_MAX));
            heavy = pool(HEAVY_READERS, READ_MAX);
            (waiters, optimistic) = (None, None);
            probe = pool(1, PROBE_MAX);
        } else {
            let options = |most| dialect::postgres_options(url, most, failover).map_err(invalid);
            let (half, quarter) = ((connections / 2).max(1), (connections / 4).max(1));
            let reading = dialect::ending_when_left(options(READ_MAX)?);
            reader = Pool::postgres(reading.clone(), quarter, READ_MAX, &health);
            let listing = dialect::in_order_of_index(reading);
            lists = Pool::postgres(listing.clone(), quarter, READ_MAX, &health);
            heavy = Pool::postgres(listing, HEAVY_READERS, READ_MAX, &health);
            let probing = options(PROBE_MAX)?;
            probe = Pool::postgres(probing, 1, PROBE_MAX, &health);
            let writing = dialect::keeping_plans(options(WRITE_MAX)?);
            let pool = |size| Pool::postgres(writing.clone(), size, WRITE_MAX, &health);
            writer = pool(half);
            let waiting = dialect::waiting_a_moment(writing.clone());
            waiters = Some(Pool::postgres(waiting, LOCK_WAITERS, WRITE_MAX, &health));
            optimistic = Some(OptimisticPools { groups: pool(GROUP_WRITERS), batches: pool(quarter) });
        }
        // Whoever cannot reach the database hears of it now.
        drop(reader.acquire().await?);
        let entries = NonZeroUsize::new(USER_CACHE_ENTRIES_MAX).expect("not zero");
        let users = Arc::new(Mutex::new(LruCache::new(entries)));
        let (lock_queues, heavy_queues) = (Arc::default(), Arc::default());
        Ok(Self {
            writer,
            waiters,
            lock_queues,
            reader: Reader(reader),
            lists,
            heavy,
            heavy_queues,
            optimistic,
            probe,
            health,
            users,
            clock,
        })
    }

    /// A transaction that writes: on SQLite the only one, in order of arrival.
    ///
    /// # Errors
    /// [`Error::Busy`] if no connection is free in time, [`Error::Database`] if the database fails.
    pub async fn begin(&self) -> Result<Tx, Error> {
        Tx::begin(self, &self.writer).await
    }

    /// The connections for writes that lock nothing before they store, where there are any.
    pub fn optimistic(&self) -> Option<&OptimisticPools> {
        self.optimistic.as_ref()
    }

    /// Whether what an import brings can be read without a lock, and decided before its permit.
    #[must_use]
    pub fn can_speculate(&self) -> bool {
        self.optimistic.is_some()
    }

    /// How many groups may be written at once.
    pub fn group_writers(&self) -> usize {
        if self.optimistic.is_some() { GROUP_WRITERS as usize } else { 1 }
    }

    pub(crate) fn backend(&self) -> DbBackend {
        self.writer.backend()
    }

    /// For reading.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The names of the migrations that were applied.
    ///
    /// # Errors
    /// When the database fails, and when no migration ever ran.
    pub async fn applied_migrations(&self) -> Result<Vec<String>, Error> {
        let sql = "SELECT version FROM seaql_migrations LIMIT 10000";
        let mut names = Vec::new();
        let show = |row: row_reader::Row<'_>| {
            names.push(RowReader::new(row, 0).next()?);
            Ok(ControlFlow::Continue(()))
        };
        self.probe.read(Statement::from_string(self.probe.backend(), sql), show).await?;
        Ok(names)
    }

    /// For a read that may be of everything that a user has. Those of one user wait for one another, and not before
    /// those of others.
    pub(crate) async fn heavy(&self, user_id: Uuid) -> Result<HeavyReader, Error> {
        let permit = self.heavy_queues.enter(user_id).await?;
        Ok(HeavyReader { reader: Reader(self.heavy.clone()), _permit: permit })
    }

    /// Whether the database answers.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Connections that work for somebody, and those that wait for work.
    #[must_use]
    pub fn connections(&self) -> (u32, u32) {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.pools()
            .map(Pool::usage)
            .fold((0, 0), |(lent, idle), pool| (lent + number(pool.0), idle + number(pool.1)))
    }

    fn pools(&self) -> impl Iterator<Item = &Pool> {
        let of_writes = self.optimistic.iter().flat_map(|pools| [&pools.groups, &pools.batches]);
        of_writes
            .chain(&self.waiters)
            .chain([&self.writer, &self.heavy, &self.reader.0, &self.lists, &self.probe])
    }

    /// Closes all connections.
    pub async fn close(&self) {
        for pool in self.pools() {
            pool.close().await;
        }
    }
}

/// Runs a transaction to its end even if whoever waits for it goes away.
async fn to_its_end<T: Send + 'static>(
    transaction: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    detached(transaction).await.unwrap_or(Err(Error::Bug("a transaction does not panic")))
}
