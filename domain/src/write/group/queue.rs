//! What waits for a group writer: users in turn, and of each user the writes in order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;

use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::Decide;
use crate::error::Error;
use crate::limits::{
    GROUP_ITEMS_MAX, GROUP_ITEMS_OF_USER_MAX, WRITES_WAITING_MAX, WRITES_WAITING_OF_USER_MAX,
};
use crate::rules::apply::World;
use crate::store::load::Wants;

/// One write that waits for its answer.
pub(super) struct Job<T> {
    pub(super) user_id: Uuid,
    pub(super) wants: Wants,
    decide: Decide<T>,
    answer: oneshot::Sender<Result<T, Error>>,
    since: Instant,
}

impl<T> Job<T> {
    pub(super) fn new(
        user_id: Uuid,
        wants: Wants,
        decide: Decide<T>,
        answer: oneshot::Sender<Result<T, Error>>,
    ) -> Self {
        Self { user_id, wants, decide, answer, since: Instant::now() }
    }

    pub(super) fn decide(&self, world: &mut World) -> Result<T, Error> {
        (self.decide)(world)
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

    /// What any of them can touch.
    pub(super) fn wants(&self) -> Wants {
        let mut all = self.jobs.iter().map(|job| &job.wants);
        let mut wants = all.next().cloned().unwrap_or_default();
        all.for_each(|other| wants.extend(other));
        wants
    }

    /// Decides one after the other; what one call has rejected is no matter of the next.
    pub(super) fn decide(&self, world: &mut World) -> Result<Vec<T>, Error> {
        let decide = |job: &Job<T>| {
            world.begin_call();
            job.decide(world)
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
    turns: VecDeque<Uuid>,
    in_flight: HashSet<Uuid>,
    /// Waiting or on their way.
    items: usize,
    /// The next one last: the connection of the one that was busy last is the warmest.
    free_writers: Vec<usize>,
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
            turns: VecDeque::new(),
            in_flight: HashSet::new(),
            items: 0,
            free_writers: (0..writers).rev().collect(),
        }
    }

    /// Adds a write. Returns a writer that was free and is to run now.
    pub(super) fn push(&mut self, job: Job<T>) -> Result<Option<usize>, Error> {
        let user_id = job.user_id;
        if self.items >= WRITES_WAITING_MAX {
            return Err(Error::Busy);
        }
        let of_user = self.waiting.entry(user_id).or_default();
        if of_user.len() >= WRITES_WAITING_OF_USER_MAX {
            return Err(Error::Busy);
        }
        of_user.push_back(job);
        self.items += 1;
        if of_user.len() == 1 && !self.in_flight.contains(&user_id) {
            self.turns.push_back(user_id);
        }
        Ok(self.claim())
    }

    /// The next group, at least one write of each user in turn; empty when nothing can be written now, and
    /// then the writer's place is free again.
    pub(super) fn take(&mut self, writer: usize) -> Vec<Batch<T>> {
        let now = Instant::now();
        let users = self.turns.len().min(GROUP_ITEMS_MAX);
        let share = match users {
            0 => {
                self.free_writers.push(writer);
                return Vec::new();
            }
            1 => GROUP_ITEMS_MAX,
            _ => (GROUP_ITEMS_MAX / users).min(GROUP_ITEMS_OF_USER_MAX),
        };
        let mut batches = Vec::with_capacity(users);
        for user_id in self.turns.drain(..users) {
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

    /// These were answered. Returns a writer that was free and is to run now, where one is wanted.
    pub(super) fn land(&mut self, batches: &[Batch<T>], wants_writer: bool) -> Option<usize> {
        for batch in batches {
            self.items -= batch.items;
            self.in_flight.remove(&batch.user_id);
            if self.waiting.get(&batch.user_id).is_some_and(|of_user| !of_user.is_empty()) {
                self.turns.push_back(batch.user_id);
            } else {
                self.waiting.remove(&batch.user_id);
            }
        }
        if wants_writer { self.claim() } else { None }
    }

    /// A writer has ended without having found the queue empty. Returns one that is to run in its place.
    pub(super) fn leave(&mut self, writer: usize) -> Option<usize> {
        self.free_writers.push(writer);
        self.claim()
    }

    fn claim(&mut self) -> Option<usize> {
        if self.turns.is_empty() { None } else { self.free_writers.pop() }
    }
}
