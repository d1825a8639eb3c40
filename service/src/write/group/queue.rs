//! The queue of single writes: users take turns, and the writes of one user keep their order.
//!
//! It holds plain state behind the mutex of the group writer. It starts no tasks: each method that makes work
//! available returns whether it has claimed a writer slot, and then the caller must start a writer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::Decide;
use domain::apply::UnitOfWork;
use domain::limits::{
    GROUP_ITEMS_MAX, GROUP_ITEMS_OF_USER_MAX, WRITES_WAITING_MAX, WRITES_WAITING_OF_USER_MAX,
};
use store::error::Error;
use store::load::ReadSet;

/// One write in the queue of the group writer. Its caller waits for the answer.
pub(super) struct QueuedWrite<T> {
    pub(super) user_id: Uuid,
    pub(super) read_set: ReadSet,
    decide: Decide<T>,
    answer: oneshot::Sender<Result<T, Error>>,
    queued_at: Instant,
}

impl<T> QueuedWrite<T> {
    pub(super) fn new(
        user_id: Uuid,
        read_set: ReadSet,
        decide: Decide<T>,
        answer: oneshot::Sender<Result<T, Error>>,
    ) -> Self {
        Self { user_id, read_set, decide, answer, queued_at: Instant::now() }
    }

    /// Runs the decision of this write. A panic is caught and becomes an error, so that it fails no other
    /// write.
    pub(super) fn decide_catching_panics(&self, unit: &mut UnitOfWork) -> Result<T, Error> {
        decide_catching_panics(&self.decide, unit)
    }

    /// Sends the answer to the caller of this write. Does nothing if the caller has gone away.
    pub(super) fn send_answer(self, answer: Result<T, Error>) {
        let _caller_is_gone = self.answer.send(answer);
    }
}

/// Consecutive writes of one user that are decided and stored together.
pub(super) struct UserWrites<T> {
    pub(super) user_id: Uuid,
    /// How many writes were taken from the queue. `writes` is emptied before they are counted as done.
    taken: usize,
    writes: Vec<QueuedWrite<T>>,
}

impl<T> UserWrites<T> {
    pub(super) fn write_count(&self) -> usize {
        self.writes.len()
    }

    /// When the first of these writes was queued. Now, if they were taken out already.
    pub(super) fn oldest_queued_at(&self) -> Instant {
        self.writes.first().map_or_else(Instant::now, |write| write.queued_at)
    }

    /// The keys of all rows that any of these writes can touch.
    pub(super) fn merged_read_set(&self) -> ReadSet {
        let mut all = self.writes.iter().map(|write| &write.read_set);
        let mut read_set = all.next().cloned().unwrap_or_default();
        all.for_each(|other| read_set.extend(other));
        read_set
    }

    /// The functions that decide these writes, in their order.
    pub(super) fn decide_fns(&self) -> UserDecideFns<T> {
        let decide_fns = self.writes.iter().map(|write| Arc::clone(&write.decide)).collect();
        UserDecideFns { user_id: self.user_id, decide_fns }
    }

    /// As [`UserDecideFns::decide_all`].
    pub(super) fn decide_all(&self, unit: &mut UnitOfWork) -> Result<Vec<T>, Error> {
        decide_in_order(self.writes.iter().map(|write| &write.decide), unit)
    }

    /// Moves the writes out, to answer them. The count `taken` stays.
    pub(super) fn take_writes(&mut self) -> Vec<QueuedWrite<T>> {
        std::mem::take(&mut self.writes)
    }
}

/// The functions that decide consecutive writes of one user. They are shared, so that another thread can run
/// them.
pub(super) struct UserDecideFns<T> {
    pub(super) user_id: Uuid,
    decide_fns: Vec<Decide<T>>,
}

impl<T> UserDecideFns<T> {
    /// Decides these writes in order, each over the result of the one before it. A rejection in one write
    /// must not affect the items of the next one. Fails if any decision fails.
    pub(super) fn decide_all(&self, unit: &mut UnitOfWork) -> Result<Vec<T>, Error> {
        decide_in_order(self.decide_fns.iter(), unit)
    }
}

fn decide_in_order<'d, T: 'd>(
    decide_fns: impl Iterator<Item = &'d Decide<T>>,
    unit: &mut UnitOfWork,
) -> Result<Vec<T>, Error> {
    let decide = |decide| {
        unit.clear_rejections_and_applied_edits();
        decide_catching_panics(decide, unit)
    };
    decide_fns.map(decide).collect()
}

fn decide_catching_panics<T>(decide: &Decide<T>, unit: &mut UnitOfWork) -> Result<T, Error> {
    let decided = catch_unwind(AssertUnwindSafe(|| decide(unit)));
    decided.unwrap_or(Err(Error::Bug("a decision panicked")))
}

/// The writes that wait, the users whose writes are in flight, and the number of free writer slots.
pub(super) struct WriteQueue<T> {
    waiting: HashMap<Uuid, VecDeque<QueuedWrite<T>>>,
    /// Users who have waiting writes and none in flight, in the order in which they are served.
    ready_users: VecDeque<Uuid>,
    users_in_flight: HashSet<Uuid>,
    /// Writes that wait or are in flight.
    pending: usize,
    free_slots: usize,
}

impl<T> fmt::Debug for WriteQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteQueue").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl<T> WriteQueue<T> {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            ready_users: VecDeque::new(),
            users_in_flight: HashSet::new(),
            pending: 0,
            free_slots: slots,
        }
    }

    /// Adds a write to the queue. Returns whether it claimed a writer slot; then the caller must start a
    /// writer.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many writes of the process, or of this user, are pending.
    pub(super) fn push_and_claim_slot(&mut self, write: QueuedWrite<T>) -> Result<bool, Error> {
        let user_id = write.user_id;
        if self.pending >= WRITES_WAITING_MAX {
            return Err(Error::Busy);
        }
        // A user may take half of the room that is left. So a user whose writes cannot be stored now takes
        // room from the others bit by bit, but never all of it.
        let room = ((WRITES_WAITING_MAX - self.pending) / 2)
            .clamp(GROUP_ITEMS_OF_USER_MAX, WRITES_WAITING_OF_USER_MAX);
        let of_user = self.waiting.entry(user_id).or_default();
        if of_user.len() >= room {
            return Err(Error::Busy);
        }
        of_user.push_back(write);
        self.pending += 1;
        if of_user.len() == 1 && !self.users_in_flight.contains(&user_id) {
            self.ready_users.push_back(user_id);
        }
        Ok(self.try_claim_slot())
    }

    /// Takes the next write group out of the queue: at least one write of each ready user, in their order,
    /// for at most [`GROUP_ITEMS_MAX`] users. These users are in flight then.
    ///
    /// The group is empty if no user is ready. Then the writer slot of the caller is free again.
    pub(super) fn take_group_or_free_slot(&mut self) -> Vec<UserWrites<T>> {
        let now = Instant::now();
        let users = self.ready_users.len().min(GROUP_ITEMS_MAX);
        let share = match users {
            0 => {
                self.free_slots += 1;
                return Vec::new();
            }
            1 => GROUP_ITEMS_MAX,
            _ => (GROUP_ITEMS_MAX / users).min(GROUP_ITEMS_OF_USER_MAX),
        };
        let mut group = Vec::with_capacity(users);
        for user_id in self.ready_users.drain(..users) {
            self.users_in_flight.insert(user_id);
            let of_user = self.waiting.entry(user_id).or_default();
            let writes: Vec<QueuedWrite<T>> = of_user.drain(..share.min(of_user.len())).collect();
            for write in &writes {
                let waited = now - write.queued_at;
                metrics::histogram!("idem_write_wait_seconds").record(waited.as_secs_f64());
            }
            group.push(UserWrites { user_id, taken: writes.len(), writes });
        }
        group
    }

    /// Counts the writes of a group as done, so that the next ones of their users can be taken. Returns
    /// whether it claimed a writer slot for those, which it does only if `wants_writer`; then the caller must
    /// start a writer.
    pub(super) fn complete_group_and_claim_slot(
        &mut self,
        group: &[UserWrites<T>],
        wants_writer: bool,
    ) -> bool {
        for done in group {
            self.pending -= done.taken;
            self.users_in_flight.remove(&done.user_id);
            if self.waiting.get(&done.user_id).is_some_and(|of_user| !of_user.is_empty()) {
                self.ready_users.push_back(done.user_id);
            } else {
                self.waiting.remove(&done.user_id);
            }
        }
        wants_writer && self.try_claim_slot()
    }

    /// Frees the slot of a writer that ended before it found the queue empty. Returns whether it claimed the
    /// slot again; then the caller must start a writer in its place.
    pub(super) fn release_or_reclaim_slot(&mut self) -> bool {
        self.free_slots += 1;
        self.try_claim_slot()
    }

    /// Claims a writer slot if a user is ready and a slot is free. Returns whether it did.
    fn try_claim_slot(&mut self) -> bool {
        let is_claimed = !self.ready_users.is_empty() && self.free_slots > 0;
        self.free_slots -= usize::from(is_claimed);
        is_claimed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A write of a user, whose answer is `number`.
    fn write(user: u128, number: usize) -> QueuedWrite<usize> {
        let (answer, _caller) = oneshot::channel();
        QueuedWrite::new(Uuid::from_u128(user), ReadSet::default(), Arc::new(move |_| Ok(number)), answer)
    }

    fn queue(slots: usize, writes: impl IntoIterator<Item = (u128, usize)>) -> WriteQueue<usize> {
        let mut queue = WriteQueue::new(slots);
        for (user, number) in writes {
            queue.push_and_claim_slot(write(user, number)).expect("there is room");
        }
        queue
    }

    /// The users in a group, with the numbers of their writes.
    fn members(group: &[UserWrites<usize>]) -> Vec<(u128, Vec<usize>)> {
        let numbers =
            |writes: &UserWrites<usize>| writes.decide_all(&mut UnitOfWork::default()).expect("all succeed");
        group.iter().map(|writes| (writes.user_id.as_u128(), numbers(writes))).collect()
    }

    #[test]
    fn a_single_user_fills_the_group_in_order() {
        let mut queue = queue(1, (0..WRITES_WAITING_OF_USER_MAX).map(|number| (1, number)));
        assert_eq!(members(&queue.take_group_or_free_slot()), [(1, (0..GROUP_ITEMS_MAX).collect())]);
    }

    #[test]
    fn while_others_wait_a_user_gets_a_share_of_each_group() {
        let share = GROUP_ITEMS_OF_USER_MAX;
        let mut queue = queue(1, (0..3 * share).map(|number| (1, number)).chain([(2, 0)]));
        let first = queue.take_group_or_free_slot();
        assert_eq!(members(&first), [(1, (0..share).collect()), (2, vec![0])]);
        queue.push_and_claim_slot(write(2, 1)).expect("there is room");
        queue.push_and_claim_slot(write(3, 0)).expect("there is room");
        assert!(!queue.complete_group_and_claim_slot(&first, false));
        // A user who came while the others were in flight is first.
        assert_eq!(
            members(&queue.take_group_or_free_slot()),
            [(3, vec![0]), (1, (share..2 * share).collect()), (2, vec![1])]
        );
    }

    #[test]
    fn a_group_is_bounded_however_many_users_wait() {
        let users = GROUP_ITEMS_MAX as u128 + 7;
        let mut queue = queue(1, (0..users).flat_map(|user| [(user, 0), (user, 1)]));
        let (first, second) = (queue.take_group_or_free_slot(), queue.take_group_or_free_slot());
        assert_eq!((first.len(), second.len()), (GROUP_ITEMS_MAX, 7));
        assert!(
            first.iter().all(|writes| writes.write_count() == 1)
                && second.iter().all(|writes| writes.write_count() == 2)
        );
    }

    #[test]
    fn no_writes_are_taken_of_a_user_with_writes_in_flight() {
        let mut queue = queue(2, [(1, 0)]);
        let first = queue.take_group_or_free_slot();
        assert!(
            !queue.push_and_claim_slot(write(1, 1)).expect("there is room"),
            "no writer is started for them"
        );
        assert!(queue.take_group_or_free_slot().is_empty());
        assert!(
            queue.complete_group_and_claim_slot(&first, true),
            "the writer that found nothing has freed its slot"
        );
        assert_eq!(members(&queue.take_group_or_free_slot()), [(1, vec![1])]);
    }

    #[test]
    fn a_full_queue_refuses_until_writes_are_complete() {
        let mut full = queue(1, (0..WRITES_WAITING_MAX).map(|number| (number as u128 / 4, number)));
        assert!(matches!(full.push_and_claim_slot(write(9_999, 0)), Err(Error::Busy)));
        let group = full.take_group_or_free_slot();
        assert!(
            matches!(full.push_and_claim_slot(write(9_999, 0)), Err(Error::Busy)),
            "the writes are in flight"
        );
        full.complete_group_and_claim_slot(&group, false);
        assert!(full.push_and_claim_slot(write(9_999, 0)).is_ok());
        let mut of_one = queue(1, (0..WRITES_WAITING_OF_USER_MAX).map(|number| (1, number)));
        assert!(matches!(of_one.push_and_claim_slot(write(1, 0)), Err(Error::Busy)));
        assert!(of_one.push_and_claim_slot(write(2, 0)).is_ok());
    }

    #[test]
    fn a_writer_that_broke_is_replaced_while_writes_wait() {
        let mut queue = queue(1, [(1, 0), (2, 0)]);
        assert_eq!(queue.free_slots, 0, "the first write has claimed the slot");
        assert!(queue.release_or_reclaim_slot());
        queue.take_group_or_free_slot();
        assert!(!queue.release_or_reclaim_slot());
    }
}
