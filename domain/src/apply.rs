//! Decides what each write of a call does: its outcome, and the rows that change.
//!
//! The writes are decided one by one, in their order, on the loaded rows of one user ([`UnitOfWork`]). The
//! decision is pure, so that a test can compare it with an oracle and needs no database.

mod create;
mod edit;
mod row_set;
mod unit_of_work;

use std::sync::Arc;

use uuid::Uuid;

pub use create::{assume_only_types_exist, create_event, create_event_type};
pub use edit::{
    delete_event, delete_event_type, restore_event, roll_back_imported_event, update_event, update_event_type,
};
pub use unit_of_work::{Alias, Changes, Entity, RecordedEdit, UnitOfWork};

use crate::draft::{EventEdit, NewEvent, NewType, Removal, Restore, TypeEdit};
use crate::event_id;
use crate::problem::{FieldProblem, Problem};
use crate::row::{EventRow, RowMeta, TypeRow, Writer};

/// What became of one write of a call. The variants have the names that the API uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The create stored a new row, or recreated one that the rollback of an import had deleted.
    Created,
    /// The create found the row stored already, perhaps with other content. The row was not changed.
    Duplicate,
    /// An update or a restore changed the row.
    Updated,
    /// The update, delete or restore changed nothing in the row: the row is as it asks already, or this edit
    /// or a newer one of the client was applied before.
    Unchanged,
    /// A delete has deleted the row now, or a create or update found the row deleted and left it so. A delete
    /// of a row that was deleted before is `Unchanged`.
    Deleted,
    /// The row no longer has the expected version, or a restore found it living with other content. Nothing
    /// was written.
    Conflict,
    /// Nothing was written. The problem says why.
    Rejected,
}

/// The key by which an existing row was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchKey {
    /// The id of the write, which is the id of the row or one of its aliases, or the former id of a record.
    Id,
    /// The source and the external id of an event.
    ExternalId,
    /// The name of an event type.
    Name,
}

/// What was decided for one write, with the event or event type after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<Row> {
    /// What became of the write.
    pub outcome: Outcome,
    /// The key by which an existing row was found, if one was.
    pub matched_by: Option<MatchKey>,
    /// Whether a create has other content than the row that it found stored. False unless `Duplicate`.
    pub differs: bool,
    /// The row after this write, also if the write did not change it. `None` if the write was rejected.
    pub row: Option<Arc<Row>>,
    /// Whether the body in `row` is not the stored one, because it was not loaded. A response that needs the
    /// body must read the row again.
    pub lacks_body: bool,
    /// Why the write was rejected, or was a conflict. `None` for all other outcomes.
    pub problem: Option<Problem>,
}

impl<Row> Answer<Row> {
    /// The answer to a write that was rejected because of this problem. It has no row.
    #[must_use]
    pub fn new_rejected(problem: Problem) -> Self {
        Self {
            outcome: Outcome::Rejected,
            matched_by: None,
            differs: false,
            row: None,
            lacks_body: false,
            problem: Some(problem),
        }
    }

    fn new_answer_with_row(
        outcome: Outcome,
        matched_by: Option<MatchKey>,
        differs: bool,
        row: Arc<Row>,
    ) -> Self {
        Self { outcome, matched_by, differs, row: Some(row), lacks_body: false, problem: None }
    }
}

/// One write of any kind, already parsed and valid in itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Stores an event.
    CreateEvent(NewEvent),
    /// Changes an event.
    UpdateEvent(EventEdit),
    /// Deletes an event.
    DeleteEvent(Removal),
    /// Restores a deleted event.
    RestoreEvent(Restore),
    /// Stores an event type.
    CreateEventType(NewType),
    /// Changes an event type.
    UpdateEventType(TypeEdit),
    /// Deletes an event type that no living event has.
    DeleteEventType(Removal),
}

/// What was decided for one write of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum WriteAnswer {
    /// The write was about an event.
    Event(Answer<EventRow>),
    /// The write was about an event type.
    EventType(Answer<TypeRow>),
}

/// Decides one write and applies it to the loaded rows in memory. Nothing is stored in the database yet.
pub fn decide_write_in_memory(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    write: &Write,
) -> WriteAnswer {
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
    /// The problem of a write that was rejected. `None` for all other outcomes.
    #[must_use]
    pub fn rejection_problem(&self) -> Option<&Problem> {
        let (outcome, problem) = match self {
            Self::Event(answer) => (answer.outcome, &answer.problem),
            Self::EventType(answer) => (answer.outcome, &answer.problem),
        };
        problem.as_ref().filter(|_| outcome == Outcome::Rejected)
    }
}

/// Which client writes, at what time, and for which import.
#[derive(Debug, Clone, Copy)]
pub struct WriteContext<'a> {
    /// The time of the write, in epoch milliseconds.
    pub now_ms: i64,
    /// The client id of the installation. `None` if the request had none.
    pub client_id: Option<&'a str>,
    /// The import whose records are created or rolled back. `None` for the mutations of a client. The ids of
    /// records may have any time.
    pub import_job_id: Option<Uuid>,
}

impl WriteContext<'_> {
    /// This client as the writer of a row, with a writer run that begins at `version` and no edit id.
    fn new_writer_run(&self, version: i32) -> Writer {
        Writer { client_id: self.client_id.map(str::to_owned), run_start: version, edit_id: None }
    }

    /// The metadata of a new row. [`UnitOfWork::into_changes`] assigns its position.
    fn meta_of_new_row(&self, id: Uuid) -> RowMeta {
        RowMeta {
            id,
            version: 1,
            change_seq: 0,
            writer: self.new_writer_run(1),
            created_at: self.now_ms,
            updated_at: self.now_ms,
            deletion: None,
        }
    }

    /// The metadata of a row after a change, with the next version and the greater edit id. The writer run
    /// goes on if the same client wrote the version before, and otherwise begins anew.
    fn meta_of_next_version(&self, old: &RowMeta, edit_id: Option<Uuid>) -> RowMeta {
        let version = old.version + 1;
        let mut writer = self.new_writer_run(version);
        if self.is_last_writer(old) {
            writer.run_start = old.writer.run_start;
            writer.edit_id = old.writer.edit_id;
        }
        if self.client_id.is_some() {
            // Keep the greatest id, because the clock of a device may have been ahead for a while.
            writer.edit_id = writer.edit_id.max(edit_id);
        }
        RowMeta { version, writer, updated_at: self.now_ms, ..old.clone() }
    }

    /// Whether the client that writes now also wrote the current version. A request without a client id never
    /// did.
    fn is_last_writer(&self, meta: &RowMeta) -> bool {
        self.client_id.is_some() && self.client_id == meta.writer.client_id.as_deref()
    }

    /// The metadata of a row that is created again after a rollback deleted it: the next version and a new
    /// `created_at`.
    fn meta_of_recreated_row(&self, old: &RowMeta) -> RowMeta {
        let version = old.version + 1;
        RowMeta { version, writer: self.new_writer_run(version), ..self.meta_of_new_row(old.id) }
    }

    /// Checks the id of a new row. Its time is checked only outside of imports.
    fn check_new_id(&self, id: Uuid) -> Result<(), FieldProblem> {
        event_id::check_new_id(id, self.now_ms, self.import_job_id.is_none())
    }

    /// Rejects the create of a row with this id. The problem is retryable if the only error is that the time
    /// in the id is in the near future.
    fn rejection_answer<Row>(&self, id: Uuid, errors: Vec<FieldProblem>) -> Answer<Row> {
        let mut problem = Problem::from_field_problems(errors);
        event_id::make_future_id_problem_retryable(&mut problem, id, self.now_ms);
        Answer::new_rejected(problem)
    }
}
