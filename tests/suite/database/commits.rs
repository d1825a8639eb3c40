//! Tests commits that fail: the server acknowledges no write that another connection cannot read.

use std::path::{Path, PathBuf};
use std::process::Command;

use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::process::{Launch, Process};
use crate::harness::{Client, assert_feeds_are_whole, event, number, servers};

/// A client that writes events and records which of them the server acknowledged.
struct Writer {
    client: Client,
    kind: String,
    acknowledged: Vec<Value>,
}

impl Writer {
    async fn new(process: &Process) -> Self {
        let client = process.client("ann");
        let kind = client.event_type("run").await;
        Self { client, kind, acknowledged: Vec::new() }
    }

    /// Creates an event. Returns its outcome, or the code of the error.
    async fn send(&self, event: &Value) -> String {
        let create = "mutation($e: EventInput!) { createEvent(input: { event: $e }) { result { outcome } } }";
        let response = self.client.send(create, json!({ "e": event })).await;
        let outcome = &response["data"]["createEvent"]["result"]["outcome"];
        let code = &response["errors"][0]["extensions"]["code"];
        outcome.as_str().or(code.as_str()).unwrap_or_else(|| panic!("{response}")).to_owned()
    }

    /// Creates an event, which the server must acknowledge.
    async fn create(&mut self) {
        let event = event(&self.kind);
        assert_eq!(self.send(&event).await, "CREATED");
        self.acknowledged.push(event);
    }

    /// Creates and resends events, so that some transactions are committed and others rolled back.
    async fn write_more(&mut self) {
        for n in 0..14 {
            self.create().await;
            let resent = self.acknowledged[n % self.acknowledged.len()].clone();
            assert_eq!(self.send(&resent).await, "DUPLICATE");
            let batch = [event(&self.kind), resent];
            let payload = self.client.create(&batch).await;
            assert_eq!((&payload["created"], &payload["duplicates"]), (&json!(1), &json!(1)), "{payload}");
            self.acknowledged.push(batch[0].clone());
        }
    }

    /// Fails unless another connection sees all acknowledged events in the table, and a client sees them in
    /// the feed.
    async fn assert_nothing_is_lost(&self, client: &Client, database: &str) {
        let sql = Database::connect(database).await.unwrap();
        let ids = self.acknowledged.iter().map(|event| event["id"].as_str().unwrap());
        let literal = |id: &str| match database.starts_with("sqlite") {
            true => format!("x'{}'", id.replace('-', "")),
            false => format!("'{id}'"),
        };
        let listed = ids.clone().map(literal).collect::<Vec<_>>().join(",");
        let found = number(&sql, &format!("SELECT count(*) FROM event WHERE id IN ({listed})")).await;
        assert_eq!(found, self.acknowledged.len() as i64, "acknowledged events are not in the table");
        assert_feeds_are_whole(&sql).await;
        sql.close().await.unwrap();
        let (changes, _) = client.pull(None, 500).await;
        for id in ids {
            assert!(changes.iter().any(|change| change["event"]["id"] == id), "{id} is not in the feed");
        }
    }
}

/// The statement of an optimistic write counts the rows that it writes, and writes nothing if the count is
/// wrong. Here a trigger suppresses a row.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_row_count_is_wrong_is_not_stored_at_all() {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let process = Launch::default().start(&database, dir.path()).await;
    let mut writer = Writer::new(&process).await;
    writer.write_more().await;
    let sql = Database::connect(&database).await.unwrap();
    let vanishing = "CREATE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF NEW.notes = 'vanishing' THEN RETURN NULL; END IF; RETURN NEW; END $$; \
        CREATE TRIGGER vanish BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION vanish()";
    sql.execute_unprepared(vanishing).await.unwrap();
    let before = number(&sql, "SELECT feed_head FROM account").await;
    let mut vanishing = event(&writer.kind);
    vanishing["notes"] = "vanishing".into();
    assert_eq!(writer.send(&vanishing).await, "INTERNAL");
    let batch = writer.client.send(
        "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { created } }",
        json!({ "e": [event(&writer.kind), vanishing] }),
    );
    assert_eq!(batch.await["errors"][0]["extensions"]["code"], "INTERNAL");
    assert_eq!(number(&sql, "SELECT feed_head FROM account").await, before);
    writer.write_more().await;
    writer.assert_nothing_is_lost(&writer.client, &database).await;
    sql.close().await.unwrap();
}

/// Compiles the library that makes writes and syncs fail. Returns its path.
fn compile_failing_disk(dir: &Path) -> PathBuf {
    let library = dir.join("failing-disk.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/failing-disk.c");
    let status =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(status.unwrap().success(), "a C compiler is needed, as for the build");
    library
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_on_sqlite_loses_nothing_that_is_acknowledged_later() {
    for order in ["28 write -wal", "122 write -wal", "5 write -wal", "5 sync -wal"] {
        let dir = TempDir::new().unwrap();
        let (library, control) = (compile_failing_disk(dir.path()), dir.path().join("order"));
        let database = format!("sqlite://{}/idem.db", dir.path().display());
        let launch =
            Launch::default().env("LD_PRELOAD", library.display()).env("FAILING_DISK", control.display());
        let process = launch.start(&database, dir.path()).await;
        let mut writer = Writer::new(&process).await;
        writer.write_more().await;
        for _ in 0..3 {
            std::fs::write(&control, order).unwrap();
            let lost = event(&writer.kind);
            assert_eq!(writer.send(&lost).await, "UNAVAILABLE", "{order}");
            let batch = writer.client.send(
                "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { created } }",
                json!({ "e": [event(&writer.kind)] }),
            );
            assert_eq!(batch.await["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{order}");
            std::fs::remove_file(&control).unwrap();
            writer.write_more().await;
            // After a failed sync the rows may be in the file nevertheless.
            let outcome = writer.send(&lost).await;
            assert!(outcome == "CREATED" || outcome == "DUPLICATE", "{order}: {outcome}");
            writer.acknowledged.push(lost);
        }
        writer.assert_nothing_is_lost(&writer.client, &database).await;
        let (status, _) = process.terminate().await;
        assert!(status.success(), "{status}");
        let process = launch.start(&database, dir.path()).await;
        writer.assert_nothing_is_lost(&process.client("ann"), &database).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_was_full_for_a_moment_loses_nothing_that_is_acknowledged_later() {
    let dir = TempDir::new().unwrap();
    let mount = format!("mount -t tmpfs -o size=24m tmpfs '{}' && exec \"$@\"", dir.path().display());
    let launch = Launch::default().wrap(&["unshare", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"]);
    let database = format!("sqlite://{}/idem.db", dir.path().display());
    let process = launch.start(&database, dir.path()).await;
    // The path by which this process reaches the mount of the server.
    let disk = PathBuf::from(format!("/proc/{}/root{}", process.id(), dir.path().display()));
    let mut writer = Writer::new(&process).await;
    writer.write_more().await;
    // One file takes the rest of the disk.
    let full =
        Command::new("sh").arg("-c").arg("cat /dev/zero >full 2>/dev/null").current_dir(&disk).status();
    assert!(!full.unwrap().success(), "the disk is full");
    let mut lost = Vec::new();
    while lost.len() < 3 {
        let mut event = event(&writer.kind);
        event["notes"] = "x".repeat(9_000).into();
        match writer.send(&event).await.as_str() {
            "CREATED" => writer.acknowledged.push(event),
            "UNAVAILABLE" => lost.push(event),
            other => panic!("{other}"),
        }
    }
    std::fs::remove_file(disk.join("full")).unwrap();
    writer.write_more().await;
    for event in lost {
        assert_eq!(writer.send(&event).await, "CREATED");
        writer.acknowledged.push(event);
    }
    // SQLite does not open a file of another mount namespace, so the files are copied.
    let copy = TempDir::new().unwrap();
    for file in ["idem.db", "idem.db-wal"] {
        std::fs::copy(disk.join(file), copy.path().join(file)).unwrap();
    }
    let seen = format!("sqlite://{}/idem.db", copy.path().display());
    writer.assert_nothing_is_lost(&writer.client, &seen).await;
}

/// A deferred trigger runs at COMMIT, where it fails or ends the session.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_on_postgres_loses_nothing_that_is_acknowledged_later() {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let process = Launch::default().start(&database, dir.path()).await;
    let mut writer = Writer::new(&process).await;
    let sql = Database::connect(&database).await.unwrap();
    for broken in [
        "RAISE EXCEPTION 'the disk is full' USING ERRCODE = '53100'",
        "PERFORM pg_terminate_backend(pg_backend_pid())",
    ] {
        let deferred = format!(
            "CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.notes = 'broken' THEN \
             {broken}; END IF; RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER break AFTER INSERT ON event DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION break()"
        );
        sql.execute_unprepared(&deferred).await.unwrap();
        writer.write_more().await;
        let mut lost = event(&writer.kind);
        lost["notes"] = "broken".into();
        assert_eq!(writer.send(&lost).await, "UNAVAILABLE");
        // An outbox with an edit takes several statements, in a transaction that ends with COMMIT.
        let edited = writer.acknowledged[0]["id"].clone();
        let outbox = "mutation($m: [MutationInput!]!) { applyMutations(input: { clientId: \"test\", mutations: $m }) \
            { results { index } } }";
        let edit = json!({ "updateEvent": { "id": edited, "patch": { "notes": "edited" } } });
        let mutations = json!({ "m": [edit, { "createEvent": lost }] });
        let response = writer.client.send(outbox, mutations).await;
        assert_eq!(response["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{response}");
        writer.write_more().await;
        writer.assert_nothing_is_lost(&writer.client, &database).await;
        let half = "SELECT count(*) FROM event WHERE notes IN ('broken', 'edited')";
        assert_eq!(number(&sql, half).await, 0, "a transaction was stored in part");
        sql.execute_unprepared("DROP TRIGGER break ON event; DROP FUNCTION break()").await.unwrap();
    }
    sql.close().await.unwrap();
}
