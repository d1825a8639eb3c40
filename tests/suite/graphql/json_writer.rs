//! Tests that the fast JSON writer gives the same responses as the resolvers of the library.

use serde_json::{Value, json};

use crate::harness::{Client, TestServer, event, on_both};

on_both!(
    pages_of_the_fast_writer_equal_those_of_the_resolvers,
    results_of_the_fast_writer_equal_those_of_the_resolvers,
    statistics_of_the_fast_writer_equal_those_of_the_resolvers,
);

const EVENT: &str = "id eventTypeId timestamp endDate isAllDay timeZone notes sourceType externalId \
    location { latitude longitude name __typename } properties version importJobId createdAt updatedAt \
    __typename type: eventType { id name color icon version createdAt updatedAt }";

/// Sends one selection twice and fails unless both responses are equal. The second time a fragment selects
/// the same object again, so that the library must merge the two and the fast writer cannot be used. Returns
/// the first response.
async fn assert_same(client: &Client, field: &str, selection: &str, also: &str) -> Value {
    let fast = client.ask(&format!("{{ {field} {{ {selection} }} }}"), json!({})).await;
    let merged = format!(
        "{{ {field} {{ {selection} }} ...Again }} fragment Again on Query {{ {field} {{ {also} }} }}"
    );
    let mut merged = client.ask(&merged, json!({})).await;
    for (_, object) in merged.as_object_mut().unwrap() {
        assert!(object.as_object_mut().unwrap().remove("again").is_some());
        // The time differs between the two requests.
        object.as_object_mut().unwrap().remove("serverTime");
    }
    assert_eq!(fast, merged);
    // The text also shows the order of the keys.
    assert_eq!(fast.to_string(), merged.to_string());
    fast
}

async fn pages_of_the_fast_writer_equal_those_of_the_resolvers(test_server: &TestServer) {
    let ann = test_server.client("ann");
    let kind = ann.event_type("läuft \"schnell\"\n").await;
    let mut full = event(&kind);
    full["timestamp"] = "0001-01-01T00:00:00.001Z".into();
    full["endDate"] = "9999-12-31T23:59:59.999Z".into();
    full["timeZone"] = "Europe/Berlin".into();
    full["notes"] = "tab\t quote\" back\\ \u{1} \u{2028} 🏃 </script>".into();
    full["externalId"] = "x/1".into();
    full["sourceType"] = "test".into();
    full["location"] = json!({ "latitude": -0.5, "longitude": 180, "name": "dort" });
    full["properties"] = json!({ "b": [1, 2.5, 1e300, -9223372036854775808i64, 18446744073709551615u64, null, true],
        "a": { "é\"": "\u{7f}\n", "": {} } });
    let mut day = event(&kind);
    day["isAllDay"] = true.into();
    day["location"] = json!({ "latitude": 1e-7, "longitude": 0 });
    let gone = event(&kind);
    let sent = [full, day, event(&kind), gone.clone()];
    assert_eq!(ann.create(&sent).await["created"], 4);
    let delete = "mutation($id: ID!) { deleteEvent(input: { id: $id }) { result { outcome } } }";
    assert_eq!(
        ann.ask(delete, json!({ "id": gone["id"] })).await["deleteEvent"]["result"]["outcome"],
        "DELETED"
    );

    let again = "again: __typename";
    let nodes = format!("nodes {{ {EVENT} }} edges {{ cursor at: node {{ ...E }} __typename }} totalCount");
    for arguments in ["(first: 2)", "(last: 1)", "(filter: { to: \"0001-01-01T00:00:00Z\" })"] {
        let field = format!("events{arguments}");
        // The fragment is written out, because both documents need it.
        let selection = nodes.replace("...E", EVENT);
        assert_same(&ann, &field, &selection, again).await;
    }
    let inline = "nodes { id ... on Event { notes ... on Node { same: id id } ... { version notes } } }";
    assert_eq!(
        assert_same(&ann, "events", inline, again).await["events"]["nodes"].as_array().unwrap().len(),
        3
    );
    assert_same(&ann, "eventTypes", "nodes { id name color icon version createdAt updatedAt }", again).await;
    let changes = format!(
        "changes {{ entity entityId version deleted originClientId event {{ {EVENT} }} \
         eventType {{ id name }} __typename }} hasMore reset cursor"
    );
    let page = assert_same(&ann, "changes", &changes, again).await;
    assert_eq!(page["changes"]["changes"].as_array().unwrap().len(), 4);
    // The page after the bootstrap has the deletion.
    let cursor = page["changes"]["cursor"].as_str().unwrap();
    let after = format!("changes(after: \"{cursor}\")");
    assert_same(&ann, &after, &changes, again).await;
    // This page begins within the bootstrap.
    let from = assert_same(&ann, "changes(first: 1)", "cursor", again).await["changes"]["cursor"].clone();
    let from = format!("changes(after: {from})");
    assert_same(&ann, &from, &changes, again).await;
}

async fn results_of_the_fast_writer_equal_those_of_the_resolvers(test_server: &TestServer) {
    let ann = test_server.client("ann");
    let kind = ann.event_type("run").await;
    let results = format!(
        "index sentId outcome matchedBy differs version problem {{ code detail errors {{ pointer code }} }} \
         event {{ {EVENT} }}"
    );
    let mutation = "mutation($events: [EventInput!]!) { createEvents(input: { events: $events }) { ";
    let fast = format!("{mutation} results {{ {results} }} created }} }}");
    let merged = format!(
        "{mutation} results {{ {results} }} created ...Again }} }} \
        fragment Again on EventsPayload {{ results {{ again: __typename }} }}"
    );
    let good = [event(&kind), event(&kind)];
    assert_eq!(ann.ask(&fast, json!({ "events": good })).await["createEvents"]["created"], 2);
    let mut bad = event(&kind);
    bad["timestamp"] = "yesterday".into();
    // The events are stored already, so that sending them twice gives the same results.
    for events in [json!(good), json!([good[0], bad])] {
        let mut merged = ann.ask(&merged, json!({ "events": events })).await;
        for result in merged["createEvents"]["results"].as_array_mut().unwrap() {
            assert_eq!(result.as_object_mut().unwrap().remove("again").unwrap(), "EventResult");
        }
        assert_eq!(ann.ask(&fast, json!({ "events": events })).await.to_string(), merged.to_string());
    }
}

async fn statistics_of_the_fast_writer_equal_those_of_the_resolvers(test_server: &TestServer) {
    let ann = test_server.client("ann");
    let kind = ann.event_type("run").await;
    let mut events = Vec::new();
    for (value, unit) in [
        (json!(1.5), json!("k\"m")),
        (json!(-3), json!(null)),
        (json!(1e300), json!("")),
        (json!("x"), json!(1)),
    ] {
        let mut measured = event(&kind);
        measured["properties"] = json!({ "value": value, "unit": unit, "other": 0.1 });
        measured["endDate"] = "2026-01-02T03:04:05.250Z".into();
        events.push(measured);
    }
    events[1]["isAllDay"] = true.into();
    assert_eq!(ann.create(&events).await["created"], 4);
    let selection = "asOf buckets { __typename start end localDate eventTypeId sourceType weekday hourOfDay count \
        seconds: durationSeconds measures { __typename property unit count sum average minimum maximum } } \
        total { count }";
    for rest in [
        "groupBy: [EVENT_TYPE, HOUR_OF_DAY], granularity: DAY, measures: [{ property: \"value\" }]",
        "groupBy: [SOURCE_TYPE, WEEKDAY], measures: [{ property: \"value\" }, { property: \"other\" }]",
        "granularity: WEEK, fill: true",
    ] {
        let field = format!("eventStats(input: {{ timeZone: \"Europe/Berlin\", {rest} }})");
        let found = assert_same(&ann, &field, selection, "again: asOf buckets { count }").await;
        let buckets = found["eventStats"]["buckets"].as_array().unwrap();
        let seconds: f64 = buckets.iter().map(|bucket| bucket["seconds"].as_f64().unwrap()).sum();
        // One event of the four is an all-day event.
        assert_eq!(seconds, 3.0 * 0.25, "an alias hides no field: {found}");
    }
}
