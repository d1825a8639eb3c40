//! Implements the rules of writes as simply as possible: lists, linear search and no index.
//!
//! It must not share code with `domain::apply`, so that the two do not have the same mistakes.

use domain::apply::{Alias, Entity, MatchKey, Outcome, WriteContext};
use domain::content_hash::{TypeKey, hash_event, hash_event_type};
use domain::draft::{IdOrigin, NewEvent, NewType, TypeRef};
use domain::problem::Code;
use domain::row::{DeletedBy, EventBody, EventContent, EventRow, RowMeta, TypeContent, TypeRow, Writer};
use uuid::Uuid;

mod edit;

/// An answer with the parts of its problem as fields.
#[derive(Debug, PartialEq)]
pub struct FlatAnswer<Row> {
    pub outcome: Outcome,
    pub matched_by: Option<MatchKey>,
    pub differs: bool,
    pub row: Option<Row>,
    pub code: Option<Code>,
    pub errors: Vec<(String, Code)>,
    pub retry_after_ms: Option<i64>,
    pub retryable: bool,
}

/// All rows of one user, and what a call has done to them.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    pub events: Vec<EventRow>,
    pub types: Vec<TypeRow>,
    pub aliases: Vec<Alias>,
    pub imports: Vec<Uuid>,
    pub head: i64,
    /// The feed head before the call.
    pub before: i64,
    /// The ids of items that the call rejected, with `retryable` and `retry_after_ms` of their problems.
    pub rejected: Vec<(Uuid, bool, Option<i64>)>,
    /// Rows with the id of an edit to record that changed nothing.
    pub recorded_edit_ids: Vec<(Entity, Uuid)>,
    /// The items of the call that were applied to rows, with their edit ids.
    pub applied: Vec<(Entity, Uuid, Option<Uuid>)>,
    /// Events that a rollback deleted and that a person has deleted since.
    pub finalized_deletions: Vec<Uuid>,
    /// The cases that occurred and that the outcome of an item does not show.
    pub covered: Vec<&'static str>,
}

pub fn event_row(
    meta: RowMeta,
    key: (&str, Option<&str>),
    event_type_id: Uuid,
    body: &EventBody,
    import_job_id: Option<Uuid>,
) -> EventRow {
    let hash = hash_event(TypeKey::Id(event_type_id), key.0, key.1, body);
    let import_version = import_job_id.map(|_| meta.version);
    let content = EventContent { event_type_id, body: body.clone(), hash, import_job_id, import_version };
    let (source_type, external_id) = (key.0.to_owned(), key.1.map(str::to_owned));
    EventRow { meta, source_type, external_id, content: Some(content) }
}

pub fn type_row(meta: RowMeta, name: &str, color: Option<&str>, icon: Option<&str>) -> TypeRow {
    let hash = hash_event_type(name, color, icon);
    let (color, icon) = (color.map(str::to_owned), icon.map(str::to_owned));
    TypeRow { meta, content: Some(TypeContent { name: name.to_owned(), color, icon, hash }) }
}

fn matched<Row>(outcome: Outcome, matched_by: Option<MatchKey>, differs: bool, row: Row) -> FlatAnswer<Row> {
    FlatAnswer {
        outcome,
        matched_by,
        differs,
        row: Some(row),
        code: None,
        errors: Vec::new(),
        retry_after_ms: None,
        retryable: false,
    }
}

fn rejection<Row>(context: &WriteContext<'_>, id: Uuid, errors: &[(&str, Code)]) -> FlatAnswer<Row> {
    let code = if errors.len() == 1 { errors[0].1 } else { Code::ValidationFailed };
    let ahead_ms = time_of(id) - context.now_ms;
    let retryable = code == Code::IdInFuture && ahead_ms <= 24 * 60 * 60 * 1000;
    FlatAnswer {
        outcome: Outcome::Rejected,
        matched_by: None,
        differs: false,
        row: None,
        code: Some(code),
        errors: errors.iter().map(|(pointer, code)| ((*pointer).to_owned(), *code)).collect(),
        retry_after_ms: retryable.then_some(ahead_ms - 60_000),
        retryable,
    }
}

/// The time of an id in milliseconds: its first twelve digits.
fn time_of(id: Uuid) -> i64 {
    i64::from_str_radix(&id.simple().to_string()[..12], 16).expect("digits")
}

/// What is wrong with the id of a create: it must be `xxxxxxxx-xxxx-7xxx-[89ab]xxx-…`, and outside of an
/// import its time must not be too far ahead.
fn id_fault(context: &WriteContext<'_>, id: Uuid) -> Option<(&'static str, Code)> {
    let text = id.to_string();
    if &text[14..15] != "7" || !"89ab".contains(&text[19..20]) {
        return Some(("/id", Code::NotUuidV7));
    }
    let is_time_checked = context.import_job_id.is_none();
    (is_time_checked && time_of(id) > context.now_ms + 60_000).then_some(("/id", Code::IdInFuture))
}

impl Oracle {
    /// The rejection of an item that needs an id which was rejected earlier in the call. It is retryable if
    /// any rejection of that id is.
    fn rejected_dependency<Row>(&self, id: Uuid, pointer: &str) -> Option<FlatAnswer<Row>> {
        let with_id = || self.rejected.iter().filter(|rejected| rejected.0 == id);
        let rejection_of_id = with_id().find(|rejected| rejected.1).or(with_id().next_back())?;
        Some(FlatAnswer {
            outcome: Outcome::Rejected,
            matched_by: None,
            differs: false,
            row: None,
            code: Some(Code::DependencyRejected),
            errors: vec![(pointer.to_owned(), Code::DependencyRejected)],
            retryable: rejection_of_id.1,
            retry_after_ms: rejection_of_id.2,
        })
    }

    /// The rejection of an event whose type does not exist because it was rejected earlier in the call.
    fn rejected_type(&self, new: &NewEvent, pointer: &str) -> Option<FlatAnswer<EventRow>> {
        match new.type_ref {
            TypeRef::Id(id) if self.type_at(id).is_none() => self.rejected_dependency(id, pointer),
            _ => None,
        }
    }

    fn meta(&mut self, context: &WriteContext<'_>, id: Uuid, version: i32) -> RowMeta {
        self.head += 1;
        RowMeta {
            id,
            version,
            change_seq: self.head,
            writer: Writer {
                client_id: context.client_id.map(str::to_owned),
                run_start: version,
                edit_id: None,
            },
            created_at: context.now_ms,
            updated_at: context.now_ms,
            deletion: None,
        }
    }

    /// The canonical id of an id that may be an alias.
    fn canonical(&self, entity: Entity, id: Uuid) -> Uuid {
        let alias = self.aliases.iter().find(|alias| alias.entity == entity && alias.alias_id == id);
        alias.map_or(id, |alias| alias.id)
    }

    fn event_at(&self, id: Uuid) -> Option<usize> {
        let id = self.canonical(Entity::Event, id);
        self.events.iter().position(|row| row.meta.id == id)
    }

    fn type_at(&self, id: Uuid) -> Option<usize> {
        let id = self.canonical(Entity::EventType, id);
        self.types.iter().position(|row| row.meta.id == id)
    }

    fn type_named(&self, name: &str) -> Option<usize> {
        self.types.iter().position(|row| row.content.as_ref().is_some_and(|content| content.name == name))
    }

    /// The id of the living type to which an event refers, if it exists.
    fn referenced_type(&self, new: &NewEvent) -> Option<Uuid> {
        let at = match &new.type_ref {
            TypeRef::Id(id) => self.type_at(*id),
            TypeRef::Name { name, .. } => self.type_named(name),
        }?;
        self.types[at].content.is_some().then(|| self.types[at].meta.id)
    }

    fn find_or_create_type(&mut self, context: &WriteContext<'_>, new: &NewEvent) -> Option<Uuid> {
        if let (None, TypeRef::Name { name, fresh_id }) = (self.referenced_type(new), &new.type_ref) {
            let meta = self.meta(context, *fresh_id, 1);
            self.types.push(type_row(meta, name, None, None));
            self.applied.push((Entity::EventType, *fresh_id, None));
        }
        self.referenced_type(new)
    }

    fn lacks_type(&self, new: &NewEvent) -> bool {
        matches!(new.type_ref, TypeRef::Id(_)) && self.referenced_type(new).is_none()
    }

    pub fn create_event(&mut self, context: &WriteContext<'_>, new: &NewEvent) -> FlatAnswer<EventRow> {
        let key = (new.source_type.as_str(), new.external_id.as_deref());
        let no_type = ("/eventTypeId", Code::EventTypeNotFound);
        let by_id = self.event_at(new.id);
        if by_id.is_none() && (self.type_at(new.id).is_some() || self.imports.contains(&new.id)) {
            return rejection(context, new.id, &[("/id", Code::IdInUse)]);
        }
        let has_key = |row: &EventRow| {
            row.external_id.is_some() && (row.source_type.as_str(), row.external_id.as_deref()) == key
        };
        let by_key = self.events.iter().position(has_key);
        let Some(at) = by_id.or(by_key) else {
            if let Some(answer) = self.rejected_type(new, "/eventTypeId") {
                return answer;
            }
            let mut faults: Vec<_> = id_fault(context, new.id).into_iter().collect();
            faults.extend(self.lacks_type(new).then_some(no_type));
            if !faults.is_empty() {
                return rejection(context, new.id, &faults);
            }
            let type_id = self.find_or_create_type(context, new).expect("the type exists now");
            let meta = self.meta(context, new.id, 1);
            let row = event_row(meta, key, type_id, &new.body, context.import_job_id);
            self.events.push(row.clone());
            self.applied.push((Entity::Event, new.id, None));
            return matched(Outcome::Created, None, false, row);
        };
        let matched_by = Some(if by_id.is_some() { MatchKey::Id } else { MatchKey::ExternalId });
        let stored = self.events[at].clone();
        let deleted_by = stored.meta.deletion.map(|deletion| deletion.by);
        if deleted_by == Some(DeletedBy::Rollback) && self.lacks_type(new) {
            if let Some(answer) = self.rejected_type(new, "/eventTypeId") {
                return answer;
            }
            return rejection(context, new.id, &[no_type]);
        }
        if by_id.is_none() && new.origin == IdOrigin::Sent {
            self.aliases.push(Alias { entity: Entity::Event, alias_id: new.id, id: stored.meta.id });
        }
        match deleted_by {
            None => {
                let content = stored.content.as_ref().expect("a living event has content");
                let same = self.referenced_type(new) == Some(content.event_type_id)
                    && (stored.source_type.as_str(), stored.external_id.as_deref()) == key
                    && content.body == new.body;
                matched(Outcome::Duplicate, matched_by, !same, stored)
            }
            Some(DeletedBy::User) => matched(Outcome::Deleted, matched_by, false, stored),
            Some(DeletedBy::Rollback) => {
                // Source and external id never change, so those of the row stay.
                let key = (stored.source_type.as_str(), stored.external_id.as_deref());
                let type_id = self.find_or_create_type(context, new).expect("the type exists now");
                let meta = self.meta(context, stored.meta.id, stored.meta.version + 1);
                let row = event_row(meta, key, type_id, &new.body, context.import_job_id);
                self.events[at] = row.clone();
                self.applied.push((Entity::Event, row.meta.id, None));
                matched(Outcome::Created, matched_by, false, row)
            }
        }
    }

    pub fn create_type(&mut self, context: &WriteContext<'_>, new: &NewType) -> FlatAnswer<TypeRow> {
        let by_id = self.type_at(new.id);
        if by_id.is_none() && (self.event_at(new.id).is_some() || self.imports.contains(&new.id)) {
            return rejection(context, new.id, &[("/id", Code::IdInUse)]);
        }
        let Some(at) = by_id.or(self.type_named(&new.name)) else {
            if let Some(fault) = id_fault(context, new.id) {
                return rejection(context, new.id, &[fault]);
            }
            let meta = self.meta(context, new.id, 1);
            self.types.push(type_row(meta, &new.name, new.color.as_deref(), new.icon.as_deref()));
            self.applied.push((Entity::EventType, new.id, None));
            return matched(Outcome::Created, None, false, self.types[self.types.len() - 1].clone());
        };
        let row = self.types[at].clone();
        if by_id.is_none() && new.origin == IdOrigin::Sent {
            self.aliases.push(Alias { entity: Entity::EventType, alias_id: new.id, id: row.meta.id });
        }
        let matched_by = Some(if by_id.is_some() { MatchKey::Id } else { MatchKey::Name });
        match &row.content {
            None => matched(Outcome::Deleted, matched_by, false, row),
            Some(content) => {
                let differs =
                    (&content.name, &content.color, &content.icon) != (&new.name, &new.color, &new.icon);
                matched(Outcome::Duplicate, matched_by, differs, row)
            }
        }
    }

    /// Checks the invariants of the rows, which every call must keep.
    pub fn check(&self) {
        let mut ids: Vec<Uuid> = self.imports.clone();
        ids.extend(self.events.iter().map(|row| row.meta.id));
        ids.extend(self.types.iter().map(|row| row.meta.id));
        ids.extend(self.aliases.iter().map(|alias| alias.alias_id));
        assert!(is_distinct(ids), "an id is used twice");
        let keys = self.events.iter().filter_map(|row| Some((&row.source_type, row.external_id.as_ref()?)));
        assert!(is_distinct(keys.collect()), "an external id is used twice");
        let names = self.types.iter().filter_map(|row| row.content.as_ref().map(|content| &content.name));
        assert!(is_distinct(names.collect()), "a name is used twice");
        let events = self.events.iter().map(|row| row.meta.change_seq);
        let positions = events.chain(self.types.iter().map(|row| row.meta.change_seq));
        assert!(is_distinct(positions.collect()), "a position is used twice");
        for Alias { entity, id, .. } in &self.aliases {
            let is_row = match entity {
                Entity::Event => self.events.iter().any(|row| row.meta.id == *id),
                Entity::EventType => self.types.iter().any(|row| row.meta.id == *id),
            };
            assert!(is_row, "an alias has no row");
        }
    }
}

fn is_distinct<T: Ord>(mut all: Vec<T>) -> bool {
    all.sort();
    all.windows(2).all(|pair| pair[0] != pair[1])
}
