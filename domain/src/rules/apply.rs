//! The decision: items, in order, over the loaded state of one user, give one outcome each and the
//! net rows. Pure, so that it is held against an oracle without a database.

mod world;

use std::sync::Arc;

use uuid::Uuid;

pub use world::{Entity, Net, World};

use crate::rules::content_hash::{self, TypeKey};
use crate::rules::draft::{IdOrigin, NewEvent, NewType, TypeRef};
use crate::rules::event_id;
use crate::rules::problem::{Code, FieldProblem, Problem};
use crate::rules::row::{DeletedBy, EventContent, EventRow, Frame, TypeContent, TypeRow, Writer};

/// What became of an item. The names are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A new row, or one that a rollback had taken back.
    Created,
    /// Was there already: nothing changed.
    Duplicate,
    /// The id is deleted and stays so.
    Deleted,
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
            problem: Some(problem),
        }
    }

    fn done(outcome: Outcome, matched_by: Option<MatchKey>, differs: bool, row: Arc<Row>) -> Self {
        Self { outcome, matched_by, differs, row: Some(row), problem: None }
    }
}

/// Who writes, when, and on what terms.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Epoch milliseconds.
    pub now_ms: i64,
    /// The installation, where it said its name.
    pub client_id: Option<&'a str>,
    /// The import that brings the items. Its ids may lie in the future.
    pub import_job_id: Option<Uuid>,
}

impl Terms<'_> {
    fn writer(&self, version: i32) -> Writer {
        Writer { client_id: self.client_id.map(str::to_owned), run_start: version, edit_id: None }
    }

    fn frame(&self, id: Uuid) -> Frame {
        Frame {
            id,
            version: 1,
            change_seq: 0,
            writer: self.writer(1),
            created_at: self.now_ms,
            updated_at: self.now_ms,
            deletion: None,
        }
    }

    /// A row that a rollback took back is made anew: next version, new `created_at`.
    fn frame_anew(&self, old: &Frame) -> Frame {
        let version = old.version + 1;
        Frame { version, writer: self.writer(version), ..self.frame(old.id) }
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

fn id_in_use() -> FieldProblem {
    FieldProblem::new("/id", Code::IdInUse, "the id belongs to something else of yours")
}

/// Creates an event, or says what is there in its place.
pub fn create_event(world: &mut World, terms: &Terms<'_>, new: &NewEvent) -> Answer<EventRow> {
    if let Some(row) = world.event(new.id) {
        return found_event(world, terms, new, &row, MatchKey::Id);
    }
    if world.is_used_beside(Entity::Event, new.id) {
        return terms.reject(new.id, vec![id_in_use()]);
    }
    if let Some(row) = world.event_by_key(&new.source_type, new.external_id.as_deref()) {
        let answer = found_event(world, terms, new, &row, MatchKey::ExternalId);
        if new.origin == IdOrigin::Sent && answer.outcome != Outcome::Rejected {
            world.add_alias(Entity::Event, new.id, row.frame.id);
        }
        return answer;
    }
    let mut errors = Vec::new();
    errors.extend(terms.check_new_id(new.id).err());
    let event_type_id = find_type(world, new);
    if let Err(problem) = &event_type_id {
        errors.push(problem.clone());
    }
    if !errors.is_empty() {
        return terms.reject(new.id, errors);
    }
    let type_id = settle_type(world, terms, new);
    let row = event_row(terms, new, terms.frame(new.id), type_id);
    Answer::done(Outcome::Created, None, false, world.put_event(row))
}

fn found_event(
    world: &mut World,
    terms: &Terms<'_>,
    new: &NewEvent,
    row: &Arc<EventRow>,
    key: MatchKey,
) -> Answer<EventRow> {
    match (&row.content, row.frame.deletion.map(|deletion| deletion.by)) {
        (Some(content), _) => {
            let differs = content_of(world, new) != Some(content.hash);
            Answer::done(Outcome::Duplicate, Some(key), differs, Arc::clone(row))
        }
        (None, Some(DeletedBy::Rollback)) => {
            if let Err(problem) = find_type(world, new) {
                return terms.reject(new.id, vec![problem]);
            }
            let type_id = settle_type(world, terms, new);
            let mut anew = event_row(terms, new, terms.frame_anew(&row.frame), type_id);
            // Source and external id never change, and a tombstone keeps them.
            anew.source_type.clone_from(&row.source_type);
            anew.external_id.clone_from(&row.external_id);
            if let Some(content) = &mut anew.content {
                content.hash = content_hash::of_event(
                    TypeKey::Id(type_id),
                    &anew.source_type,
                    anew.external_id.as_deref(),
                    &content.body,
                );
            }
            Answer::done(Outcome::Created, Some(key), false, world.put_event(anew))
        }
        (None, _) => Answer::done(Outcome::Deleted, Some(key), false, Arc::clone(row)),
    }
}

/// The hash of an input as it would be stored now; none when its type is not there.
fn content_of(world: &World, new: &NewEvent) -> Option<[u8; 32]> {
    let type_id = match &new.type_ref {
        TypeRef::Id(id) => world.event_type(*id).map(|row| row.frame.id),
        TypeRef::Name { name, .. } => world.type_by_name(name).map(|row| row.frame.id),
    }?;
    Some(content_hash::of_event(
        TypeKey::Id(type_id),
        &new.source_type,
        new.external_id.as_deref(),
        &new.body,
    ))
}

/// Whether the type of a new row is alive, or can be made.
fn find_type(world: &World, new: &NewEvent) -> Result<(), FieldProblem> {
    let TypeRef::Id(id) = new.type_ref else {
        return Ok(());
    };
    let alive = world.event_type(id).is_some_and(|row| row.content.is_some());
    if alive {
        return Ok(());
    }
    Err(FieldProblem::new("/eventTypeId", Code::EventTypeNotFound, "no living event type is known by it"))
}

/// The canonical id of the type; a type that is only named is made when missing.
fn settle_type(world: &mut World, terms: &Terms<'_>, new: &NewEvent) -> Uuid {
    match &new.type_ref {
        TypeRef::Id(id) => world.event_type(*id).map_or(*id, |row| row.frame.id),
        TypeRef::Name { name, fresh_id } => {
            if let Some(row) = world.type_by_name(name) {
                return row.frame.id;
            }
            let made = NewType {
                id: *fresh_id,
                origin: IdOrigin::Made,
                name: name.clone(),
                color: None,
                icon: None,
            };
            world.put_type(type_row(&made, terms.frame(made.id))).frame.id
        }
    }
}

fn event_row(terms: &Terms<'_>, new: &NewEvent, frame: Frame, event_type_id: Uuid) -> EventRow {
    let hash = content_hash::of_event(
        TypeKey::Id(event_type_id),
        &new.source_type,
        new.external_id.as_deref(),
        &new.body,
    );
    let content = EventContent {
        event_type_id,
        body: new.body.clone(),
        hash,
        import_job_id: terms.import_job_id,
        import_version: terms.import_job_id.map(|_| frame.version),
    };
    EventRow {
        frame,
        source_type: new.source_type.clone(),
        external_id: new.external_id.clone(),
        content: Some(content),
    }
}

/// Creates an event type, or says what is there in its place.
pub fn create_event_type(world: &mut World, terms: &Terms<'_>, new: &NewType) -> Answer<TypeRow> {
    if let Some(row) = world.event_type(new.id) {
        return found_type(new, row, MatchKey::Id);
    }
    if world.is_used_beside(Entity::EventType, new.id) {
        return terms.reject(new.id, vec![id_in_use()]);
    }
    if let Some(row) = world.type_by_name(&new.name) {
        if new.origin == IdOrigin::Sent {
            world.add_alias(Entity::EventType, new.id, row.frame.id);
        }
        return found_type(new, row, MatchKey::Name);
    }
    if let Err(problem) = terms.check_new_id(new.id) {
        return terms.reject(new.id, vec![problem]);
    }
    Answer::done(Outcome::Created, None, false, world.put_type(type_row(new, terms.frame(new.id))))
}

fn found_type(new: &NewType, row: Arc<TypeRow>, key: MatchKey) -> Answer<TypeRow> {
    let hash = content_hash::of_type(&new.name, new.color.as_deref(), new.icon.as_deref());
    match &row.content {
        Some(content) => {
            let differs = content.hash != hash;
            Answer::done(Outcome::Duplicate, Some(key), differs, row)
        }
        None => Answer::done(Outcome::Deleted, Some(key), false, row),
    }
}

fn type_row(new: &NewType, frame: Frame) -> TypeRow {
    let hash = content_hash::of_type(&new.name, new.color.as_deref(), new.icon.as_deref());
    let content =
        TypeContent { name: new.name.clone(), color: new.color.clone(), icon: new.icon.clone(), hash };
    TypeRow { frame, content: Some(content) }
}
