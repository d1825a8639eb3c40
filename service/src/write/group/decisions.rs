//! Decides the writes of a group. Those that only bring new events are stored as well.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use super::queue::{UserDecideFns, UserWrites};
use crate::write::SetEventTypes;
use crate::write::new_events::decide_as_new;
use domain::apply::UnitOfWork;
use store::error::Error;
use store::load::{Loaded, ReadSet, load_read_sets};
use store::new_events::{Attempt, store_if_all_new};
use store::pool::Pool;
use store::save::{Decision, can_store_without_lock};

/// What was decided for the users of a group, apart from the changes to store.
pub(super) struct Decisions<T> {
    /// The answers for each user, in the order of the writes.
    pub(super) answers: HashMap<Uuid, Vec<T>>,
    /// Users whose feed head moves if their writes are stored.
    pub(super) moved_feeds: HashSet<Uuid>,
    /// Users whose events may be stored, although the connection was lost. Their feed readers are notified in
    /// any case.
    pub(super) maybe_stored: HashSet<Uuid>,
    /// Users whose writes cannot be stored with the group. Their account row is locked or has changed, their
    /// changes need more than one statement, or one of their decisions failed.
    pub(super) contended: HashSet<Uuid>,
    /// Whether the writes of some users are stored already.
    is_partly_stored: bool,
}

impl<T: SetEventTypes> Decisions<T> {
    /// Decides the writes of all users over rows that were loaded in a transaction of SQLite, which locks all
    /// rows. Also returns the changes, which the caller must store.
    pub(super) fn decide_over_loaded(
        users: &[UserDecideFns<T>],
        mut loaded: BTreeMap<Uuid, Loaded>,
    ) -> (Self, Vec<Decision>) {
        let (mut all, mut to_store) = (Self::new(), Vec::new());
        for user in users {
            let loaded = loaded.remove(&user.user_id);
            to_store.extend(all.decide_user(user.user_id, loaded, |unit| user.decide_all(unit), |_| true));
        }
        (all, to_store)
    }

    /// Stores the writes of those users who only bring new events. Loads the rows that the others need, without
    /// a lock, and decides their writes. Also returns their changes, which the caller must store.
    pub(super) async fn store_new_and_decide_rest(
        pool: &Pool,
        users: &[UserWrites<T>],
    ) -> Result<(Self, Vec<Decision>), Error> {
        let read_sets = merge_read_sets(users);
        let (mut assumed, mut new_events) = (HashMap::new(), Vec::new());
        for writes in users {
            let decide = |unit: &mut UnitOfWork| writes.decide_all(unit);
            if let Some((answers, events)) =
                decide_as_new(writes.user_id, &read_sets[&writes.user_id], decide)
            {
                assumed.insert(writes.user_id, answers);
                new_events.push(events);
            }
        }
        let (mut all, mut to_store) = (Self::new(), Vec::new());
        let tried: Vec<Uuid> = assumed.keys().copied().collect();
        let attempts = match store_if_all_new(pool, new_events).await {
            // It is unknown whether they are stored. If so, the load finds their events.
            Err(error) if error.is_lost_statement() => {
                all.maybe_stored.extend(tried);
                BTreeMap::new()
            }
            attempts => attempts?,
        };
        let mut loaded = BTreeMap::new();
        for (user_id, attempt) in attempts {
            match (attempt, assumed.remove(&user_id)) {
                (Attempt::Stored(unit), Some(mut answers)) => {
                    answers.iter_mut().for_each(|answer| answer.set_event_types(&unit));
                    all.answers.insert(user_id, answers);
                    all.moved_feeds.insert(user_id);
                    all.is_partly_stored = true;
                }
                (Attempt::Loaded(rows), _) => drop(loaded.insert(user_id, rows)),
                (Attempt::Stored(_), None) => {
                    return Err(Error::Bug("events are stored that nobody has sent"));
                }
            }
        }
        let mut to_load = by_reference(&read_sets);
        to_load.retain(|user_id, _| !all.answers.contains_key(user_id) && !loaded.contains_key(user_id));
        if !to_load.is_empty() {
            match load_read_sets(pool, &to_load).await {
                Ok(rows) => loaded.extend(rows),
                // Then the users whose rows are missing become contended.
                Err(error) => all.return_unless_partly_stored(error)?,
            }
        }
        for writes in users {
            if all.answers.contains_key(&writes.user_id) {
                continue;
            }
            let can_store =
                |decision: &Decision| can_store_without_lock(decision.read_version, &decision.changes);
            let loaded = loaded.remove(&writes.user_id);
            let decide = |unit: &mut UnitOfWork| writes.decide_all(unit);
            to_store.extend(all.decide_user(writes.user_id, loaded, decide, can_store));
        }
        Ok((all, to_store))
    }

    fn new() -> Self {
        Self {
            answers: HashMap::new(),
            moved_feeds: HashSet::new(),
            maybe_stored: HashSet::new(),
            contended: HashSet::new(),
            is_partly_stored: false,
        }
    }

    /// Returns the error, unless the writes of some users are stored already. Those users must get their
    /// answers; the error is logged, and the other users become contended.
    pub(super) fn return_unless_partly_stored(&self, error: Error) -> Result<(), Error> {
        if !self.is_partly_stored {
            return Err(error);
        }
        tracing::warn!(
            error = error.to_string_with_cause(),
            "a part of a group of writes failed and is written user by user"
        );
        Ok(())
    }

    /// Decides the writes of one user over the loaded rows, and adds their answers to `self`. Returns the
    /// changes to store, if there are any. The user becomes contended if no rows were loaded, a decision
    /// fails, or `can_store` refuses the changes.
    fn decide_user(
        &mut self,
        user_id: Uuid,
        loaded: Option<Loaded>,
        decide: impl FnOnce(&mut UnitOfWork) -> Result<Vec<T>, Error>,
        can_store: impl Fn(&Decision) -> bool,
    ) -> Option<Decision> {
        let decided = loaded.and_then(|Loaded { read_version, mut unit }| {
            let answers = decide(&mut unit).ok()?;
            let changes = unit.into_changes(read_version.feed_head);
            let decision = Decision { user_id, read_version, changes };
            can_store(&decision).then_some((answers, decision))
        });
        let Some((answers, decision)) = decided else {
            self.contended.insert(user_id);
            return None;
        };
        self.answers.insert(user_id, answers);
        if decision.changes.head != decision.read_version.feed_head {
            self.moved_feeds.insert(user_id);
        }
        (!decision.changes.is_empty()).then_some(decision)
    }
}

pub(super) fn merge_read_sets<T>(users: &[UserWrites<T>]) -> BTreeMap<Uuid, ReadSet> {
    users.iter().map(|writes| (writes.user_id, writes.merged_read_set())).collect()
}

fn by_reference(read_sets: &BTreeMap<Uuid, ReadSet>) -> BTreeMap<Uuid, &ReadSet> {
    read_sets.iter().map(|(user_id, read_set)| (*user_id, read_set)).collect()
}
