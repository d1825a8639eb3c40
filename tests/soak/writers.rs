//! Devices that write. They create events alone and in batches, send them again, edit and delete them, and
//! create events whose ids another device uses too. Each write is repeated until it is acknowledged, so that
//! the expected content of the table is known.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::Api;

/// An event as it must be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// `None` if the event is deleted.
    pub notes: Option<String>,
    pub version: i64,
}

/// The events of a device as they must be stored.
#[derive(Debug, Default)]
pub struct Model {
    pub user: usize,
    /// The events that only this device writes, by their ids.
    pub own: BTreeMap<String, Known>,
    /// The notes that responses had for the events that two devices create, by their ids.
    pub contested: BTreeMap<String, String>,
}

const RESULT: &str = "results { index outcome differs version problem { code } \
    ... on EventResult { event { id notes version } } }";

/// The number of ids that both devices of a user create, at about the same time.
const CONTESTED: usize = 400;

/// Returns an id that all devices of all users create.
fn shared_id(number: usize) -> String {
    format!("019b7000-{:04x}-7000-8000-{:012x}", number >> 16, number & 0xffff)
}

pub fn type_id() -> String {
    "019b7000-0000-7000-9000-000000000001".to_owned()
}

struct Writer {
    api: Api,
    model: Model,
    /// The ids of its own events that are not deleted.
    living: Vec<String>,
    count: usize,
}

/// Writes until writing is over. Returns what must be stored.
pub async fn run(api: Api) -> Model {
    let model = Model { user: api.user, ..Model::default() };
    let mut writer = Writer { api, model, living: Vec::new(), count: 0 };
    writer.write().await;
    writer.model
}

impl Writer {
    /// Writes at random. Like all methods below, it returns `None` if the test has to stop, because there is
    /// a finding.
    async fn write(&mut self) -> Option<()> {
        let make = "mutation($id: ID!) { createEventType(input: { eventType: { id: $id, name: \"run\" } }) \
            { result { outcome } } }";
        self.api.ask_until_answered(make, &json!({ "id": type_id() })).await?;
        while !self.api.log.is_writing_over() {
            match self.api.rng.below(100) {
                0..30 => self.create(1).await?,
                30..45 => {
                    let count = 2 + self.api.rng.below(18);
                    self.create(count).await?;
                }
                45..55 => self.send_again(false).await?,
                55..60 => self.send_again(true).await?,
                60..75 => self.edit(true).await?,
                75..80 => self.edit(false).await?,
                80..92 => self.outbox().await?,
                92..96 => self.contest().await?,
                _ => self.read_shared().await?,
            }
        }
        Some(())
    }

    fn event(&mut self) -> Value {
        self.count += 1;
        let notes = format!("{} device {} number {}", self.api.canary(), self.api.device, self.count);
        let second = self.api.rng.below(60);
        json!({
            "id": self.api.new_id(), "eventTypeId": type_id(), "notes": notes,
            "timestamp": format!("2026-01-02T03:04:{second:02}Z"),
        })
    }

    /// Sends mutations until they are acknowledged. Returns their results.
    async fn send(&mut self, mutations: &[Value]) -> Option<Vec<Value>> {
        let query = format!(
            "mutation($c: ID!, $m: [MutationInput!]!) {{ applyMutations(input: {{ clientId: $c, mutations: $m }}) \
             {{ {RESULT} }} }}"
        );
        let variables = json!({ "c": self.api.client_id(), "m": mutations });
        let data = self.api.ask_until_answered(&query, &variables).await?;
        Some(data["applyMutations"]["results"].as_array()?.clone())
    }

    /// Counts a result. It is a finding if its outcome is not allowed.
    fn acknowledge(&mut self, result: &Value, allowed: &[&str]) {
        let outcome = result["outcome"].as_str().unwrap_or_default();
        if allowed.contains(&outcome) {
            self.api.log.acknowledged(outcome);
        } else {
            self.api.log.wrong(format!("{allowed:?} was expected: {result}"));
        }
    }

    async fn create(&mut self, count: usize) -> Option<()> {
        let events: Vec<Value> = (0..count).map(|_| self.event()).collect();
        let results = if count == 1 {
            let query = "mutation($e: EventInput!) { createEvent(input: { event: $e }) { result { outcome differs \
                version problem { code } event { id notes version } } } }";
            vec![self.api.ask_until_answered(query, &json!({ "e": events[0] })).await?["createEvent"]["result"].take()]
        } else {
            let query = format!(
                "mutation($e: [EventInput!]!) {{ createEvents(input: {{ events: $e }}) {{ {} }} }}",
                "results { outcome differs version problem { code } event { id notes version } }"
            );
            let data = self.api.ask_until_answered(&query, &json!({ "e": events })).await?;
            data["createEvents"]["results"].as_array()?.clone()
        };
        for (event, result) in events.iter().zip(&results) {
            // An earlier attempt may have been stored.
            self.acknowledge(result, &["CREATED", "DUPLICATE"]);
            if result["differs"] == true || result["event"]["notes"] != event["notes"] {
                self.api.log.wrong(format!("another event was stored: {event} {result}"));
            }
            self.expect_stored(event, 1);
        }
        Some(())
    }

    /// Records that an event must be stored with this version.
    fn expect_stored(&mut self, event: &Value, version: i64) {
        let (id, notes) = (event["id"].as_str().unwrap(), event["notes"].as_str().unwrap());
        let known = Known { notes: Some(notes.to_owned()), version };
        if self.model.own.insert(id.to_owned(), known).is_none() {
            self.living.push(id.to_owned());
        }
    }

    fn any_living(&mut self) -> Option<String> {
        let index = self.api.rng.below(self.living.len());
        self.living.get(index).cloned()
    }

    /// Sends a stored event again, with the same content or another. Nothing may change.
    async fn send_again(&mut self, with_other_content: bool) -> Option<()> {
        let Some(id) = self.any_living() else { return Some(()) };
        let known = self.model.own[&id].clone();
        let mut event = self.event();
        event["id"] = id.clone().into();
        if !with_other_content {
            event["notes"] = known.notes.clone().into();
        }
        let results = self.send(&[json!({ "createEvent": event })]).await?;
        self.acknowledge(&results[0], &["DUPLICATE"]);
        let stored = &results[0]["event"];
        if stored["notes"] != json!(known.notes) || stored["version"] != known.version {
            self.api.log.wrong(format!("a duplicate changed what was stored: {known:?} {}", results[0]));
        }
        Some(())
    }

    /// Updates or deletes an event.
    async fn edit(&mut self, is_update: bool) -> Option<()> {
        let Some(id) = self.any_living() else { return Some(()) };
        let known = self.model.own[&id].clone();
        let guards = json!({ "id": id, "expectedVersion": known.version, "editId": self.api.new_id() });
        if is_update {
            self.count += 1;
            let notes = format!("{} edited {}", self.api.canary(), self.count);
            let mut edit = guards;
            edit["patch"] = json!({ "notes": notes });
            let results = self.send(&[json!({ "updateEvent": edit })]).await?;
            self.acknowledge(&results[0], &["UPDATED", "UNCHANGED"]);
            self.model.own.insert(id, Known { notes: Some(notes), version: known.version + 1 });
        } else {
            let results = self.send(&[json!({ "deleteEvent": guards })]).await?;
            self.acknowledge(&results[0], &["DELETED", "UNCHANGED"]);
            self.living.retain(|other| *other != id);
            self.model.own.insert(id, Known { notes: None, version: known.version + 1 });
        }
        Some(())
    }

    /// Creates three events and edits one of them, in one call.
    async fn outbox(&mut self) -> Option<()> {
        let events: Vec<Value> = (0..3).map(|_| self.event()).collect();
        let notes = format!("{} edited at once", self.api.canary());
        let edit = json!({ "id": events[1]["id"], "expectedVersion": 1, "editId": self.api.new_id(),
            "patch": { "notes": notes } });
        let mut mutations: Vec<Value> = events.iter().map(|event| json!({ "createEvent": event })).collect();
        mutations.push(json!({ "updateEvent": edit }));
        let results = self.send(&mutations).await?;
        for (event, result) in events.iter().zip(&results) {
            self.acknowledge(result, &["CREATED", "DUPLICATE"]);
            self.expect_stored(event, 1);
        }
        self.acknowledge(&results[3], &["UPDATED", "UNCHANGED"]);
        let id = events[1]["id"].as_str().unwrap().to_owned();
        // A create and an edit in one call are one write of the row. The version is taken from the response,
        // because an earlier attempt may have been stored.
        let version = results[3]["version"].as_i64()?;
        self.model.own.insert(id, Known { notes: Some(notes), version });
        Some(())
    }

    /// Creates an event whose id the other device of the user may create too, with other content. The first
    /// one is stored, and both devices must get it in their responses.
    async fn contest(&mut self) -> Option<()> {
        let id = shared_id(1 + self.api.rng.below(CONTESTED));
        let mut event = self.event();
        event["id"] = id.clone().into();
        let results = self.send(&[json!({ "createEvent": event })]).await?;
        self.acknowledge(&results[0], &["CREATED", "DUPLICATE"]);
        let notes = results[0]["event"]["notes"].as_str()?.to_owned();
        if let Some(before) = self.model.contested.insert(id.clone(), notes.clone())
            && before != notes
        {
            self.api.log.wrong(format!("{id} was {before:?} and is {notes:?}"));
        }
        Some(())
    }

    /// Reads an event by an id that other users have too. The response must not have an event of another
    /// user.
    async fn read_shared(&mut self) -> Option<()> {
        let id = shared_id(1 + self.api.rng.below(CONTESTED));
        let data = self.api.ask("query($id: ID!) { event(id: $id) { notes } }", &json!({ "id": id })).await;
        let Some(notes) = data.and_then(|data| data["event"]["notes"].as_str().map(str::to_owned)) else {
            return Some(());
        };
        if !notes.starts_with(&self.api.canary()) {
            self.api.log.wrong(format!("user {} received {notes:?}", self.api.user));
        }
        Some(())
    }
}
