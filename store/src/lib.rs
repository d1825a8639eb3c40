//! Runs all SQL of the server, and keeps the payloads of imports in an object store.
//!
//! Every function takes a transaction or the [`Store`], and the id of the user whose rows it touches. Only
//! functions for the import queue and for upkeep name no user. They find out who owns an import, what is due
//! and what has expired. The differences between SQLite and PostgreSQL are collected in `dialect`; `sqlite` has the
//! connection that writes to SQLite.

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
pub mod log_throttle;
mod migrate;
mod model;
pub mod new_events;
pub mod page;
pub mod payload;
pub mod pool;
mod preflight;
mod row_reader;
pub mod save;
mod sqlite;
pub mod stats;
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
use crate::detached::detach_on_drop;
use crate::error::Error;
use domain::limits::{
    GROUP_WRITERS, HEAVY_READ_CONNECTIONS, LOCK_WAITERS, PROBE_MS_MAX, READ_MS_MAX, USER_CACHE_ENTRIES_MAX,
    WRITE_MS_MAX,
};
use lock::{LockPermit, LockQueues};
pub use migrate::{open_to_check_migrations, open_to_migrate};
use pool::Pool;
pub use pool::{Failover, Health};
pub use preflight::{PreflightError, preflight};
use row_reader::RowReader;
pub use sqlite::SqliteWriter;
pub use transaction::{Reader, Tx};

/// How long this process waits for the database to finish a statement of a transaction or write.
const WRITE_MAX: Duration = Duration::from_millis(WRITE_MS_MAX);
/// How long this process waits for the database to finish a statement that reads.
const READ_MAX: Duration = Duration::from_millis(READ_MS_MAX);
/// How long this process waits for the database to finish a statement of the readiness check.
const PROBE_MAX: Duration = Duration::from_millis(PROBE_MS_MAX);

/// The database. A process opens it once; clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    /// The connections for transactions.
    writer: WriteConnections,
    /// The connections for transactions that wait for a row that another transaction has locked. `None` on
    /// SQLite, where the only writer holds the lock of all rows.
    waiters: Option<Pool>,
    lock_queues: Arc<LockQueues>,
    reader: Reader,
    /// The connections that read pages of events and of the change feed.
    lists: Pool,
    /// The connections for reads that may touch all rows of a user. They are few and of their own, so that
    /// other reads do not wait for such a read.
    heavy: Pool,
    heavy_queues: Arc<LockQueues>,
    /// The connections for writes that are decided without a lock. `None` on SQLite, whose only writer
    /// holds the lock of all rows.
    optimistic: Option<OptimisticPools>,
    /// The connection for the readiness check alone, so that it does not wait for other work.
    probe: Pool,
    health: Arc<Health>,
    /// A cache of the ids of users that this process has seen, by issuer and subject.
    users: Arc<Mutex<LruCache<(String, String), Uuid>>>,
    /// A cache of how many events users have, for the cost of statistics.
    event_counts: Arc<Mutex<LruCache<Uuid, stats::EventCount>>>,
    /// The source of the current time, of new ids and of random numbers.
    pub clock: Clock,
}

/// The connections for transactions that write.
#[derive(Debug, Clone)]
enum WriteConnections {
    Postgres(Pool),
    /// SQLite has one connection that writes. Transactions get it in order of arrival.
    Sqlite(Arc<SqliteWriter>),
}

/// The permit of one user to run a heavy read, with the connections for it.
pub(crate) struct HeavyReader {
    pub(crate) reader: Reader,
    _permit: LockPermit,
}

/// The connections to PostgreSQL for optimistic writes, which lock nothing before they store.
#[derive(Debug, Clone)]
pub struct OptimisticPools {
    /// The connections for groups of single writes.
    pub groups: Pool,
    /// The connections for batches, and for chunks of imports that are decided ahead.
    pub batches: Pool,
}

impl Store {
    /// Opens `sqlite://…` or `postgres://…`. `failover` says what a failover of this PostgreSQL may lose.
    ///
    /// On PostgreSQL half of `connections` are for transactions, a quarter for lists and a quarter for other
    /// reads. Batches get as many as a quarter on top. Eight more are fixed: two for groups, two for heavy
    /// reads, three that wait for locks, and one for the readiness check.
    ///
    /// # Errors
    /// [`Error::Database`] if the URL is not valid or the database cannot be reached.
    pub async fn open(url: &str, connections: u32, failover: Failover, clock: Clock) -> Result<Self, Error> {
        let health = Arc::new(Health::default());
        let invalid = |error: sea_orm::sqlx::Error| DbErr::Conn(RuntimeErr::SqlxError(error.into()));
        let (writer, waiters, reader, lists, heavy, optimistic, probe);
        if url.starts_with("sqlite:") {
            let options = dialect::build_sqlite_options(url).map_err(invalid)?;
            let pool = |size, most| Pool::new_sqlite(options.clone(), size, most, &health);
            (reader, lists) = (pool(4, READ_MAX), pool(4, READ_MAX));
            writer = WriteConnections::Sqlite(Arc::new(SqliteWriter::start(&options, WRITE_MAX, &health)?));
            heavy = pool(HEAVY_READ_CONNECTIONS, READ_MAX);
            (waiters, optimistic) = (None, None);
            probe = pool(1, PROBE_MAX);
        } else {
            let options = |most| dialect::build_postgres_options(url, most, failover).map_err(invalid);
            let (half, quarter) = ((connections / 2).max(1), (connections / 4).max(1));
            let reading = dialect::options_to_cancel_abandoned_statements(options(READ_MAX)?);
            reader = Pool::new_postgres(reading.clone(), quarter, READ_MAX, &health);
            let listing = dialect::options_without_bitmap_scans(reading);
            lists = Pool::new_postgres(listing.clone(), quarter, READ_MAX, &health);
            let adding_up = dialect::options_without_sorts(listing);
            heavy = Pool::new_postgres(adding_up, HEAVY_READ_CONNECTIONS, READ_MAX, &health);
            let probing = options(PROBE_MAX)?;
            probe = Pool::new_postgres(probing, 1, PROBE_MAX, &health);
            let writing = dialect::options_with_generic_plans(options(WRITE_MAX)?);
            let pool = |size| Pool::new_postgres(writing.clone(), size, WRITE_MAX, &health);
            writer = WriteConnections::Postgres(pool(half));
            let waiting = dialect::options_with_short_lock_timeout(writing.clone());
            waiters = Some(Pool::new_postgres(waiting, LOCK_WAITERS, WRITE_MAX, &health));
            optimistic = Some(OptimisticPools { groups: pool(GROUP_WRITERS), batches: pool(quarter) });
        }
        // A database that cannot be reached fails the start of the process, and not its first request.
        drop(reader.acquire().await?);
        let entries = NonZeroUsize::new(USER_CACHE_ENTRIES_MAX).expect("the size of the cache is not zero");
        let users = Arc::new(Mutex::new(LruCache::new(entries)));
        let event_counts = Arc::new(Mutex::new(LruCache::new(entries)));
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
            event_counts,
            clock,
        })
    }

    /// Begins a transaction that writes. On SQLite only one runs at a time; the others wait in order of
    /// arrival.
    ///
    /// # Errors
    /// [`Error::Busy`] if no connection is free in time, [`Error::Database`] if the database fails.
    pub async fn begin(&self) -> Result<Tx, Error> {
        Tx::begin(self).await
    }

    /// The connections for optimistic writes. `None` on SQLite.
    pub fn optimistic_pools(&self) -> Option<&OptimisticPools> {
        self.optimistic.as_ref()
    }

    /// The connection that writes to SQLite. `None` on PostgreSQL.
    #[must_use]
    pub fn sqlite_writer(&self) -> Option<&SqliteWriter> {
        match &self.writer {
            WriteConnections::Postgres(_) => None,
            WriteConnections::Sqlite(writer) => Some(writer),
        }
    }

    /// How many write groups this process may store at the same time.
    pub fn group_writer_count(&self) -> usize {
        if self.optimistic.is_some() { GROUP_WRITERS as usize } else { 1 }
    }

    pub(crate) fn backend(&self) -> DbBackend {
        self.reader.backend()
    }

    /// The connections for reads that are neither pages of events or changes, nor heavy.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Reads the names of the migrations that were applied, on the connection of the readiness check.
    ///
    /// # Errors
    /// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails, or if no
    /// migration ever ran.
    pub async fn load_applied_migrations(&self) -> Result<Vec<String>, Error> {
        let sql = "SELECT version FROM seaql_migrations LIMIT 10000";
        let mut names = Vec::new();
        let on_row = |row: row_reader::Row<'_>| {
            names.push(RowReader::new(row, 0).next()?);
            Ok(ControlFlow::Continue(()))
        };
        self.probe.read_rows(Statement::from_string(self.probe.backend(), sql), on_row).await?;
        Ok(names)
    }

    /// Waits until no other heavy read of this user runs, and returns the connections for heavy reads. Such
    /// reads may touch all rows of the user. The reads of other users do not wait for this one.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many heavy reads of this user wait; [`Error::Locked`] if the wait takes too
    /// long.
    pub(crate) async fn acquire_heavy_reader(&self, user_id: Uuid) -> Result<HeavyReader, Error> {
        let permit = self.heavy_queues.acquire_permit(user_id).await?;
        Ok(HeavyReader { reader: Reader(self.heavy.clone()), _permit: permit })
    }

    /// What this process knows about whether the database answers. It does not ask the database.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// How many connections of all pools together are in use, and how many are idle, in this order.
    #[must_use]
    pub fn connection_counts(&self) -> (u32, u32) {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let sqlite_writer = self.sqlite_writer().map(|writer| writer.connection_counts());
        self.all_pools()
            .map(Pool::connection_counts)
            .chain(sqlite_writer)
            .fold((0, 0), |(used, idle), pool| (used + number(pool.0), idle + number(pool.1)))
    }

    fn all_pools(&self) -> impl Iterator<Item = &Pool> {
        let optimistic = self.optimistic.iter().flat_map(|pools| [&pools.groups, &pools.batches]);
        let writer = match &self.writer {
            WriteConnections::Postgres(pool) => Some(pool),
            WriteConnections::Sqlite(_) => None,
        };
        let for_reads = [&self.heavy, &self.reader.0, &self.lists, &self.probe];
        optimistic.chain(&self.waiters).chain(writer).chain(for_reads)
    }

    /// Closes all idle connections now, and those in use as soon as they are given back. On SQLite, a connection
    /// that is writing is closed only when the store is dropped.
    pub async fn close(&self) {
        for pool in self.all_pools() {
            pool.close_idle_and_stop_reuse().await;
        }
        if let Some(writer) = self.sqlite_writer() {
            writer.close().await;
        }
    }
}

/// Runs a transaction to its end, even if the caller is dropped in the meantime. A panic in it becomes
/// [`Error::Bug`].
async fn run_to_completion<T: Send + 'static>(
    transaction: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    detach_on_drop(transaction).await.unwrap_or(Err(Error::Bug("a transaction does not panic")))
}
