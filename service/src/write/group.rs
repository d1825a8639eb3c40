//! Stores single writes in groups: writes that wait at the same time share one transaction.
//!
//! A writer takes the writes that wait in the queue (`group/queue.rs`) as one write group, whatever users and
//! requests they come from. There is no timer: a write that finds a free writer slot is a group of one, and
//! the writes that arrive while all slots are in use form the next group. The request that claims a slot runs
//! the first group itself (decision 0043), because waking another task costs a system call (decision 0054).
//! With one statement to load and one to store, this took creates at 64 connections from 0.23 to 0.96 of
//! pgbench (docs/performance.md).
//!
//! A group never waits for an account row. The writes of a user whose row is locked, or has changed since the
//! load, become contended: they leave the group and wait for that row in a task of their own. [`super`] draws
//! the states of a write.
//!
//! The next writes of a user are taken only when none of them is in flight, so they never overtake each
//! other.

mod decisions;
mod queue;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::{SetEventTypes, write_under_lock};
use crate::notifier::{Notification, Notifier};
use decisions::{Decisions, merge_read_sets};
use domain::apply::UnitOfWork;
use domain::fault_injection;
use queue::{QueuedWrite, UserDecideFns, UserWrites, WriteQueue};
use store::Store;
use store::detached::detach_on_drop;
use store::error::Error;
use store::load::ReadSet;
use store::log_throttle::LogThrottle;
use store::pool::Pool;
use store::save::store_if_unchanged;

/// Limits to one a minute a warning that every group would log while the database is away.
static OUTAGE_WARNINGS: LogThrottle = LogThrottle::new();

/// Decides one write over the loaded rows of its user. It must be pure, because it runs again after an
/// attempt that could not be stored. On SQLite it runs on the thread that writes, so it must not wait.
pub type Decide<T> = Arc<dyn Fn(&mut UnitOfWork) -> Result<T, Error> + Send + Sync>;

/// Stores single writes of any users. Those that wait at the same time share one transaction. Clones share
/// one queue.
#[derive(Debug)]
pub struct GroupWriter<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    store: Store,
    notifier: Arc<dyn Notifier>,
    queue: Mutex<WriteQueue<T>>,
}

impl<T> Clone for GroupWriter<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: SetEventTypes + Send + 'static> GroupWriter<T> {
    /// Makes a writer with an empty queue. It runs no task until something is written.
    #[must_use]
    pub fn new(store: Store, notifier: Arc<dyn Notifier>) -> Self {
        let queue = Mutex::new(WriteQueue::new(store.group_writer_count()));
        Self { shared: Arc::new(Shared { store, notifier, queue }) }
    }

    /// Queues one write, and returns its answer once the write is committed. If this future is dropped, the
    /// write goes on.
    ///
    /// # Errors
    /// As [`super::load_decide_and_store`], and [`Error::Busy`] if too many writes of the process or of this
    /// user are pending. While the database is away, [`Error::Busy`] comes back instead of
    /// [`Error::Database`].
    pub async fn write_in_group(
        &self,
        user_id: Uuid,
        read_set: ReadSet,
        decide: Decide<T>,
    ) -> Result<T, Error> {
        if fault_injection::is_injected("plant-late-lock") {
            let Shared { store, notifier, .. } = &*self.shared;
            let now = Instant::now();
            return write_under_lock(
                store,
                notifier.as_ref(),
                user_id,
                read_set,
                now,
                |unit| decide(unit),
                return_answer_unchanged,
            )
            .await;
        }
        let (sender, answer) = oneshot::channel();
        let has_slot = self
            .shared
            .lock_queue()
            .push_and_claim_slot(QueuedWrite::new(user_id, read_set, decide, sender))?;
        if has_slot {
            // Usually nothing else waits. Then this request does all the work, and no task is woken.
            let _panicked = detach_on_drop(Arc::clone(&self.shared).write_group_in_request()).await;
        }
        answer.await.unwrap_or(Err(Error::Bug("a group writer panicked")))
    }
}

impl<T: SetEventTypes + Send + 'static> Shared<T> {
    fn lock_queue(&self) -> MutexGuard<'_, WriteQueue<T>> {
        // No code panics while it holds the lock, so the queue is consistent even if the mutex is poisoned.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a writer task if the queue has claimed a slot for it (`has_slot`).
    fn start_writer_if_claimed(self: &Arc<Self>, has_slot: bool) {
        if has_slot {
            tokio::spawn(Arc::clone(self).write_until_queue_empty());
        }
    }

    /// Takes one group from the queue and writes it, in the request that claimed the writer slot. Dropping
    /// the slot starts a writer task for what was queued later.
    async fn write_group_in_request(self: Arc<Self>) {
        let mut slot = WriterSlot { shared: self, is_freed: false };
        slot.write_next_group().await;
    }

    /// Writes group after group until no write is ready. Then the queue has its writer slot back.
    async fn write_until_queue_empty(self: Arc<Self>) {
        let mut slot = WriterSlot { shared: self, is_freed: false };
        while !slot.is_freed {
            slot.write_next_group().await;
        }
    }

    /// Stores a write group and answers its writes. Contended users are written in tasks of their own; so are
    /// all users if the group fails, unless the database is away.
    async fn write_group(self: &Arc<Self>, mut group: InFlightGroup<T>) {
        match self.try_write_group(&mut group.users).await {
            Ok((contended, answers)) => {
                group.answer_all(answers);
                metrics::counter!("idem_write_contended_total").increment(contended.len() as u64);
                self.spawn_contended_writes(contended);
            }
            Err(error) if error.is_outage() => group.answer_all_with_error(&error),
            Err(error) => {
                tracing::warn!(
                    error = error.to_string_with_cause(),
                    "a group of writes failed and is written user by user"
                );
                metrics::counter!("idem_write_group_fallbacks_total").increment(1);
                let users = std::mem::take(&mut group.users);
                self.spawn_contended_writes(users);
            }
        }
    }

    /// Starts a task for each user, which waits for the account row and writes. So no user waits for another.
    fn spawn_contended_writes(self: &Arc<Self>, users: Vec<UserWrites<T>>) {
        for writes in users {
            let group = InFlightGroup { shared: Arc::clone(self), users: vec![writes], is_contended: true };
            tokio::spawn(Arc::clone(self).write_contended_user(group));
        }
    }

    /// Loads, decides and stores the writes of all users that are not contended, and notifies feed readers.
    /// Returns the writes of the contended users, which it takes out of `users`, and the answers to the
    /// others in their order.
    async fn try_write_group(
        &self,
        users: &mut Vec<UserWrites<T>>,
    ) -> Result<(Vec<UserWrites<T>>, Vec<T>), Error> {
        let Decisions { mut answers, moved_feeds, maybe_stored, contended, .. } =
            match self.store.optimistic_pools() {
                Some(pools) => self.try_write_group_optimistically(&pools.groups, users).await?,
                None => self.try_write_group_on_sqlite(users).await?,
            };
        for user_id in moved_feeds.difference(&contended).chain(&maybe_stored) {
            self.notifier.notify(Notification::Feed(*user_id));
        }
        // Only now, after everything that can fail: a group that fails must still hold all its writes.
        let contended = users.extract_if(.., |writes| contended.contains(&writes.user_id)).collect();
        let in_order = users.iter().filter_map(|writes| answers.remove(&writes.user_id)).flatten();
        Ok((contended, in_order.collect()))
    }

    /// Loads, decides and stores a group on PostgreSQL, without waiting for a lock. A user whose account row
    /// is locked or has changed when the group is stored becomes contended.
    async fn try_write_group_optimistically(
        &self,
        pool: &Pool,
        users: &[UserWrites<T>],
    ) -> Result<Decisions<T>, Error> {
        let (mut decisions, to_store) = Decisions::store_new_and_decide_rest(pool, users).await?;
        if fault_injection::is_injected("plant-early-answer") {
            let pool = pool.clone();
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                store_if_unchanged(&pool, to_store).await
            });
            return Ok(decisions);
        }
        let decided: Vec<Uuid> = to_store.iter().map(|decision| decision.user_id).collect();
        let stored = match store_if_unchanged(pool, to_store).await {
            Ok(stored) => stored,
            Err(error) => {
                decisions.return_unless_partly_stored(error)?;
                HashSet::new()
            }
        };
        decisions.contended.extend(decided.into_iter().filter(|user_id| !stored.contains(user_id)));
        Ok(decisions)
    }

    /// Loads, decides and stores a group in one transaction of SQLite, where the only writer holds the lock of
    /// all rows. All of it runs on the thread of that writer.
    async fn try_write_group_on_sqlite(&self, users: &[UserWrites<T>]) -> Result<Decisions<T>, Error> {
        let writer =
            self.store.sqlite_writer().ok_or(Error::Bug("a store is one of PostgreSQL or SQLite"))?;
        let decide_fns: Vec<UserDecideFns<T>> = users.iter().map(UserWrites::decide_fns).collect();
        let decide = move |loaded| Decisions::decide_over_loaded(&decide_fns, loaded);
        writer.load_decide_and_store(merge_read_sets(users), decide).await
    }

    /// Waits for the account row of a contended user, and stores their writes together under its lock. If
    /// they fail together, each is written in a transaction of its own, so that one bad write fails alone.
    async fn write_contended_user(self: Arc<Self>, mut group: InFlightGroup<T>) {
        let (store, notifier) = (&self.store, self.notifier.as_ref());
        let [writes] = &group.users[..] else { return };
        let (user_id, read_set, queued_at) =
            (writes.user_id, writes.merged_read_set(), writes.oldest_queued_at());
        let decide = |unit: &mut UnitOfWork| writes.decide_all(unit);
        match write_under_lock(store, notifier, user_id, read_set, queued_at, decide, return_answer_unchanged)
            .await
        {
            Ok(answers) => return group.answer_all(answers),
            Err(error) if error.is_outage() => return group.answer_all_with_error(&error),
            Err(_) => {}
        }
        for write in group.take_writes() {
            let (read_set, now) = (write.read_set.clone(), Instant::now());
            let decide = |unit: &mut UnitOfWork| write.decide_catching_panics(unit);
            let answer = write_under_lock(
                store,
                notifier,
                write.user_id,
                read_set,
                now,
                decide,
                return_answer_unchanged,
            )
            .await;
            write.send_answer(answer);
        }
    }
}

/// The right to write groups. Dropping it gives it back, even after a panic.
struct WriterSlot<T: SetEventTypes + Send + 'static> {
    shared: Arc<Shared<T>>,
    /// Whether the queue has freed the slot already, because it was empty.
    is_freed: bool,
}

impl<T: SetEventTypes + Send + 'static> WriterSlot<T> {
    /// Takes the next group from the queue and writes it. If nothing can be written now, the slot is freed.
    async fn write_next_group(&mut self) {
        let users = self.shared.lock_queue().take_group_or_free_slot();
        if users.is_empty() {
            self.is_freed = true;
            return;
        }
        let items: usize = users.iter().map(UserWrites::write_count).sum();
        metrics::histogram!("idem_write_group_items").record(items as f64);
        let group = InFlightGroup { shared: Arc::clone(&self.shared), users, is_contended: false };
        self.shared.write_group(group).await;
    }
}

impl<T: SetEventTypes + Send + 'static> Drop for WriterSlot<T> {
    fn drop(&mut self) {
        if !self.is_freed {
            let has_slot = self.shared.lock_queue().release_or_reclaim_slot();
            self.shared.start_writer_if_claimed(has_slot);
        }
    }
}

/// Writes that were taken from the queue. Until this is dropped, the queue hands out no other writes of their
/// users.
struct InFlightGroup<T: SetEventTypes + Send + 'static> {
    shared: Arc<Shared<T>>,
    users: Vec<UserWrites<T>>,
    /// Whether it runs outside of a writer slot. Then no writer looks at the queue after it, and dropping it
    /// must start one.
    is_contended: bool,
}

impl<T: SetEventTypes + Send + 'static> InFlightGroup<T> {
    fn take_writes(&mut self) -> impl Iterator<Item = QueuedWrite<T>> + use<T> {
        let writes: Vec<QueuedWrite<T>> = self.users.iter_mut().flat_map(UserWrites::take_writes).collect();
        writes.into_iter()
    }

    /// Answers all writes with [`Error::Locked`] or [`Error::Busy`], both retryable, and logs a warning at
    /// most once a minute. Written one by one, each write would meet the same outage.
    fn answer_all_with_error(mut self, error: &Error) {
        if let Some(suppressed) = OUTAGE_WARNINGS.allow_once_a_minute() {
            tracing::warn!(
                error = error.to_string_with_cause(),
                suppressed,
                "a group of writes failed, and its clients are told to retry"
            );
        }
        let is_locked = matches!(error, Error::Locked);
        let writes = self.take_writes();
        drop(self);
        writes.for_each(|write| write.send_answer(Err(if is_locked { Error::Locked } else { Error::Busy })));
    }

    /// Answers all writes. The answers are in the order of the writes.
    fn answer_all(mut self, answers: Vec<T>) {
        let writes = self.take_writes();
        drop(self);
        writes.zip(answers).for_each(|(write, answer)| write.send_answer(Ok(answer)));
    }
}

impl<T: SetEventTypes + Send + 'static> Drop for InFlightGroup<T> {
    fn drop(&mut self) {
        let has_slot = self.shared.lock_queue().complete_group_and_claim_slot(&self.users, self.is_contended);
        self.shared.start_writer_if_claimed(has_slot);
    }
}

/// The `complete` step of a group, which adds nothing: the caller of [`GroupWriter::write_in_group`] does it.
async fn return_answer_unchanged<T>(answer: T) -> Result<T, Error> {
    Ok(answer)
}
