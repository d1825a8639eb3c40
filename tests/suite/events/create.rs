//! Tests `createEvents`: duplicates by id and by external id, concurrent clients, and invalid fields.

use serde_json::{Value, json};

use crate::harness::{TestServer, event, eventually, new_id, on_both};

on_both!(
    a_duplicate_changes_neither_the_event_nor_the_feed,
    a_duplicate_by_another_key_says_which_row_it_is_and_the_sent_id_becomes_its_alias,
    fifty_concurrent_creates_of_one_event_store_one_row,
    a_restored_phone_that_makes_new_ids_is_matched_by_external_id,
    another_users_id_is_simply_unknown,
    all_invalid_fields_are_reported_with_pointers,
    two_all_day_events_of_one_type_on_one_day_are_both_stored,
);

async fn a_duplicate_changes_neither_the_event_nor_the_feed(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let events: Vec<Value> = (0..20).map(|_| event(&kind)).collect();
    assert_eq!(client.create(&events).await["created"], 20);
    let (_, cursor) = client.pull(None, 500).await;
    for _ in 0..3 {
        let again = client.create(&events).await;
        assert_eq!((&again["duplicates"], &again["created"]), (&json!(20), &json!(0)));
        assert!(
            again["results"].as_array().unwrap().iter().all(|r| r["differs"] == false && r["version"] == 1)
        );
    }
    let (changes, after) = client.pull(Some(&cursor), 500).await;
    assert_eq!((changes.len(), after), (0, cursor));
}

async fn a_duplicate_by_another_key_says_which_row_it_is_and_the_sent_id_becomes_its_alias(
    server: &TestServer,
) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let mut first = event(&kind);
    first["externalId"] = json!("sample-1");
    let mut second = first.clone();
    second["id"] = json!(new_id());
    client.create(&[first.clone()]).await;
    let payload = client.create(&[second.clone()]).await;
    let result = &payload["results"][0];
    assert_eq!((&result["outcome"], &result["matchedBy"]), (&json!("DUPLICATE"), &json!("EXTERNAL_ID")));
    assert_eq!((&result["event"]["id"], &result["sentId"]), (&first["id"], &second["id"]));
    // From now on the alias leads to the row in reads, and a create with it is a duplicate by id.
    let read = client
        .ask("query($id: ID!) { event(id: $id) { id } node(id: $id) { id } }", json!({ "id": second["id"] }));
    let read = read.await;
    assert_eq!((&read["event"]["id"], &read["node"]["id"]), (&first["id"], &first["id"]));
    assert_eq!(client.create(&[second]).await["results"][0]["matchedBy"], "ID");
    assert_eq!(client.pull(None, 500).await.0.len(), 2);
}

async fn fifty_concurrent_creates_of_one_event_store_one_row(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let workout = event(&kind);
    let sends = (0..50).map(|_| {
        let (client, workout) = (client.clone(), workout.clone());
        tokio::spawn(async move { client.create(&[workout]).await["created"].as_i64().unwrap() })
    });
    let mut created = 0;
    for send in sends.collect::<Vec<_>>() {
        created += send.await.unwrap();
    }
    assert_eq!((created, server.number("SELECT count(*) FROM event").await), (1, 1));
}

async fn a_restored_phone_that_makes_new_ids_is_matched_by_external_id(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("set").await;
    let samples = |count: u32| -> Vec<Value> {
        (0..count)
            .map(|n| {
                let mut sample = event(&kind);
                sample["externalId"] = json!(format!("set-{n}"));
                sample["sourceType"] = json!("healthkit");
                sample
            })
            .collect()
    };
    assert_eq!(client.create(&samples(28)).await["created"], 28);
    let restored = client.create(&samples(28)).await;
    assert_eq!((&restored["created"], &restored["duplicates"]), (&json!(0), &json!(28)));
    assert_eq!(server.number("SELECT count(*) FROM event").await, 28);
}

async fn another_users_id_is_simply_unknown(server: &TestServer) {
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let kind = ann.event_type("run").await;
    let hers = event(&kind);
    ann.create(std::slice::from_ref(&hers)).await;
    let import = new_id();
    ann.create_import(&import, 10, None).await;
    let reads = "query($id: ID!) { event(id: $id) { id } eventType(id: $id) { id } importJob(id: $id) { id } node(id: $id) { id } \
        nodes(ids: [$id]) { id } }";
    let unknown = bob.send(reads, json!({ "id": new_id() })).await;
    for id in [hers["id"].clone(), json!(kind), json!(import)] {
        assert_eq!(bob.send(reads, json!({ "id": id })).await, unknown);
    }
    let cancel = "mutation($id: ID!) { cancelImport(input: { id: $id }) { importJob { id } problem { code detail } } }";
    let refused = bob.ask(cancel, json!({ "id": import })).await;
    assert_eq!(refused, bob.ask(cancel, json!({ "id": new_id() })).await);
    assert_eq!(bob.put(&import, None, vec![b'x'; 10]).await.status(), 404);
    // Bob may use the same id for an event of his own, and neither user can see the other's event.
    let his = bob.event_type("run").await;
    let mut same = event(&his);
    same["id"] = hers["id"].clone();
    same["notes"] = json!("his");
    assert_eq!(bob.create(&[same]).await["created"], 1);
    let read = ann.ask("query($id: ID!) { event(id: $id) { notes } }", json!({ "id": hers["id"] })).await;
    assert_eq!(read["event"]["notes"], "a run");
}

async fn all_invalid_fields_are_reported_with_pointers(server: &TestServer) {
    let client = server.client("ann");
    let bad = json!({ "id": "x", "timestamp": "x", "notes": "a\u{0}b", "timeZone": "Mars/Base", "location": { "latitude": 91.0 },
        "properties": { "a": "\u{0}" }, "sourceType": "Bad!" });
    let payload = client.create(&[bad]).await;
    let problem = &payload["results"][0]["problem"];
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(problem["code"], "VALIDATION_FAILED");
    assert_eq!(
        pointers,
        [
            "/id",
            "/eventTypeId",
            "/timestamp",
            "/timeZone",
            "/notes",
            "/sourceType",
            "/location/latitude",
            "/location/longitude",
            "/properties"
        ]
    );
}

async fn two_all_day_events_of_one_type_on_one_day_are_both_stored(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("mood").await;
    let all_day = || json!({ "id": new_id(), "eventTypeId": kind, "isAllDay": true, "timestamp": "2026-05-01T23:00:00-05:00" });
    assert_eq!(client.create(&[all_day(), all_day()]).await["created"], 2);
    eventually("both have the date as written", || async {
        let read = client.ask("{ events { nodes { timestamp } } }", json!({})).await;
        read["events"]["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .all(|e| e["timestamp"] == "2026-05-01T00:00:00.000Z")
    })
    .await;
}
