//! The contract's "Writes" as plainly as it can be said: lists, linear search, no index, nothing shared
//! with `apply`.

use domain::apply::{Alias, Entity, MatchKey, Outcome, WriteContext};
use domain::content_hash::{TypeKey, of_event, of_type};
use domain::draft::{IdOrigin, NewEvent, NewType, TypeRef};
use domain::problem::Code;
use domain::row::{DeletedBy, EventBody, EventContent, EventRow, RowMeta, TypeContent, TypeRow, Writer};
use uuid::Uuid;

mod edit;

/// An answer, flat.
#[derive(Debug, PartialEq)]
pub struct Said<Row> {
    pub outcome: Outcome,
    pub matched_by: Option<MatchKey>,
    pub differs: bool,
    pub row: Option<Row>,
    pub code: Option<Code>,
    pub errors: Vec<(String, Code)>,
    pub retry_after_ms: Option<i64>,
    pub retryable: bool,
}

/// All that one user has.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    pub events: Vec<EventRow>,
    pub types: Vec<TypeRow>,
    pub aliases: Vec<Alias>,
    pub imports: Vec<Uuid>,
    pub head: i64,
    /// The head before the call.
    pub before: i64,
    /// Ids of items that were rejected in the call: may they be sent again, and after how long.
    pub rejected: Vec<(Uuid, bool, Option<i64>)>,
    /// Rows with an edit that is to be kept although it changed nothing.
    pub recorded_edit_ids: Vec<(Entity, Uuid)>,
    /// What was applied to rows in the call: edits with their ids, and other items.
    pub applied: Vec<(Entity, Uuid, Option<Uuid>)>,
    /// Events that a rollback took back and that a person deleted since.
    pub finalized_deletions: Vec<Uuid>,
    /// What the outcome of an item does not show.
    pub seen: Vec<&'static str>,
}

pub fn event_row(
    meta: RowMeta,
    key: (&str, Option<&str>),
    event_type_id: Uuid,
    body: &EventBody,
    import_job_id: Option<Uuid>,
) -> EventRow {
    let hash = of_event(TypeKey::Id(event_type_id), key.0, key.1, body);
    let import_version = import_job_id.map(|_| meta.version);
    let content = EventContent { event_type_id, body: body.clone(), hash, import_job_id, import_version };
    let (source_type, external_id) = (key.0.to_owned(), key.1.map(str::to_owned));
    EventRow { meta, source_type, external_id, content: Some(content) }
}

pub fn type_row(meta: RowMeta, name: &str, color: Option<&str>, icon: Option<&str>) -> TypeRow {
    let hash = of_type(name, color, icon);
    let (color, icon) = (color.map(str::to_owned), icon.map(str::to_owned));
    TypeRow { meta, content: Some(TypeContent { name: name.to_owned(), color, icon, hash }) }
}

fn found<Row>(outcome: Outcome, matched_by: Option<MatchKey>, differs: bool, row: Row) -> Said<Row> {
    Said {
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

fn refused<Row>(context: &WriteContext<'_>, id: Uuid, errors: &[(&str, Code)]) -> Said<Row> {
    let code = if errors.len() == 1 { errors[0].1 } else { Code::ValidationFailed };
    let ahead_ms = time_of(id) - context.now_ms;
    let retryable = code == Code::IdInFuture && ahead_ms <= 24 * 60 * 60 * 1000;
    Said {
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

/// The first twelve digits are the milliseconds.
fn time_of(id: Uuid) -> i64 {
    i64::from_str_radix(&id.simple().to_string()[..12], 16).expect("digits")
}

/// `xxxxxxxx-xxxx-7xxx-[89ab]xxx-…`, and its time, where an id that we did not make has a bound.
fn fault_of(context: &WriteContext<'_>, id: Uuid) -> Option<(&'static str, Code)> {
    let text = id.to_string();
    if &text[14..15] != "7" || !"89ab".contains(&text[19..20]) {
        return Some(("/id", Code::NotUuidV7));
    }
    let bounded = context.import_job_id.is_none();
    (bounded && time_of(id) > context.now_ms + 60_000).then_some(("/id", Code::IdInFuture))
}

impl Oracle {
    /// The answer to what needs an item that was rejected earlier in the call. It is worth sending again
    /// if any of the rejections of that id is.
    fn needs_rejected<Row>(&self, id: Uuid, pointer: &str) -> Option<Said<Row>> {
        let of_id = || self.rejected.iter().filter(|rejected| rejected.0 == id);
        let needed = of_id().find(|rejected| rejected.1).or(of_id().next_back())?;
        Some(Said {
            outcome: Outcome::Rejected,
            matched_by: None,
            differs: false,
            row: None,
            code: Some(Code::DependencyRejected),
            errors: vec![(pointer.to_owned(), Code::DependencyRejected)],
            retryable: needed.1,
            retry_after_ms: needed.2,
        })
    }

    /// The answer to an event whose type was rejected earlier in the call and is not there.
    fn type_is_rejected(&self, new: &NewEvent, pointer: &str) -> Option<Said<EventRow>> {
        match new.type_ref {
            TypeRef::Id(id) if self.type_at(id).is_none() => self.needs_rejected(id, pointer),
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

    /// What the id is, once it was taken for an alias, should it be one.
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

    fn type_named(&self, wanted: &str) -> Option<usize> {
        self.types.iter().position(|row| row.content.as_ref().is_some_and(|content| content.name == wanted))
    }

    /// The living type that an event means, if there is one.
    fn type_meant(&self, new: &NewEvent) -> Option<Uuid> {
        let at = match &new.type_ref {
            TypeRef::Id(id) => self.type_at(*id),
            TypeRef::Name { name, .. } => self.type_named(name),
        }?;
        self.types[at].content.is_some().then(|| self.types[at].meta.id)
    }

    fn type_meant_or_made(&mut self, context: &WriteContext<'_>, new: &NewEvent) -> Option<Uuid> {
        if let (None, TypeRef::Name { name, fresh_id }) = (self.type_meant(new), &new.type_ref) {
            let meta = self.meta(context, *fresh_id, 1);
            self.types.push(type_row(meta, name, None, None));
            self.applied.push((Entity::EventType, *fresh_id, None));
        }
        self.type_meant(new)
    }

    fn lacks_type(&self, new: &NewEvent) -> bool {
        matches!(new.type_ref, TypeRef::Id(_)) && self.type_meant(new).is_none()
    }

    pub fn create_event(&mut self, context: &WriteContext<'_>, new: &NewEvent) -> Said<EventRow> {
        let key = (new.source_type.as_str(), new.external_id.as_deref());
        let no_type = ("/eventTypeId", Code::EventTypeNotFound);
        let by_id = self.event_at(new.id);
        if by_id.is_none() && (self.type_at(new.id).is_some() || self.imports.contains(&new.id)) {
            return refused(context, new.id, &[("/id", Code::IdInUse)]);
        }
        let has_key = |row: &EventRow| {
            row.external_id.is_some() && (row.source_type.as_str(), row.external_id.as_deref()) == key
        };
        let by_key = self.events.iter().position(has_key);
        let Some(at) = by_id.or(by_key) else {
            if let Some(said) = self.type_is_rejected(new, "/eventTypeId") {
                return said;
            }
            let mut faults: Vec<_> = fault_of(context, new.id).into_iter().collect();
            faults.extend(self.lacks_type(new).then_some(no_type));
            if !faults.is_empty() {
                return refused(context, new.id, &faults);
            }
            let type_id = self.type_meant_or_made(context, new).expect("there is one now");
            let meta = self.meta(context, new.id, 1);
            let row = event_row(meta, key, type_id, &new.body, context.import_job_id);
            self.events.push(row.clone());
            self.applied.push((Entity::Event, new.id, None));
            return found(Outcome::Created, None, false, row);
        };
        let matched_by = Some(if by_id.is_some() { MatchKey::Id } else { MatchKey::ExternalId });
        let stored = self.events[at].clone();
        let deleted_by = stored.meta.deletion.map(|deletion| deletion.by);
        if deleted_by == Some(DeletedBy::Rollback) && self.lacks_type(new) {
            if let Some(said) = self.type_is_rejected(new, "/eventTypeId") {
                return said;
            }
            return refused(context, new.id, &[no_type]);
        }
        if by_id.is_none() && new.origin == IdOrigin::Sent {
            self.aliases.push(Alias { entity: Entity::Event, alias_id: new.id, id: stored.meta.id });
        }
        match deleted_by {
            None => {
                let content = stored.content.as_ref().expect("a living event has content");
                let same = self.type_meant(new) == Some(content.event_type_id)
                    && (stored.source_type.as_str(), stored.external_id.as_deref()) == key
                    && content.body == new.body;
                found(Outcome::Duplicate, matched_by, !same, stored)
            }
            Some(DeletedBy::User) => found(Outcome::Deleted, matched_by, false, stored),
            Some(DeletedBy::Rollback) => {
                // Source and external id never change, so those of the row stay.
                let key = (stored.source_type.as_str(), stored.external_id.as_deref());
                let type_id = self.type_meant_or_made(context, new).expect("there is one now");
                let meta = self.meta(context, stored.meta.id, stored.meta.version + 1);
                let row = event_row(meta, key, type_id, &new.body, context.import_job_id);
                self.events[at] = row.clone();
                self.applied.push((Entity::Event, row.meta.id, None));
                found(Outcome::Created, matched_by, false, row)
            }
        }
    }

    pub fn create_type(&mut self, context: &WriteContext<'_>, new: &NewType) -> Said<TypeRow> {
        let by_id = self.type_at(new.id);
        if by_id.is_none() && (self.event_at(new.id).is_some() || self.imports.contains(&new.id)) {
            return refused(context, new.id, &[("/id", Code::IdInUse)]);
        }
        let Some(at) = by_id.or(self.type_named(&new.name)) else {
            if let Some(fault) = fault_of(context, new.id) {
                return refused(context, new.id, &[fault]);
            }
            let meta = self.meta(context, new.id, 1);
            self.types.push(type_row(meta, &new.name, new.color.as_deref(), new.icon.as_deref()));
            self.applied.push((Entity::EventType, new.id, None));
            return found(Outcome::Created, None, false, self.types[self.types.len() - 1].clone());
        };
        let row = self.types[at].clone();
        if by_id.is_none() && new.origin == IdOrigin::Sent {
            self.aliases.push(Alias { entity: Entity::EventType, alias_id: new.id, id: row.meta.id });
        }
        let matched_by = Some(if by_id.is_some() { MatchKey::Id } else { MatchKey::Name });
        match &row.content {
            None => found(Outcome::Deleted, matched_by, false, row),
            Some(content) => {
                let differs =
                    (&content.name, &content.color, &content.icon) != (&new.name, &new.color, &new.icon);
                found(Outcome::Duplicate, matched_by, differs, row)
            }
        }
    }

    /// What must hold of any state, however it came about.
    pub fn check(&self) {
        let mut ids: Vec<Uuid> = self.imports.clone();
        ids.extend(self.events.iter().map(|row| row.meta.id));
        ids.extend(self.types.iter().map(|row| row.meta.id));
        ids.extend(self.aliases.iter().map(|alias| alias.alias_id));
        assert!(is_distinct(ids), "an id is two things");
        let keys = self.events.iter().filter_map(|row| Some((&row.source_type, row.external_id.as_ref()?)));
        assert!(is_distinct(keys.collect()), "an external key twice");
        let names = self.types.iter().filter_map(|row| row.content.as_ref().map(|content| &content.name));
        assert!(is_distinct(names.collect()), "a name twice");
        let events = self.events.iter().map(|row| row.meta.change_seq);
        let positions = events.chain(self.types.iter().map(|row| row.meta.change_seq));
        assert!(is_distinct(positions.collect()), "a position twice");
        for Alias { entity, id, .. } in &self.aliases {
            let is_row = match entity {
                Entity::Event => self.events.iter().any(|row| row.meta.id == *id),
                Entity::EventType => self.types.iter().any(|row| row.meta.id == *id),
            };
            assert!(is_row, "an alias of no row");
        }
    }
}

fn is_distinct<T: Ord>(mut all: Vec<T>) -> bool {
    all.sort();
    all.windows(2).all(|pair| pair[0] != pair[1])
}
