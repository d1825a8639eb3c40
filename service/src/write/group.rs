//! The group writer, in front of the single writes: those that wait at the same time share one transaction,
//! whoever sent them, and the first of them runs it. There is no timer: a write that finds a free writer is a
//! group of one, and what comes while all writers are busy is the next group.
//!
//! A group waits for no head. The writes of a user whose head somebody else holds, or has moved meanwhile, go to a
//! contended queue of their own, which waits for that head and for no other. The writes of one user never overtake each
//! other.

mod queue;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::write_locked;
use crate::notifier::{Notification, Notifier};
use domain::apply::UnitOfWork;
use domain::fault_injection;
use queue::{Batch, Job, Queue};
use store::Store;
use store::detached::detached;
use store::error::Error;
use store::load::{Loaded, Locking, ReadSet, load};
use store::pool::Pool;
use store::rarely::Rarely;
use store::save::{Decision, can_be_optimistic, save, store_if_unchanged};

/// While the database is away, every group meets it.
static POSTPONED: Rarely = Rarely::new();

/// A decision over what is loaded of one user; it is taken again when its group has failed.
pub type Decide<T> = Box<dyn Fn(&mut UnitOfWork) -> Result<T, Error> + Send + Sync>;

/// Writes in groups; a clone is the same writer.
#[derive(Debug)]
pub struct GroupWriter<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    store: Store,
    notifier: Arc<dyn Notifier>,
    queue: Mutex<Queue<T>>,
}

impl<T> Clone for GroupWriter<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Send + 'static> GroupWriter<T> {
    /// Nothing runs until something is to be written.
    #[must_use]
    pub fn new(store: Store, notifier: Arc<dyn Notifier>) -> Self {
        let queue = Mutex::new(Queue::new(store.group_writers()));
        Self { shared: Arc::new(Shared { store, notifier, queue }) }
    }

    /// Runs one decision and returns its answer once it is lasting. Dropped, the write goes on.
    ///
    /// # Errors
    /// When too many writes wait, when the database fails, or the decision; then nothing was written.
    pub async fn write(&self, user_id: Uuid, read_set: ReadSet, decide: Decide<T>) -> Result<T, Error> {
        if fault_injection::is_injected("plant-late-lock") {
            let Shared { store, notifier, .. } = &*self.shared;
            let since = Instant::now();
            return write_locked(store, notifier.as_ref(), user_id, read_set, since, |unit| decide(unit))
                .await;
        }
        let (answer, told) = oneshot::channel();
        let is_wanted = self.shared.queue().push(Job::new(user_id, read_set, decide, answer))?;
        if is_wanted {
            // Most often there is nothing else to write, and nobody has to be woken.
            let _panicked = detached(Arc::clone(&self.shared).run_first()).await;
        }
        told.await.unwrap_or(Err(Error::Bug("a group writer does not panic")))
    }
}

impl<T: Send + 'static> Shared<T> {
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        // Nothing panics while it is held, so that it is whole in any case.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a writer run, where one is wanted.
    fn start(self: &Arc<Self>, is_wanted: bool) {
        if is_wanted {
            tokio::spawn(Arc::clone(self).run());
        }
    }

    /// One writer for one group. What waits behind it is no matter of whoever brought it.
    async fn run_first(self: Arc<Self>) {
        let mut slot = WriterSlot { shared: self, is_over: false };
        slot.write_next().await;
    }

    /// One writer: group by group while something waits.
    async fn run(self: Arc<Self>) {
        let mut slot = WriterSlot { shared: self, is_over: false };
        while !slot.is_over {
            slot.write_next().await;
        }
    }

    async fn write_group(self: &Arc<Self>, mut group: InFlightGroup<T>) {
        match self.attempt(&mut group.batches).await {
            Ok((contended, answers)) => {
                group.complete(answers);
                metrics::counter!("idem_write_contended_total").increment(contended.len() as u64);
                self.write_contended(contended);
            }
            Err(error) if error.is_outage() => group.postpone(&error),
            Err(error) => {
                tracing::warn!(error = error.in_full(), "a group of writes failed");
                metrics::counter!("idem_write_group_fallbacks_total").increment(1);
                let batches = std::mem::take(&mut group.batches);
                self.write_contended(batches);
            }
        }
    }

    /// Each user by themselves; nobody waits for another.
    fn write_contended(self: &Arc<Self>, batches: Vec<Batch<T>>) {
        for batch in batches {
            let group = InFlightGroup { shared: Arc::clone(self), batches: vec![batch], is_contended: true };
            tokio::spawn(Arc::clone(self).write_alone(group));
        }
    }

    /// Decides and stores, with the answers, for all whose heads are free and whose writes can be decided; takes
    /// the others out.
    async fn attempt(&self, batches: &mut Vec<Batch<T>>) -> Result<(Vec<Batch<T>>, Vec<T>), Error> {
        let Decisions { mut answers, moved, contended } = match self.store.optimistic() {
            Some(pools) => self.attempt_optimistic(&pools.groups, batches).await?,
            None => self.attempt_locked(batches).await?,
        };
        for user_id in moved.difference(&contended) {
            self.notifier.notify(Notification::Feed(*user_id));
        }
        // Only now: of a group that fails, all are still together.
        let contended = batches.extract_if(.., |batch| contended.contains(&batch.user_id)).collect();
        let in_order = batches.iter().filter_map(|batch| answers.remove(&batch.user_id)).flatten();
        Ok((contended, in_order.collect()))
    }

    /// Nothing is locked before it is stored: whoever was changed meanwhile becomes contended.
    async fn attempt_optimistic(
        &self,
        connections: &Pool,
        batches: &[Batch<T>],
    ) -> Result<Decisions<T>, Error> {
        let (mut decisions, to_store) = Decisions::take(Locking::Optimistic(connections), batches).await?;
        if fault_injection::is_injected("plant-early-answer") {
            let connections = connections.clone();
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                store_if_unchanged(&connections, to_store).await
            });
            return Ok(decisions);
        }
        let users: Vec<Uuid> = to_store.iter().map(|decided| decided.user_id).collect();
        let stored = store_if_unchanged(connections, to_store).await?;
        decisions.contended.extend(users.into_iter().filter(|user_id| !stored.contains(user_id)));
        Ok(decisions)
    }

    /// In one transaction.
    async fn attempt_locked(&self, batches: &[Batch<T>]) -> Result<Decisions<T>, Error> {
        let tx = self.store.begin().await?;
        let (decisions, to_store) = Decisions::take(Locking::Pessimistic(&tx), batches).await?;
        if to_store.is_empty() {
            tx.release().await?;
        } else {
            save(&tx, to_store).await?;
            tx.commit().await?;
        }
        Ok(decisions)
    }

    /// The contended queue: writes of one user, whose head is waited for. What fails together is written one after the
    /// other, so that what is wrong with one harms no other.
    async fn write_alone(self: Arc<Self>, mut group: InFlightGroup<T>) {
        let (store, notifier) = (&self.store, self.notifier.as_ref());
        let [batch] = &group.batches[..] else { return };
        let decide = |unit: &mut UnitOfWork| batch.decide(unit);
        match write_locked(store, notifier, batch.user_id, batch.read_set(), batch.since(), decide).await {
            Ok(answers) => return group.complete(answers),
            Err(error) if error.is_outage() => return group.postpone(&error),
            Err(_) => {}
        }
        for job in group.jobs() {
            let decide = |unit: &mut UnitOfWork| job.decide(unit);
            let written =
                write_locked(store, notifier, job.user_id, job.read_set.clone(), Instant::now(), decide)
                    .await;
            job.tell(written);
        }
    }
}

/// What is decided, beside what is to be stored.
struct Decisions<T> {
    /// Of each user, in the order of the writes.
    answers: HashMap<Uuid, Vec<T>>,
    /// Users whose feeds move.
    moved: HashSet<Uuid>,
    /// Users whose heads are held by somebody else or have moved meanwhile, who need more than one statement, or of
    /// whom a write cannot be decided.
    contended: HashSet<Uuid>,
}

impl<T> Decisions<T> {
    /// Loads what the batches need, in as few statements as for one of them, and decides each.
    async fn take(locking: Locking<'_>, batches: &[Batch<T>]) -> Result<(Self, Vec<Decision>), Error> {
        let mut all = Self { answers: HashMap::new(), moved: HashSet::new(), contended: HashSet::new() };
        let mut to_store = Vec::new();
        let read_sets: Vec<ReadSet> = batches.iter().map(Batch::read_set).collect();
        let by_user = batches.iter().map(|batch| batch.user_id).zip(&read_sets).collect();
        let mut loaded = load(locking, &by_user).await?;
        for batch in batches {
            let loaded = loaded.remove(&batch.user_id);
            match loaded.and_then(|loaded| all.decide(batch, loaded, locking)) {
                Some(decided) if decided.changes.is_empty() => {}
                Some(decided) => to_store.push(decided),
                None => drop(all.contended.insert(batch.user_id)),
            }
        }
        Ok((all, to_store))
    }

    /// Decides a batch. `None` if it has to be written by itself.
    fn decide(&mut self, batch: &Batch<T>, loaded: Loaded, locking: Locking<'_>) -> Option<Decision> {
        let (user_id, Loaded { read_version, mut unit }) = (batch.user_id, loaded);
        let answers = batch.decide(&mut unit).ok()?;
        let changes = unit.into_changes(read_version.feed_head);
        if locking.is_optimistic() && !can_be_optimistic(read_version, &changes) {
            return None;
        }
        self.answers.insert(user_id, answers);
        if changes.head != read_version.feed_head {
            self.moved.insert(user_id);
        }
        Some(Decision { user_id, read_version, changes })
    }
}

/// The place of a writer; given back, whatever becomes of it.
struct WriterSlot<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    /// The queue has taken it back already.
    is_over: bool,
}

impl<T: Send + 'static> WriterSlot<T> {
    /// The next group; over, when nothing waits.
    async fn write_next(&mut self) {
        let batches = self.shared.queue().take();
        if batches.is_empty() {
            self.is_over = true;
            return;
        }
        let items: usize = batches.iter().map(Batch::len).sum();
        metrics::histogram!("idem_write_group_items").record(items as f64);
        let group = InFlightGroup { shared: Arc::clone(&self.shared), batches, is_contended: false };
        self.shared.write_group(group).await;
    }
}

impl<T: Send + 'static> Drop for WriterSlot<T> {
    fn drop(&mut self) {
        if !self.is_over {
            let is_wanted = self.shared.queue().release_slot();
            self.shared.start(is_wanted);
        }
    }
}

/// Writes on their way. Until they have landed, no others of their users are taken.
struct InFlightGroup<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    batches: Vec<Batch<T>>,
    /// No writer is about to look whether more waits.
    is_contended: bool,
}

impl<T: Send + 'static> InFlightGroup<T> {
    fn jobs(&mut self) -> impl Iterator<Item = Job<T>> + use<T> {
        let jobs: Vec<Job<T>> = self.batches.iter_mut().flat_map(Batch::take).collect();
        jobs.into_iter()
    }

    /// The database is away or in trouble: each alone would meet the same.
    fn postpone(mut self, error: &Error) {
        if let Some(held_back) = POSTPONED.pass() {
            tracing::warn!(error = error.in_full(), held_back, "groups of writes are put off");
        }
        let is_locked = matches!(error, Error::Locked);
        let jobs = self.jobs();
        drop(self);
        jobs.for_each(|job| job.tell(Err(if is_locked { Error::Locked } else { Error::Busy })));
    }

    /// Answers all, in order.
    fn complete(mut self, answers: Vec<T>) {
        let jobs = self.jobs();
        drop(self);
        jobs.zip(answers).for_each(|(job, answer)| job.tell(Ok(answer)));
    }
}

impl<T: Send + 'static> Drop for InFlightGroup<T> {
    fn drop(&mut self) {
        let is_wanted = self.shared.queue().complete(&self.batches, self.is_contended);
        self.shared.start(is_wanted);
    }
}
