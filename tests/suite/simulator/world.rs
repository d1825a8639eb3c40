//! A schedule: devices, the network between them and the real server, and beside it the oracle. What the
//! server answers is compared with what the oracle says, request by request, in the order of execution.

mod end;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::device::Device;
use super::dice::Dice;
use super::model::{Kind, Model, text};
use super::network::{Answer, Door, Errand, Network, Request};
use super::person;
use super::server::Server;

/// How often each interesting thing happened.
pub type Seen = BTreeMap<String, u64>;

/// What a person reads when a schedule fails.
pub type Trace = Arc<Mutex<Vec<String>>>;

const STEPS: usize = 150;

pub struct World {
    server: Server,
    model: Model,
    backup: Option<Model>,
    devices: Vec<Device>,
    network: Network,
    dice: Dice,
    trace: Trace,
    pub seen: Seen,
    calls: u64,
    epoch: u64,
    /// Of which epoch each cursor is that was ever handed out.
    cursors: BTreeMap<String, u64>,
}

impl World {
    pub fn new(server: Server, seed: u64, trace: Trace) -> Self {
        let mut dice = Dice::new(seed);
        let count = 2 + dice.below(3);
        let skew = |dice: &mut Dice| i64::try_from(dice.below(240_001)).unwrap() - 120_000;
        let devices = (0..count).map(|number| Device::new(number, skew(&mut dice))).collect();
        Self {
            server,
            model: Model::default(),
            backup: None,
            devices,
            network: Network::default(),
            dice,
            trace,
            seen: Seen::new(),
            calls: 0,
            epoch: 0,
            cursors: BTreeMap::new(),
        }
    }

    /// Runs the schedule to its end.
    pub async fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.step().await?;
        }
        self.note("the network heals".to_owned());
        self.end().await
    }

    fn note(&self, line: String) {
        self.trace.lock().unwrap().push(line);
    }

    fn saw(&mut self, what: &str) {
        *self.seen.entry(what.to_owned()).or_default() += 1;
    }

    async fn step(&mut self) -> Result<(), String> {
        let at = self.dice.below(self.devices.len());
        match self.dice.below(1000) {
            0..=329 => self.person_acts(at),
            330..=469 => {
                self.begin_flush(at);
            }
            470..=549 => self.begin_pull(at),
            550..=569 => self.begin_look(at),
            570..=739 => self.deliver_request().await?,
            740..=764 => self.drop_request(),
            765..=899 => self.deliver_answer(),
            900..=919 => self.drop_answer(),
            920..=944 => self.time_out(at),
            945..=954 => self.restart(at),
            955..=990 => self.wait(),
            991..=993 => self.back_up().await,
            _ => self.renew_epoch().await,
        }
        Ok(())
    }

    fn person_acts(&mut self, at: usize) {
        let now_ms = self.server.now_ms();
        if let Some(mutation) = person::acts(&mut self.devices[at], now_ms, &mut self.dice) {
            self.note(format!("device-{at} queues {mutation}"));
            self.devices[at].write(mutation);
        }
    }

    fn send(&mut self, device: usize, errand: Option<Errand>) -> bool {
        let Some(errand) = errand else {
            return false;
        };
        let call = self.calls;
        self.note(format!("device-{device} sends #{call} {errand:?}"));
        self.network.requests.push(Request { call, device, errand });
        true
    }

    fn begin_flush(&mut self, at: usize) -> bool {
        self.calls += 1;
        let (now_ms, most) = (self.server.now_ms(), 1 + self.dice.below(7));
        let is_again = !self.devices[at].unanswered.is_empty();
        let errand = self.devices[at].flush(self.calls, now_ms, most, &mut self.dice);
        if errand.is_some() && is_again {
            self.saw("a flush is sent again");
        }
        self.send(at, errand)
    }

    fn begin_pull(&mut self, at: usize) {
        self.calls += 1;
        let first = 1 + self.dice.below(5);
        let errand = self.devices[at].pull(self.calls, first);
        self.send(at, errand);
    }

    fn begin_look(&mut self, at: usize) {
        self.calls += 1;
        let errand = self.devices[at].look(self.calls);
        self.send(at, errand);
    }

    async fn deliver_request(&mut self) -> Result<(), String> {
        let Some((request, doubled)) = self.network.arrival(&mut self.dice) else {
            return Ok(());
        };
        if doubled {
            self.saw("a request is doubled");
        }
        self.execute(request).await
    }

    fn drop_request(&mut self) {
        if let Some(lost) = self.dice.take(&mut self.network.requests) {
            self.note(format!("#{} is lost on its way", lost.call));
            self.saw("a request is lost");
        }
    }

    fn drop_answer(&mut self) {
        if let Some(lost) = self.dice.take(&mut self.network.answers) {
            self.note(format!("the answer to #{} is lost", lost.call));
            self.saw("an answer is lost");
        }
    }

    fn deliver_answer(&mut self) {
        if let Some(answer) = self.dice.take(&mut self.network.answers) {
            self.receive(answer);
        }
    }

    fn time_out(&mut self, at: usize) {
        if self.devices[at].is_waiting() {
            self.note(format!("device-{at} waits no longer"));
            self.saw("a device waits no longer");
            self.devices[at].time_out();
        }
    }

    fn restart(&mut self, at: usize) {
        self.note(format!("device-{at} restarts"));
        self.saw("a device restarts");
        self.devices[at].restart();
        if self.devices[at].cursor.is_some() && self.dice.chance(15) {
            self.note(format!("device-{at} finds its cursor garbled"));
            self.devices[at].cursor = Some("garbled".to_owned());
        }
    }

    fn wait(&mut self) {
        let longest_ms = if self.dice.chance(70) { 5_000 } else { 180_000 };
        let ms = i64::try_from(1 + self.dice.below(longest_ms)).unwrap();
        self.note(format!("{ms} ms pass"));
        self.server.wait(ms);
    }

    async fn back_up(&mut self) {
        self.note("a backup is made".to_owned());
        self.server.back_up().await;
        self.backup = Some(self.model.clone());
    }

    /// What an operator does who restored a backup, if there is one.
    async fn renew_epoch(&mut self) {
        if let Some(backup) = self.backup.clone() {
            self.note("the backup is restored".to_owned());
            self.saw("a backup is restored");
            self.server.restore(backup.head).await;
            self.model = backup;
        }
        self.note("the epoch is renewed".to_owned());
        self.server.renew_epoch().await;
        self.epoch += 1;
    }

    /// Executes a request on the server and on the oracle; the answer sets out on its way.
    async fn execute(&mut self, request: Request) -> Result<(), String> {
        let Request { call, device, errand } = request;
        let answer = self.server.execute(&errand).await.map_err(|error| format!("#{call}: {error}"))?;
        self.note(format!("the server executes #{call}: {answer}"));
        match &errand {
            Errand::Flush { door, client, items } => {
                let current = self.devices[device].flight.as_ref().map(|flight| flight.call);
                if current != Some(call) {
                    self.saw("a request comes late");
                }
                self.check_flush(*door, client.as_deref(), items, &answer)?;
                let head = self.server.head().await;
                if head != self.model.head {
                    return Err(format!("#{call}: the head is {head}, it should be {}", self.model.head));
                }
            }
            Errand::Pull { after, first } => self.check_page(after.as_deref(), *first, &answer)?,
            Errand::Fetch { ids } => self.check_nodes(ids, &answer)?,
        }
        self.network.answers.push(Answer { call, device, data: answer });
        Ok(())
    }

    fn check_flush(
        &mut self,
        door: Door,
        client: Option<&str>,
        items: &[Value],
        answer: &Value,
    ) -> Result<(), String> {
        let expected = self.model.apply(self.server.now_ms(), client, items);
        for (said, item) in expected.iter().zip(items) {
            let outcome = said["outcome"].as_str().unwrap();
            self.saw(outcome);
            for what in [&said["matchedBy"], &said["problem"]["code"]] {
                if let Some(what) = what.as_str().filter(|what| *what != "ID") {
                    self.saw(what);
                }
            }
            if said["differs"] == true {
                self.saw("a duplicate differs");
            }
            if item.get("restoreEvent").is_some() && outcome == "UPDATED" {
                self.saw("an event is restored");
            }
        }
        let results = results(door, answer);
        for (index, (said, real)) in expected.iter().zip(&results).enumerate() {
            if said != real {
                return Err(format!("item {index}: {}\nshould be {said}\nbut is    {real}", items[index]));
            }
        }
        let count = |outcome: &str| expected.iter().filter(|said| said["outcome"] == *outcome).count();
        if results.len() != items.len() {
            return Err(format!("{} items have {} answers", items.len(), results.len()));
        }
        if door == Door::CreateEvents {
            for (field, outcome) in [
                ("created", "CREATED"),
                ("duplicates", "DUPLICATE"),
                ("deleted", "DELETED"),
                ("rejected", "REJECTED"),
            ] {
                if answer[field] != count(outcome) {
                    return Err(format!("{field} should be {}", count(outcome)));
                }
            }
            self.saw("createEvents");
        }
        if door == Door::CreateEvent {
            self.saw("createEvent");
        }
        Ok(())
    }

    /// What a page says is what is stored as it is read.
    fn check_page(&mut self, after: Option<&str>, first: usize, page: &Value) -> Result<(), String> {
        let expected = match after.map(|after| self.cursors.get(after)) {
            None => Value::Null,
            Some(None) => json!("CURSOR_INVALID"),
            Some(Some(epoch)) if *epoch == self.epoch => Value::Null,
            Some(Some(_)) => json!("EPOCH_CHANGED"),
        };
        if page["reset"] != expected {
            return Err(format!("reset should be {expected}"));
        }
        if let Some(reset) = expected.as_str() {
            self.saw(reset);
        }
        self.cursors.insert(text(page, "cursor").unwrap(), self.epoch);
        let changes = page["changes"].as_array().unwrap();
        if changes.len() > first || (!expected.is_null() && (!changes.is_empty() || page["hasMore"] != true))
        {
            return Err(format!("a page of {first} has {} changes", changes.len()));
        }
        let mut ids = BTreeSet::new();
        for change in changes {
            let id = change["entityId"].as_str().unwrap();
            let row = self.model.rows.get(id).ok_or(format!("{id} is in the feed and nowhere else"))?;
            let (entity, field) =
                if row.kind == Kind::Event { ("EVENT", "event") } else { ("EVENT_TYPE", "eventType") };
            let mut said = json!({
                "entity": entity, "entityId": id, "version": row.version, "deleted": row.content.is_none(),
                "originClientId": row.writer, "event": null, "eventType": null,
            });
            if row.content.is_some() {
                said[field] = self.model.shown(id);
            }
            if said != *change {
                return Err(format!("a change should be {said}\nbut is             {change}"));
            }
            if !ids.insert(id) || (after.is_none() && row.content.is_none()) {
                return Err(format!("{id} is twice in a page, or a tombstone begins a bootstrap"));
            }
        }
        Ok(())
    }

    fn check_nodes(&self, ids: &[String], nodes: &Value) -> Result<(), String> {
        for (id, node) in ids.iter().zip(nodes.as_array().unwrap()) {
            let row = self.model.canonical(id).map(|id| (id, &self.model.rows[id]));
            let said = row.filter(|(_, row)| row.content.is_some()).map_or(Value::Null, |(id, row)| {
                let mut shown = self.model.shown(id);
                shown["__typename"] = json!(if row.kind == Kind::Event { "Event" } else { "EventType" });
                shown
            });
            if said != *node {
                return Err(format!("node {id} should be {said}\nbut is {node}"));
            }
        }
        Ok(())
    }

    /// A device takes the answer that it waits for, and no other.
    fn receive(&mut self, answer: Answer) {
        let Answer { call, device: at, data } = answer;
        let now_ms = self.server.now_ms();
        let device = &mut self.devices[at];
        if device.flight.as_ref().is_some_and(|flight| flight.call == call) {
            let results = results_of(&data);
            let happened = device.flushed(&results, now_ms, &mut self.dice);
            happened.into_iter().for_each(|what| self.saw(what));
        } else if device.pull == Some(call) {
            device.pulled(&data);
        } else if device.look.as_ref().is_some_and(|look| look.call == call) {
            device.looked(data.as_array().unwrap());
            self.saw("an entity is looked at");
        } else {
            self.note(format!("device-{at} no longer waits for #{call}"));
            self.saw("an answer comes late");
            return;
        }
        self.note(format!("device-{at} has the answer to #{call}"));
    }
}

fn results(door: Door, answer: &Value) -> Vec<Value> {
    match door {
        Door::CreateEvent => vec![answer.clone()],
        _ => results_of(answer),
    }
}

/// The results in the answer of any of the mutations.
fn results_of(answer: &Value) -> Vec<Value> {
    match answer {
        Value::Array(results) => results.clone(),
        one if one.get("results").is_none() => vec![one.clone()],
        many => many["results"].as_array().unwrap().clone(),
    }
}
