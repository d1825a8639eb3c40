//! The results of writes: the outcome of each item, and the payloads of mutations.

use async_graphql::{Enum, ID, Interface, SimpleObject};
use domain::apply::{self, Answer};
use domain::row::TypeRow;
use service::apply_mutations::EventAnswer;
use service::create_import::ImportAnswer;

use super::event::{Event, EventType};
use super::import::ImportJob;
use super::problem::Problem;
use crate::graphql::json_writer::{
    JsonList, JsonText, SelectedField, WriteField, WriteJson, infallible_field_writer,
};

/// The outcome of one item. It alone tells a client what to do with its local row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "apply::Outcome")]
pub enum WriteOutcome {
    /// The entity was created. It may be an event that the rollback of an import had deleted before.
    Created,
    /// A create found the entity already stored, and did not change it. It is returned as stored: replace the
    /// local row with it.
    Duplicate,
    /// The entity was changed by an update or a restore.
    Updated,
    /// Nothing was changed: the content is already the same, the entity is already deleted, or the edit is
    /// not newer than the last applied edit of this client.
    Unchanged,
    /// The entity is deleted: by this item, or earlier, and then a create or an update does not bring it
    /// back. Remove the local row.
    Deleted,
    /// Another writer has changed the entity after `expectedVersion`, or the event to restore is not deleted.
    /// Nothing was changed. The result contains the current state: merge onto it and send again with its
    /// version.
    Conflict,
    /// The item was not applied. Sending it again can succeed only if `problem.retryable` is true.
    Rejected,
}

/// The key by which a write found the entity that was already stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "apply::MatchKey")]
pub enum MatchKey {
    /// The id that was sent is the id or an alias of the entity.
    Id,
    /// The event has the source and external id that were sent.
    ExternalId,
    /// The event type has the name that was sent.
    Name,
}

/// The result of one item of a write.
#[derive(Debug, Interface)]
#[graphql(
    field(name = "index", ty = "&i32", desc = "The position of the item in the input, from 0."),
    field(
        name = "sent_id",
        ty = "&Option<ID>",
        desc = "The id as the client sent it; null if it sent none."
    ),
    field(name = "outcome", ty = "&WriteOutcome", desc = "The outcome of the item."),
    field(
        name = "matched_by",
        ty = "&Option<MatchKey>",
        desc = "The key by which an existing entity was found; null if none was."
    ),
    field(
        name = "differs",
        ty = "&bool",
        desc = "True for a DUPLICATE whose content differs from what is stored now."
    ),
    field(
        name = "version",
        ty = "&Option<i32>",
        desc = "The version of the entity after this item, also if it is deleted; null if rejected."
    ),
    field(
        name = "problem",
        ty = "&Option<Problem>",
        desc = "Why the outcome is REJECTED or CONFLICT; null for all others."
    )
)]
pub enum WriteResult {
    /// The result of a write to an event, whatever its outcome.
    Event(EventResult),
    /// The result of a write to an event type, whatever its outcome.
    EventType(EventTypeResult),
}

/// The result of a write to an event.
#[derive(Debug, Clone, SimpleObject)]
pub struct EventResult {
    /// The position of the item in the input, from 0.
    index: i32,
    /// The id as the client sent it; null if it sent none.
    sent_id: Option<ID>,
    /// The outcome of the item.
    pub(crate) outcome: WriteOutcome,
    /// The key by which an existing entity was found; null if none was.
    matched_by: Option<MatchKey>,
    /// True for a DUPLICATE whose content differs from what is stored now.
    differs: bool,
    /// The version of the entity after this item, also if it is deleted; null if rejected.
    version: Option<i32>,
    /// Why the outcome is REJECTED or CONFLICT; null for all others.
    problem: Option<Problem>,
    /// The event after this item and before the next one; null if the item is rejected or the event is
    /// deleted. Its id may differ from `sentId` and is the id to use from then on.
    event: Option<Event>,
}

/// The result of a write to an event type.
#[derive(Debug, Clone, SimpleObject)]
pub struct EventTypeResult {
    /// The position of the item in the input, from 0.
    index: i32,
    /// The id as the client sent it; null if it sent none.
    sent_id: Option<ID>,
    /// The outcome of the item.
    outcome: WriteOutcome,
    /// The key by which an existing entity was found; null if none was.
    matched_by: Option<MatchKey>,
    /// True for a DUPLICATE whose content differs from what is stored now.
    differs: bool,
    /// The version of the entity after this item, also if it is deleted; null if rejected.
    version: Option<i32>,
    /// Why the outcome is REJECTED or CONFLICT; null for all others.
    problem: Option<Problem>,
    /// The event type after this item and before the next one; null if the item is rejected or the event type
    /// is deleted. Its id may differ from `sentId` and is the id to use from then on.
    event_type: Option<EventType>,
}

impl EventResult {
    /// Converts the answer to the item at the position `index` of the input, from 0. `sent_id` is its id as
    /// the client sent it.
    pub(crate) fn new(index: usize, sent_id: Option<String>, answer: EventAnswer) -> Self {
        let EventAnswer { answer, event_type } = answer;
        let version = answer.row.as_ref().map(|row| row.meta.version);
        let event = answer.row.and_then(|row| Event::from_living_row(row).ok());
        let event_type = event_type.and_then(|row| EventType::from_living_row(row).ok());
        Self {
            index: i32::try_from(index).unwrap_or(i32::MAX),
            sent_id: sent_id.map(ID::from),
            outcome: answer.outcome.into(),
            matched_by: answer.matched_by.map(MatchKey::from),
            differs: answer.differs,
            version,
            problem: answer.problem.map(Problem::from),
            event: event.map(|event| event.with_event_type(event_type)),
        }
    }
}

impl WriteJson for EventResult {
    const INTERFACE: Option<&'static str> = Some("WriteResult");

    fn field_writer(field: SelectedField<'_>) -> Option<WriteField<Self>> {
        match field.schema_field_name() {
            "index" => infallible_field_writer(|result: &Self, text| text.push_serialized(&result.index)),
            "sentId" => infallible_field_writer(|result: &Self, text| text.push_serialized(&result.sent_id)),
            "outcome" => infallible_field_writer(|result: &Self, text| text.push_enum_name(result.outcome)),
            "matchedBy" => infallible_field_writer(|result: &Self, text| {
                text.push_or_null(result.matched_by, JsonText::push_enum_name)
            }),
            "differs" => infallible_field_writer(|result: &Self, text| text.push_serialized(&result.differs)),
            "version" => infallible_field_writer(|result: &Self, text| text.push_serialized(&result.version)),
            // Few results have a problem. async-graphql resolves the lists that contain one.
            "problem" => Some(Box::new(|result, text| {
                text.push_raw_json("null");
                result.problem.is_none()
            })),
            "event" => {
                let plan = field.compile_object_plan::<Event>()?;
                Some(Box::new(move |result, text| plan.write_row_or_null(result.event.as_ref(), text)))
            }
            _ => None,
        }
    }
}

impl EventTypeResult {
    /// Converts the answer to the item at the position `index` of the input, from 0. `sent_id` is its id as
    /// the client sent it.
    pub(crate) fn new(index: usize, sent_id: Option<String>, answer: Answer<TypeRow>) -> Self {
        Self {
            index: i32::try_from(index).unwrap_or(i32::MAX),
            sent_id: sent_id.map(ID::from),
            outcome: answer.outcome.into(),
            matched_by: answer.matched_by.map(MatchKey::from),
            differs: answer.differs,
            version: answer.row.as_ref().map(|row| row.meta.version),
            problem: answer.problem.map(Problem::from),
            event_type: answer.row.and_then(|row| EventType::from_living_row(row).ok()),
        }
    }
}

/// The response of a mutation of one event.
#[derive(Debug, Clone, SimpleObject)]
pub struct EventPayload {
    /// The result of the write.
    pub result: EventResult,
}

/// The response of a mutation of one event type.
#[derive(Debug, Clone, SimpleObject)]
pub struct EventTypePayload {
    /// The result of the write.
    pub result: EventTypeResult,
}

/// The response of `createEvents`. `created`, `duplicates`, `deleted` and `rejected` add up to the number of
/// results.
#[derive(Debug, Clone, SimpleObject)]
pub struct EventsPayload {
    /// One result for each event, in the order of the input.
    pub results: JsonList<EventResult>,
    /// How many results have the outcome CREATED.
    pub created: i32,
    /// How many results have the outcome DUPLICATE.
    pub duplicates: i32,
    /// How many results have the outcome DELETED: the event was deleted earlier and is not created again.
    pub deleted: i32,
    /// How many results have the outcome REJECTED.
    pub rejected: i32,
}

/// The response of `applyMutations`.
#[derive(Debug, SimpleObject)]
pub struct ApplyMutationsPayload {
    /// One result for each mutation, in the order of the input.
    pub results: Vec<WriteResult>,
}

/// The response of a mutation of an import.
#[derive(Debug, Clone, SimpleObject)]
pub struct ImportPayload {
    /// The import as it is now; null if the id is unknown or the import was refused.
    pub import_job: Option<ImportJob>,
    /// Why the import was refused or the step is not possible; null if neither.
    pub problem: Option<Problem>,
}

impl From<ImportAnswer> for ImportPayload {
    fn from(answer: ImportAnswer) -> Self {
        Self { import_job: answer.job.map(ImportJob), problem: answer.problem.map(Problem::from) }
    }
}
