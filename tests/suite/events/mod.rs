//! Tests writes of events and event types through GraphQL. This file has the requests that the other files of
//! this folder send, and the tests of patches.

mod batches;
mod create;
mod event_types;
pub mod groups;
mod guards;
mod new_events;
mod outbox;
pub mod tombstones;

use serde_json::{Value, json};

use crate::harness::{Client, TestServer, event, new_id, on_both};

const RESULT: &str = "__typename index sentId outcome matchedBy differs version \
    problem { code status retryable retryAfterMs errors { pointer code } }";
const EVENT: &str = "id eventTypeId timestamp endDate isAllDay timeZone notes sourceType externalId properties \
    location { latitude longitude name } version importJobId createdAt updatedAt eventType { id name }";
const TYPE: &str = "id name color icon version createdAt updatedAt";

on_both!(
    absent_keeps_and_null_clears_every_field_that_may_be_empty,
    the_feed_holds_explicit_nulls_where_a_patch_cleared,
    null_for_a_required_field_is_a_problem_of_its_item,
    every_invalid_value_of_a_patch_is_reported_with_its_pointer,
    an_event_never_ends_before_it_starts_whichever_end_is_patched,
    a_patch_to_all_day_keeps_the_sent_date_or_else_the_stored_utc_date,
    a_patch_may_change_the_type_but_not_to_a_deleted_one,
    an_alias_can_be_used_for_its_event_in_every_edit,
    an_import_by_the_alias_of_an_event_finds_it,
    an_edit_of_an_unknown_id_is_not_found,
    an_edit_of_the_wrong_shape_refuses_the_request,
    an_edit_of_another_users_event_is_answered_like_one_of_an_unknown_id,
);

/// Sends one mutation. Returns its `result`.
pub async fn write(client: &Client, mutation: &str, input: Value) -> Value {
    let input_type = format!("{}{}Input", mutation[..1].to_uppercase(), &mutation[1..]);
    let entity = if mutation.ends_with("Type") {
        format!("eventType {{ {TYPE} }}")
    } else {
        format!("event {{ {EVENT} }}")
    };
    let query = format!(
        "mutation($input: {input_type}!) {{ {mutation}(input: $input) {{ result {{ {RESULT} {entity} }} }} }}"
    );
    client.ask(&query, json!({ "input": input })).await[mutation]["result"].take()
}

/// Returns the document that sends an outbox.
pub fn outbox_query() -> String {
    format!(
        "mutation($input: ApplyMutationsInput!) {{ applyMutations(input: $input) {{ results {{ {RESULT} \
         ... on EventResult {{ event {{ {EVENT} }} }} ... on EventTypeResult {{ eventType {{ {TYPE} }} }} }} }} }}"
    )
}

/// Sends an outbox as the client `phone`. Returns its results.
pub async fn flush(client: &Client, mutations: &Value) -> Vec<Value> {
    let input = json!({ "clientId": "phone", "mutations": mutations });
    let mut data = client.ask(&outbox_query(), json!({ "input": input })).await;
    serde_json::from_value(data["applyMutations"]["results"].take()).unwrap()
}

/// Updates an event. Returns the result.
pub async fn patch(client: &Client, id: &Value, patch: Value) -> Value {
    write(client, "updateEvent", json!({ "id": id, "patch": patch })).await
}

/// Loads an event. Returns null if there is none.
pub async fn read(client: &Client, id: &Value) -> Value {
    let query = format!("query($id: ID!) {{ event(id: $id) {{ {EVENT} }} }}");
    client.ask(&query, json!({ "id": id })).await["event"].take()
}

/// Returns the cursor of the feed head.
pub async fn head(client: &Client) -> Value {
    client.ask("{ syncStatus { headCursor } }", json!({})).await["syncStatus"]["headCursor"].take()
}

/// Returns the pointers and codes of a result, which must be REJECTED.
pub fn problems(result: &Value) -> Vec<(&str, &str)> {
    assert_eq!(result["outcome"], "REJECTED", "{result}");
    let errors = result["problem"]["errors"].as_array().unwrap();
    errors.iter().map(|error| (error["pointer"].as_str().unwrap(), error["code"].as_str().unwrap())).collect()
}

/// Returns the outcome and the version of a result. The version may be null.
pub fn outcome(result: &Value) -> (&str, Option<i64>) {
    (result["outcome"].as_str().unwrap(), result["version"].as_i64())
}

/// Returns the input of an event that has a value for every optional field.
fn full(kind: &str) -> Value {
    json!({ "id": new_id(), "eventTypeId": kind, "timestamp": "2026-01-02T03:04:05.678Z", "endDate": "2026-01-02T04:00:00Z",
        "timeZone": "Europe/Berlin", "notes": "a run", "properties": { "km": 5 }, "externalId": "x-1",
        "location": { "latitude": 52.5, "longitude": 13.4, "name": "Berlin" } })
}

async fn absent_keeps_and_null_clears_every_field_that_may_be_empty(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = full(&kind);
    let id = sent["id"].clone();
    let mut expected = write(&client, "createEvent", json!({ "event": sent })).await["event"].take();
    let nothing = patch(&client, &id, json!({})).await;
    assert_eq!((outcome(&nothing), &nothing["event"]), (("UNCHANGED", Some(1)), &expected));
    for (version, (field, empty)) in [
        ("endDate", Value::Null),
        ("timeZone", Value::Null),
        ("notes", Value::Null),
        ("location", Value::Null),
        ("properties", json!({})),
    ]
    .into_iter()
    .enumerate()
    {
        let result = patch(&client, &id, json!({ field: null })).await;
        assert_eq!((&result["outcome"], &result["matchedBy"]), (&json!("UPDATED"), &json!("ID")));
        expected[field] = empty;
        expected["version"] = json!(version + 2);
        expected["updatedAt"] = result["event"]["updatedAt"].clone();
        assert_eq!((&result["event"], &result["version"]), (&expected, &expected["version"]), "{field}");
        // The field is null already, so nothing changes.
        assert_eq!(patch(&client, &id, json!({ field: null })).await["outcome"], "UNCHANGED", "{field}");
    }
    assert_eq!(read(&client, &id).await, expected);
}

async fn the_feed_holds_explicit_nulls_where_a_patch_cleared(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = full(&kind);
    write(&client, "createEvent", json!({ "event": sent })).await;
    let clear =
        json!({ "notes": null, "endDate": null, "timeZone": null, "location": null, "properties": null });
    assert_eq!(outcome(&patch(&client, &sent["id"], clear).await), ("UPDATED", Some(2)));
    let query = "{ changes { changes { entityId version event { notes endDate timeZone location { name } properties } } } }";
    let page = client.ask(query, json!({})).await;
    assert_eq!(
        page["changes"]["changes"][1],
        json!({ "entityId": sent["id"], "version": 2, "event":
            { "notes": null, "endDate": null, "timeZone": null, "location": null, "properties": {} } })
    );
}

async fn null_for_a_required_field_is_a_problem_of_its_item(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    for field in ["eventTypeId", "timestamp", "isAllDay"] {
        let result = patch(&client, &sent["id"], json!({ field: null, "notes": "new" })).await;
        let pointer = format!("/patch/{field}");
        assert_eq!(problems(&result), [(pointer.as_str(), "REQUIRED")]);
        assert_eq!((&result["problem"]["code"], &result["version"]), (&json!("REQUIRED"), &Value::Null));
    }
    let all = json!({ "eventTypeId": null, "timestamp": null, "isAllDay": null });
    let results = flush(
        &client,
        &json!([
            { "updateEvent": { "id": sent["id"], "patch": all } },
            { "updateEvent": { "id": sent["id"], "patch": { "notes": "kept" } } },
        ]),
    )
    .await;
    assert_eq!(problems(&results[0]).len(), 3);
    assert_eq!(results[0]["problem"]["code"], "VALIDATION_FAILED");
    assert_eq!((outcome(&results[1]), &results[1]["event"]["notes"]), (("UPDATED", Some(2)), &json!("kept")));
}

async fn every_invalid_value_of_a_patch_is_reported_with_its_pointer(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    let wrong = json!({ "eventTypeId": "x", "timestamp": "yesterday", "endDate": 5, "timeZone": "Mars/Base", "notes": "a\u{0}b",
        "location": { "latitude": 91 }, "properties": [] });
    let input = json!({ "id": sent["id"], "patch": wrong, "expectedVersion": 0, "editId": "not an id" });
    let result = write(&client, "updateEvent", input).await;
    assert_eq!(
        problems(&result),
        [
            ("/patch/eventTypeId", "INVALID_UUID"),
            ("/patch/timestamp", "INVALID_DATETIME"),
            ("/patch/endDate", "INVALID_DATETIME"),
            ("/patch/timeZone", "UNKNOWN_TIME_ZONE"),
            ("/patch/notes", "NUL_CHARACTER"),
            ("/patch/location/latitude", "OUT_OF_RANGE"),
            ("/patch/location/longitude", "REQUIRED"),
            ("/patch/properties", "INVALID_JSON"),
            ("/expectedVersion", "OUT_OF_RANGE"),
            ("/editId", "INVALID_UUID"),
        ]
    );
    let unknown = patch(&client, &sent["id"], json!({ "eventTypeId": new_id() })).await;
    assert_eq!(problems(&unknown), [("/patch/eventTypeId", "EVENT_TYPE_NOT_FOUND")]);
    assert_eq!(read(&client, &sent["id"]).await["version"], 1);
}

async fn an_event_never_ends_before_it_starts_whichever_end_is_patched(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = full(&kind);
    write(&client, "createEvent", json!({ "event": sent })).await;
    let id = &sent["id"];
    let late_start = patch(&client, id, json!({ "timestamp": "2026-01-02T05:00:00Z" })).await;
    assert_eq!(problems(&late_start), [("/patch/timestamp", "END_BEFORE_START")]);
    let early_end = patch(&client, id, json!({ "endDate": "2026-01-02T03:00:00Z" })).await;
    assert_eq!(problems(&early_end), [("/patch/endDate", "END_BEFORE_START")]);
    let both = json!({ "timestamp": "2026-01-02T05:00:00Z", "endDate": "2026-01-02T06:00:00+01:00" });
    let moved = patch(&client, id, both).await;
    assert_eq!(
        (outcome(&moved), &moved["event"]["endDate"]),
        (("UPDATED", Some(2)), &json!("2026-01-02T05:00:00.000Z"))
    );
    let open = patch(&client, id, json!({ "timestamp": "2026-01-03T00:00:00Z", "endDate": null })).await;
    assert_eq!(outcome(&open), ("UPDATED", Some(3)));
}

async fn a_patch_to_all_day_keeps_the_sent_date_or_else_the_stored_utc_date(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let id = json!(new_id());
    let late = "2026-01-02T23:30:00-05:00";
    let sent =
        json!({ "id": id, "eventTypeId": kind, "timestamp": late, "endDate": "2026-01-03T02:00:00-05:00" });
    client.create(&[sent]).await;
    let days = |result: &Value| (result["event"]["timestamp"].clone(), result["event"]["endDate"].clone());
    let midnight = |day: u32| json!(format!("2026-01-{day:02}T00:00:00.000Z"));
    let alone = patch(&client, &id, json!({ "isAllDay": true })).await;
    assert_eq!((outcome(&alone), days(&alone)), (("UPDATED", Some(2)), (midnight(3), midnight(3))));
    // The event is all-day now, so a timestamp that is sent for it counts as the date in it.
    let moved = patch(&client, &id, json!({ "timestamp": late })).await;
    assert_eq!(days(&moved), (midnight(2), midnight(3)));
    let back = patch(&client, &id, json!({ "isAllDay": false })).await;
    assert_eq!((days(&back), &back["event"]["isAllDay"]), ((midnight(2), midnight(3)), &json!(false)));
    let instant = patch(&client, &id, json!({ "timestamp": late, "endDate": null })).await;
    assert_eq!(days(&instant), (json!("2026-01-03T04:30:00.000Z"), Value::Null));
    let together = patch(&client, &id, json!({ "isAllDay": true, "timestamp": late })).await;
    assert_eq!(days(&together), (midnight(2), Value::Null));
    // The first valid instant, with an offset that puts its date into the year 0.
    let none = patch(&client, &id, json!({ "timestamp": "0000-12-31T23:30:00-01:00" })).await;
    assert_eq!(problems(&none), [("/patch/timestamp", "INVALID_DATETIME")]);
}

async fn a_patch_may_change_the_type_but_not_to_a_deleted_one(server: &TestServer) {
    let client = server.client("ann");
    let (run, walk) = (client.event_type("run").await, client.event_type("walk").await);
    let sent = event(&run);
    client.create(std::slice::from_ref(&sent)).await;
    let moved = patch(&client, &sent["id"], json!({ "eventTypeId": walk })).await;
    assert_eq!(
        (outcome(&moved), &moved["event"]["eventType"]),
        (("UPDATED", Some(2)), &json!({ "id": walk, "name": "walk" }))
    );
    assert_eq!(write(&client, "deleteEventType", json!({ "id": run })).await["outcome"], "DELETED");
    let deleted = patch(&client, &sent["id"], json!({ "eventTypeId": run })).await;
    assert_eq!(problems(&deleted), [("/patch/eventTypeId", "EVENT_TYPE_NOT_FOUND")]);
    assert_eq!(deleted["problem"]["status"], 404);
}

async fn an_alias_can_be_used_for_its_event_in_every_edit(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = full(&kind);
    let mut again = sent.clone();
    again["id"] = json!(new_id());
    client.create(&[sent.clone(), again.clone()]).await;
    let alias = &again["id"];
    assert_eq!(read(&client, alias).await["id"], sent["id"]);
    let updated = patch(&client, alias, json!({ "notes": "by alias" })).await;
    assert_eq!(
        (outcome(&updated), &updated["sentId"], &updated["event"]["id"]),
        (("UPDATED", Some(2)), alias, &sent["id"])
    );
    let mut back = sent.clone();
    back["id"] = alias.clone();
    back["notes"] = json!("back");
    let results = flush(
        &client,
        &json!([
            { "deleteEvent": { "id": alias } },
            { "deleteEvent": { "id": sent["id"] } },
            { "restoreEvent": { "event": back } },
            { "updateEvent": { "id": alias, "patch": { "notes": null } } },
        ]),
    )
    .await;
    let outcomes: Vec<_> = results.iter().map(outcome).collect();
    assert_eq!(
        outcomes,
        [("DELETED", Some(3)), ("UNCHANGED", Some(3)), ("UPDATED", Some(4)), ("UPDATED", Some(5))]
    );
    assert_eq!((&results[0]["event"], &results[2]["event"]["id"]), (&Value::Null, &sent["id"]));
    assert_eq!(outcome(&write(&client, "deleteEvent", json!({ "id": alias })).await), ("DELETED", Some(6)));
}

async fn an_import_by_the_alias_of_an_event_finds_it(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = full(&kind);
    let mut again = sent.clone();
    again["id"] = json!(new_id());
    client.create(&[sent, again.clone()]).await;
    again["externalId"] = Value::Null;
    let job = new_id();
    let query = "mutation($id: ID!, $events: [EventInput!]!) { importEvents(input: { id: $id, events: $events }) { importJob { id } } }";
    client.ask(query, json!({ "id": job, "events": [again] })).await;
    let counts = client.wait_for_end(&job).await["counts"].take();
    assert_eq!((&counts["inserted"], &counts["differing"]), (&json!(0), &json!(1)));
}

async fn an_edit_of_an_unknown_id_is_not_found(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let before = head(&client).await;
    // A UUIDv4 is an unknown id as well, and so is the id of a type.
    for id in [new_id(), "9b2b7a52-8f1f-4c0e-9d3a-0a5d5c1b2f3e".to_owned(), kind.clone()] {
        for (mutation, input, pointer) in [
            ("updateEvent", json!({ "id": id, "patch": {} }), "/id"),
            ("deleteEvent", json!({ "id": id }), "/id"),
            (
                "restoreEvent",
                json!({ "event": { "id": id, "eventTypeId": kind, "timestamp": "2026-01-01T00:00:00Z" } }),
                "/event/id",
            ),
        ] {
            let result = write(&client, mutation, input).await;
            assert_eq!(problems(&result), [(pointer, "NOT_FOUND")], "{mutation}");
            let problem = &result["problem"];
            assert_eq!((&problem["status"], &problem["retryable"]), (&json!(404), &json!(false)));
            assert_eq!((&result["sentId"], &result["version"]), (&json!(id), &Value::Null));
        }
    }
    let text = write(&client, "deleteEvent", json!({ "id": "x" })).await;
    assert_eq!((problems(&text), &text["sentId"]), (vec![("/id", "INVALID_UUID")], &json!("x")));
    assert_eq!(head(&client).await, before);
}

async fn an_edit_of_the_wrong_shape_refuses_the_request(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    let update = "mutation($input: UpdateEventInput!) { updateEvent(input: $input) { result { outcome } } }";
    for patch in [json!({ "note": "typo" }), json!({ "externalId": "x" }), json!({ "notes": 5 })] {
        let response = client.send(update, json!({ "input": { "id": sent["id"], "patch": patch } })).await;
        assert_eq!(response["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{patch}");
    }
    assert_eq!(read(&client, &sent["id"]).await["version"], 1);
}

async fn an_edit_of_another_users_event_is_answered_like_one_of_an_unknown_id(server: &TestServer) {
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let (hers, his) = (ann.event_type("run").await, bob.event_type("run").await);
    let sent = event(&hers);
    ann.create(std::slice::from_ref(&sent)).await;
    let before = (read(&ann, &sent["id"]).await, head(&ann).await, head(&bob).await);
    let unknown = new_id();
    for (mutation, known) in [
        ("updateEvent", sent["id"].as_str().unwrap()),
        ("deleteEvent", sent["id"].as_str().unwrap()),
        ("restoreEvent", sent["id"].as_str().unwrap()),
        ("updateEventType", &hers),
        ("deleteEventType", &hers),
    ] {
        let input = |id: &str| match mutation {
            "updateEvent" => json!({ "id": id, "patch": { "notes": "his" } }),
            "updateEventType" => json!({ "id": id, "patch": { "name": "his" } }),
            "restoreEvent" => {
                json!({ "event": { "id": id, "eventTypeId": his, "timestamp": "2026-01-01T00:00:00Z" } })
            }
            _ => json!({ "id": id }),
        };
        let foreign = write(&bob, mutation, input(known)).await.to_string().replace(known, &unknown);
        assert_eq!(foreign, write(&bob, mutation, input(&unknown)).await.to_string(), "{mutation}");
        let outbox = |id: &str| {
            let mut item = input(id);
            item.as_object_mut().unwrap().remove("clientId");
            json!([{ mutation: item }])
        };
        let foreign = json!(flush(&bob, &outbox(known)).await).to_string().replace(known, &unknown);
        assert_eq!(foreign, json!(flush(&bob, &outbox(&unknown)).await).to_string(), "{mutation}");
    }
    assert_eq!((read(&ann, &sent["id"]).await, head(&ann).await, head(&bob).await), before);
}
