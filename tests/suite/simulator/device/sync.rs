//! The sync of a device: the requests that it sends, and what it does with the responses.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::model::{EntityKind, text};
use super::super::network::{FlushMutation, Operation};
use super::super::reading;
use super::super::rng::Rng;
use super::{Device, Item, PendingFetch, PendingFlush};

fn kind_of(entity: &Value) -> EntityKind {
    if entity["__typename"] == "EventType" { EntityKind::Type } else { EntityKind::Event }
}

impl Device {
    /// Returns the items that may be sent now, in order. An item waits if an earlier item of the same entity
    /// waits.
    fn sendable(&self, now_ms: i64) -> Vec<&Item> {
        let mut waiting: BTreeSet<String> = BTreeSet::new();
        let mut ready = Vec::new();
        for item in &self.outbox {
            let depends = waiting.iter().any(|id| reading::mentions(&item.mutation, id));
            if item.not_before_ms > now_ms || depends {
                waiting.insert(reading::target(&item.mutation));
            } else {
                ready.push(item);
            }
        }
        ready
    }

    /// Begins a flush of at most `items_max` items, or of all items that got no response. Returns `None` if
    /// there is nothing to send, if a flush is pending, or if the device has no cursor yet.
    pub fn flush(&mut self, call: u64, now_ms: i64, items_max: usize, rng: &mut Rng) -> Option<Operation> {
        if self.pending_flush.is_some() || self.cursor.is_none() {
            return None;
        }
        let same: Vec<&Item> =
            self.outbox.iter().filter(|item| self.unanswered.contains(&item.number)).collect();
        let items: Vec<&Item> =
            if same.is_empty() { self.sendable(now_ms).into_iter().take(items_max).collect() } else { same };
        if items.is_empty() {
            return None;
        }
        let mutations: Vec<Value> = items.iter().map(|item| item.mutation.clone()).collect();
        let numbers = items.iter().map(|item| item.number).collect();
        let only_creates = mutations.iter().all(|mutation| mutation.get("createEvent").is_some());
        let mut ids = BTreeSet::new();
        let distinct = mutations.iter().all(|mutation| ids.insert(reading::target(mutation)));
        let (mutation, client) = if only_creates && distinct && rng.chance(35) {
            let mutation =
                if mutations.len() == 1 { FlushMutation::CreateEvent } else { FlushMutation::CreateEvents };
            (mutation, rng.chance(70).then(|| self.client_id.clone()))
        } else {
            (FlushMutation::ApplyMutations, Some(self.client_id.clone()))
        };
        self.pending_flush = Some(PendingFlush { call, numbers, pages_stored: self.pages_stored });
        self.unanswered.clear();
        Some(Operation::Flush { mutation, client, items: mutations })
    }

    /// Applies the results of a flush. Returns the cases that occurred.
    pub fn receive_results(&mut self, results: &[Value], now_ms: i64, rng: &mut Rng) -> Vec<&'static str> {
        let flush = self.pending_flush.take().unwrap();
        let pages_came = flush.pages_stored != self.pages_stored;
        let mut cases = Vec::new();
        for (number, result) in flush.numbers.iter().zip(results) {
            let at = self.outbox.iter().position(|item| item.number == *number).unwrap();
            let item = self.outbox.remove(at);
            let outcome = result["outcome"].as_str().unwrap().to_owned();
            let id = reading::target(&item.mutation);
            if outcome == "CREATED" {
                self.tally.created.insert(id.clone());
            }
            if outcome == "REJECTED" && result["problem"]["retryable"] == true {
                let wait_ms = result["problem"]["retryAfterMs"].as_i64().unwrap_or(1_000);
                self.outbox.insert(at, Item { not_before_ms: now_ms + wait_ms, ..item });
                cases.push("a rejected item waits");
                continue;
            }
            if outcome == "REJECTED" {
                self.tally.rejected.insert(id.clone());
            }
            self.apply_result(&id, &outcome, result);
            if pages_came {
                self.to_fetch.insert(text(&result[entity_field(result)], "id").unwrap_or(id.clone()));
                cases.push("a page came between a flush and its response");
            }
            if outcome == "CONFLICT" && item.mutation.get("restoreEvent").is_none() && rng.chance(70) {
                let mut merged = item.clone();
                let (name, _) = reading::parts(&item.mutation);
                merged.mutation[name]["expectedVersion"] = result["version"].clone();
                merged.mutation[name]["id"] = result[entity_field(result)]["id"].clone();
                self.outbox.insert(at, merged);
                cases.push("a conflict is merged and sent again");
                continue;
            }
            *self.tally.outcomes.entry(outcome).or_default() += 1;
        }
        cases
    }

    /// Applies one result to the local rows.
    fn apply_result(&mut self, id: &str, outcome: &str, result: &Value) {
        let field = entity_field(result);
        let entity = &result[field];
        match outcome {
            "REJECTED" => {
                self.to_fetch.insert(id.to_owned());
            }
            "DELETED" => self.remove_row(id),
            _ if entity.is_null() => self.remove_row(id),
            _ => {
                let canonical = text(entity, "id").unwrap();
                if canonical != id {
                    self.rename(id, &canonical);
                }
                if self.is_queued(&canonical) {
                    // The row keeps its content with the queued edits. Its version is what later edits
                    // expect.
                    if let Some(row) = self.rows.get_mut(&canonical) {
                        row.version = entity["version"].as_i64();
                    }
                    return;
                }
                self.store(if field == "event" { EntityKind::Event } else { EntityKind::Type }, entity);
            }
        }
    }

    /// Begins a pull. Returns `None` if one is pending, or if the outbox still has rows that are sent again
    /// after a reset.
    pub fn pull(&mut self, call: u64, first: usize) -> Option<Operation> {
        if self.pending_pull.is_some() || self.outbox.iter().any(|item| item.is_resend) {
            return None;
        }
        self.pending_pull = Some(call);
        Some(Operation::Pull { after: self.cursor.clone(), first })
    }

    /// Stores a page of changes and its cursor.
    pub fn receive_page(&mut self, page: &Value) {
        self.pending_pull = None;
        self.pages_stored += 1;
        self.cursor = text(page, "cursor");
        self.has_more = page["hasMore"] == true;
        if !page["reset"].is_null() {
            self.bootstrap_ids = Some(BTreeSet::new());
            // The server may have lost the writes of an earlier request since it responded to it.
            self.time_out();
            let not_found = std::mem::take(&mut self.not_found);
            for (id, row) in not_found {
                self.rows.entry(id).or_insert(row);
            }
            self.resend_rows();
            return;
        }
        for change in page["changes"].as_array().unwrap() {
            let id = text(change, "entityId").unwrap();
            if let Some(ids) = &mut self.bootstrap_ids {
                ids.insert(id.clone());
            }
            if self.is_queued(&id) {
                continue;
            }
            let kind = if change["entity"] == "EVENT" { EntityKind::Event } else { EntityKind::Type };
            let field = if kind == EntityKind::Event { "event" } else { "eventType" };
            if change["deleted"] == true { self.remove_row(&id) } else { self.store(kind, &change[field]) }
        }
        if !self.has_more
            && let Some(ids) = self.bootstrap_ids.take()
        {
            let queued: BTreeSet<String> =
                self.outbox.iter().map(|item| reading::target(&item.mutation)).collect();
            self.rows.retain(|id, _| ids.contains(id) || queued.contains(id));
        }
    }

    /// Queues creates of all local rows, types first. A duplicate changes nothing on the server.
    fn resend_rows(&mut self) {
        let mut creates = Vec::new();
        for (kind, name) in [(EntityKind::Type, "createEventType"), (EntityKind::Event, "createEvent")] {
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

    /// Begins a fetch of entities in `to_fetch` that have no queued edits. Returns `None` if a fetch is
    /// pending or there is nothing to fetch.
    pub fn fetch(&mut self, call: u64) -> Option<Operation> {
        let ids: Vec<String> =
            self.to_fetch.iter().filter(|id| !self.is_queued(id)).take(20).cloned().collect();
        if self.pending_fetch.is_some() || ids.is_empty() {
            return None;
        }
        self.pending_fetch = Some(PendingFetch { call, ids: ids.clone(), pages_stored: self.pages_stored });
        Some(Operation::Fetch { ids })
    }

    /// Stores fetched entities. They are ignored if a page was stored since the request, because it may be
    /// newer.
    pub fn receive_nodes(&mut self, nodes: &[Value]) {
        let fetch = self.pending_fetch.take().unwrap();
        if fetch.pages_stored != self.pages_stored {
            return;
        }
        for (id, node) in fetch.ids.iter().zip(nodes) {
            if self.is_queued(id) {
                continue;
            }
            self.to_fetch.remove(id);
            match text(node, "id") {
                None => {
                    if let Some(row) = self.rows.get(id).filter(|row| row.version.is_some()) {
                        self.not_found.insert(id.clone(), row.clone());
                    }
                    self.remove_row(id);
                }
                Some(canonical) => {
                    if canonical != *id {
                        self.rename(id, &canonical);
                    }
                    if !self.is_queued(&canonical) {
                        self.store(kind_of(node), node);
                    }
                }
            }
        }
    }
}

fn entity_field(result: &Value) -> &'static str {
    if result["__typename"] == "EventTypeResult" { "eventType" } else { "event" }
}
