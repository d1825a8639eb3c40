//! Tests how many rows a request reads in PostgreSQL: those that it returns or looks up, however many are
//! stored.

use futures::future::join_all;
use serde_json::json;

use crate::harness::{Client, DatabaseKind, TestServer, event, eventually, new_id};

const FLIGHTS: &[u8] = include_bytes!("../../data/flights-2000.ndjson.gz");

/// The events of these users are interleaved in the table.
const USERS: usize = 16;

/// The number of events that each user has.
fn events_of_user() -> i64 {
    if std::env::var("TESTS_FULL").is_ok() { 62_500 } else { 6_250 }
}

/// Returns the rows of `event` that sequential scans read, and the entries that were read from its indexes.
///
/// It closes the store first, because a connection may report its statistics as late as when it is closed.
async fn rows_read(server: &TestServer) -> (i64, i64) {
    server.store.close().await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND \
        application_name = 'idem'";
    eventually("all connections are closed", || async { server.number(open).await == 0 }).await;
    let sequential = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'event'";
    let by_index = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'event'";
    (server.number(sequential).await, server.number(by_index).await)
}

/// Copies the only event of each user [`events_of_user`] times.
async fn fill(server: &TestServer) {
    server
        .execute(&format!(
            "INSERT INTO event (user_id, id, event_type_id, timestamp, is_all_day, source_type, external_id, \
            content_hash, version, change_seq, writer_run_start, created_at, updated_at) \
         SELECT e.user_id, ('019b7000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, e.event_type_id, \
            1000 * n, false, 'test', n::text, e.content_hash, 1, e.change_seq + n, e.writer_run_start, \
            e.created_at, e.updated_at \
         FROM event e CROSS JOIN generate_series(1, {}) n ORDER BY n, e.user_id",
            events_of_user()
        ))
        .await;
    server.execute(&format!("UPDATE account SET feed_head = feed_head + {}", events_of_user())).await;
    server.execute("VACUUM ANALYZE").await;
    server.execute("SELECT pg_stat_reset()").await;
}

/// Creates all users but one, with one event each.
async fn create_other_users(server: &TestServer) {
    for number in 1..USERS {
        let other = server.client(&format!("user {number}"));
        let kind = other.event_type("run").await;
        assert_eq!(other.create(&[event(&kind)]).await["created"], 1);
    }
}

/// Reads pages with each kind of filter, from the start and from the end, and pages of the feed. Returns how
/// many rows the responses had.
async fn read_pages(client: &Client, kind: &str) -> i64 {
    let page = "query($filter: EventFilter, $first: Int, $after: String, $last: Int, $before: String) { \
        events(filter: $filter, first: $first, after: $after, last: $last, before: $before) { \
        nodes { id timestamp eventType { name } } pageInfo { endCursor hasNextPage hasPreviousPage } } }";
    let at = |seconds: i64| {
        let minutes = seconds / 60;
        format!("{:04}-01-{:02}T{:02}:{:02}:00Z", 1970, 1 + minutes / 1440, minutes / 60 % 24, minutes % 60)
    };
    let middle = at(events_of_user() / 2);
    let filters = [
        json!({}),
        json!({ "eventTypeIds": [kind] }),
        json!({ "to": middle }),
        json!({ "from": middle }),
        json!({ "eventTypeIds": [kind], "to": middle }),
        json!({ "eventTypeIds": [kind], "from": middle }),
    ];
    let mut rows = 0;
    for filter in filters {
        let first = client.ask(page, json!({ "filter": filter, "first": 50 })).await;
        let after = &first["events"]["pageInfo"]["endCursor"];
        let next = client.ask(page, json!({ "filter": filter, "first": 50, "after": after })).await;
        let last = client.ask(page, json!({ "filter": filter, "last": 50 })).await;
        for page in [first, next, last] {
            rows += page["events"]["nodes"].as_array().unwrap().len() as i64;
        }
    }
    let (mut cursor, mut pages) = (None, 0);
    while pages < 3 {
        let page = client.page(cursor.as_deref(), 500).await;
        rows += page["changes"].as_array().unwrap().len() as i64;
        cursor = page["cursor"].as_str().map(str::to_owned);
        pages += 1;
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_that_a_request_reads_do_not_grow_with_what_is_stored() {
    let server = TestServer::open(DatabaseKind::Postgres).await;
    create_other_users(&server).await;
    let ann = server.client("ann");
    let kind = ann.event_type("run").await;
    let edited = event(&kind);
    assert_eq!(ann.create(std::slice::from_ref(&edited)).await["created"], 1);
    fill(&server).await;

    // A connection uses a generic plan from the sixth execution on (PostgreSQL manual, PREPARE).
    let mut rows = 0;
    for _ in 0..60 {
        rows += read_pages(&ann, &kind).await;
    }
    assert_eq!(rows, 60 * (6 * 3 * 50 + 3 * 500));
    let new: Vec<_> = (0..100).map(|_| event(&kind)).collect();
    assert_eq!(ann.create(&new).await["created"], 100);
    assert_eq!(ann.create(&new).await["duplicates"], 100);
    let one = "mutation($id: ID!, $notes: String!) { updateEvent(input: { id: $id, patch: { notes: $notes } }) \
        { result { outcome } } }";
    for number in 0..20 {
        let sent = json!({ "id": edited["id"], "notes": number.to_string() });
        assert_eq!(ann.ask(one, sent).await["updateEvent"]["result"]["outcome"], "UPDATED");
    }
    let read = ann.ask("query($id: ID!) { event(id: $id) { id } }", json!({ "id": edited["id"] })).await;
    assert_eq!(read["event"]["id"], edited["id"]);

    let (sequential, by_index) = rows_read(&server).await;
    assert_eq!(sequential, 0);
    let needed = rows + 2 * 100 + 20 + 1;
    assert!(by_index < 2 * needed, "{by_index} entries were read for {needed} rows");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_into_an_empty_database_read_no_more_than_their_rows() {
    let server = TestServer::open(DatabaseKind::Postgres).await;
    let ann = server.client("ann");
    let kind = ann.event_type("run").await;
    for number in 0..1_000 {
        let one =
            "mutation($event: EventInput!) { createEvent(input: { event: $event }) { result { outcome } } }";
        let response = ann.ask(one, json!({ "event": event(&kind) })).await;
        assert_eq!(response["createEvent"]["result"]["outcome"], "CREATED");
        if number == 225 || number == 500 {
            // Several requests at once open new connections. At this time the table has no statistics, and
            // the depth of the indexes differs, so that the planner may prefer another index to that of the
            // key.
            let new: Vec<Vec<_>> = (0..4).map(|_| (0..50).map(|_| event(&kind)).collect()).collect();
            for count in ["created", "duplicates"] {
                for response in join_all(new.iter().map(|some| ann.create(some))).await {
                    assert_eq!(response[count], 50);
                }
            }
        }
    }
    for count in ["inserted", "duplicates"] {
        assert_eq!(ann.import_all(&new_id(), FLIGHTS.to_vec()).await["counts"][count], 2_000);
    }
    let (sequential, by_index) = rows_read(&server).await;
    assert_eq!(sequential, 0);
    let types = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'event_type'";
    assert!(server.number(types).await < 100, "all event types are read for each event");
    assert!(by_index < 2 * 6_000, "{by_index} entries were read for 5 800 rows");
    server.end().await;
}

/// How often PostgreSQL fetched a row of `event` from the table, after it had found it in an index.
async fn rows_fetched(server: &TestServer) -> i64 {
    rows_read(server).await;
    server.number("SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'event'").await
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_read_an_index_alone() {
    for needs_rows in [false, true] {
        let server = TestServer::open(DatabaseKind::Postgres).await;
        create_other_users(&server).await;
        let ann = server.client("ann");
        let kind = ann.event_type("run").await;
        let mut measured = event(&kind);
        measured["properties"] = json!({ "value": 5, "unit": "km", "other": 1 });
        assert_eq!(ann.create(&[measured]).await["created"], 1);
        server.execute("UPDATE backfill SET is_done = true").await;
        fill(&server).await;
        let query = "query($input: EventStatsInput!) { eventStats(input: $input) { total { count durationSeconds \
            measures { unit sum average minimum } } } }";
        let questions = if needs_rows {
            vec![json!({ "timeZone": "UTC", "measures": [{ "property": "other" }] })]
        } else {
            vec![
                json!({ "timeZone": "UTC" }),
                json!({ "timeZone": "Europe/Berlin", "granularity": "MONTH", "groupBy": ["EVENT_TYPE"] }),
                json!({ "timeZone": "Europe/Berlin", "granularity": "YEAR", "measures": [{ "property": "value" }] }),
                json!({
                    "timeZone": "Europe/Berlin", "groupBy": ["WEEKDAY", "HOUR_OF_DAY"], "preferSources": ["test"],
                    "filter": { "eventTypeIds": [kind], "sourceTypes": ["test", "manual"] },
                }),
            ]
        };
        let asked = questions.len() as i64;
        for question in questions {
            // From the sixth execution on, the plan is generic.
            for _ in 0..8 {
                let answer = ann.ask(query, json!({ "input": question })).await;
                assert_eq!(answer["eventStats"]["total"]["count"], events_of_user() + 1, "{question}");
            }
        }
        let fetched = rows_fetched(&server).await;
        let all = 8 * asked * events_of_user();
        if needs_rows {
            assert!(fetched >= all, "the check finds rows that are read: {fetched}");
        } else {
            // The rows of the pages that were written last may be fetched.
            assert!(fetched < all / 20, "{fetched} rows were fetched for {all}");
        }
        server.end().await;
    }
}
