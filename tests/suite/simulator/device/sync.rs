//! What a device sends, and what it makes of the answers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::dice::Dice;
use super::super::model::{Kind, text};
use super::super::network::{Door, Errand};
use super::super::reading;
use super::{Device, Flight, Item, Look};

fn kind_of(entity: &Value) -> Kind {
    if entity["__typename"] == "EventType" { Kind::Type } else { Kind::Event }
}

impl Device {
    /// The items that may go now, in order: what waits holds back what speaks of the same entity.
    fn sendable(&self, now_ms: i64) -> Vec<&Item> {
        let mut held: BTreeSet<String> = BTreeSet::new();
        let mut ready = Vec::new();
        for item in &self.outbox {
            let depends = held.iter().any(|id| reading::mentions(&item.mutation, id));
            if item.not_before_ms > now_ms || depends {
                held.insert(reading::target(&item.mutation));
            } else {
                ready.push(item);
            }
        }
        ready
    }

    /// Begins a flush of the first items, or of those that were not answered.
    pub fn flush(&mut self, call: u64, now_ms: i64, most: usize, dice: &mut Dice) -> Option<Errand> {
        if self.flight.is_some() || self.cursor.is_none() {
            return None;
        }
        let same: Vec<&Item> =
            self.outbox.iter().filter(|item| self.unanswered.contains(&item.number)).collect();
        let items: Vec<&Item> =
            if same.is_empty() { self.sendable(now_ms).into_iter().take(most).collect() } else { same };
        if items.is_empty() {
            return None;
        }
        let mutations: Vec<Value> = items.iter().map(|item| item.mutation.clone()).collect();
        let numbers = items.iter().map(|item| item.number).collect();
        let only_creates = mutations.iter().all(|mutation| mutation.get("createEvent").is_some());
        let mut ids = BTreeSet::new();
        let distinct = mutations.iter().all(|mutation| ids.insert(reading::target(mutation)));
        let (door, client) = if only_creates && distinct && dice.chance(35) {
            let door = if mutations.len() == 1 { Door::CreateEvent } else { Door::CreateEvents };
            (door, dice.chance(70).then(|| self.client_id.clone()))
        } else {
            (Door::ApplyMutations, Some(self.client_id.clone()))
        };
        self.flight = Some(Flight { call, numbers, pages_stored: self.pages_stored });
        self.unanswered.clear();
        Some(Errand::Flush { door, client, items: mutations })
    }

    /// Goes through the answers to a flush; the words for what happened.
    pub fn flushed(&mut self, results: &[Value], now_ms: i64, dice: &mut Dice) -> Vec<&'static str> {
        let flight = self.flight.take().unwrap();
        let pages_came = flight.pages_stored != self.pages_stored;
        let mut happened = Vec::new();
        for (number, result) in flight.numbers.iter().zip(results) {
            let at = self.outbox.iter().position(|item| item.number == *number).unwrap();
            let item = self.outbox.remove(at);
            let outcome = result["outcome"].as_str().unwrap().to_owned();
            let id = reading::target(&item.mutation);
            if outcome == "CREATED" {
                self.books.created.insert(id.clone());
            }
            if outcome == "REJECTED" && result["problem"]["retryable"] == true {
                let wait_ms = result["problem"]["retryAfterMs"].as_i64().unwrap_or(1_000);
                self.outbox.insert(at, Item { not_before_ms: now_ms + wait_ms, ..item });
                happened.push("a rejected item waits");
                continue;
            }
            if outcome == "REJECTED" {
                self.books.refused.insert(id.clone());
            }
            self.settle(&id, &outcome, result);
            if pages_came {
                self.owed.insert(text(&result[entity_field(result)], "id").unwrap_or(id.clone()));
                happened.push("a page came between a flush and its answer");
            }
            if outcome == "CONFLICT" && item.mutation.get("restoreEvent").is_none() && dice.chance(70) {
                let mut merged = item.clone();
                let (name, _) = reading::parts(&item.mutation);
                merged.mutation[name]["expectedVersion"] = result["version"].clone();
                merged.mutation[name]["id"] = result[entity_field(result)]["id"].clone();
                self.outbox.insert(at, merged);
                happened.push("a conflict is merged and sent again");
                continue;
            }
            *self.books.told.entry(outcome).or_default() += 1;
        }
        happened
    }

    /// What the loop says to do with one answer.
    fn settle(&mut self, id: &str, outcome: &str, result: &Value) {
        let field = entity_field(result);
        let entity = &result[field];
        match outcome {
            "REJECTED" => {
                self.owed.insert(id.to_owned());
            }
            "DELETED" => self.bury(id),
            _ if entity.is_null() => self.bury(id),
            _ => {
                let canonical = text(entity, "id").unwrap();
                if canonical != id {
                    self.rename(id, &canonical);
                }
                if self.is_queued(&canonical) {
                    // What is queued is shown on top; the version is what further edits build on.
                    if let Some(row) = self.rows.get_mut(&canonical) {
                        row.version = entity["version"].as_i64();
                    }
                    return;
                }
                self.take(if field == "event" { Kind::Event } else { Kind::Type }, entity);
            }
        }
    }

    /// Begins a pull, unless what the server may have lost has not been sent again yet.
    pub fn pull(&mut self, call: u64, first: usize) -> Option<Errand> {
        if self.pull.is_some() || self.outbox.iter().any(|item| item.again) {
            return None;
        }
        self.pull = Some(call);
        Some(Errand::Pull { after: self.cursor.clone(), first })
    }

    /// Stores a page and its cursor.
    pub fn pulled(&mut self, page: &Value) {
        self.pull = None;
        self.pages_stored += 1;
        self.cursor = text(page, "cursor");
        self.has_more = page["hasMore"] == true;
        if !page["reset"].is_null() {
            self.named = Some(BTreeSet::new());
            // What was sent before may have been answered by a server that has lost it since.
            self.time_out();
            let missed = std::mem::take(&mut self.missed);
            for (id, row) in missed {
                self.rows.entry(id).or_insert(row);
            }
            self.send_again();
            return;
        }
        for change in page["changes"].as_array().unwrap() {
            let id = text(change, "entityId").unwrap();
            if let Some(named) = &mut self.named {
                named.insert(id.clone());
            }
            if self.is_queued(&id) {
                continue;
            }
            let kind = if change["entity"] == "EVENT" { Kind::Event } else { Kind::Type };
            let field = if kind == Kind::Event { "event" } else { "eventType" };
            if change["deleted"] == true { self.bury(&id) } else { self.take(kind, &change[field]) }
        }
        if !self.has_more
            && let Some(named) = self.named.take()
        {
            let queued: BTreeSet<String> =
                self.outbox.iter().map(|item| reading::target(&item.mutation)).collect();
            self.rows.retain(|id, _| named.contains(id) || queued.contains(id));
        }
    }

    /// All local rows once more, types first: duplicates cost nothing.
    fn send_again(&mut self) {
        let mut creates = Vec::new();
        for (kind, name) in [(Kind::Type, "createEventType"), (Kind::Event, "createEvent")] {
            for (id, row) in self.rows.iter().filter(|(_, row)| row.kind == kind && row.version.is_some()) {
                let mut input = row.content.clone();
                let fields = input.as_object_mut().unwrap();
                fields.retain(|field, _| !["version", "createdAt", "updatedAt"].contains(&field.as_str()));
                input["id"] = json!(id);
                creates.push(json!({ name: input }));
            }
        }
        for (at, create) in creates.into_iter().enumerate() {
            self.queue(at, create, true);
        }
    }

    /// Begins a look at entities that are owed one and have no edits queued.
    pub fn look(&mut self, call: u64) -> Option<Errand> {
        let ids: Vec<String> = self.owed.iter().filter(|id| !self.is_queued(id)).take(20).cloned().collect();
        if self.look.is_some() || ids.is_empty() {
            return None;
        }
        self.look = Some(Look { call, ids: ids.clone(), pages_stored: self.pages_stored });
        Some(Errand::Fetch { ids })
    }

    /// Takes entities as they were when they were looked at, unless a page came in between: it may be newer.
    pub fn looked(&mut self, nodes: &[Value]) {
        let look = self.look.take().unwrap();
        if look.pages_stored != self.pages_stored {
            return;
        }
        for (id, node) in look.ids.iter().zip(nodes) {
            if self.is_queued(id) {
                continue;
            }
            self.owed.remove(id);
            match text(node, "id") {
                None => {
                    if let Some(row) = self.rows.get(id).filter(|row| row.version.is_some()) {
                        self.missed.insert(id.clone(), row.clone());
                    }
                    self.bury(id);
                }
                Some(canonical) => {
                    if canonical != *id {
                        self.rename(id, &canonical);
                    }
                    if !self.is_queued(&canonical) {
                        self.take(kind_of(node), node);
                    }
                }
            }
        }
    }
}

fn entity_field(result: &Value) -> &'static str {
    if result["__typename"] == "EventTypeResult" { "eventType" } else { "event" }
}
