//! The decision: items, in order, over the loaded state of one user, give one outcome each and the
//! changes rows. Pure, so that it is held against an oracle without a database.

mod create;
mod edit;
mod unit_of_work;

use std::sync::Arc;

use uuid::Uuid;

pub use create::{create_event, create_event_type};
pub use edit::{
    delete_event, delete_event_type, restore_event, take_back_event, update_event, update_event_type,
};
pub use unit_of_work::{Alias, Changes, Entity, RecordedEdit, UnitOfWork};

use crate::draft::{EventEdit, NewEvent, NewType, Removal, Restore, TypeEdit};
use crate::event_id;
use crate::problem::{FieldProblem, Problem};
use crate::row::{EventRow, RowMeta, TypeRow, Writer};

/// What became of an item. The names are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A new row, or one that a rollback had taken back.
    Created,
    /// Was there already: nothing changed.
    Duplicate,
    /// Changed by an update or a restore.
    Updated,
    /// Nothing to do.
    Unchanged,
    /// The id is deleted: just now, or earlier and stays so.
    Deleted,
    /// The expected version no longer holds.
    Conflict,
    /// Nothing written; the problem says why.
    Rejected,
}

/// The key by which an existing row was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchKey {
    /// Its id, or an alias of it.
    Id,
    /// Source and external id.
    ExternalId,
    /// The name of a type.
    Name,
}

/// The answer to one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<Row> {
    /// What became of it.
    pub outcome: Outcome,
    /// How an existing row was found.
    pub matched_by: Option<MatchKey>,
    /// A duplicate says something else than what is stored.
    pub differs: bool,
    /// The row after this item; none when rejected.
    pub row: Option<Arc<Row>>,
    /// The body of the row was not loaded. Whoever describes the row reads it again.
    pub lacks_body: bool,
    /// Why it was rejected.
    pub problem: Option<Problem>,
}

impl<Row> Answer<Row> {
    /// Nothing was written, for this reason.
    #[must_use]
    pub fn rejected(problem: Problem) -> Self {
        Self {
            outcome: Outcome::Rejected,
            matched_by: None,
            differs: false,
            row: None,
            lacks_body: false,
            problem: Some(problem),
        }
    }

    fn done(outcome: Outcome, matched_by: Option<MatchKey>, differs: bool, row: Arc<Row>) -> Self {
        Self { outcome, matched_by, differs, row: Some(row), lacks_body: false, problem: None }
    }
}

/// One write of any kind, right in itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Stores an event.
    CreateEvent(NewEvent),
    /// Changes an event.
    UpdateEvent(EventEdit),
    /// Deletes an event.
    DeleteEvent(Removal),
    /// Brings a deleted event back.
    RestoreEvent(Restore),
    /// Stores an event type.
    CreateEventType(NewType),
    /// Changes an event type.
    UpdateEventType(TypeEdit),
    /// Deletes an event type that no living event is of.
    DeleteEventType(Removal),
}

/// The answer to a write.
#[derive(Debug, Clone, PartialEq)]
pub enum WriteAnswer {
    /// Of an event.
    Event(Answer<EventRow>),
    /// Of an event type.
    EventType(Answer<TypeRow>),
}

/// Decides one write.
pub fn apply(unit: &mut UnitOfWork, context: &WriteContext<'_>, write: &Write) -> WriteAnswer {
    match write {
        Write::CreateEvent(new) => WriteAnswer::Event(create_event(unit, context, new)),
        Write::UpdateEvent(edit) => WriteAnswer::Event(update_event(unit, context, edit)),
        Write::DeleteEvent(removal) => WriteAnswer::Event(delete_event(unit, context, removal)),
        Write::RestoreEvent(restore) => WriteAnswer::Event(restore_event(unit, context, restore)),
        Write::CreateEventType(new) => WriteAnswer::EventType(create_event_type(unit, context, new)),
        Write::UpdateEventType(edit) => WriteAnswer::EventType(update_event_type(unit, context, edit)),
        Write::DeleteEventType(removal) => WriteAnswer::EventType(delete_event_type(unit, context, removal)),
    }
}

impl WriteAnswer {
    /// Why it was rejected, if it was.
    #[must_use]
    pub fn rejection(&self) -> Option<&Problem> {
        let (outcome, problem) = match self {
            Self::Event(answer) => (answer.outcome, &answer.problem),
            Self::EventType(answer) => (answer.outcome, &answer.problem),
        };
        problem.as_ref().filter(|_| outcome == Outcome::Rejected)
    }
}

/// Who writes, when, and for which import.
#[derive(Debug, Clone, Copy)]
pub struct WriteContext<'a> {
    /// Epoch milliseconds.
    pub now_ms: i64,
    /// The installation, where it said its name.
    pub client_id: Option<&'a str>,
    /// The import that brings the items. Its ids may lie in the future.
    pub import_job_id: Option<Uuid>,
}

impl WriteContext<'_> {
    fn writer(&self, version: i32) -> Writer {
        Writer { client_id: self.client_id.map(str::to_owned), run_start: version, edit_id: None }
    }

    fn meta(&self, id: Uuid) -> RowMeta {
        RowMeta {
            id,
            version: 1,
            change_seq: 0,
            writer: self.writer(1),
            created_at: self.now_ms,
            updated_at: self.now_ms,
            deletion: None,
        }
    }

    /// A row that is changed: next version, and a run of versions by one writer goes on.
    fn next_meta(&self, old: &RowMeta, edit_id: Option<Uuid>) -> RowMeta {
        let version = old.version + 1;
        let mut writer = self.writer(version);
        if self.wrote(old) {
            writer.run_start = old.writer.run_start;
            writer.edit_id = old.writer.edit_id;
        }
        if self.client_id.is_some() {
            // The greatest: the clock of a device may have been ahead for a while.
            writer.edit_id = writer.edit_id.max(edit_id);
        }
        RowMeta { version, writer, updated_at: self.now_ms, ..old.clone() }
    }

    /// Whether the one who writes now wrote last.
    fn wrote(&self, meta: &RowMeta) -> bool {
        self.client_id.is_some() && self.client_id == meta.writer.client_id.as_deref()
    }

    /// A row that a rollback took back is made anew: next version, new `created_at`.
    fn recreated_meta(&self, old: &RowMeta) -> RowMeta {
        let version = old.version + 1;
        RowMeta { version, writer: self.writer(version), ..self.meta(old.id) }
    }

    fn check_new_id(&self, id: Uuid) -> Result<(), FieldProblem> {
        event_id::check_new(id, self.now_ms, self.import_job_id.is_none())
    }

    fn reject<Row>(&self, id: Uuid, errors: Vec<FieldProblem>) -> Answer<Row> {
        let mut problem = Problem::of_fields(errors);
        event_id::with_retry(&mut problem, id, self.now_ms);
        Answer::rejected(problem)
    }
}
