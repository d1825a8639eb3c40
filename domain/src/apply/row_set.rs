//! The rows of one kind in a unit of work, by id and by alias.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

/// The rows of one kind in a unit of work. `loaded` has the ids of those that are stored in the database.
#[derive(Debug)]
pub(super) struct RowSet<Row> {
    pub(super) by_id: HashMap<Uuid, Arc<Row>>,
    pub(super) aliases: HashMap<Uuid, Uuid>,
    pub(super) loaded: HashSet<Uuid>,
}

impl<Row> Default for RowSet<Row> {
    fn default() -> Self {
        Self { by_id: HashMap::new(), aliases: HashMap::new(), loaded: HashSet::new() }
    }
}

impl<Row> RowSet<Row> {
    pub(super) fn find_by_id_or_alias(&self, id: Uuid) -> Option<Arc<Row>> {
        let canonical = if self.by_id.contains_key(&id) { Some(&id) } else { self.aliases.get(&id) };
        canonical.and_then(|id| self.by_id.get(id)).map(Arc::clone)
    }

    pub(super) fn contains_id_or_alias(&self, id: Uuid) -> bool {
        self.by_id.contains_key(&id) || self.aliases.contains_key(&id)
    }
}

impl<Row: Clone> RowSet<Row> {
    /// Removes a row, which must be in the set, and returns it. Copies it only if an answer refers to it.
    pub(super) fn take_row(&mut self, id: Uuid) -> Row {
        Arc::unwrap_or_clone(self.by_id.remove(&id).expect("a changed row is in its set"))
    }
}
