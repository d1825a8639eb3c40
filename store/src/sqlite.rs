//! The connection that writes to SQLite. It lives on a thread of its own (decision 0075).
//!
//! SQLite runs within this process and has one writer. A transaction is sent to the thread as functions, its
//! jobs. A group of writes is a single job: it begins, loads, decides, stores and commits, however many rows
//! it has. A driver that sends each statement to a thread spends most of its time on switching threads.
//!
//! One transaction runs at a time. The others wait for their turn, in order of arrival.

mod failure;
mod load;
mod save;
mod transaction;
mod values;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, InterruptHandle};
use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::{DbErr, RuntimeErr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};
use tokio::time::timeout;

use crate::error::Error;
use crate::pool::{ACQUIRE_MAX, CONNECT_MAX, Health, timeout_error};
use domain::limits::WRITE_MS_MAX;
pub(crate) use load::{Detail, load_read_set, load_read_sets};
pub(crate) use save::{save_feed_head, save_rows, save_rows_and_heads};
pub(crate) use transaction::{Ending, SqliteTransaction};
pub(crate) use values::{execute, find_integer, find_models, prepare_and_bind};

/// How long SQLite waits while another process writes to the database. It gives up before the caller does, who
/// then learns that SQLite still answers.
const BUSY_MAX: Duration = Duration::from_millis(WRITE_MS_MAX - 2_000);
/// How many prepared statements the connection keeps.
const STATEMENTS_KEPT: usize = 128;

/// A function that the thread runs.
type Job = Box<dyn FnOnce(&mut WriterThread) + Send>;

/// The connection of this process that writes to SQLite.
pub struct SqliteWriter {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
    /// One permit: the turn to run a transaction.
    permits: Arc<Semaphore>,
    /// Interrupts the statement that runs on the connection. `None` while no connection is open.
    interrupt: Arc<Mutex<Option<InterruptHandle>>>,
    health: Arc<Health>,
    /// How long a job may take until its caller gives up waiting for it.
    job_max: Duration,
}

impl fmt::Debug for SqliteWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteWriter").finish_non_exhaustive()
    }
}

/// The turn to run a transaction. When the last clone is dropped, the next transaction gets its turn.
pub(super) type WritePermit = Arc<OwnedSemaphorePermit>;

/// The state of the thread.
pub(super) struct WriterThread {
    path: PathBuf,
    /// `None` until the first transaction, and after a failure that leaves the state of a connection unknown.
    connection: Option<Connection>,
    interrupt: Arc<Mutex<Option<InterruptHandle>>>,
}

impl SqliteWriter {
    /// Starts the thread. The connection is opened by the first transaction.
    ///
    /// # Errors
    /// [`Error::Database`] if the thread cannot be started.
    pub(super) fn start(
        options: &SqliteConnectOptions,
        job_max: Duration,
        health: &Arc<Health>,
    ) -> Result<Self, Error> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let interrupt = Arc::<Mutex<Option<InterruptHandle>>>::default();
        let path = options.get_filename().to_owned();
        let mut thread =
            WriterThread { path: path.clone(), connection: None, interrupt: Arc::clone(&interrupt) };
        let run_jobs = move || queue.into_iter().for_each(|job| job(&mut thread));
        thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(run_jobs)
            .map_err(|error| DbErr::Conn(RuntimeErr::Internal(error.to_string())))?;
        let permits = Arc::new(Semaphore::new(1));
        Ok(Self { path, jobs, permits, interrupt, health: Arc::clone(health), job_max })
    }

    /// The file of the database.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the turn to run a transaction, in order of arrival.
    ///
    /// # Errors
    /// [`Error::Busy`] if the transactions before this one take too long, or the writer is closed.
    async fn acquire_permit(&self) -> Result<WritePermit, Error> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(Error::Busy),
            Err(TryAcquireError::NoPermits) => {
                let permit = timeout(ACQUIRE_MAX, Arc::clone(&self.permits).acquire_owned()).await;
                permit.ok().and_then(Result::ok).ok_or(Error::Busy)?
            }
        };
        Ok(Arc::new(permit))
    }

    /// Runs a job on the thread, and waits for its result for at most `job_max`. After that it tells the job that
    /// it is abandoned, and interrupts the statement that runs. The caller must have the permit. A job whose
    /// caller is dropped goes on.
    ///
    /// # Errors
    /// Any error of the job. [`Error::Database`] if it takes too long; then it is unknown what it did.
    /// [`Error::Bug`] if it panics.
    async fn run_job<T: Send + 'static>(
        &self,
        permit: &WritePermit,
        job: impl FnOnce(&mut WriterThread, &AtomicBool) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, result) = oneshot::channel();
        let permit = Arc::clone(permit);
        let is_abandoned = Arc::new(AtomicBool::new(false));
        let abandoned = Arc::clone(&is_abandoned);
        let attempt = self.health.begin_attempt();
        self.send_job(move |thread| {
            let result = catch_unwind(AssertUnwindSafe(|| job(thread, &abandoned)));
            drop(permit);
            let _caller_is_gone =
                sender.send(result.unwrap_or(Err(Error::Bug("no job of the writer panics"))));
        });
        let result = timeout(self.job_max, result).await;
        attempt.finish_attempt(result.is_err());
        match result {
            Ok(result) => result.unwrap_or(Err(Error::Bug("the thread that writes to SQLite runs"))),
            Err(_) => {
                is_abandoned.store(true, Ordering::Relaxed);
                self.interrupt_statement();
                Err(not_answered())
            }
        }
    }

    /// Sends a job to the thread, and does not wait for it. If it panics, the thread goes on.
    fn send_job(&self, job: impl FnOnce(&mut WriterThread) + Send + 'static) {
        let job = move |thread: &mut WriterThread| {
            if catch_unwind(AssertUnwindSafe(|| job(thread))).is_err() {
                tracing::error!("a job of the thread that writes to SQLite panicked");
            }
        };
        // The thread ends only after this sender is dropped.
        let _thread_has_ended = self.jobs.send(Box::new(job));
    }

    /// Interrupts the statement that runs now. The caller must have the permit, so that it is a statement of its
    /// own transaction.
    fn interrupt_statement(&self) {
        if let Ok(interrupt) = self.interrupt.lock()
            && let Some(interrupt) = interrupt.as_ref()
        {
            interrupt.interrupt();
        }
    }

    /// How many connections are in use, and how many are idle: together at most one.
    pub(super) fn connection_counts(&self) -> (usize, usize) {
        let is_open = self.interrupt.lock().is_ok_and(|interrupt| interrupt.is_some());
        let is_used = self.permits.available_permits() == 0;
        (usize::from(is_used), usize::from(is_open && !is_used))
    }

    /// Waits for a limited time until no transaction runs, and closes the connection. After that no transaction
    /// begins. If one still runs, the connection stays open until this writer is dropped.
    pub(super) async fn close(&self) {
        let permit = timeout(CONNECT_MAX, Arc::clone(&self.permits).acquire_owned()).await;
        self.permits.close();
        let Ok(Ok(permit)) = permit else { return };
        let (sender, closed) = oneshot::channel();
        self.send_job(move |thread| {
            thread.close();
            drop(permit);
            let _caller_is_gone = sender.send(());
        });
        if timeout(CONNECT_MAX, closed).await.is_err() {
            tracing::debug!("the connection that writes to SQLite did not close in time");
        }
    }
}

/// The error of a job that took too long.
fn not_answered() -> Error {
    let error = timeout_error("SQLite does not answer");
    DbErr::Query(RuntimeErr::SqlxError(error.into())).into()
}

impl WriterThread {
    /// Begins a transaction that writes. Opens the connection if there is none.
    fn begin(&mut self) -> Result<&Connection, Error> {
        if self.connection.as_ref().is_some_and(|connection| !connection.is_autocommit()) {
            tracing::error!("a transaction was left open, and its connection is closed");
            self.close();
        }
        if self.connection.is_none() {
            let connection = open(&self.path)?;
            if let Ok(mut interrupt) = self.interrupt.lock() {
                *interrupt = Some(connection.get_interrupt_handle());
            }
            self.connection = Some(connection);
        }
        let connection = self.connection()?;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(connection)
    }

    /// The connection, on which a transaction was begun.
    fn connection(&self) -> Result<&Connection, Error> {
        self.connection.as_ref().ok_or(Error::Bug("the connection of a transaction is open"))
    }

    /// Commits the transaction or rolls it back. If that fails, the connection is closed, because its state is
    /// unknown.
    fn end(&mut self, ending: Ending) -> Result<(), Error> {
        let command = match ending {
            Ending::Commit => "COMMIT",
            Ending::RollBack => "ROLLBACK",
        };
        let ended = self.connection().and_then(|connection| {
            connection.prepare_cached(command)?.execute([])?;
            Ok(())
        });
        if ended.is_err() {
            self.close();
        }
        ended
    }

    fn close(&mut self) {
        self.connection = None;
        if let Ok(mut interrupt) = self.interrupt.lock() {
            *interrupt = None;
        }
    }
}

/// Opens a connection in WAL mode that syncs each commit to the disk. A missing file is created.
fn open(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_MAX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

#[cfg(test)]
mod tests;
