//! Applies writes of one user, in order and in one transaction: a batch or a whole outbox.
//! Every answer is to its own item, and one bad item never harms another.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::Actor;
use crate::notifier::Notifier;
use crate::write::write;
use domain::apply::{self, Answer, UnitOfWork, Write, WriteAnswer, WriteContext};
use domain::draft::{
    self, EventDraft, EventEditDraft, EventTypeDraft, GuardDraft, MissingId, RemovalDraft, Sent,
    TypeEditDraft,
};
use domain::event_id;
use domain::problem::{FieldProblem, Problem};
use domain::row::{EventRow, TypeRow};
use store::error::Error;
use store::load::ReadSet;
use store::{Store, event, event_type};

/// One write as it was sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Mutation {
    /// Stores an event.
    CreateEvent(EventDraft),
    /// Changes an event.
    UpdateEvent(EventEditDraft),
    /// Deletes an event.
    DeleteEvent(RemovalDraft),
    /// Brings a deleted event back.
    RestoreEvent {
        /// What it is to say again.
        event: EventDraft,
        /// On what terms.
        guard: GuardDraft,
    },
    /// Stores an event type.
    CreateEventType(EventTypeDraft),
    /// Changes an event type.
    UpdateEventType(TypeEditDraft),
    /// Deletes an event type.
    DeleteEventType(RemovalDraft),
}

/// The answer to an event, with its type as it was after the item.
#[derive(Debug, Clone, PartialEq)]
pub struct EventAnswer {
    /// What became of the item.
    pub answer: Answer<EventRow>,
    /// The type of a living event.
    pub event_type: Option<Arc<TypeRow>>,
}

/// The answer to one write.
#[derive(Debug, Clone, PartialEq)]
pub enum MutationAnswer {
    /// Of an event.
    Event(EventAnswer),
    /// Of an event type.
    EventType(Answer<TypeRow>),
}

impl MutationAnswer {
    /// The id of an event whose body was not loaded.
    fn lacking_body(&self) -> Option<Uuid> {
        match self {
            Self::Event(EventAnswer { answer, .. }) if answer.lacks_body => {
                answer.row.as_ref().map(|row| row.meta.id)
            }
            _ => None,
        }
    }

    /// The answer to a write to an event.
    ///
    /// # Errors
    /// When it is none.
    pub fn into_event(self) -> Result<EventAnswer, Error> {
        match self {
            Self::Event(answer) => Ok(answer),
            Self::EventType(_) => Err(Error::Bug("a write to an event has an answer of an event")),
        }
    }

    /// The answer to a write to an event type.
    ///
    /// # Errors
    /// When it is none.
    pub fn into_event_type(self) -> Result<Answer<TypeRow>, Error> {
        match self {
            Self::EventType(answer) => Ok(answer),
            Self::Event(_) => Err(Error::Bug("a write to an event type has an answer of an event type")),
        }
    }
}

/// Says whether answers are few and small enough to be told; if not, nothing is written.
pub type Fits<'f> = &'f (dyn Fn(&[MutationAnswer]) -> bool + Sync);

impl Mutation {
    /// The id that the item is about, as it was sent.
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

    fn is_of_event(&self) -> bool {
        matches!(
            self,
            Self::CreateEvent(_) | Self::UpdateEvent(_) | Self::DeleteEvent(_) | Self::RestoreEvent { .. }
        )
    }

    fn parse(self, store: &Store) -> Result<Write, Vec<FieldProblem>> {
        // Randomness costs a call of the system.
        let fresh = |is_needed| if is_needed { store.clock.new_id() } else { Uuid::nil() };
        Ok(match self {
            Self::CreateEvent(event) => {
                let made = MissingId::Made(fresh(matches!(event.id, Sent::Absent)));
                let type_id = fresh(!matches!(event.event_type, Sent::Absent));
                Write::CreateEvent(draft::parse_event(event, made, type_id)?)
            }
            Self::UpdateEvent(edit) => Write::UpdateEvent(draft::parse_event_edit(edit)?),
            Self::DeleteEvent(removal) => Write::DeleteEvent(draft::parse_removal(removal)?),
            Self::RestoreEvent { event, guard } => Write::RestoreEvent(draft::parse_restore(event, guard)?),
            Self::CreateEventType(event_type) => {
                let made = fresh(matches!(event_type.id, Sent::Absent));
                Write::CreateEventType(draft::parse_type(event_type, made)?)
            }
            Self::UpdateEventType(edit) => Write::UpdateEventType(draft::parse_type_edit(edit)?),
            Self::DeleteEventType(removal) => Write::DeleteEventType(draft::parse_removal(removal)?),
        })
    }
}

/// An item as it was read: what later items need to know of it should it be rejected, and the write.
pub(super) struct Item {
    id: Option<Uuid>,
    is_of_event: bool,
    write: Result<Write, Vec<FieldProblem>>,
}

impl Item {
    pub(super) fn read(mutation: Mutation, store: &Store, read_set: &mut ReadSet) -> Self {
        let id = if let Sent::Value(text) = mutation.sent_id() { event_id::parse(text) } else { None };
        let is_of_event = mutation.is_of_event();
        let write = mutation.parse(store).inspect(|write| read_set.write(write));
        Self { id, is_of_event, write }
    }

    /// It is wrong in itself, whatever is stored.
    pub(super) fn is_wrong(&self) -> bool {
        self.write.is_err()
    }

    /// What becomes of it.
    pub(super) fn decide(&self, unit: &mut UnitOfWork, context: &WriteContext<'_>) -> MutationAnswer {
        let rejected = |errors: &Vec<FieldProblem>| Problem::of_fields(errors.clone());
        let written = match &self.write {
            Ok(write) => apply::apply(unit, context, write),
            Err(errors) if self.is_of_event => WriteAnswer::Event(Answer::rejected(rejected(errors))),
            Err(errors) => WriteAnswer::EventType(Answer::rejected(rejected(errors))),
        };
        if let (Some(id), Some(problem)) = (self.id, written.rejection()) {
            unit.reject(id, problem.clone());
        }
        match written {
            WriteAnswer::Event(answer) => {
                let content = answer.row.as_ref().and_then(|row| row.content.as_ref());
                let event_type = content.and_then(|content| unit.event_type(content.event_type_id));
                MutationAnswer::Event(EventAnswer { answer, event_type })
            }
            WriteAnswer::EventType(answer) => MutationAnswer::EventType(answer),
        }
    }
}

/// Reads the bodies that the decision did not need: those of events that were sent again with other content. They are
/// read after the commit, and so may be of a newer version than the one that the decision found.
///
/// # Errors
/// [`Error::Moved`] if such an event was deleted in between: sent again, the write is answered by that.
pub(super) async fn complete(
    store: &Store,
    user_id: Uuid,
    answers: &mut [MutationAnswer],
) -> Result<bool, Error> {
    let lacking = || answers.iter().filter_map(MutationAnswer::lacking_body);
    let ids: Vec<Uuid> = lacking().collect();
    if ids.is_empty() {
        return Ok(false);
    }
    let rows: HashMap<Uuid, Arc<EventRow>> = event::find(store, user_id, &ids).await?.into_iter().collect();
    let contents = rows.values().filter_map(|row| row.content.as_ref());
    let types = contents.map(|content| content.event_type_id).collect();
    let types = event_type::known(store, user_id, types).await?;
    for answer in answers {
        let Some(id) = answer.lacking_body() else { continue };
        if let MutationAnswer::Event(EventAnswer { answer, event_type }) = answer {
            let row = rows.get(&id).ok_or(Error::Moved)?;
            let content = row.content.as_ref().ok_or(Error::Moved)?;
            *event_type = types.get(&content.event_type_id).cloned();
            (answer.row, answer.lacks_body) = (Some(Arc::clone(row)), false);
        }
    }
    Ok(true)
}

/// Applies writes, in order: one answer each. Sent again whole, what was applied before is answered so.
///
/// # Errors
/// When the database fails, or the answers do not fit; what is wrong with an item is in its answer.
pub async fn apply_mutations(
    store: &Store,
    notifier: &dyn Notifier,
    actor: &Actor,
    client_id: Option<&str>,
    mutations: Vec<Mutation>,
    fits: Fits<'_>,
) -> Result<Vec<MutationAnswer>, Error> {
    let told = |answers: Vec<_>| if fits(&answers) { Ok(answers) } else { Err(Error::AnswerTooLarge) };
    let mut read_set = ReadSet::default();
    let items: Vec<Item> =
        mutations.into_iter().map(|mutation| Item::read(mutation, store, &mut read_set)).collect();
    if items.iter().all(Item::is_wrong) {
        let mut nothing = UnitOfWork::default();
        let context = WriteContext { now_ms: store.clock.now_ms(), client_id, import_job_id: None };
        return told(items.iter().map(|item| item.decide(&mut nothing, &context)).collect());
    }
    let now_ms = store.clock.now_ms();
    let mut answers = write(store, notifier, actor.user_id, read_set, |unit| {
        let context = WriteContext { now_ms, client_id, import_job_id: None };
        told(items.iter().map(|item| item.decide(unit, &context)).collect())
    })
    .await?;
    if complete(store, actor.user_id, &mut answers).await? { told(answers) } else { Ok(answers) }
}
