//! Applies several writes of one user in order and in one transaction: a batch mutation, or a whole outbox.
//!
//! Each item has its own answer, and a bad item never harms another one.

use std::sync::Arc;

use uuid::Uuid;

use crate::Actor;
use crate::notifier::Notifier;
use crate::write::{SetEventTypes, load_decide_and_store};
use domain::apply::{self, Answer, UnitOfWork, Write, WriteAnswer, WriteContext};
use domain::draft::{
    self, EventDraft, EventEditDraft, EventTypeDraft, GuardDraft, MissingId, RemovalDraft, Sent,
    TypeEditDraft,
};
use domain::event_id;
use domain::problem::{FieldProblem, Problem};
use domain::row::{EventRow, TypeRow};
use store::Store;
use store::error::Error;
use store::load::{ReadSet, load_events_with_types};

/// One write as the client sent it. Its draft is not checked yet.
#[derive(Debug, Clone, PartialEq)]
pub enum Mutation {
    /// Creates an event, unless it is stored already.
    CreateEvent(EventDraft),
    /// Changes an event.
    UpdateEvent(EventEditDraft),
    /// Deletes an event.
    DeleteEvent(RemovalDraft),
    /// Brings a deleted event back.
    RestoreEvent {
        /// The id of the deleted event, and its new content. The event keeps its source and its external id;
        /// those given here are ignored.
        event: EventDraft,
        /// The expected version and the edit id, which decide whether the restore is applied.
        guard: GuardDraft,
    },
    /// Creates an event type, unless one with this id or name is stored already.
    CreateEventType(EventTypeDraft),
    /// Changes an event type.
    UpdateEventType(TypeEditDraft),
    /// Deletes an event type, unless a living event has it.
    DeleteEventType(RemovalDraft),
}

/// The answer to a write to an event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventAnswer {
    /// What became of the write, and the event after it.
    pub answer: Answer<EventRow>,
    /// The type of the event as it was after the write. `None` for a tombstone and for a rejected write.
    pub event_type: Option<Arc<TypeRow>>,
}

/// The answer to one write.
#[derive(Debug, Clone, PartialEq)]
pub enum MutationAnswer {
    /// The write was to an event.
    Event(EventAnswer),
    /// The write was to an event type.
    EventType(Answer<TypeRow>),
}

impl MutationAnswer {
    /// The id of the event if its body was not loaded, so that the response needs it from the database.
    fn event_id_if_body_missing(&self) -> Option<Uuid> {
        match self {
            Self::Event(EventAnswer { answer, .. }) if answer.lacks_body => {
                answer.row.as_ref().map(|row| row.meta.id)
            }
            _ => None,
        }
    }

    /// Returns the answer to a write to an event.
    ///
    /// # Errors
    /// [`Error::Bug`] if the write was to an event type.
    pub fn into_event_answer(self) -> Result<EventAnswer, Error> {
        match self {
            Self::Event(answer) => Ok(answer),
            Self::EventType(_) => Err(Error::Bug("a write to an event has an answer for an event type")),
        }
    }

    /// Returns the answer to a write to an event type.
    ///
    /// # Errors
    /// [`Error::Bug`] if the write was to an event.
    pub fn into_event_type_answer(self) -> Result<Answer<TypeRow>, Error> {
        match self {
            Self::EventType(answer) => Ok(answer),
            Self::Event(_) => Err(Error::Bug("a write to an event type has an answer for an event")),
        }
    }
}

impl SetEventTypes for MutationAnswer {
    fn set_event_types(&mut self, unit: &UnitOfWork) {
        if let Self::Event(EventAnswer { answer, event_type }) = self {
            let content = answer.row.as_ref().and_then(|row| row.content.as_ref());
            *event_type = content.and_then(|content| unit.find_type(content.event_type_id));
        }
    }
}

/// Returns whether the response with these answers is within the response size limit. If it is not, the call
/// fails and nothing is written.
pub type FitsResponse<'f> = &'f (dyn Fn(&[MutationAnswer]) -> bool + Sync);

impl Mutation {
    /// The id of the event or event type as it was sent: it may be missing or no UUID.
    #[must_use]
    pub fn sent_id(&self) -> &Sent<String> {
        match self {
            Self::CreateEvent(event) | Self::RestoreEvent { event, .. } => &event.id,
            Self::UpdateEvent(edit) => &edit.id,
            Self::DeleteEvent(removal) | Self::DeleteEventType(removal) => &removal.id,
            Self::CreateEventType(event_type) => &event_type.id,
            Self::UpdateEventType(edit) => &edit.id,
        }
    }

    fn is_event_write(&self) -> bool {
        matches!(
            self,
            Self::CreateEvent(_) | Self::UpdateEvent(_) | Self::DeleteEvent(_) | Self::RestoreEvent { .. }
        )
    }

    fn parse_into_write(self, store: &Store) -> Result<Write, Vec<FieldProblem>> {
        // An id is made only if it is needed, because random bytes cost a system call.
        let new_id_if = |is_needed| if is_needed { store.clock.new_id() } else { Uuid::nil() };
        Ok(match self {
            Self::CreateEvent(event) => {
                let made = MissingId::Generated(new_id_if(matches!(event.id, Sent::Absent)));
                let type_id = new_id_if(!matches!(event.event_type, Sent::Absent));
                Write::CreateEvent(draft::parse_event(event, made, type_id)?)
            }
            Self::UpdateEvent(edit) => Write::UpdateEvent(draft::parse_event_edit(edit)?),
            Self::DeleteEvent(removal) => Write::DeleteEvent(draft::parse_removal(removal)?),
            Self::RestoreEvent { event, guard } => Write::RestoreEvent(draft::parse_restore(event, guard)?),
            Self::CreateEventType(event_type) => {
                let made = new_id_if(matches!(event_type.id, Sent::Absent));
                Write::CreateEventType(draft::parse_event_type(event_type, made)?)
            }
            Self::UpdateEventType(edit) => Write::UpdateEventType(draft::parse_event_type_edit(edit)?),
            Self::DeleteEventType(removal) => Write::DeleteEventType(draft::parse_removal(removal)?),
        })
    }
}

/// One write of a call, parsed. If its draft is invalid, it still knows its id: later items of the call may
/// depend on it.
pub(super) struct Item {
    id: Option<Uuid>,
    targets_event: bool,
    write: Result<Write, Vec<FieldProblem>>,
}

impl Item {
    /// Parses the draft of a write, and adds the keys of the rows that the write can touch to `read_set`. An
    /// invalid draft becomes an item that is rejected later.
    pub(super) fn parse_and_extend_read_set(
        mutation: Mutation,
        store: &Store,
        read_set: &mut ReadSet,
    ) -> Self {
        let id = if let Sent::Value(text) = mutation.sent_id() { event_id::parse(text) } else { None };
        let targets_event = mutation.is_event_write();
        let write = mutation.parse_into_write(store).inspect(|write| read_set.add_write(write));
        Self { id, targets_event, write }
    }

    /// Whether the draft is invalid. Then the item is rejected, whatever is stored.
    pub(super) fn is_invalid(&self) -> bool {
        self.write.is_err()
    }

    /// Decides the item over the loaded rows in `unit`, and records its changes there. A rejection is
    /// recorded too, for later items that depend on this one.
    pub(super) fn decide_item(&self, unit: &mut UnitOfWork, context: &WriteContext<'_>) -> MutationAnswer {
        let rejected = |errors: &Vec<FieldProblem>| Problem::from_field_problems(errors.clone());
        let answer = match &self.write {
            Ok(write) => apply::decide_write_in_memory(unit, context, write),
            Err(errors) if self.targets_event => WriteAnswer::Event(Answer::new_rejected(rejected(errors))),
            Err(errors) => WriteAnswer::EventType(Answer::new_rejected(rejected(errors))),
        };
        if let (Some(id), Some(problem)) = (self.id, answer.rejection_problem()) {
            unit.record_rejection(id, problem.clone());
        }
        match answer {
            WriteAnswer::Event(answer) => {
                let content = answer.row.as_ref().and_then(|row| row.content.as_ref());
                let event_type = content.and_then(|content| unit.find_type(content.event_type_id));
                MutationAnswer::Event(EventAnswer { answer, event_type })
            }
            WriteAnswer::EventType(answer) => MutationAnswer::EventType(answer),
        }
    }
}

/// Reads the event bodies that the response needs and the decision did not, and puts them into `answers`.
/// Returns whether there were any.
///
/// These are the bodies of events that were sent again with different content. They are read after the
/// decision, so they may be of a newer version than the one that was decided over.
///
/// # Errors
/// [`Error::Moved`] if such an event was deleted since the decision. If the client sends the write again, the
/// answer tells of the deletion. [`Error::Database`] if the database fails.
pub(super) async fn load_missing_event_bodies(
    store: &Store,
    user_id: Uuid,
    answers: &mut [MutationAnswer],
) -> Result<bool, Error> {
    let ids: Vec<Uuid> = answers.iter().filter_map(MutationAnswer::event_id_if_body_missing).collect();
    if ids.is_empty() {
        return Ok(false);
    }
    let unit = load_events_with_types(store, user_id, ids).await?;
    for answer in answers {
        let Some(id) = answer.event_id_if_body_missing() else { continue };
        if let MutationAnswer::Event(EventAnswer { answer, event_type }) = answer {
            let row = unit.find_event(id).ok_or(Error::Moved)?;
            let content = row.content.as_ref().ok_or(Error::Moved)?;
            // An earlier item of the call may have changed the type, which is not stored yet.
            let decided = event_type.take().filter(|row| row.meta.id == content.event_type_id);
            *event_type = decided.or_else(|| unit.find_type(content.event_type_id));
            (answer.row, answer.lacks_body) = (Some(row), false);
        }
    }
    Ok(true)
}

/// Applies the writes of one user in order and in one transaction, and returns one answer for each.
///
/// The call may be sent again as a whole if the writes can be recognized: a create of an event by its id or
/// external id, an edit by its edit id and the client id. What was applied before is then answered as such.
/// What is wrong with an item is in its answer and is no error.
///
/// # Errors
/// [`Error::ResponseTooLarge`] if the answers do not fit into a response, [`Error::Moved`] if an event was
/// deleted before the response could describe it; then nothing is written. Otherwise as
/// [`load_decide_and_store`].
pub async fn apply_mutations(
    store: &Store,
    notifier: &dyn Notifier,
    actor: &Actor,
    client_id: Option<&str>,
    mutations: Vec<Mutation>,
    fits: FitsResponse<'_>,
) -> Result<Vec<MutationAnswer>, Error> {
    let check_size =
        |answers: Vec<_>| if fits(&answers) { Ok(answers) } else { Err(Error::ResponseTooLarge) };
    let mut read_set = ReadSet::default();
    let items: Vec<Item> = mutations
        .into_iter()
        .map(|mutation| Item::parse_and_extend_read_set(mutation, store, &mut read_set))
        .collect();
    if items.iter().all(Item::is_invalid) {
        let mut unit = UnitOfWork::default();
        let context = WriteContext { now_ms: store.clock.now_ms(), client_id, import_job_id: None };
        return check_size(items.iter().map(|item| item.decide_item(&mut unit, &context)).collect());
    }
    let now_ms = store.clock.now_ms();
    let decide = |unit: &mut UnitOfWork| {
        let context = WriteContext { now_ms, client_id, import_job_id: None };
        Ok(items.iter().map(|item| item.decide_item(unit, &context)).collect())
    };
    let complete = |mut answers: Vec<MutationAnswer>| async move {
        load_missing_event_bodies(store, actor.user_id, &mut answers).await?;
        check_size(answers)
    };
    load_decide_and_store(store, notifier, actor.user_id, read_set, decide, complete).await
}
