//! Eight concurrent writers of different kinds, which write the same events.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::{Client, event, new_id};

/// What the writers share: the client, an event type, and the ids that exist.
#[derive(Clone)]
struct Shared {
    client: Client,
    kind: String,
    ids: Arc<Mutex<Vec<String>>>,
}

impl Shared {
    /// Returns the id of an existing event, which depends on `n`.
    fn id(&self, n: usize) -> String {
        let ids = self.ids.lock().unwrap();
        ids[n * 7 % ids.len()].clone()
    }

    fn add(&self, event: &Value) {
        self.ids.lock().unwrap().push(event["id"].as_str().unwrap().to_owned());
    }

    fn event(&self, notes: &str) -> Value {
        let mut event = event(&self.kind);
        event["notes"] = json!(notes);
        event
    }

    async fn outbox(&self, client_id: &str, mutations: Value) {
        let query = "mutation($c: ID!, $m: [MutationInput!]!) { applyMutations(input: { clientId: $c, mutations: $m }) \
            { results { outcome problem { code detail } } } }";
        let data = self.client.ask(query, json!({ "c": client_id, "m": mutations })).await;
        for result in data["applyMutations"]["results"].as_array().unwrap() {
            assert_ne!(result["outcome"], "REJECTED", "{result}");
        }
    }
}

/// Runs all writers until they have ended.
pub async fn write(client: &Client) {
    let kind = client.event_type("run").await;
    let shared = Shared { client: client.clone(), kind, ids: Arc::default() };
    let first: Vec<Value> = (0..30).map(|n| shared.event(&format!("first {n}"))).collect();
    client.create(&first).await;
    first.iter().for_each(|event| shared.add(event));
    tokio::join!(
        creates(shared.clone()),
        batches(shared.clone()),
        updates(shared.clone(), "one"),
        updates(shared.clone(), "two"),
        deletes(shared.clone()),
        outboxes(shared.clone()),
        types(shared.clone()),
        import(shared),
    );
}

async fn creates(shared: Shared) {
    for n in 0..25 {
        let event = shared.event(&format!("single {n}"));
        shared.client.create(std::slice::from_ref(&event)).await;
        shared.add(&event);
    }
}

/// Sends batches with some events of the batch before.
async fn batches(shared: Shared) {
    let mut last: Vec<Value> = Vec::new();
    for n in 0..8 {
        let mut events: Vec<Value> = (0..12).map(|m| shared.event(&format!("batch {n} {m}"))).collect();
        events.extend(last.iter().take(5).cloned());
        shared.client.create(&events).await;
        events.iter().for_each(|event| shared.add(event));
        last = events;
    }
}

async fn updates(shared: Shared, name: &str) {
    for n in 0..25 {
        let edit =
            json!({ "id": shared.id(n), "patch": { "notes": format!("{name} {n}") }, "editId": new_id() });
        shared.outbox(name, json!([{ "updateEvent": edit }])).await;
    }
}

async fn deletes(shared: Shared) {
    for n in 0..15 {
        let id = shared.id(n * 3 + 1);
        shared.outbox("deleter", json!([{ "deleteEvent": { "id": id } }])).await;
        if n % 3 == 0 {
            let mut back = shared.event("back again");
            back["id"] = json!(id);
            shared.outbox("deleter", json!([{ "restoreEvent": { "event": back } }])).await;
        }
    }
}

/// Sends outboxes that change one event several times, which is one change in the feed.
async fn outboxes(shared: Shared) {
    for n in 0..10 {
        let (kept, gone) = (shared.event("kept"), shared.event("gone"));
        let mutations = json!([
            { "createEvent": kept },
            { "createEvent": gone },
            { "updateEvent": { "id": kept["id"], "patch": { "notes": format!("kept {n}") } } },
            { "deleteEvent": { "id": gone["id"] } },
            { "updateEvent": { "id": shared.id(n + 2), "patch": { "notes": null } } },
        ]);
        shared.outbox("phone", mutations).await;
        shared.add(&kept);
    }
}

async fn types(shared: Shared) {
    for n in 0..10 {
        let id = new_id();
        shared
            .outbox("types", json!([{ "createEventType": { "id": id, "name": format!("type {n}") } }]))
            .await;
        let rename = json!({ "id": id, "patch": { "name": format!("renamed {n}") } });
        let mut mutations = vec![json!({ "updateEventType": rename })];
        if n % 2 == 0 {
            mutations.push(json!({ "deleteEventType": { "id": id } }));
        }
        shared.outbox("types", json!(mutations)).await;
    }
}

async fn import(shared: Shared) {
    let line = |n| {
        let record = json!({ "eventTypeId": shared.kind, "timestamp": "2026-01-01T00:00:00Z", "externalId": format!("i-{n}") });
        format!("{record}\n")
    };
    let payload: String = (0..1_200).map(line).collect();
    let job = shared.client.import_all(&new_id(), payload.into_bytes()).await;
    assert_eq!(job["counts"]["inserted"], 1_200, "{job}");
}
