//! Transactions on the connection that writes to SQLite.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::Connection;
use uuid::Uuid;

use super::{SqliteWriter, WritePermit, load_read_set, load_read_sets, not_answered, save_rows_and_heads};
use crate::error::Error;
use crate::load::{Loaded, ReadSet};
use crate::save::Decision;

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its changes become durable and visible to others.
    Commit,
    /// It changes nothing.
    RollBack,
}

impl SqliteWriter {
    /// Runs a whole transaction as one job. It ends as `work` says, and is rolled back if `work` fails. If the
    /// caller is dropped, the transaction goes on.
    ///
    /// # Errors
    /// Any error of `work`. [`Error::Busy`] if the transactions before this one take too long.
    /// [`Error::Database`] if the database fails or does not answer; then it is unknown whether the
    /// transaction is committed. [`Error::Bug`] if `work` panics.
    pub(super) async fn run_transaction<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<(T, Ending), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.acquire_permit().await?;
        self.run_job(&permit, |thread, is_abandoned| {
            let connection = thread.begin()?;
            let worked = catch_unwind(AssertUnwindSafe(|| work(connection)));
            match worked.unwrap_or(Err(Error::Bug("a transaction does not panic"))) {
                // The caller has told its clients that it failed.
                Ok(_) if is_abandoned.load(Ordering::Relaxed) => {
                    thread.end(Ending::RollBack)?;
                    Err(not_answered())
                }
                Ok((result, ending)) => {
                    thread.end(ending)?;
                    Ok(result)
                }
                Err(error) => {
                    // If the rollback fails, the connection is closed, which ends the transaction as well.
                    let _closed = thread.end(Ending::RollBack);
                    Err(error)
                }
            }
        })
        .await
    }

    /// Loads the rows in the read set of a user, in a transaction of its own that waits for its turn to write.
    /// Returns `None` if the user has no account row.
    ///
    /// # Errors
    /// [`Error::Busy`] if the transactions before this one take too long. [`Error::Database`] if the database
    /// fails or does not answer. [`Error::Bug`] if a stored row breaks an invariant.
    pub async fn load(&self, user_id: Uuid, read_set: ReadSet) -> Result<Option<Loaded>, Error> {
        self.run_transaction(move |connection| {
            Ok((load_read_set(connection, user_id, &read_set)?, Ending::RollBack))
        })
        .await
    }

    /// Loads the rows in the read set of each user, decides, and stores what is decided, in one transaction.
    /// Users without an account row are missing among the loaded rows. `decide` runs on the thread that writes,
    /// so it must not wait for anything.
    ///
    /// # Errors
    /// [`Error::Busy`] if the transactions before this one take too long. [`Error::Database`] if the database fails
    /// or does not answer; then it is unknown whether the decision is stored. [`Error::Bug`] if the database
    /// contradicts the decision, or `decide` panics; then nothing is stored.
    pub async fn load_decide_and_store<T: Send + 'static>(
        &self,
        read_sets: BTreeMap<Uuid, ReadSet>,
        decide: impl FnOnce(BTreeMap<Uuid, Loaded>) -> (T, Vec<Decision>) + Send + 'static,
    ) -> Result<T, Error> {
        self.run_transaction(move |connection| {
            let (answer, decisions) = decide(load_read_sets(connection, &read_sets)?);
            if decisions.is_empty() {
                return Ok((answer, Ending::RollBack));
            }
            save_rows_and_heads(connection, &decisions)?;
            Ok((answer, Ending::Commit))
        })
        .await
    }
}

/// What a transaction is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No job runs, and all jobs have succeeded.
    Open,
    /// A job runs, or its caller gave up waiting for it.
    Running,
    /// A job has failed. The transaction can only be rolled back.
    Failed,
    /// It is committed, rolled back or could not be begun.
    Ended,
}

/// A transaction of several jobs. Between them its owner may wait for other things. If it is dropped before
/// its end, it is rolled back.
#[derive(Debug)]
pub(crate) struct SqliteTransaction {
    writer: Arc<SqliteWriter>,
    permit: WritePermit,
    state: State,
}

impl SqliteTransaction {
    /// Waits for the turn to write, and begins a transaction.
    ///
    /// # Errors
    /// [`Error::Busy`] if the transactions before this one take too long; [`Error::Database`] if the database
    /// fails.
    pub(crate) async fn begin(writer: &Arc<SqliteWriter>) -> Result<Self, Error> {
        let permit = writer.acquire_permit().await?;
        let mut tx = Self { writer: Arc::clone(writer), permit, state: State::Running };
        let begun = tx.writer.run_job(&tx.permit, |thread, _| thread.begin().map(drop)).await;
        tx.state = match &begun {
            Ok(()) => State::Open,
            // It may still begin.
            Err(error) if error.is_timeout() => State::Running,
            Err(_) => State::Ended,
        };
        begun?;
        Ok(tx)
    }

    /// Runs a job within the transaction.
    ///
    /// # Errors
    /// Any error of the job. [`Error::Database`] if the database fails or does not answer. [`Error::Bug`] if
    /// an earlier job has failed.
    pub(crate) async fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if self.state != State::Open {
            return Err(Error::Bug("no statement runs in a transaction in which one has failed"));
        }
        self.state = State::Running;
        let result = self.writer.run_job(&self.permit, |thread, _| job(thread.connection()?)).await;
        self.state = match &result {
            Ok(_) => State::Open,
            Err(error) if error.is_timeout() => State::Running,
            // SQLite may have rolled back by itself, and would store each further statement on its own.
            Err(_) => State::Failed,
        };
        result
    }

    /// Commits the transaction or rolls it back.
    ///
    /// # Errors
    /// [`Error::Database`] if the database fails or does not answer; then it is unknown whether a commit took
    /// effect. [`Error::Bug`] if it is to be committed after a job has failed, or if a job has not finished; then
    /// dropping the transaction rolls it back.
    pub(crate) async fn end(mut self, ending: Ending) -> Result<(), Error> {
        match (self.state, ending) {
            (State::Open, _) | (State::Failed, Ending::RollBack) => {}
            _ => {
                return Err(Error::Bug(
                    "a transaction ends only when none of its statements runs, and is committed only if all succeeded",
                ));
            }
        }
        // From here on the job ends the transaction, even if the caller is dropped.
        self.state = State::Ended;
        let permit = Arc::clone(&self.permit);
        self.writer
            .run_job(&permit, move |thread, is_abandoned| {
                let is_late = is_abandoned.load(Ordering::Relaxed);
                thread.end(if is_late { Ending::RollBack } else { ending })
            })
            .await
    }
}

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        if self.state == State::Ended {
            return;
        }
        if self.state == State::Running {
            self.writer.interrupt_statement();
        }
        let permit = Arc::clone(&self.permit);
        self.writer.send_job(move |thread| {
            // If the rollback fails, the connection is closed, which ends the transaction as well.
            let _closed = thread.end(Ending::RollBack);
            drop(permit);
        });
    }
}
