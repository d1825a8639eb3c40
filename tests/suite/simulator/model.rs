//! The oracle: what the contract says of writes, as plainly as it can be said over the JSON that travels.
//! It knows nothing of `domain::apply`, of devices and of the network.

mod edits;

use std::collections::{BTreeMap, BTreeSet};

use domain::instant;
use serde_json::{Value, json};

use super::reading;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Event,
    Type,
}

/// An entity as it should be stored: living, or a tombstone without content.
#[derive(Debug, Clone)]
pub struct Row {
    pub kind: Kind,
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

/// All that one user should have.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub rows: BTreeMap<String, Row>,
    pub aliases: BTreeMap<String, String>,
    pub head: i64,
}

/// One call as it is executed: who, when, and what happened in it so far.
pub struct Call<'a> {
    now_ms: i64,
    client: Option<&'a str>,
    /// Whether what was rejected may work later, and when.
    rejected: BTreeMap<String, (Value, Value)>,
    changed: BTreeSet<String>,
    /// Rows to which an item of the call was applied, and the edits among those items.
    applied: BTreeMap<String, Vec<String>>,
}

impl Call<'_> {
    fn apply(&mut self, id: &str, edit_id: Option<String>) {
        self.applied.entry(id.to_owned()).or_default().extend(edit_id);
    }
}

/// What is to be answered to one item.
pub struct Said {
    outcome: &'static str,
    matched_by: Option<&'static str>,
    differs: bool,
    row: Option<String>,
    problem: Value,
}

fn said(outcome: &'static str, row: &str) -> Said {
    Said { outcome, matched_by: Some("ID"), differs: false, row: Some(row.to_owned()), problem: Value::Null }
}

fn rejected(code: &str, errors: &[(String, &str)], retry: (Value, Value)) -> Said {
    let errors: Vec<_> = errors.iter().map(|(at, code)| json!({ "pointer": at, "code": code })).collect();
    let problem = json!({ "code": code, "retryable": retry.0, "retryAfterMs": retry.1, "errors": errors });
    Said { outcome: "REJECTED", matched_by: None, differs: false, row: None, problem }
}

/// One wrong field has its own code, several have a common one.
fn refused(errors: &[(String, &str)]) -> Said {
    let code = if let [(_, code)] = errors { code } else { "VALIDATION_FAILED" };
    rejected(code, errors, (json!(false), Value::Null))
}

fn one(pointer: &str, code: &'static str) -> Vec<(String, &'static str)> {
    vec![(pointer.to_owned(), code)]
}

pub fn text(value: &Value, field: &str) -> Option<String> {
    value[field].as_str().map(str::to_owned)
}

impl Model {
    /// Applies the items of a call in order; the answers that are due, and the head moves by one for each
    /// row that changed.
    pub fn apply(&mut self, now_ms: i64, client: Option<&str>, items: &[Value]) -> Vec<Value> {
        let (rejected, applied) = (BTreeMap::new(), BTreeMap::new());
        let mut call = Call { now_ms, client, rejected, changed: BTreeSet::new(), applied };
        let mut answers = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let (name, body) = reading::parts(item);
            let said = self.item(&mut call, name, body);
            let id = reading::target(item);
            if said.outcome == "REJECTED" {
                let retry = (said.problem["retryable"].clone(), said.problem["retryAfterMs"].clone());
                // One that may be sent again counts, whatever is rejected behind it.
                if call.rejected.get(&id).is_none_or(|known| known.0 == false) {
                    call.rejected.insert(id.clone(), retry);
                }
            }
            answers.push(self.answer(index, &id, reading::kind(name), said));
        }
        self.head += i64::try_from(call.changed.len()).unwrap();
        answers
    }

    fn item(&mut self, call: &mut Call<'_>, name: &str, body: &Value) -> Said {
        let wrong = reading::faults(name, body);
        if !wrong.is_empty() {
            return refused(&wrong);
        }
        match name {
            "createEvent" => self.create_event(call, body),
            "createEventType" => self.create_type(call, body),
            "updateEvent" => self.update(call, Kind::Event, body),
            "updateEventType" => self.update(call, Kind::Type, body),
            "deleteEvent" => self.delete(call, Kind::Event, body),
            "deleteEventType" => self.delete(call, Kind::Type, body),
            _ => self.restore(call, body),
        }
    }

    fn answer(&self, index: usize, sent_id: &str, kind: Kind, said: Said) -> Value {
        let row = said.row.as_ref().map(|id| (id, &self.rows[id]));
        let living = row.filter(|(_, row)| row.content.is_some());
        let mut entity = living.map_or(Value::Null, |(id, _)| self.shown(id));
        if kind == Kind::Event && !entity.is_null() {
            let type_id = text(&entity, "eventTypeId").unwrap();
            let content = self.rows[&type_id].content.as_ref().unwrap();
            entity["eventType"] = json!({ "id": type_id, "name": content["name"] });
        }
        let (typename, field) =
            if kind == Kind::Event { ("EventResult", "event") } else { ("EventTypeResult", "eventType") };
        json!({
            "__typename": typename, "index": index, "sentId": sent_id, "outcome": said.outcome,
            "matchedBy": said.matched_by, "differs": said.differs, "version": row.map(|(_, row)| row.version),
            "problem": said.problem, field: entity,
        })
    }

    /// A living row as clients see it.
    pub fn shown(&self, id: &str) -> Value {
        let row = &self.rows[id];
        let mut shown = row.content.clone().unwrap();
        shown["id"] = json!(id);
        shown["version"] = json!(row.version);
        shown["createdAt"] = json!(instant::format(row.created_at));
        shown["updatedAt"] = json!(instant::format(row.updated_at));
        if row.kind == Kind::Event {
            (shown["sourceType"], shown["externalId"]) = row.key.clone();
        }
        shown
    }

    /// The row that an id or alias stands for.
    pub fn canonical(&self, id: &str) -> Option<&str> {
        match self.rows.get_key_value(id) {
            Some((id, _)) => Some(id),
            None => self.aliases.get(id).map(String::as_str),
        }
    }

    fn find(&self, kind: Kind, id: &str) -> Option<String> {
        self.canonical(id).filter(|id| self.rows[*id].kind == kind).map(str::to_owned)
    }

    fn is_alive(&self, kind: Kind, id: &str) -> bool {
        self.find(kind, id).is_some_and(|id| self.rows[&id].content.is_some())
    }

    /// The content that an input comes to; its type by the canonical id where it is known.
    fn read(&self, input: &Value) -> Value {
        let mut content = reading::content(input);
        let sent = text(input, "eventTypeId").unwrap();
        content["eventTypeId"] = json!(self.find(Kind::Type, &sent).unwrap_or(sent));
        content
    }

    /// The type of a row that would be written must be alive.
    fn misses_type(&self, call: &Call<'_>, type_id: &str, pointer: &str) -> Option<Said> {
        if self.find(Kind::Type, type_id).is_none()
            && let Some(retry) = call.rejected.get(type_id)
        {
            return Some(rejected(
                "DEPENDENCY_REJECTED",
                &one(pointer, "DEPENDENCY_REJECTED"),
                retry.clone(),
            ));
        }
        (!self.is_alive(Kind::Type, type_id)).then(|| refused(&one(pointer, "EVENT_TYPE_NOT_FOUND")))
    }

    fn create_event(&mut self, call: &mut Call<'_>, input: &Value) -> Said {
        let id = text(input, "id").unwrap();
        let key = (reading::source_type(input), input["externalId"].clone());
        if let Some(found) = self.find(Kind::Event, &id) {
            return self.found_event(&found, "ID", input);
        }
        if self.canonical(&id).is_some() {
            return refused(&one("/id", "ID_IN_USE"));
        }
        let keyed = |row: &Row| !key.1.is_null() && row.kind == Kind::Event && row.key == key;
        if let Some((found, _)) = self.rows.iter().find(|(_, row)| keyed(row)) {
            let found = found.clone();
            self.aliases.insert(id, found.clone());
            return self.found_event(&found, "EXTERNAL_ID", input);
        }
        let type_id = text(input, "eventTypeId").unwrap();
        let missing = self.misses_type(call, &type_id, "/eventTypeId");
        let future = reading::in_future(&id, call.now_ms);
        match (missing, future) {
            (Some(said), _) if said.problem["code"] == "DEPENDENCY_REJECTED" => said,
            (Some(_), Some(_)) => {
                let mut errors = one("/id", "ID_IN_FUTURE");
                errors.extend(one("/eventTypeId", "EVENT_TYPE_NOT_FOUND"));
                refused(&errors)
            }
            (Some(said), None) => said,
            (None, Some(retry)) => rejected("ID_IN_FUTURE", &one("/id", "ID_IN_FUTURE"), retry),
            (None, None) => {
                let content = self.read(input);
                self.create(call, &id, Kind::Event, content, key)
            }
        }
    }

    fn found_event(&self, found: &str, key: &'static str, input: &Value) -> Said {
        let row = &self.rows[found];
        let Some(content) = &row.content else {
            return Said { matched_by: Some(key), ..said("DELETED", found) };
        };
        let same_key = row.key == (reading::source_type(input), input["externalId"].clone());
        let differs = !same_key || self.read(input) != *content;
        Said { matched_by: Some(key), differs, ..said("DUPLICATE", found) }
    }

    fn create_type(&mut self, call: &mut Call<'_>, input: &Value) -> Said {
        let id = text(input, "id").unwrap();
        let content = json!({ "name": input["name"], "color": input["color"], "icon": input["icon"] });
        let by_id = self.find(Kind::Type, &id);
        if by_id.is_none() && self.canonical(&id).is_some() {
            return refused(&one("/id", "ID_IN_USE"));
        }
        let by_name = by_id.is_none().then(|| self.named(&input["name"])).flatten();
        if let Some(name_owner) = &by_name {
            self.aliases.insert(id.clone(), name_owner.clone());
        }
        let matched_by = Some(if by_id.is_some() { "ID" } else { "NAME" });
        match by_id.or(by_name) {
            Some(found) => match &self.rows[&found].content {
                None => Said { matched_by, ..said("DELETED", &found) },
                Some(old) => Said { matched_by, differs: *old != content, ..said("DUPLICATE", &found) },
            },
            None => match reading::in_future(&id, call.now_ms) {
                Some(retry) => rejected("ID_IN_FUTURE", &one("/id", "ID_IN_FUTURE"), retry),
                None => self.create(call, &id, Kind::Type, content, (Value::Null, Value::Null)),
            },
        }
    }

    /// The living type of a name.
    fn named(&self, name: &Value) -> Option<String> {
        let has =
            |row: &Row| row.kind == Kind::Type && row.content.as_ref().is_some_and(|c| c["name"] == *name);
        self.rows.iter().find(|(_, row)| has(row)).map(|(id, _)| id.clone())
    }

    fn create(
        &mut self,
        call: &mut Call<'_>,
        id: &str,
        kind: Kind,
        content: Value,
        key: (Value, Value),
    ) -> Said {
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
        Said { matched_by: None, ..said("CREATED", id) }
    }
}
