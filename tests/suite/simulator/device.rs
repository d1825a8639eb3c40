//! A device: the client's loop of the contract, and how it keeps the two things that the loop leaves to it.
//!
//! A page of changes that was read between the execution of a flush and its answer is newer than the answer,
//! and what it said of queued entities was skipped. And a rejected edit brings no state with it. In both
//! cases the device owes itself a look at those entities as they are now.
//!
//! A backup may be restored at any time, and only a cursor tells of it. So a device has one before it sends
//! anything, sends all its rows again after any reset, and answers to what was sent before no longer count.

mod sync;

use std::collections::{BTreeMap, BTreeSet};

use domain::event_id;
use serde_json::{Value, json};

use super::dice::Dice;
use super::model::{Kind, text};
use super::reading;

/// One entry of the outbox.
#[derive(Debug, Clone)]
pub struct Item {
    pub number: u64,
    pub mutation: Value,
    /// Rejected for now; not to be sent before.
    pub not_before_ms: i64,
    /// Sent once more because the server may have lost it.
    pub again: bool,
}

/// An entity as the device has it; without a version it was never seen on the server.
#[derive(Debug, Clone)]
pub struct Local {
    pub kind: Kind,
    pub version: Option<i64>,
    pub content: Value,
}

/// A flush that was sent and not answered.
#[derive(Debug, Clone)]
pub struct Flight {
    pub call: u64,
    pub numbers: Vec<u64>,
    pub pages_stored: u64,
}

/// A question that was sent and not answered.
#[derive(Debug, Clone)]
pub struct Look {
    pub call: u64,
    pub ids: Vec<String>,
    pub pages_stored: u64,
}

/// What became of queued edits, for the count at the end.
#[derive(Debug, Default, Clone)]
pub struct Books {
    pub queued: u64,
    pub told: BTreeMap<String, u64>,
    pub created: BTreeSet<String>,
    pub removals: BTreeSet<String>,
    /// What the person was told will not be stored.
    pub refused: BTreeSet<String>,
}

#[derive(Debug)]
pub struct Device {
    pub client_id: String,
    pub skew_ms: i64,
    // What survives a restart.
    pub outbox: Vec<Item>,
    pub rows: BTreeMap<String, Local>,
    /// Deleted events as they were, so that a person can bring them back.
    pub graves: Vec<Value>,
    pub cursor: Option<String>,
    /// In a bootstrap: what it has named so far.
    pub named: Option<BTreeSet<String>>,
    /// Rows that were once on the server and were not found there. A reset may tell that a backup lost them.
    pub missed: BTreeMap<String, Local>,
    /// Entities to look at as they are now.
    pub owed: BTreeSet<String>,
    pub has_more: bool,
    pub pages_stored: u64,
    pub books: Books,
    next_number: u64,
    ids_made: u16,
    // What does not.
    pub flight: Option<Flight>,
    /// A flush that was given up, to be sent again as it was.
    pub unanswered: Vec<u64>,
    pub pull: Option<u64>,
    pub look: Option<Look>,
}

impl Device {
    pub fn new(number: usize, skew_ms: i64) -> Self {
        Self {
            client_id: format!("device-{number}"),
            skew_ms,
            outbox: Vec::new(),
            rows: BTreeMap::new(),
            graves: Vec::new(),
            cursor: None,
            named: Some(BTreeSet::new()),
            missed: BTreeMap::new(),
            owed: BTreeSet::new(),
            has_more: true,
            pages_stored: 0,
            books: Books::default(),
            next_number: 1,
            ids_made: 0,
            flight: None,
            unanswered: Vec::new(),
            pull: None,
            look: None,
        }
    }

    /// A UUIDv7 by the device's own clock.
    pub fn new_id(&mut self, now_ms: i64, dice: &mut Dice) -> String {
        // Counted where RFC 9562, section 6.2, lets a counter stand: later edits have greater ids, even
        // within a millisecond.
        self.ids_made += 1;
        let mut tail = [0; 10];
        tail[..2].copy_from_slice(&self.ids_made.to_be_bytes());
        tail[2..].copy_from_slice(&dice.roll().to_le_bytes());
        event_id::compose(now_ms + self.skew_ms, tail).to_string()
    }

    /// Ids of what the device shows of a kind.
    pub fn ids(&self, kind: Kind) -> Vec<String> {
        self.rows.iter().filter(|(_, row)| row.kind == kind).map(|(id, _)| id.clone()).collect()
    }

    pub fn is_queued(&self, id: &str) -> bool {
        self.outbox.iter().any(|item| reading::target(&item.mutation) == id)
    }

    /// Writes locally and queues.
    pub fn write(&mut self, mutation: Value) {
        self.show(&mutation);
        self.queue(self.outbox.len(), mutation, false);
    }

    fn queue(&mut self, at: usize, mutation: Value, again: bool) {
        let (name, _) = reading::parts(&mutation);
        if name.starts_with("delete") {
            self.books.removals.insert(reading::target(&mutation));
        }
        let number = self.next_number;
        self.next_number += 1;
        self.books.queued += 1;
        self.outbox.insert(at, Item { number, mutation, not_before_ms: 0, again });
    }

    /// What a person sees at once. What is wrong with it is for the server to say.
    fn show(&mut self, mutation: &Value) {
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
                        patch.iter().filter(|(field, sent)| !reading::must_not_be(field, sent))
                    {
                        row.content[field] = sent.clone();
                    }
                }
            }
            _ => self.bury(&id),
        }
    }

    /// Removes an entity; an event is kept in mind.
    fn bury(&mut self, id: &str) {
        if let Some(row) = self.rows.remove(id)
            && row.kind == Kind::Event
        {
            let mut content = row.content;
            content["id"] = json!(id);
            self.graves.retain(|grave| grave["id"] != *id);
            self.graves.push(content);
        }
    }

    /// Takes an entity as the server has it, under the id that the server gives it.
    fn take(&mut self, kind: Kind, entity: &Value) {
        let mut content = entity.clone();
        content.as_object_mut().unwrap().retain(|field, _| field != "eventType" && field != "__typename");
        let version = content["version"].as_i64();
        self.rows.insert(text(entity, "id").unwrap(), Local { kind, version, content });
    }

    /// From now on an entity goes by another id: in the outbox as well.
    fn rename(&mut self, old: &str, new: &str) {
        self.rows.remove(old);
        for item in &mut self.outbox {
            if reading::mentions(&item.mutation, old) {
                reading::rename(&mut item.mutation, old, new);
                // A backup may forget that the one id stood for the other.
                if reading::parts(&item.mutation).0.starts_with("delete") {
                    self.books.removals.insert(new.to_owned());
                }
            }
        }
    }

    /// Everything volatile is gone.
    pub fn restart(&mut self) {
        (self.flight, self.pull, self.look) = (None, None, None);
        self.unanswered.clear();
    }

    /// Waits no longer. A flush is sent again as it was.
    pub fn time_out(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.unanswered = flight.numbers;
        }
        (self.pull, self.look) = (None, None);
    }

    pub fn is_waiting(&self) -> bool {
        self.flight.is_some() || self.pull.is_some() || self.look.is_some()
    }
}
