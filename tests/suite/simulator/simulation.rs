//! Runs one simulation: devices, the network, the real server, and the oracle. Each response of the server is
//! compared with the one that the oracle expects, in the order of execution.

mod end;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::actions;
use super::device::Device;
use super::model::{EntityKind, Model, text};
use super::network::{FlushMutation, Network, Operation, Request, Response};
use super::rng::Rng;
use super::server::Server;

/// How often each case occurred.
pub type Coverage = BTreeMap<String, u64>;

/// The steps of a simulation, which are printed if it fails.
pub type Trace = Arc<Mutex<Vec<String>>>;

const STEPS: usize = 150;

pub struct Simulation {
    server: Server,
    model: Model,
    backup: Option<Model>,
    devices: Vec<Device>,
    network: Network,
    rng: Rng,
    trace: Trace,
    pub coverage: Coverage,
    calls: u64,
    epoch: u64,
    /// The epoch of each cursor that the server has returned.
    cursors: BTreeMap<String, u64>,
}

impl Simulation {
    pub fn new(server: Server, seed: u64, trace: Trace) -> Self {
        let mut rng = Rng::new(seed);
        let count = 2 + rng.below(3);
        let skew_ms = |rng: &mut Rng| i64::try_from(rng.below(240_001)).unwrap() - 120_000;
        let devices = (0..count).map(|number| Device::new(number, skew_ms(&mut rng))).collect();
        Self {
            server,
            model: Model::default(),
            backup: None,
            devices,
            network: Network::default(),
            rng,
            trace,
            coverage: Coverage::new(),
            calls: 0,
            epoch: 0,
            cursors: BTreeMap::new(),
        }
    }

    /// Runs all steps, then delivers everything and checks that all devices have the same. The error is the
    /// reason of a failure.
    pub async fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.step().await?;
        }
        self.note("the network works from now on".to_owned());
        self.end().await
    }

    fn note(&self, line: String) {
        self.trace.lock().unwrap().push(line);
    }

    /// Counts a case.
    fn cover(&mut self, case: &str) {
        *self.coverage.entry(case.to_owned()).or_default() += 1;
    }

    async fn step(&mut self) -> Result<(), String> {
        let at = self.rng.below(self.devices.len());
        match self.rng.below(1000) {
            0..=329 => self.edit(at),
            330..=469 => {
                self.begin_flush(at);
            }
            470..=549 => self.begin_pull(at),
            550..=569 => self.begin_fetch(at),
            570..=739 => self.deliver_request().await?,
            740..=764 => self.drop_request(),
            765..=899 => self.deliver_response(),
            900..=919 => self.drop_response(),
            920..=944 => self.time_out(at),
            945..=954 => self.restart(at),
            955..=990 => self.wait(),
            991..=993 => self.back_up().await,
            _ => self.renew_epoch().await,
        }
        Ok(())
    }

    /// The user of a device does something.
    fn edit(&mut self, at: usize) {
        let now_ms = self.server.now_ms();
        if let Some(mutation) = actions::draw(&mut self.devices[at], now_ms, &mut self.rng) {
            self.note(format!("device-{at} queues {mutation}"));
            self.devices[at].write(mutation);
        }
    }

    /// Puts a request into the network, if there is one. Returns whether there was.
    fn send(&mut self, device: usize, operation: Option<Operation>) -> bool {
        let Some(operation) = operation else {
            return false;
        };
        let call = self.calls;
        self.note(format!("device-{device} sends #{call} {operation:?}"));
        self.network.requests.push(Request { call, device, operation });
        true
    }

    fn begin_flush(&mut self, at: usize) -> bool {
        self.calls += 1;
        let (now_ms, items_max) = (self.server.now_ms(), 1 + self.rng.below(7));
        let is_resend = !self.devices[at].unanswered.is_empty();
        let operation = self.devices[at].flush(self.calls, now_ms, items_max, &mut self.rng);
        if operation.is_some() && is_resend {
            self.cover("a flush is sent again");
        }
        self.send(at, operation)
    }

    fn begin_pull(&mut self, at: usize) {
        self.calls += 1;
        let first = 1 + self.rng.below(5);
        let operation = self.devices[at].pull(self.calls, first);
        self.send(at, operation);
    }

    fn begin_fetch(&mut self, at: usize) {
        self.calls += 1;
        let operation = self.devices[at].fetch(self.calls);
        self.send(at, operation);
    }

    async fn deliver_request(&mut self) -> Result<(), String> {
        let Some((request, is_duplicated)) = self.network.next_request(&mut self.rng) else {
            return Ok(());
        };
        if is_duplicated {
            self.cover("a request is duplicated");
        }
        self.execute(request).await
    }

    fn drop_request(&mut self) {
        if let Some(lost) = self.rng.take(&mut self.network.requests) {
            self.note(format!("the request #{} is lost", lost.call));
            self.cover("a request is lost");
        }
    }

    fn drop_response(&mut self) {
        if let Some(lost) = self.rng.take(&mut self.network.responses) {
            self.note(format!("the response to #{} is lost", lost.call));
            self.cover("a response is lost");
        }
    }

    fn deliver_response(&mut self) {
        if let Some(response) = self.rng.take(&mut self.network.responses) {
            self.receive(response);
        }
    }

    fn time_out(&mut self, at: usize) {
        if self.devices[at].is_waiting() {
            self.note(format!("device-{at} stops waiting"));
            self.cover("a device stops waiting");
            self.devices[at].time_out();
        }
    }

    fn restart(&mut self, at: usize) {
        self.note(format!("device-{at} restarts"));
        self.cover("a device restarts");
        self.devices[at].restart();
        if self.devices[at].cursor.is_some() && self.rng.chance(15) {
            self.note(format!("the cursor of device-{at} is damaged"));
            self.devices[at].cursor = Some("damaged".to_owned());
        }
    }

    fn wait(&mut self) {
        let longest_ms = if self.rng.chance(70) { 5_000 } else { 180_000 };
        let ms = i64::try_from(1 + self.rng.below(longest_ms)).unwrap();
        self.note(format!("{ms} ms pass"));
        self.server.wait(ms);
    }

    async fn back_up(&mut self) {
        self.note("a backup is made".to_owned());
        self.server.back_up().await;
        self.backup = Some(self.model.clone());
    }

    /// Restores the backup, if there is one, and renews the feed epoch as an operator does afterwards.
    async fn renew_epoch(&mut self) {
        if let Some(backup) = self.backup.clone() {
            self.note("the backup is restored".to_owned());
            self.cover("a backup is restored");
            self.server.restore(backup.head).await;
            self.model = backup;
        }
        self.note("the epoch is renewed".to_owned());
        self.server.renew_epoch().await;
        self.epoch += 1;
    }

    /// Executes a request on the server, checks its response with the oracle, and puts the response into the
    /// network.
    async fn execute(&mut self, request: Request) -> Result<(), String> {
        let Request { call, device, operation } = request;
        let data = self.server.execute(&operation).await.map_err(|error| format!("#{call}: {error}"))?;
        self.note(format!("the server executes #{call}: {data}"));
        match &operation {
            Operation::Flush { mutation, client, items } => {
                let current = self.devices[device].pending_flush.as_ref().map(|flush| flush.call);
                if current != Some(call) {
                    self.cover("a request arrives late");
                }
                self.check_flush(*mutation, client.as_deref(), items, &data)?;
                let head = self.server.head().await;
                if head != self.model.head {
                    return Err(format!("#{call}: the head is {head}, it should be {}", self.model.head));
                }
            }
            Operation::Pull { after, first } => self.check_page(after.as_deref(), *first, &data)?,
            Operation::Fetch { ids } => self.check_nodes(ids, &data)?,
        }
        self.network.responses.push(Response { call, device, data });
        Ok(())
    }

    /// Applies the items to the oracle and compares its results with those of the server.
    fn check_flush(
        &mut self,
        mutation: FlushMutation,
        client: Option<&str>,
        items: &[Value],
        data: &Value,
    ) -> Result<(), String> {
        let expected = self.model.apply(self.server.now_ms(), client, items);
        for (result, item) in expected.iter().zip(items) {
            let outcome = result["outcome"].as_str().unwrap();
            self.cover(outcome);
            for case in [&result["matchedBy"], &result["problem"]["code"]] {
                if let Some(case) = case.as_str().filter(|case| *case != "ID") {
                    self.cover(case);
                }
            }
            if result["differs"] == true {
                self.cover("a duplicate differs");
            }
            if item.get("restoreEvent").is_some() && outcome == "UPDATED" {
                self.cover("an event is restored");
            }
        }
        let results = results_of(data);
        for (index, (expected, actual)) in expected.iter().zip(&results).enumerate() {
            if expected != actual {
                return Err(format!(
                    "item {index}: {}\nshould be {expected}\nbut is    {actual}",
                    items[index]
                ));
            }
        }
        let count = |outcome: &str| expected.iter().filter(|result| result["outcome"] == *outcome).count();
        if results.len() != items.len() {
            return Err(format!("{} items have {} results", items.len(), results.len()));
        }
        if mutation == FlushMutation::CreateEvents {
            for (field, outcome) in [
                ("created", "CREATED"),
                ("duplicates", "DUPLICATE"),
                ("deleted", "DELETED"),
                ("rejected", "REJECTED"),
            ] {
                if data[field] != count(outcome) {
                    return Err(format!("{field} should be {}", count(outcome)));
                }
            }
            self.cover("createEvents");
        }
        if mutation == FlushMutation::CreateEvent {
            self.cover("createEvent");
        }
        Ok(())
    }

    /// Compares a page of changes with the state of the oracle.
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
            self.cover(reset);
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
            let row = self.model.rows.get(id).ok_or(format!("{id} is in the feed and not in the oracle"))?;
            let (entity, field) =
                if row.kind == EntityKind::Event { ("EVENT", "event") } else { ("EVENT_TYPE", "eventType") };
            let mut expected = json!({
                "entity": entity, "entityId": id, "version": row.version, "deleted": row.content.is_none(),
                "originClientId": row.writer, "event": null, "eventType": null,
            });
            if row.content.is_some() {
                expected[field] = self.model.to_json(id);
            }
            if expected != *change {
                return Err(format!("a change should be {expected}\nbut is             {change}"));
            }
            if !ids.insert(id) || (after.is_none() && row.content.is_none()) {
                return Err(format!(
                    "{id} is twice in a page, or a tombstone is in the first page of a bootstrap"
                ));
            }
        }
        Ok(())
    }

    /// Compares the response of a fetch by ids with the state of the oracle.
    fn check_nodes(&self, ids: &[String], nodes: &Value) -> Result<(), String> {
        for (id, node) in ids.iter().zip(nodes.as_array().unwrap()) {
            let row = self.model.canonical(id).map(|id| (id, &self.model.rows[id]));
            let expected = row.filter(|(_, row)| row.content.is_some()).map_or(Value::Null, |(id, row)| {
                let mut entity = self.model.to_json(id);
                entity["__typename"] =
                    json!(if row.kind == EntityKind::Event { "Event" } else { "EventType" });
                entity
            });
            if expected != *node {
                return Err(format!("node {id} should be {expected}\nbut is {node}"));
            }
        }
        Ok(())
    }

    /// Gives a response to its device, which ignores it unless it still waits for it.
    fn receive(&mut self, response: Response) {
        let Response { call, device: at, data } = response;
        let now_ms = self.server.now_ms();
        let device = &mut self.devices[at];
        if device.pending_flush.as_ref().is_some_and(|flush| flush.call == call) {
            let results = results_of(&data);
            let cases = device.receive_results(&results, now_ms, &mut self.rng);
            cases.into_iter().for_each(|case| self.cover(case));
        } else if device.pending_pull == Some(call) {
            device.receive_page(&data);
        } else if device.pending_fetch.as_ref().is_some_and(|fetch| fetch.call == call) {
            device.receive_nodes(data.as_array().unwrap());
            self.cover("an entity is fetched");
        } else {
            self.note(format!("device-{at} no longer waits for #{call}"));
            self.cover("a response arrives late");
            return;
        }
        self.note(format!("device-{at} receives the response to #{call}"));
    }
}

/// Returns the results in the response to any of the mutations.
fn results_of(data: &Value) -> Vec<Value> {
    match data {
        Value::Array(results) => results.clone(),
        one if one.get("results").is_none() => vec![one.clone()],
        many => many["results"].as_array().unwrap().clone(),
    }
}
