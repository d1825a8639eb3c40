//! Decides creates of events before anything is read, as if all of the events were new
//! ([`store::new_events`] checks that they are).

use uuid::Uuid;

use std::collections::HashMap;

use domain::apply::{Changes, UnitOfWork, assume_only_types_exist};
use domain::fault_injection;
use store::error::Error;
use store::load::ReadSet;
use store::new_events::NewEvents;

/// An answer whose events may have placeholders for their types, because it was decided before the types were
/// read.
pub trait SetEventTypes {
    /// Replaces the types of events by those in the unit.
    fn set_event_types(&mut self, unit: &UnitOfWork);
}

impl<T: SetEventTypes> SetEventTypes for Vec<T> {
    fn set_event_types(&mut self, unit: &UnitOfWork) {
        self.iter_mut().for_each(|answer| answer.set_event_types(unit));
    }
}

/// Decides the writes of a read set as if all of their events were new and all of the types living. Returns the
/// answer for this case, without the types, and the events to store.
///
/// Returns `None` if this cannot be the whole decision: the writes do anything but create events whose types
/// are given by id, an item depends on further rows, nothing is to be stored, or the decision fails.
pub(super) fn decide_as_new<T>(
    user_id: Uuid,
    read_set: &ReadSet,
    decide: impl Fn(&mut UnitOfWork) -> Result<T, Error>,
) -> Option<(T, NewEvents)> {
    if fault_injection::is_injected("plant-early-answer") {
        return None;
    }
    let type_ids = read_set.types_of_new_events()?;
    let types: HashMap<Uuid, String> = type_ids.iter().map(|id| (*id, String::new())).collect();
    let mut unit = assume_only_types_exist(types.clone());
    let answer = decide(&mut unit).ok()?;
    let changes = unit.into_changes(0);
    let count = changes.new_events.len();
    // An item that brings no new event, because it is rejected or comes twice, may depend on rows that the
    // statement does not look up.
    let is_covered =
        count > 0 && has_only_new_events(&changes) && read_set.count_ids() == count + type_ids.len();
    is_covered.then_some((answer, NewEvents { user_id, events: changes.new_events, types }))
}

/// Whether the changes are new events and nothing else.
pub(crate) fn has_only_new_events(changes: &Changes) -> bool {
    changes.count_changed_rows() == changes.new_events.len()
        && changes.aliases.is_empty()
        && changes.recorded_edit_ids.is_empty()
        && changes.finalized_deletions.is_empty()
}
