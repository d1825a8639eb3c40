//! Tests the limit of the response size. A page ends early and says that more follow, and any other response
//! that is too large is refused.

use serde_json::{Value, json};

use crate::harness::{Client, TestServer, event, new_id, on_both};

on_both!(
    a_page_ends_at_its_size_limit_and_says_that_more_follow,
    a_response_that_would_be_too_large_is_refused_and_nothing_of_it_is_stored,
    the_lists_of_a_filter_have_a_minimum_and_a_maximum_length,
);

/// Returns a text of 40 000 bytes.
fn long_notes() -> String {
    "\u{1F3C3}".repeat(10_000)
}

/// Creates so many events with 40 000 bytes of notes each. Returns their ids.
async fn create_large(client: &Client, events: usize) -> Vec<Value> {
    let kind = client.event_type("run").await;
    let made: Vec<Value> = (0..events)
        .map(|_| {
            let mut one = event(&kind);
            one["notes"] = json!(long_notes());
            one
        })
        .collect();
    for batch in made.chunks(80) {
        let query = "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { created } }";
        let data = client.ask(query, json!({ "e": batch })).await;
        assert_eq!(data["createEvents"]["created"], batch.len());
    }
    made.into_iter().map(|event| event["id"].clone()).collect()
}

fn sorted(ids: &[Value]) -> Vec<&str> {
    let mut ids: Vec<_> = ids.iter().map(|id| id.as_str().unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// Reads all events page by page in one direction. Returns their ids and the number of pages.
async fn read_pages(client: &Client, size: &str, place: &str, more: &str, end: &str) -> (Vec<Value>, usize) {
    let query = format!(
        "query($p: String) {{ events({size}: 1000, {place}: $p) {{ nodes {{ id notes }} \
         pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}"
    );
    let (mut ids, mut pages, mut cursor) = (Vec::new(), 0, Value::Null);
    loop {
        let page = client.ask(&query, json!({ "p": cursor })).await["events"].take();
        ids.extend(page["nodes"].as_array().unwrap().iter().map(|node| node["id"].clone()));
        pages += 1;
        if page["pageInfo"][more] == false {
            return (ids, pages);
        }
        cursor = page["pageInfo"][end].clone();
    }
}

async fn a_page_ends_at_its_size_limit_and_says_that_more_follow(server: &TestServer) {
    let client = server.client("ann");
    let ids = create_large(&client, 240).await;
    let first = client.page(None, 5_000).await;
    // 104 events of 40 000 bytes fit into 4 MiB. The first change is the event type.
    assert_eq!((first["changes"].as_array().unwrap().len(), &first["hasMore"]), (105, &json!(true)));
    let (changes, _) = client.pull(None, 5_000).await;
    let pulled: Vec<_> = changes[1..].iter().map(|change| change["entityId"].clone()).collect();
    assert_eq!(sorted(&pulled), sorted(&ids));
    // A field that is selected twice counts twice.
    let twice = "{ changes(first: 5000) { hasMore changes { event { a: notes b: notes } } } }";
    let page = client.ask(twice, json!({})).await["changes"].take();
    assert_eq!((page["changes"].as_array().unwrap().len(), &page["hasMore"]), (53, &json!(true)));
    // A field that is not selected is read nevertheless, and counts once.
    let bare = "{ changes(first: 5000) { hasMore changes { entityId } } }";
    let page = client.ask(bare, json!({})).await["changes"].take();
    assert_eq!((page["changes"].as_array().unwrap().len(), &page["hasMore"]), (105, &json!(true)));
    let (forth, pages) = read_pages(&client, "first", "after", "hasNextPage", "endCursor").await;
    assert_eq!((sorted(&forth), pages), (sorted(&ids), 3));
    let (back, pages) = read_pages(&client, "last", "before", "hasPreviousPage", "startCursor").await;
    assert_eq!((sorted(&back), pages), (sorted(&ids), 3));
}

fn assert_too_large(response: &Value) {
    let extensions = &response["errors"][0]["extensions"];
    assert_eq!(extensions["code"], "LIMIT_EXCEEDED", "{}", response["errors"]);
    assert_eq!(extensions["limit"], json!({ "name": "answer", "max": 32 * 1024 * 1024 }));
}

async fn a_response_that_would_be_too_large_is_refused_and_nothing_of_it_is_stored(server: &TestServer) {
    let client = server.client("ann");
    let ids = create_large(&client, 240).await;
    // One event a thousand times makes 40 MB of 40 kB.
    let nodes = "query($i: [ID!]!) { nodes(ids: $i) { id ... on Event { notes } } }";
    assert_too_large(&client.send(nodes, json!({ "i": vec![&ids[0]; 1_000] })).await);
    let few = client.ask(nodes, json!({ "i": vec![&ids[0]; 500] })).await;
    assert_eq!(few["nodes"].as_array().unwrap().len(), 500);
    assert_eq!(few["nodes"][499], json!({ "id": ids[0], "notes": long_notes() }));
    // Ten full pages.
    let page = "changes(first: 5000) { changes { event { notes } } }";
    let ten: String = (0..10).map(|n| format!("a{n}: {page} ")).collect();
    assert_too_large(&client.send(&format!("{{ {ten} }}"), json!({})).await);
    // A batch of duplicates, whose results have the stored events, and of one new event.
    let kind = client.event_type("walk").await;
    let mut again: Vec<Value> = ids
        .iter()
        .map(|id| {
            let mut one = event(&kind);
            one["id"] = id.clone();
            one
        })
        .collect();
    again.push(event(&kind));
    let create = |selection: &str| {
        format!(
            "mutation($e: [EventInput!]!) {{ createEvents(input: {{ events: $e }}) {{ created duplicates results {{ \
             event {{ {selection} }} }} }} }}"
        )
    };
    let refused = client.send(&create("a: notes b: notes c: notes d: notes"), json!({ "e": again })).await;
    assert_too_large(&refused);
    assert_eq!(server.number("SELECT count(*) FROM event").await, 240);
    let payload = client.ask(&create("notes"), json!({ "e": again })).await["createEvents"].take();
    assert_eq!((&payload["created"], &payload["duplicates"]), (&json!(1), &json!(240)));
}

async fn the_lists_of_a_filter_have_a_minimum_and_a_maximum_length(server: &TestServer) {
    let client = server.client("ann");
    let events = "query($f: EventFilter) { events(filter: $f) { totalCount } }";
    let jobs = "query($s: [ImportState!]) { importJobs(states: $s) { totalCount } }";
    let ids: Vec<String> = (0..501).map(|_| new_id()).collect();
    let names: Vec<String> = (0..501).map(|n| format!("s{n}")).collect();
    let cases = [
        (events, json!({ "f": { "eventTypeIds": ids } }), "LIMIT_EXCEEDED"),
        (events, json!({ "f": { "sourceTypes": names } }), "LIMIT_EXCEEDED"),
        (jobs, json!({ "s": vec!["QUEUED"; 501] }), "LIMIT_EXCEEDED"),
        (events, json!({ "f": { "eventTypeIds": [] } }), "BAD_USER_INPUT"),
        (events, json!({ "f": { "sourceTypes": [] } }), "BAD_USER_INPUT"),
        (jobs, json!({ "s": [] }), "BAD_USER_INPUT"),
    ];
    for (query, variables, code) in cases {
        let response = client.send(query, variables).await;
        let extensions = &response["errors"][0]["extensions"];
        assert_eq!(extensions["code"], code, "{response}");
        if code == "LIMIT_EXCEEDED" {
            assert_eq!(extensions["limit"], json!({ "name": "filter", "max": 500 }), "{response}");
        }
    }
    let longest =
        client.ask(events, json!({ "f": { "eventTypeIds": ids[1..], "sourceTypes": names[1..] } })).await;
    assert_eq!(longest["events"]["totalCount"], 0);
}
