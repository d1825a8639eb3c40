//! Tests that an import that is interrupted reports its progress, resumes, and counts each record once.

use serde_json::{Value, json};
use service::notifier::Notification;

use crate::events::head;
use crate::harness::{TestServer, event, eventually, is_postgres, new_id, on_both};

on_both!(
    the_same_file_again_creates_nothing_though_its_records_have_no_ids,
    an_interrupted_import_reports_its_progress_and_resumes_from_there,
    a_batch_that_is_too_large_can_be_sent_as_an_import,
);

/// Returns records without ids, as one line each.
fn records(count: usize) -> Vec<String> {
    let record = |n: usize| json!({ "eventType": "set", "timestamp": "2026-01-02T03:04:05Z", "notes": format!("set {n}") });
    (0..count).map(|n| record(n).to_string()).collect()
}

async fn the_same_file_again_creates_nothing_though_its_records_have_no_ids(server: &TestServer) {
    let client = server.client("ann");
    let payload = records(28).join("\n").into_bytes();
    let first = client.import_all(&new_id(), payload.clone()).await;
    assert_eq!(first["counts"]["inserted"], 28, "{first}");
    let before = head(&client).await;
    let again = client.import_all(&new_id(), payload).await;
    assert_eq!((&again["counts"]["inserted"], &again["counts"]["duplicates"]), (&json!(0), &json!(28)));
    assert_eq!(server.number("SELECT count(*) FROM event").await, 28);
    assert_eq!(head(&client).await, before);
}

/// Makes the database refuse one event, so that the chunk that has it cannot be stored.
async fn refuse_one_event(server: &TestServer) {
    if is_postgres(&server.sql) {
        server.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$",
        )
        .await;
        server
            .execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON event FOR EACH ROW WHEN (NEW.notes = 'set 550') \
             EXECUTE FUNCTION refuse()",
            )
            .await;
    } else {
        server
            .execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON event WHEN NEW.notes = 'set 550' \
             BEGIN SELECT RAISE(ABORT, 'refused'); END",
            )
            .await;
    }
}

async fn an_interrupted_import_reports_its_progress_and_resumes_from_there(server: &TestServer) {
    let client = server.client("ann");
    let mut lines = records(700);
    lines[7] = "garbage".to_owned();
    let payload = lines.join("\n").into_bytes();
    refuse_one_event(server).await;
    let id = new_id();
    client.create_import(&id, payload.len(), None).await;
    assert_eq!(client.put(&id, None, payload).await.status(), 200);
    // The first chunk of 500 records is stored, and the next one cannot be. The import waits for its next
    // attempt.
    eventually("the import waits after its first chunk", || async {
        let job = client.import(&id).await;
        job["state"] == "QUEUED" && job["counts"]["records"] == 500
    })
    .await;
    let half = client.import(&id).await;
    assert_eq!((&half["counts"]["inserted"], &half["counts"]["rejected"]), (&json!(499), &json!(1)));
    let progress = half["progress"].as_f64().unwrap();
    assert!(progress > 0.0 && progress < 1.0, "{half}");
    let rejection = &half["rejections"]["nodes"][0];
    assert_eq!((&rejection["line"], &rejection["excerpt"]), (&json!(8), &json!("garbage")));
    assert_eq!(server.number("SELECT count(*) FROM event").await, 499);
    let on_table = if is_postgres(&server.sql) { " ON event" } else { "" };
    server.execute(&format!("DROP TRIGGER refuse{on_table}")).await;
    server.execute("UPDATE import_job SET not_before = NULL").await;
    server.notifier.notify(Notification::Import(id.parse().unwrap()));
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["state"], &job["progress"]), (&json!("COMPLETED"), &json!(1.0)), "{job}");
    let counts = ["records", "inserted", "rejected", "duplicates"].map(|count| job["counts"][count].as_i64());
    assert_eq!(counts, [Some(700), Some(699), Some(1), Some(0)], "a record was counted twice or not at all");
    assert_eq!(server.number("SELECT count(*) FROM event").await, 699);
}

async fn a_batch_that_is_too_large_can_be_sent_as_an_import(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let events: Vec<Value> = (0..501).map(|_| event(&kind)).collect();
    let query = "mutation($events: [EventInput!]!) { createEvents(input: { events: $events }) { created } }";
    let refused = client.send(query, json!({ "events": events })).await;
    let extensions = &refused["errors"][0]["extensions"];
    assert_eq!(
        (&extensions["code"], &extensions["limit"]["max"]),
        (&json!("LIMIT_EXCEEDED"), &json!(500)),
        "{refused}"
    );
    assert_eq!(server.number("SELECT count(*) FROM event").await, 0);
    let query = "mutation($id: ID!, $events: [EventInput!]!) { importEvents(input: { id: $id, events: $events }) \
        { problem { code } } }";
    let id = new_id();
    let accepted = client.ask(query, json!({ "id": id, "events": events })).await;
    assert!(accepted["importEvents"]["problem"].is_null(), "{accepted}");
    assert_eq!(client.wait_for_end(&id).await["counts"]["inserted"], 501);
}
