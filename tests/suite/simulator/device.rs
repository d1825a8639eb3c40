//! Simulates a device, which runs the sync loop that the documentation describes for clients.
//!
//! In two cases a device must fetch entities by their ids, in addition to the loop. First, a page of changes
//! that it reads between a flush and its response may be newer than that response, and the device has skipped
//! the queued entities in that page. Second, the result of a rejected edit does not have the stored state.
//!
//! A backup may be restored at any time, and only a cursor reveals it. For this reason a device gets a cursor
//! before it sends anything. After a reset it sends all its rows again, and ignores responses to earlier
//! requests.

mod sync;

use std::collections::{BTreeMap, BTreeSet};

use domain::event_id;
use serde_json::{Value, json};

use super::model::{EntityKind, text};
use super::reading;
use super::rng::Rng;

/// One entry of the outbox.
#[derive(Debug, Clone)]
pub struct Item {
    pub number: u64,
    pub mutation: Value,
    /// The item is retryable and must not be sent before this time.
    pub not_before_ms: i64,
    /// The item is sent again after a reset, because the server may have lost it.
    pub is_resend: bool,
}

/// An entity as the device has it. The version is `None` until the server has returned the entity.
#[derive(Debug, Clone)]
pub struct Local {
    pub kind: EntityKind,
    pub version: Option<i64>,
    pub content: Value,
}

/// A flush without a response yet.
#[derive(Debug, Clone)]
pub struct PendingFlush {
    pub call: u64,
    /// The numbers of the items.
    pub numbers: Vec<u64>,
    /// The number of pages that the device had stored when it sent the request.
    pub pages_stored: u64,
}

/// A fetch by ids without a response yet.
#[derive(Debug, Clone)]
pub struct PendingFetch {
    pub call: u64,
    pub ids: Vec<String>,
    /// The number of pages that the device had stored when it sent the request.
    pub pages_stored: u64,
}

/// Counts of queued mutations and their outcomes, for the checks at the end.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub queued: u64,
    pub outcomes: BTreeMap<String, u64>,
    pub created: BTreeSet<String>,
    /// The ids whose deletion was queued.
    pub removals: BTreeSet<String>,
    /// The ids with a rejection that is not retryable.
    pub rejected: BTreeSet<String>,
}

#[derive(Debug)]
pub struct Device {
    pub client_id: String,
    pub skew_ms: i64,
    // These fields survive a restart.
    pub outbox: Vec<Item>,
    pub rows: BTreeMap<String, Local>,
    /// Deleted events with their last content, so that the user can restore them.
    pub deleted_events: Vec<Value>,
    pub cursor: Option<String>,
    /// During a bootstrap, the ids that its pages have had so far.
    pub bootstrap_ids: Option<BTreeSet<String>>,
    /// Rows that the server once had and did not find later. A reset may reveal that a backup lost them.
    pub not_found: BTreeMap<String, Local>,
    /// The ids of the entities that the device must fetch.
    pub to_fetch: BTreeSet<String>,
    pub has_more: bool,
    pub pages_stored: u64,
    pub tally: Tally,
    next_number: u64,
    ids_made: u16,
    // These fields do not survive a restart.
    pub pending_flush: Option<PendingFlush>,
    /// The numbers of the items of a flush that timed out. The same items are sent again.
    pub unanswered: Vec<u64>,
    /// The number of the call.
    pub pending_pull: Option<u64>,
    pub pending_fetch: Option<PendingFetch>,
}

impl Device {
    pub fn new(number: usize, skew_ms: i64) -> Self {
        Self {
            client_id: format!("device-{number}"),
            skew_ms,
            outbox: Vec::new(),
            rows: BTreeMap::new(),
            deleted_events: Vec::new(),
            cursor: None,
            bootstrap_ids: Some(BTreeSet::new()),
            not_found: BTreeMap::new(),
            to_fetch: BTreeSet::new(),
            has_more: true,
            pages_stored: 0,
            tally: Tally::default(),
            next_number: 1,
            ids_made: 0,
            pending_flush: None,
            unanswered: Vec::new(),
            pending_pull: None,
            pending_fetch: None,
        }
    }

    /// Returns a UUIDv7 with the time of the device's clock, which has a skew.
    pub fn new_id(&mut self, now_ms: i64, rng: &mut Rng) -> String {
        // RFC 9562, section 6.2, allows a counter here. It makes later ids greater, even within a
        // millisecond.
        self.ids_made += 1;
        let mut tail = [0; 10];
        tail[..2].copy_from_slice(&self.ids_made.to_be_bytes());
        tail[2..].copy_from_slice(&rng.next_u64().to_le_bytes());
        event_id::compose_uuid_v7(now_ms + self.skew_ms, tail).to_string()
    }

    /// Returns the ids of all entities of a kind that the device has.
    pub fn ids(&self, kind: EntityKind) -> Vec<String> {
        self.rows.iter().filter(|(_, row)| row.kind == kind).map(|(id, _)| id.clone()).collect()
    }

    pub fn is_queued(&self, id: &str) -> bool {
        self.outbox.iter().any(|item| reading::target(&item.mutation) == id)
    }

    /// Applies a mutation locally and queues it.
    pub fn write(&mut self, mutation: Value) {
        self.apply_locally(&mutation);
        self.queue(self.outbox.len(), mutation, false);
    }

    /// Inserts a mutation into the outbox at this index.
    fn queue(&mut self, at: usize, mutation: Value, is_resend: bool) {
        let (name, _) = reading::parts(&mutation);
        if name.starts_with("delete") {
            self.tally.removals.insert(reading::target(&mutation));
        }
        let number = self.next_number;
        self.next_number += 1;
        self.tally.queued += 1;
        self.outbox.insert(at, Item { number, mutation, not_before_ms: 0, is_resend });
    }

    /// Applies a mutation to the local rows at once, without validation, which is left to the server.
    fn apply_locally(&mut self, mutation: &Value) {
        let (name, body) = reading::parts(mutation);
        let (id, kind) = (reading::target(mutation), reading::kind(name));
        match name {
            "createEvent" | "createEventType" | "restoreEvent" => {
                let content = if name == "restoreEvent" { &body["event"] } else { body };
                let content = content.clone();
                self.rows.entry(id).or_insert(Local { kind, version: None, content });
            }
            "updateEvent" | "updateEventType" => {
                if let Some(row) = self.rows.get_mut(&id) {
                    let patch = body["patch"].as_object().unwrap();
                    for (field, sent) in
                        patch.iter().filter(|(field, sent)| !reading::clears_required(field, sent))
                    {
                        row.content[field] = sent.clone();
                    }
                }
            }
            _ => self.remove_row(&id),
        }
    }

    /// Removes a local row. The content of an event is kept for a restore.
    fn remove_row(&mut self, id: &str) {
        if let Some(row) = self.rows.remove(id)
            && row.kind == EntityKind::Event
        {
            let mut content = row.content;
            content["id"] = json!(id);
            self.deleted_events.retain(|event| event["id"] != *id);
            self.deleted_events.push(content);
        }
    }

    /// Stores an entity as the server has it, under the server's id.
    fn store(&mut self, kind: EntityKind, entity: &Value) {
        let mut content = entity.clone();
        content.as_object_mut().unwrap().retain(|field, _| field != "eventType" && field != "__typename");
        let version = content["version"].as_i64();
        self.rows.insert(text(entity, "id").unwrap(), Local { kind, version, content });
    }

    /// Removes the row with the old id and replaces that id in the outbox, because the server knows the
    /// entity by another id.
    fn rename(&mut self, old: &str, new: &str) {
        self.rows.remove(old);
        for item in &mut self.outbox {
            if reading::mentions(&item.mutation, old) {
                reading::rename(&mut item.mutation, old, new);
                // A restored backup may not have the alias, so the deletion is recorded under both ids.
                if reading::parts(&item.mutation).0.starts_with("delete") {
                    self.tally.removals.insert(new.to_owned());
                }
            }
        }
    }

    /// Forgets everything that is not stored.
    pub fn restart(&mut self) {
        (self.pending_flush, self.pending_pull, self.pending_fetch) = (None, None, None);
        self.unanswered.clear();
    }

    /// Stops waiting for responses. The next flush sends the same items again.
    pub fn time_out(&mut self) {
        if let Some(flush) = self.pending_flush.take() {
            self.unanswered = flush.numbers;
        }
        (self.pending_pull, self.pending_fetch) = (None, None);
    }

    pub fn is_waiting(&self) -> bool {
        self.pending_flush.is_some() || self.pending_pull.is_some() || self.pending_fetch.is_some()
    }
}
