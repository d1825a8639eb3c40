//! What waits for a group writer: users in turn, and of each user the writes in order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// One write that waits for its answer.
pub(super) struct Job<T> {
    pub(super) user_id: Uuid,
    pub(super) read_set: ReadSet,
    decide: Decide<T>,
    answer: oneshot::Sender<Result<T, Error>>,
    since: Instant,
}

impl<T> Job<T> {
    pub(super) fn new(
        user_id: Uuid,
        read_set: ReadSet,
        decide: Decide<T>,
        answer: oneshot::Sender<Result<T, Error>>,
    ) -> Self {
        Self { user_id, read_set, decide, answer, since: Instant::now() }
    }

    /// A decision that panics has failed, and no other with it.
    pub(super) fn decide(&self, unit: &mut UnitOfWork) -> Result<T, Error> {
        let decided = catch_unwind(AssertUnwindSafe(|| (self.decide)(unit)));
        decided.unwrap_or(Err(Error::Bug("a decision panicked")))
    }

    /// Answers; whoever asked may be gone.
    pub(super) fn tell(self, answer: Result<T, Error>) {
        let _gone = self.answer.send(answer);
    }
}

/// Writes of one user that go together.
pub(super) struct Batch<T> {
    pub(super) user_id: Uuid,
    /// How many it was when it was taken.
    pub(super) items: usize,
    jobs: Vec<Job<T>>,
}

impl<T> Batch<T> {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// When the first of them came.
    pub(super) fn since(&self) -> Instant {
        self.jobs.first().map_or_else(Instant::now, |job| job.since)
    }

    /// What any of them can touch.
    pub(super) fn read_set(&self) -> ReadSet {
        let mut all = self.jobs.iter().map(|job| &job.read_set);
        let mut read_set = all.next().cloned().unwrap_or_default();
        all.for_each(|other| read_set.extend(other));
        read_set
    }

    /// Decides one after the other; what one call has rejected is no matter of the next.
    pub(super) fn decide(&self, unit: &mut UnitOfWork) -> Result<Vec<T>, Error> {
        let decide = |job: &Job<T>| {
            unit.begin_call();
            job.decide(unit)
        };
        self.jobs.iter().map(decide).collect()
    }

    pub(super) fn take(&mut self) -> Vec<Job<T>> {
        std::mem::take(&mut self.jobs)
    }
}

/// The writes that wait, and the writers that are free.
pub(super) struct Queue<T> {
    waiting: HashMap<Uuid, VecDeque<Job<T>>>,
    /// Users with waiting writes of whom none is on its way; next first.
    ready_users: VecDeque<Uuid>,
    in_flight: HashSet<Uuid>,
    /// Waiting or on their way.
    items: usize,
    free_slots: usize,
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("items", &self.items).finish_non_exhaustive()
    }
}

impl<T> Queue<T> {
    pub(super) fn new(writers: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            ready_users: VecDeque::new(),
            in_flight: HashSet::new(),
            items: 0,
            free_slots: writers,
        }
    }

    /// Adds a write. Returns whether a writer that was free is to run now.
    pub(super) fn push(&mut self, job: Job<T>) -> Result<bool, Error> {
        let user_id = job.user_id;
        if self.items >= WRITES_WAITING_MAX {
            return Err(Error::Busy);
        }
        // Half of the room that is left: whoever cannot be written now takes the others' room by and by, never all.
        let room = ((WRITES_WAITING_MAX - self.items) / 2)
            .clamp(GROUP_ITEMS_OF_USER_MAX, WRITES_WAITING_OF_USER_MAX);
        let of_user = self.waiting.entry(user_id).or_default();
        if of_user.len() >= room {
            return Err(Error::Busy);
        }
        of_user.push_back(job);
        self.items += 1;
        if of_user.len() == 1 && !self.in_flight.contains(&user_id) {
            self.ready_users.push_back(user_id);
        }
        Ok(self.claim_slot())
    }

    /// The next group, at least one write of each user in turn; empty when nothing can be written now, and
    /// then the writer's place is free again.
    pub(super) fn take(&mut self) -> Vec<Batch<T>> {
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
        let mut batches = Vec::with_capacity(users);
        for user_id in self.ready_users.drain(..users) {
            self.in_flight.insert(user_id);
            let of_user = self.waiting.entry(user_id).or_default();
            let jobs: Vec<Job<T>> = of_user.drain(..share.min(of_user.len())).collect();
            for job in &jobs {
                metrics::histogram!("idem_write_wait_seconds").record((now - job.since).as_secs_f64());
            }
            batches.push(Batch { user_id, items: jobs.len(), jobs });
        }
        batches
    }

    /// These were answered. Returns whether a writer that was free is to run now, where one is wanted.
    pub(super) fn complete(&mut self, batches: &[Batch<T>], wants_writer: bool) -> bool {
        for batch in batches {
            self.items -= batch.items;
            self.in_flight.remove(&batch.user_id);
            if self.waiting.get(&batch.user_id).is_some_and(|of_user| !of_user.is_empty()) {
                self.ready_users.push_back(batch.user_id);
            } else {
                self.waiting.remove(&batch.user_id);
            }
        }
        wants_writer && self.claim_slot()
    }

    /// A writer has ended without having found the queue empty. Returns whether one is to run in its place.
    pub(super) fn release_slot(&mut self) -> bool {
        self.free_slots += 1;
        self.claim_slot()
    }

    fn claim_slot(&mut self) -> bool {
        let is_wanted = !self.ready_users.is_empty() && self.free_slots > 0;
        self.free_slots -= usize::from(is_wanted);
        is_wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Write `number` of a user.
    fn job(user: u128, number: usize) -> Job<usize> {
        let (answer, _nobody) = oneshot::channel();
        Job::new(Uuid::from_u128(user), ReadSet::default(), Box::new(move |_| Ok(number)), answer)
    }

    fn queue(writers: usize, jobs: impl IntoIterator<Item = (u128, usize)>) -> Queue<usize> {
        let mut queue = Queue::new(writers);
        for (user, number) in jobs {
            queue.push(job(user, number)).expect("there is room");
        }
        queue
    }

    /// Who is in a group, with the numbers of their writes.
    fn members(group: &[Batch<usize>]) -> Vec<(u128, Vec<usize>)> {
        let numbers = |batch: &Batch<usize>| batch.decide(&mut UnitOfWork::default()).expect("all are good");
        group.iter().map(|batch| (batch.user_id.as_u128(), numbers(batch))).collect()
    }

    #[test]
    fn alone_a_user_fills_the_group_in_order() {
        let mut queue = queue(1, (0..WRITES_WAITING_OF_USER_MAX).map(|number| (1, number)));
        assert_eq!(members(&queue.take()), [(1, (0..GROUP_ITEMS_MAX).collect())]);
    }

    #[test]
    fn while_others_wait_a_user_has_a_share_and_then_another_turn() {
        let share = GROUP_ITEMS_OF_USER_MAX;
        let mut queue = queue(1, (0..3 * share).map(|number| (1, number)).chain([(2, 0)]));
        let first = queue.take();
        assert_eq!(members(&first), [(1, (0..share).collect()), (2, vec![0])]);
        queue.push(job(2, 1)).expect("there is room");
        queue.push(job(3, 0)).expect("there is room");
        assert!(!queue.complete(&first, false));
        // Whoever came while the others were on their way is first.
        assert_eq!(members(&queue.take()), [(3, vec![0]), (1, (share..2 * share).collect()), (2, vec![1])]);
    }

    #[test]
    fn however_many_users_wait_a_group_has_its_bound() {
        let users = GROUP_ITEMS_MAX as u128 + 7;
        let mut queue = queue(1, (0..users).flat_map(|user| [(user, 0), (user, 1)]));
        let (first, second) = (queue.take(), queue.take());
        assert_eq!((first.len(), second.len()), (GROUP_ITEMS_MAX, 7));
        assert!(first.iter().all(|batch| batch.len() == 1) && second.iter().all(|batch| batch.len() == 2));
    }

    #[test]
    fn of_a_user_on_their_way_no_others_are_taken() {
        let mut queue = queue(2, [(1, 0)]);
        let first = queue.take();
        assert!(!queue.push(job(1, 1)).expect("there is room"), "no writer is started for them");
        assert!(queue.take().is_empty());
        assert!(queue.complete(&first, true), "the one that found nothing is free again");
        assert_eq!(members(&queue.take()), [(1, vec![1])]);
    }

    #[test]
    fn what_is_full_refuses_and_what_is_complete_makes_room() {
        let mut full = queue(1, (0..WRITES_WAITING_MAX).map(|number| (number as u128 / 4, number)));
        assert!(matches!(full.push(job(9_999, 0)), Err(Error::Busy)));
        let group = full.take();
        assert!(matches!(full.push(job(9_999, 0)), Err(Error::Busy)), "they are on their way");
        full.complete(&group, false);
        assert!(full.push(job(9_999, 0)).is_ok());
        let mut of_one = queue(1, (0..WRITES_WAITING_OF_USER_MAX).map(|number| (1, number)));
        assert!(matches!(of_one.push(job(1, 0)), Err(Error::Busy)));
        assert!(of_one.push(job(2, 0)).is_ok());
    }

    #[test]
    fn a_writer_that_broke_is_replaced_where_something_waits() {
        let mut queue = queue(1, [(1, 0), (2, 0)]);
        assert_eq!(queue.free_slots, 0, "the first write has started it");
        assert!(queue.release_slot());
        queue.take();
        assert!(!queue.release_slot());
    }
}
