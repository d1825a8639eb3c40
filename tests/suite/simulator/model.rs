//! The oracle: it applies writes to a simple model, as the contract defines them, and returns the expected
//! results as JSON. It must not use `domain::apply`, which it checks, and knows nothing of devices and the
//! network.

mod edits;

use std::collections::{BTreeMap, BTreeSet};

use domain::instant;
use serde_json::{Value, json};

use super::reading;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntityKind {
    Event,
    Type,
}

/// An entity as it should be stored. A tombstone has no content.
#[derive(Debug, Clone)]
pub struct Row {
    pub kind: EntityKind,
    pub version: i64,
    pub content: Option<Value>,
    pub writer: Option<String>,
    /// `sourceType` and `externalId`, which never change.
    key: (Value, Value),
    run_start: i64,
    edit_id: Option<String>,
    created_at: i64,
    updated_at: i64,
}

/// Everything that should be stored of one user.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub rows: BTreeMap<String, Row>,
    pub aliases: BTreeMap<String, String>,
    pub head: i64,
}

/// The state of one call while its items are applied.
pub struct Call<'a> {
    now_ms: i64,
    client: Option<&'a str>,
    /// `retryable` and `retryAfterMs` of each rejected id.
    rejected: BTreeMap<String, (Value, Value)>,
    changed: BTreeSet<String>,
    /// The rows to which an item of the call was applied, with the edit ids of those items.
    applied: BTreeMap<String, Vec<String>>,
}

impl Call<'_> {
    fn apply(&mut self, id: &str, edit_id: Option<String>) {
        self.applied.entry(id.to_owned()).or_default().extend(edit_id);
    }
}

/// The expected result of one item.
pub struct ExpectedResult {
    outcome: &'static str,
    matched_by: Option<&'static str>,
    differs: bool,
    row: Option<String>,
    problem: Value,
}

/// Returns a result without a problem, which was matched by id.
fn expected(outcome: &'static str, row: &str) -> ExpectedResult {
    ExpectedResult {
        outcome,
        matched_by: Some("ID"),
        differs: false,
        row: Some(row.to_owned()),
        problem: Value::Null,
    }
}

fn rejected(code: &str, errors: &[(String, &str)], retry: (Value, Value)) -> ExpectedResult {
    let errors: Vec<_> =
        errors.iter().map(|(pointer, code)| json!({ "pointer": pointer, "code": code })).collect();
    let problem = json!({ "code": code, "retryable": retry.0, "retryAfterMs": retry.1, "errors": errors });
    ExpectedResult { outcome: "REJECTED", matched_by: None, differs: false, row: None, problem }
}

/// Returns a rejection that is not retryable. Its code is that of the error, or VALIDATION_FAILED for several
/// errors.
fn invalid(errors: &[(String, &str)]) -> ExpectedResult {
    let code = if let [(_, code)] = errors { code } else { "VALIDATION_FAILED" };
    rejected(code, errors, (json!(false), Value::Null))
}

fn one_error(pointer: &str, code: &'static str) -> Vec<(String, &'static str)> {
    vec![(pointer.to_owned(), code)]
}

/// Returns a field as a string, if it is one.
pub fn text(value: &Value, field: &str) -> Option<String> {
    value[field].as_str().map(str::to_owned)
}

impl Model {
    /// Applies the items of a call in order. Returns the expected results. The head advances by one for each
    /// row that changed.
    pub fn apply(&mut self, now_ms: i64, client: Option<&str>, items: &[Value]) -> Vec<Value> {
        let (rejected, applied) = (BTreeMap::new(), BTreeMap::new());
        let mut call = Call { now_ms, client, rejected, changed: BTreeSet::new(), applied };
        let mut results = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let (name, body) = reading::parts(item);
            let expected = self.item(&mut call, name, body);
            let id = reading::target(item);
            if expected.outcome == "REJECTED" {
                let retry = (expected.problem["retryable"].clone(), expected.problem["retryAfterMs"].clone());
                // The first retryable rejection of an id stays, whatever is rejected after it.
                if call.rejected.get(&id).is_none_or(|known| known.0 == false) {
                    call.rejected.insert(id.clone(), retry);
                }
            }
            results.push(self.result(index, &id, reading::kind(name), expected));
        }
        self.head += i64::try_from(call.changed.len()).unwrap();
        results
    }

    fn item(&mut self, call: &mut Call<'_>, name: &str, body: &Value) -> ExpectedResult {
        let errors = reading::validate(name, body);
        if !errors.is_empty() {
            return invalid(&errors);
        }
        match name {
            "createEvent" => self.create_event(call, body),
            "createEventType" => self.create_type(call, body),
            "updateEvent" => self.update(call, EntityKind::Event, body),
            "updateEventType" => self.update(call, EntityKind::Type, body),
            "deleteEvent" => self.delete(call, EntityKind::Event, body),
            "deleteEventType" => self.delete(call, EntityKind::Type, body),
            _ => self.restore(call, body),
        }
    }

    /// Returns a result as the response has it.
    fn result(&self, index: usize, sent_id: &str, kind: EntityKind, expected: ExpectedResult) -> Value {
        let row = expected.row.as_ref().map(|id| (id, &self.rows[id]));
        let living = row.filter(|(_, row)| row.content.is_some());
        let mut entity = living.map_or(Value::Null, |(id, _)| self.to_json(id));
        if kind == EntityKind::Event && !entity.is_null() {
            let type_id = text(&entity, "eventTypeId").unwrap();
            let content = self.rows[&type_id].content.as_ref().unwrap();
            entity["eventType"] = json!({ "id": type_id, "name": content["name"] });
        }
        let (typename, field) = if kind == EntityKind::Event {
            ("EventResult", "event")
        } else {
            ("EventTypeResult", "eventType")
        };
        json!({
            "__typename": typename, "index": index, "sentId": sent_id, "outcome": expected.outcome,
            "matchedBy": expected.matched_by, "differs": expected.differs, "version": row.map(|(_, row)| row.version),
            "problem": expected.problem, field: entity,
        })
    }

    /// Returns a living row as responses have it.
    pub fn to_json(&self, id: &str) -> Value {
        let row = &self.rows[id];
        let mut entity = row.content.clone().unwrap();
        entity["id"] = json!(id);
        entity["version"] = json!(row.version);
        entity["createdAt"] = json!(instant::format(row.created_at));
        entity["updatedAt"] = json!(instant::format(row.updated_at));
        if row.kind == EntityKind::Event {
            (entity["sourceType"], entity["externalId"]) = row.key.clone();
        }
        entity
    }

    /// Returns the id of the row that an id or an alias leads to.
    pub fn canonical(&self, id: &str) -> Option<&str> {
        match self.rows.get_key_value(id) {
            Some((id, _)) => Some(id),
            None => self.aliases.get(id).map(String::as_str),
        }
    }

    fn find(&self, kind: EntityKind, id: &str) -> Option<String> {
        self.canonical(id).filter(|id| self.rows[*id].kind == kind).map(str::to_owned)
    }

    fn is_alive(&self, kind: EntityKind, id: &str) -> bool {
        self.find(kind, id).is_some_and(|id| self.rows[&id].content.is_some())
    }

    /// Returns the content of an input, with the canonical id of its type if the type is known.
    fn content_of(&self, input: &Value) -> Value {
        let mut content = reading::content(input);
        let sent = text(input, "eventTypeId").unwrap();
        content["eventTypeId"] = json!(self.find(EntityKind::Type, &sent).unwrap_or(sent));
        content
    }

    /// Returns a rejection if the type of an event is rejected in this call, unknown, or deleted.
    fn missing_type(&self, call: &Call<'_>, type_id: &str, pointer: &str) -> Option<ExpectedResult> {
        if self.find(EntityKind::Type, type_id).is_none()
            && let Some(retry) = call.rejected.get(type_id)
        {
            return Some(rejected(
                "DEPENDENCY_REJECTED",
                &one_error(pointer, "DEPENDENCY_REJECTED"),
                retry.clone(),
            ));
        }
        (!self.is_alive(EntityKind::Type, type_id))
            .then(|| invalid(&one_error(pointer, "EVENT_TYPE_NOT_FOUND")))
    }

    fn create_event(&mut self, call: &mut Call<'_>, input: &Value) -> ExpectedResult {
        let id = text(input, "id").unwrap();
        let key = (reading::source_type(input), input["externalId"].clone());
        if let Some(found) = self.find(EntityKind::Event, &id) {
            return self.matched_event(&found, "ID", input);
        }
        if self.canonical(&id).is_some() {
            return invalid(&one_error("/id", "ID_IN_USE"));
        }
        let has_key = |row: &Row| !key.1.is_null() && row.kind == EntityKind::Event && row.key == key;
        if let Some((found, _)) = self.rows.iter().find(|(_, row)| has_key(row)) {
            let found = found.clone();
            self.aliases.insert(id, found.clone());
            return self.matched_event(&found, "EXTERNAL_ID", input);
        }
        let type_id = text(input, "eventTypeId").unwrap();
        let missing = self.missing_type(call, &type_id, "/eventTypeId");
        let future = reading::in_future(&id, call.now_ms);
        match (missing, future) {
            (Some(expected), _) if expected.problem["code"] == "DEPENDENCY_REJECTED" => expected,
            (Some(_), Some(_)) => {
                let mut errors = one_error("/id", "ID_IN_FUTURE");
                errors.extend(one_error("/eventTypeId", "EVENT_TYPE_NOT_FOUND"));
                invalid(&errors)
            }
            (Some(expected), None) => expected,
            (None, Some(retry)) => rejected("ID_IN_FUTURE", &one_error("/id", "ID_IN_FUTURE"), retry),
            (None, None) => {
                let content = self.content_of(input);
                self.create(call, &id, EntityKind::Event, content, key)
            }
        }
    }

    /// Returns the result of a create that matches a stored event by this key.
    fn matched_event(&self, found: &str, key: &'static str, input: &Value) -> ExpectedResult {
        let row = &self.rows[found];
        let Some(content) = &row.content else {
            return ExpectedResult { matched_by: Some(key), ..expected("DELETED", found) };
        };
        let same_key = row.key == (reading::source_type(input), input["externalId"].clone());
        let differs = !same_key || self.content_of(input) != *content;
        ExpectedResult { matched_by: Some(key), differs, ..expected("DUPLICATE", found) }
    }

    fn create_type(&mut self, call: &mut Call<'_>, input: &Value) -> ExpectedResult {
        let id = text(input, "id").unwrap();
        let content = json!({ "name": input["name"], "color": input["color"], "icon": input["icon"] });
        let by_id = self.find(EntityKind::Type, &id);
        if by_id.is_none() && self.canonical(&id).is_some() {
            return invalid(&one_error("/id", "ID_IN_USE"));
        }
        let by_name = by_id.is_none().then(|| self.type_with_name(&input["name"])).flatten();
        if let Some(name_owner) = &by_name {
            self.aliases.insert(id.clone(), name_owner.clone());
        }
        let matched_by = Some(if by_id.is_some() { "ID" } else { "NAME" });
        match by_id.or(by_name) {
            Some(found) => match &self.rows[&found].content {
                None => ExpectedResult { matched_by, ..expected("DELETED", &found) },
                Some(old) => {
                    ExpectedResult { matched_by, differs: *old != content, ..expected("DUPLICATE", &found) }
                }
            },
            None => match reading::in_future(&id, call.now_ms) {
                Some(retry) => rejected("ID_IN_FUTURE", &one_error("/id", "ID_IN_FUTURE"), retry),
                None => self.create(call, &id, EntityKind::Type, content, (Value::Null, Value::Null)),
            },
        }
    }

    /// Returns the id of the living type with this name.
    fn type_with_name(&self, name: &Value) -> Option<String> {
        let has_name = |row: &Row| {
            row.kind == EntityKind::Type && row.content.as_ref().is_some_and(|c| c["name"] == *name)
        };
        self.rows.iter().find(|(_, row)| has_name(row)).map(|(id, _)| id.clone())
    }

    fn create(
        &mut self,
        call: &mut Call<'_>,
        id: &str,
        kind: EntityKind,
        content: Value,
        key: (Value, Value),
    ) -> ExpectedResult {
        let row = Row {
            kind,
            version: 1,
            content: Some(content),
            writer: call.client.map(str::to_owned),
            key,
            run_start: 1,
            edit_id: None,
            created_at: call.now_ms,
            updated_at: call.now_ms,
        };
        self.rows.insert(id.to_owned(), row);
        call.changed.insert(id.to_owned());
        call.apply(id, None);
        ExpectedResult { matched_by: None, ..expected("CREATED", id) }
    }
}
