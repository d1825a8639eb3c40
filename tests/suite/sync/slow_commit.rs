//! Tests a reader of the feed while one writer is slow to commit and another is fast.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{TestServer, event, is_postgres, on_both};

on_both!(a_reader_misses_nothing_of_a_writer_that_is_slow_to_commit);

/// Makes inserts of events with the notes `slow` take a while in the database, so that their rows stay
/// uncommitted.
async fn slow_down(server: &TestServer) {
    if is_postgres(&server.sql) {
        server
            .execute(
                "CREATE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$",
            )
            .await;
        server
            .execute(
                "CREATE TRIGGER slow_down AFTER INSERT ON event FOR EACH ROW WHEN (NEW.notes = 'slow') \
             EXECUTE FUNCTION slow_down()",
            )
            .await;
    } else {
        server.execute(
            "CREATE TRIGGER slow_down AFTER INSERT ON event WHEN NEW.notes = 'slow' BEGIN \
             SELECT sum(n) FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 1500000) \
             SELECT n FROM c); END",
        )
        .await;
    }
}

/// This test fails if positions are taken before the account row is locked.
async fn a_reader_misses_nothing_of_a_writer_that_is_slow_to_commit(server: &TestServer) {
    slow_down(server).await;
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let writer = |notes: &'static str, pause_ms: u64| {
        let (client, kind) = (client.clone(), kind.clone());
        tokio::spawn(async move {
            for _ in 0..5 {
                let mut one = event(&kind);
                one["notes"] = notes.into();
                assert_eq!(client.create(&[one]).await["created"], 1);
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            }
        })
    };
    let (slow, fast) = (writer("slow", 0), writer("fast", 60));
    let mut seen: HashSet<Value> = HashSet::new();
    let mut cursor = None;
    loop {
        let is_over = slow.is_finished() && fast.is_finished();
        let (changes, next) = client.pull(cursor.as_deref(), 3).await;
        seen.extend(changes.into_iter().filter(|c| c["entity"] == "EVENT").map(|mut c| c["entityId"].take()));
        cursor = Some(next);
        if is_over {
            break;
        }
    }
    slow.await.unwrap();
    fast.await.unwrap();
    assert_eq!(seen.len(), 10, "the reader missed a change");
}
