//! Tests batches with valid, invalid and duplicate events, and many clients that write at the same time.

use std::time::Duration;

use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::{Value, json};

use super::{flush, outcome, read};
use crate::harness::{TestServer, event, eventually, is_postgres, new_id, on_both};

on_both!(
    a_batch_of_500_with_three_bad_ones_stores_497,
    a_duplicate_is_answered_with_the_stored_event,
    thirty_two_clients_that_send_the_same_500_events_store_each_once,
    a_transaction_whose_caller_goes_away_is_ended_and_loses_no_other_write,
    lists_keep_their_order_over_pages_in_both_directions,
    one_bad_event_in_a_batch_of_fifty_costs_none_of_the_others,
    a_new_type_and_its_event_sent_together_are_both_stored,
);

async fn a_batch_of_500_with_three_bad_ones_stores_497(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let known = event(&kind);
    client.create(std::slice::from_ref(&known)).await;
    let mut events: Vec<Value> = (0..500).map(|_| event(&kind)).collect();
    events[10]["timestamp"] = json!("2026-13-01T00:00:00Z");
    events[20]["id"] = json!("9b2b7a52-8f1f-4c0e-9d3a-0a5d5c1b2f3e");
    events[30] = known.clone();
    events[30]["notes"] = json!("another story");
    let payload = client.create(&events).await;
    let counts =
        ["created", "duplicates", "rejected", "deleted"].map(|count| payload[count].as_i64().unwrap());
    assert_eq!(counts, [497, 1, 2, 0]);
    let results = &payload["results"];
    assert_eq!(
        results[10]["problem"]["errors"][0],
        json!({ "pointer": "/timestamp", "code": "INVALID_DATETIME" })
    );
    assert_eq!(results[20]["problem"]["errors"][0], json!({ "pointer": "/id", "code": "NOT_UUID_V7" }));
    let duplicate = &results[30];
    assert_eq!((&duplicate["outcome"], &duplicate["differs"]), (&json!("DUPLICATE"), &json!(true)));
    assert_eq!((&duplicate["matchedBy"], &duplicate["event"]["notes"]), (&json!("ID"), &known["notes"]));
    let too_many = client.send(
        "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { created } }",
        json!({ "e": (0..501).map(|_| event(&kind)).collect::<Vec<_>>() }),
    );
    let refused = too_many.await["errors"][0]["extensions"].take();
    assert_eq!(
        (&refused["code"], &refused["limit"]),
        (&json!("LIMIT_EXCEEDED"), &json!({ "name": "batch", "max": 500 }))
    );
    assert_eq!(server.number("SELECT count(*) FROM event").await, 498);
}

async fn a_duplicate_is_answered_with_the_stored_event(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = json!({
        "id": new_id(), "eventTypeId": kind, "timestamp": "2026-01-02T03:04:05+01:00",
        "endDate": "2026-01-02T04:00:00+01:00", "timeZone": "Europe/Berlin", "notes": "along the river",
        "sourceType": "watch", "externalId": "lap 7", "properties": { "b": 2, "a": [1, null] },
        "location": { "latitude": 52.5, "longitude": 13.4, "name": "the bridge" },
    });
    let create = "mutation($event: EventInput!) { createEvent(input: { event: $event }) { result { \
        outcome matchedBy differs version event { id eventTypeId eventType { id name } timestamp endDate \
        isAllDay timeZone notes sourceType externalId location { latitude longitude name } properties \
        version importJobId createdAt updatedAt } } } }";
    let mut results = Vec::new();
    let (by_key, other) = (json!(new_id()), json!("round the lake"));
    for (field, value) in
        [("notes", &sent["notes"]), ("notes", &sent["notes"]), ("notes", &other), ("id", &by_key)]
    {
        let mut event = sent.clone();
        event[field] = value.clone();
        results.push(client.ask(create, json!({ "event": event })).await["createEvent"]["result"].take());
    }
    let outcomes: Vec<_> = results
        .iter()
        .map(|result| (result["outcome"].as_str(), result["matchedBy"].as_str(), &result["differs"]))
        .collect();
    let (created, duplicate, id, key) = (Some("CREATED"), Some("DUPLICATE"), Some("ID"), Some("EXTERNAL_ID"));
    let (same, differs) = (json!(false), json!(true));
    assert_eq!(
        outcomes,
        [(created, None, &same), (duplicate, id, &same), (duplicate, id, &differs), (duplicate, key, &same)]
    );
    assert_eq!(results[0]["event"]["notes"], sent["notes"]);
    for again in &results[1..] {
        assert_eq!(again["event"], results[0]["event"]);
    }
}

/// This test fails if the lock and the load are one statement that reads with a snapshot from before the
/// lock.
async fn thirty_two_clients_that_send_the_same_500_events_store_each_once(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let events: Vec<Value> = (0..500).map(|_| event(&kind)).collect();
    // The account row is locked, so that one write waits for it and the others queue after that one. A write
    // that has waited must not use what it read before it waited.
    let held = if is_postgres(&server.sql) { Some(server.sql.begin().await.unwrap()) } else { None };
    if let Some(held) = &held {
        held.execute_unprepared("SELECT 1 FROM account FOR NO KEY UPDATE").await.unwrap();
    }
    let mut sends = Vec::new();
    for number in 0..32_usize {
        let (client, mut events) = (client.clone(), events.clone());
        let offset = number * 37 % events.len();
        events.rotate_left(offset);
        sends.push(tokio::spawn(async move {
            let size = [1, 500, 20, 125][number % 4];
            let sent = if size == 1 { &events[..40] } else { &events[..] };
            let mut created = 0;
            for batch in sent.chunks(size) {
                let payload = client.create(batch).await;
                assert_eq!(payload["rejected"], 0);
                created += payload["created"].as_i64().unwrap();
            }
            created
        }));
    }
    if let Some(held) = held {
        let waiting = "SELECT count(*) FROM pg_stat_activity \
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("one write waits for the lock", || async { server.number(waiting).await == 1 }).await;
        held.rollback().await.unwrap();
    }
    let mut created = 0;
    for send in sends {
        created += send.await.unwrap();
    }
    assert_eq!((created, server.number("SELECT count(*) FROM event").await), (500, 500));
}

async fn lists_keep_their_order_over_pages_in_both_directions(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let events: Vec<Value> = (0..25)
        .map(|n| json!({ "id": new_id(), "eventTypeId": kind, "timestamp": format!("2026-01-{:02}T00:00:00Z", n / 2 + 1) }))
        .collect();
    client.create(&events).await;
    let query = "query($first: Int, $after: String, $last: Int, $before: String) { events(first: $first, after: $after, \
        last: $last, before: $before) { totalCount nodes { id } edges { cursor } pageInfo { hasNextPage hasPreviousPage \
        startCursor endCursor } } }";
    let mut forward = Vec::new();
    let mut after = Value::Null;
    loop {
        let page = client.ask(query, json!({ "first": 10, "after": after })).await["events"].take();
        assert_eq!(page["totalCount"], 25);
        forward.extend(page["nodes"].as_array().unwrap().clone());
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    let mut backward = Vec::new();
    let mut before = Value::Null;
    loop {
        let page = client.ask(query, json!({ "last": 7, "before": before })).await["events"].take();
        let mut nodes = page["nodes"].as_array().unwrap().clone();
        nodes.extend(backward);
        backward = nodes;
        before = page["pageInfo"]["startCursor"].clone();
        if page["pageInfo"]["hasPreviousPage"] == false {
            break;
        }
    }
    assert_eq!((forward.len(), &forward), (25, &backward));
}

async fn a_transaction_whose_caller_goes_away_is_ended_and_loses_no_other_write(server: &TestServer) {
    let open = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    for steps in 0..60 {
        // The future is dropped after each possible number of polls.
        let mut begin = Box::pin(async { server.store.begin().await.unwrap().commit().await.unwrap() });
        for _ in 0..steps {
            if futures::poll!(&mut begin).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(begin);
        if is_postgres(&server.sql) {
            let ended = eventually("all transactions are over", || async { server.number(open).await == 0 });
            tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
        }
    }
    server.client("ann").event_type("run").await;
    // Another connection sees the acknowledged write.
    assert_eq!(server.number("SELECT count(*) FROM event_type").await, 1);
}

async fn one_bad_event_in_a_batch_of_fifty_costs_none_of_the_others(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let mut events: Vec<Value> = (0..50).map(|_| event(&kind)).collect();
    events[7]["timestamp"] = json!("yesterday");
    let payload = client.create(&events).await;
    assert_eq!((&payload["created"], &payload["rejected"]), (&json!(49), &json!(1)));
    assert_eq!(payload["results"][7]["problem"]["code"], "INVALID_DATETIME");
    assert_eq!(payload["results"][7]["sentId"], events[7]["id"]);
}

async fn a_new_type_and_its_event_sent_together_are_both_stored(server: &TestServer) {
    let client = server.client("ann");
    let kind = new_id();
    let sent = event(&kind);
    let results = flush(
        &client,
        &json!([{ "createEventType": { "id": kind, "name": "run" } }, { "createEvent": sent }]),
    )
    .await;
    assert_eq!([outcome(&results[0]), outcome(&results[1])], [("CREATED", Some(1)); 2]);
    assert_eq!(read(&client, &sent["id"]).await["eventType"]["name"], "run");
}
