//! Decides a chunk before the chunks before it are stored, on one of two assumptions:
//!
//! - **All records are known**, because the file was sent before. Then nothing has to be stored. The chunk is
//!   decided over rows that are loaded before its turn: on PostgreSQL without a lock, on SQLite in a short
//!   transaction. That is correct if all its records are duplicates: events are never removed, so they stay
//!   duplicates whatever the chunks before it store.
//! - **All records are new**, and their types are known from a chunk before. The chunk is decided over these
//!   types alone, and the statement that stores the events checks the assumption (decision 0074).
//!
//! If the assumption is wrong, the chunk is decided again under the lock.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::{Chunk, ChunkDecision};
use crate::write::{has_only_new_events, load_read_set_optimistically};
use domain::apply::{UnitOfWork, assume_only_types_exist};
use domain::draft::TypeRef;
use store::Store;
use store::error::Error;
use store::new_events::{NewEvents, NewEventsStatement};

/// How many types are known at most, so that a file with very many types takes little memory.
const KNOWN_TYPES_MAX: usize = 1_000;

/// What is assumed of the records of a chunk.
#[derive(Debug, Clone)]
pub enum Assumption {
    /// All of them are stored already, so that the chunk has nothing to store.
    AllKnown,
    /// All of them are new, and name these types. Only on PostgreSQL can a statement check it.
    AllNew(Arc<KnownTypes>),
}

/// The ids of event types by name, as an earlier chunk has found or created them.
#[derive(Debug, Default)]
pub struct KnownTypes(HashMap<String, Uuid>);

/// A decision about a chunk that was made before the chunks before it are stored.
#[derive(Debug)]
pub enum SpeculativeDecision {
    /// It has nothing to store. The decision holds.
    NothingToStore(ChunkDecision),
    /// Its events are to be stored with this statement. The decision holds if the statement stores them.
    AllNew(ChunkDecision, NewEventsStatement),
}

impl KnownTypes {
    /// Adds the types of earlier chunks, unless they are too many. Where a name stands in both, these here stay.
    #[must_use]
    pub fn with_older(mut self, older: &Self) -> Self {
        if self.0.len() + older.0.len() <= KNOWN_TYPES_MAX {
            for (name, id) in &older.0 {
                self.0.entry(name.clone()).or_insert(*id);
            }
        }
        self
    }

    /// Collects the types that the records of a chunk name, after the chunk was decided over `unit`.
    pub(super) fn of_chunk(chunk: &Chunk, unit: &UnitOfWork) -> Self {
        let mut types = HashMap::new();
        for new in chunk.events() {
            if let TypeRef::Name { name, .. } = &new.type_ref
                && !types.contains_key(name)
                && let Some(row) = unit.find_type_by_name(name)
            {
                types.insert(name.clone(), row.meta.id);
            }
        }
        Self(types)
    }
}

/// Decides a chunk on an assumption, without a lock, before the chunks before it are stored. Stores nothing.
///
/// Returns `None` if the chunk must be decided under the lock: if the assumption is visibly wrong or the bodies of
/// events are needed; with [`Assumption::AllKnown`], if the user has no account row; with
/// [`Assumption::AllNew`], on SQLite. A dry run never has anything to store, so it is decided as
/// [`Assumption::AllKnown`].
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails; [`Error::Bug`]
/// if a stored row breaks an invariant.
pub async fn decide_chunk_speculatively(
    store: &Store,
    user_id: Uuid,
    import_id: Uuid,
    dry_run: bool,
    assumption: &Assumption,
    chunk: &Chunk,
) -> Result<Option<SpeculativeDecision>, Error> {
    match assumption {
        Assumption::AllNew(types) if !dry_run && store.optimistic_pools().is_some() => {
            let decided = chunk.decide_as_new(user_id, import_id, store.clock.now_ms(), types);
            let prepare = |(decision, events)| {
                Ok(SpeculativeDecision::AllNew(decision, NewEventsStatement::build(events)?))
            };
            decided.map(prepare).transpose()
        }
        Assumption::AllNew(_) if !dry_run => Ok(None),
        _ => decide_as_known(store, user_id, import_id, dry_run, chunk).await,
    }
}

async fn decide_as_known(
    store: &Store,
    user_id: Uuid,
    import_id: Uuid,
    dry_run: bool,
    chunk: &Chunk,
) -> Result<Option<SpeculativeDecision>, Error> {
    let read_set = chunk.to_read_set();
    let loaded = match store.sqlite_writer().filter(|_| read_set.needs_no_bodies()) {
        Some(writer) => {
            let loaded = writer.load(user_id, read_set).await?;
            loaded.map(|loaded| (loaded.read_version, loaded.unit))
        }
        None => load_read_set_optimistically(store, user_id, &read_set).await?,
    };
    let Some((read_version, mut unit)) = loaded else { return Ok(None) };
    let decision = chunk.decide_records(&mut unit, import_id, store.clock.now_ms(), &BTreeSet::new());
    let has_nothing_to_store = dry_run || unit.into_changes(read_version.feed_head).is_empty();
    Ok(has_nothing_to_store.then_some(SpeculativeDecision::NothingToStore(decision)))
}

impl Chunk {
    /// Decides the records as if all of them were new, and only these types existed. Returns `None` if nothing is
    /// new, or if further rows are needed for that: if a record names an unknown type, has a former id, is
    /// rejected by the decision, or has the external id of another record.
    fn decide_as_new(
        &self,
        user_id: Uuid,
        import_id: Uuid,
        now_ms: i64,
        known: &KnownTypes,
    ) -> Option<(ChunkDecision, NewEvents)> {
        let read_set = self.to_read_set();
        if !read_set.needs_no_bodies() {
            return None;
        }
        let by_id: HashSet<Uuid> = self
            .events()
            .filter_map(|new| match &new.type_ref {
                TypeRef::Id(id) => Some(*id),
                TypeRef::Name { .. } => None,
            })
            .collect();
        let mut types: HashMap<Uuid, String> = by_id.iter().map(|id| (*id, String::new())).collect();
        for name in read_set.type_names() {
            types.insert(*known.0.get(name)?, name.clone());
        }
        let mut unit = assume_only_types_exist(types.clone());
        let decision = self.decide_records(&mut unit, import_id, now_ms, &BTreeSet::new());
        let changes = unit.into_changes(0);
        let count = changes.new_events.len();
        // A record that brings no new event may depend on rows that the statement does not look up.
        let is_covered =
            count > 0 && has_only_new_events(&changes) && read_set.count_ids() == count + by_id.len();
        is_covered.then_some((decision, NewEvents { user_id, events: changes.new_events, types }))
    }
}
