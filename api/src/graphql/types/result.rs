//! What became of an item.

use async_graphql::{Enum, ID, Interface, SimpleObject};
use domain::apply::{self, Answer};
use domain::row::TypeRow;
use service::apply_mutations::EventAnswer;
use service::create_import::ImportAnswer;

use super::event::{Event, EventType};
use super::import::ImportJob;
use super::problem::Problem;
use crate::graphql::json_writer::{JsonList, JsonText, SelectedField, WriteField, WriteJson, known};

/// What became of it. Clients switch on this alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "apply::Outcome")]
pub enum WriteOutcome {
    /// New row, or one that a rollback had taken back.
    Created,
    /// Was there already: returned as stored, no record changed.
    Duplicate,
    /// Changed (update, restore).
    Updated,
    /// Nothing to do: same content, or already deleted.
    Unchanged,
    /// The id is deleted: just now (delete), or earlier and stays so (create, update). Remove the local row.
    Deleted,
    /// expectedVersion no longer holds; the current state comes along.
    Conflict,
    /// Will not work as sent, unless problem.retryable. Nothing written.
    Rejected,
}

/// By which key an existing one was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "apply::MatchKey")]
pub enum MatchKey {
    /// Its id, or an alias of it.
    Id,
    /// Its source and external id.
    ExternalId,
    /// Its name.
    Name,
}

/// The answer to one item.
#[derive(Debug, Interface)]
#[graphql(
    field(name = "index", ty = "&i32", desc = "Position of the input that it answers."),
    field(name = "sent_id", ty = "&Option<ID>", desc = "The id as it was sent."),
    field(name = "outcome", ty = "&WriteOutcome", desc = "What became of it."),
    field(name = "matched_by", ty = "&Option<MatchKey>", desc = "By which key an existing one was found."),
    field(name = "differs", ty = "&bool", desc = "DUPLICATE: what was sent is not what is stored now."),
    field(
        name = "version",
        ty = "&Option<i32>",
        desc = "Of the record after this item, deleted ones too; null when rejected."
    ),
    field(name = "problem", ty = "&Option<Problem>", desc = "Why it was rejected.")
)]
pub enum WriteResult {
    /// Of an event.
    Event(EventResult),
    /// Of an event type.
    EventType(EventTypeResult),
}

/// The answer to one event.
#[derive(Debug, Clone, SimpleObject)]
pub struct EventResult {
    /// Position of the input that it answers.
    index: i32,
    /// The id as it was sent.
    sent_id: Option<ID>,
    /// What became of it.
    pub(crate) outcome: WriteOutcome,
    /// By which key an existing one was found.
    matched_by: Option<MatchKey>,
    /// DUPLICATE: what was sent is not what is stored now.
    differs: bool,
    /// Of the record after this item, deleted ones too; null when rejected.
    version: Option<i32>,
    /// Why it was rejected.
    problem: Option<Problem>,
    /// After this item, before the next; null when rejected or deleted.
    event: Option<Event>,
}

/// The answer to one event type.
#[derive(Debug, Clone, SimpleObject)]
pub struct EventTypeResult {
    /// Position of the input that it answers.
    index: i32,
    /// The id as it was sent.
    sent_id: Option<ID>,
    /// What became of it.
    outcome: WriteOutcome,
    /// By which key an existing one was found.
    matched_by: Option<MatchKey>,
    /// DUPLICATE: what was sent is not what is stored now.
    differs: bool,
    /// Of the record after this item, deleted ones too; null when rejected.
    version: Option<i32>,
    /// Why it was rejected.
    problem: Option<Problem>,
    /// After this item, before the next; null when rejected or deleted.
    event_type: Option<EventType>,
}

impl EventResult {
    /// The answer to the item at `index`.
    pub(crate) fn new(index: usize, sent_id: Option<String>, answer: EventAnswer) -> Self {
        let EventAnswer { answer, event_type } = answer;
        let version = answer.row.as_ref().map(|row| row.meta.version);
        let event = answer.row.and_then(|row| Event::of(row).ok());
        let event_type = event_type.and_then(|row| EventType::of(row).ok());
        Self {
            index: i32::try_from(index).unwrap_or(i32::MAX),
            sent_id: sent_id.map(ID::from),
            outcome: answer.outcome.into(),
            matched_by: answer.matched_by.map(MatchKey::from),
            differs: answer.differs,
            version,
            problem: answer.problem.map(Problem::from),
            event: event.map(|event| event.with_type(event_type)),
        }
    }
}

impl WriteJson for EventResult {
    const INTERFACE: Option<&'static str> = Some("WriteResult");

    fn field_writer(field: SelectedField<'_>) -> Option<WriteField<Self>> {
        match field.name() {
            "index" => known(|result: &Self, text| text.json(&result.index)),
            "sentId" => known(|result: &Self, text| text.json(&result.sent_id)),
            "outcome" => known(|result: &Self, text| text.name(result.outcome)),
            "matchedBy" => known(|result: &Self, text| text.option(result.matched_by, JsonText::name)),
            "differs" => known(|result: &Self, text| text.json(&result.differs)),
            "version" => known(|result: &Self, text| text.json(&result.version)),
            // Few have one, and what it says is many fields more.
            "problem" => Some(Box::new(|result, text| {
                text.raw("null");
                result.problem.is_none()
            })),
            "event" => {
                let plan = field.plan::<Event>()?;
                Some(Box::new(move |result, text| plan.write_option(result.event.as_ref(), text)))
            }
            _ => None,
        }
    }
}

impl EventTypeResult {
    /// The answer to the item at `index`.
    pub(crate) fn new(index: usize, sent_id: Option<String>, answer: Answer<TypeRow>) -> Self {
        Self {
            index: i32::try_from(index).unwrap_or(i32::MAX),
            sent_id: sent_id.map(ID::from),
            outcome: answer.outcome.into(),
            matched_by: answer.matched_by.map(MatchKey::from),
            differs: answer.differs,
            version: answer.row.as_ref().map(|row| row.meta.version),
            problem: answer.problem.map(Problem::from),
            event_type: answer.row.and_then(|row| EventType::of(row).ok()),
        }
    }
}

/// What `createEvent` answers.
#[derive(Debug, Clone, SimpleObject)]
pub struct EventPayload {
    /// What became of the event.
    pub result: EventResult,
}

/// What `createEventType` answers.
#[derive(Debug, Clone, SimpleObject)]
pub struct EventTypePayload {
    /// What became of the event type.
    pub result: EventTypeResult,
}

/// results = created + duplicates + deleted + rejected
#[derive(Debug, Clone, SimpleObject)]
pub struct EventsPayload {
    /// One each, in the order of the input.
    pub results: JsonList<EventResult>,
    /// New ones.
    pub created: i32,
    /// There already.
    pub duplicates: i32,
    /// Deleted earlier.
    pub deleted: i32,
    /// Not written.
    pub rejected: i32,
}

/// What `applyMutations` answers.
#[derive(Debug, SimpleObject)]
pub struct ApplyMutationsPayload {
    /// One each, in the order of the input.
    pub results: Vec<WriteResult>,
}

/// `problem`: why a step was impossible. `importJob`: the state as it is; null when the id is unknown or the
/// import was refused.
#[derive(Debug, Clone, SimpleObject)]
pub struct ImportPayload {
    /// The import as it is.
    pub import_job: Option<ImportJob>,
    /// Why not.
    pub problem: Option<Problem>,
}

impl From<ImportAnswer> for ImportPayload {
    fn from(answer: ImportAnswer) -> Self {
        Self { import_job: answer.job.map(ImportJob), problem: answer.problem.map(Problem::from) }
    }
}
