//! Tests the backfill of `event.notes_search`, the column that a search of notes reads, in rows of an older
//! version.

use std::process::{Command, Stdio};
use std::time::Duration;

use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::process::Launch;
use crate::harness::{Client, event, eventually, number, servers};
use crate::telemetry::process::Process as MeasuredProcess;

/// Selects the backfill of the column.
const NOTES: &str = "name = 'event.notes_search'";

/// Makes all rows look as if an older version had written them, and resets the backfill to its start.
async fn make_rows_outdated(sql: &DatabaseConnection) {
    let outdated = "UPDATE event SET notes_search = 'outdated' WHERE notes IS NOT NULL";
    sql.execute_unprepared(outdated).await.unwrap();
    let nil = if crate::harness::is_postgres(sql) {
        "'00000000-0000-0000-0000-000000000000'"
    } else {
        "x'00000000000000000000000000000000'"
    };
    let reset = format!(
        "UPDATE backfill SET after_user_id = {nil}, after_id = {nil}, rows = 0, is_done = false \
         WHERE {NOTES}"
    );
    sql.execute_unprepared(&reset).await.unwrap();
}

/// Counts the events that a search finds.
async fn count_found(client: &Client, search: &str) -> u64 {
    let query = "query($search: String) { events(filter: { search: $search }) { totalCount } }";
    let data = client.ask(query, json!({ "search": search })).await;
    data["events"]["totalCount"].as_u64().unwrap()
}

/// Creates one event for each of these notes.
async fn create_with_notes(client: &Client, notes: &[&str]) {
    let kind = client.event_type("note").await;
    let events: Vec<Value> = notes
        .iter()
        .map(|notes| {
            let mut event = event(&kind);
            event["notes"] = json!(notes);
            event
        })
        .collect();
    assert_eq!(client.create(&events).await["created"], events.len());
}

/// Checks that the next start fills the column of all rows.
async fn assert_next_start_fills(database: &str, dir: &TempDir) {
    let process = Launch::default().start(database, dir.path()).await;
    create_with_notes(&process.client("ann"), &["ΠΑΣΧΑ", "Cafe\u{301}", "Straße"]).await;
    create_with_notes(&process.client("bea"), &["πάσχα", "CAFÉ"]).await;
    let kind = process.client("cid").event_type("plain").await;
    let mut plain = event(&kind);
    plain["notes"] = Value::Null;
    process.client("cid").create(&[plain]).await;
    let before = process.client("ann").pull(None, 100).await;
    drop(process);

    let sql = Database::connect(database).await.unwrap();
    make_rows_outdated(&sql).await;
    let process = Launch::default().start(database, dir.path()).await;
    let (ann, bea) = (process.client("ann"), process.client("bea"));
    if !crate::harness::is_postgres(&sql) {
        assert_eq!(count_found(&ann, "ΠΑΣ").await, 1, "on SQLite the backfill ends before the first request");
    }
    eventually("the backfill is done", || async {
        number(&sql, &format!("SELECT count(*) FROM backfill WHERE {NOTES} AND NOT is_done")).await == 0
    })
    .await;
    for (client, search) in
        [(&ann, "πας"), (&ann, "café"), (&ann, "STRASSE"), (&bea, "ΠΆΣΧΑ"), (&bea, "cafe\u{301}")]
    {
        assert_eq!(count_found(client, search).await, 1, "{search}");
    }
    assert_eq!(number(&sql, "SELECT count(*) FROM event WHERE notes_search = 'outdated'").await, 0);
    assert_eq!(
        number(&sql, "SELECT count(*) FROM event WHERE notes IS NULL AND notes_search IS NOT NULL").await,
        0
    );
    assert_eq!(
        number(&sql, &format!("SELECT rows FROM backfill WHERE {NOTES}")).await,
        6,
        "each row is processed once"
    );
    // The backfill does not change the feed.
    assert_eq!(ann.pull(None, 100).await, before);
    sql.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_older_version_are_found_after_the_next_start_on_sqlite() {
    let dir = TempDir::new().unwrap();
    let database = format!("sqlite://{}/idem.db", dir.path().display());
    assert_next_start_fills(&database, &dir).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_older_version_are_found_after_the_next_start_on_postgres() {
    let dir = TempDir::new().unwrap();
    assert_next_start_fills(&servers().database().await, &dir).await;
}

/// Serving processes do not share the backfill. It takes a fifth of one process's time, and would take a
/// fifth of each.
#[tokio::test(flavor = "multi_thread")]
async fn only_one_of_two_serving_processes_runs_the_backfill() {
    const ROWS: u64 = 3_000;
    let database = servers().database().await;
    let sql = Database::connect(&database).await.unwrap();
    let dir = TempDir::new().unwrap();
    let process = Launch::default().start(&database, dir.path()).await;
    let client = process.client("ann");
    let kind = client.event_type("note").await;
    for _ in 0..ROWS / 500 {
        let events: Vec<Value> = (0..500).map(|_| event(&kind)).collect();
        assert_eq!(client.create(&events).await["created"], 500);
    }
    drop(process);
    make_rows_outdated(&sql).await;
    let variables = [("IDEM_DATABASE_URL", database.as_str())];
    let [one, other] = [
        MeasuredProcess::start(&["serve"], &variables).await,
        MeasuredProcess::start(&["serve"], &variables).await,
    ];
    eventually("the backfill is done", || async {
        number(&sql, &format!("SELECT count(*) FROM backfill WHERE {NOTES} AND NOT is_done")).await == 0
    })
    .await;
    let rows = async |process: &MeasuredProcess| {
        let metrics = process.metrics().await;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("idem_backfill_rows_total{column=\"event.notes_search\"} "));
        line.unwrap_or_else(|| panic!("{metrics}")).parse::<u64>().unwrap()
    };
    let mut rows = [rows(&one).await, rows(&other).await];
    rows.sort_unstable();
    assert_eq!(rows, [0, ROWS]);
    sql.close().await.unwrap();
}

/// Two processes run the backfill and are killed again and again, while a user edits events.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_goes_on_where_it_was_killed_and_undoes_no_edit() {
    const ROWS: usize = 12_000;
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let process = Launch::default().start(&database, dir.path()).await;
    let sql = Database::connect(&database).await.unwrap();
    eventually("the backfill of the empty table is done", || async {
        number(&sql, &format!("SELECT count(*) FROM backfill WHERE {NOTES} AND NOT is_done")).await == 0
    })
    .await;
    let client = process.client("ann");
    let kind = client.event_type("note").await;
    let mut ids = Vec::new();
    for _ in 0..ROWS / 500 {
        let events: Vec<Value> = (0..500).map(|_| event(&kind)).collect();
        ids.extend(events.iter().map(|event| event["id"].clone()));
        assert_eq!(client.create(&events).await["created"], 500);
    }
    make_rows_outdated(&sql).await;

    let edits = tokio::spawn(async move {
        let query = "mutation($id: ID!) { updateEvent(input: { id: $id, patch: { notes: \"An Édit\" } }) \
            { result { outcome } } }";
        for id in ids.iter().step_by(ROWS / 100) {
            let data = client.ask(query, json!({ "id": id })).await;
            assert_eq!(data["updateEvent"]["result"]["outcome"], "UPDATED");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        client
    });
    let (mut done, mut kills) = (0, 0);
    while number(&sql, &format!("SELECT count(*) FROM backfill WHERE {NOTES} AND NOT is_done")).await == 1 {
        let mut pair: Vec<_> = (0..2).map(|_| migrate(&database, &dir)).collect();
        eventually("a step is done", || async {
            number(
                &sql,
                &format!("SELECT count(*) FROM backfill WHERE {NOTES} AND (rows > {done} OR is_done)"),
            )
            .await
                == 1
        })
        .await;
        for child in &mut pair {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        kills += 1;
        let now = number(&sql, &format!("SELECT rows FROM backfill WHERE {NOTES}")).await;
        assert!(now >= done, "the backfill started again: {now} rows after {done}");
        done = now;
    }
    let client = edits.await.unwrap();
    assert!(kills >= 3, "the backfill was interrupted only {kills} times");
    assert_eq!(
        number(&sql, &format!("SELECT rows FROM backfill WHERE {NOTES}")).await,
        i64::try_from(ROWS).unwrap()
    );
    assert_eq!(number(&sql, "SELECT count(*) FROM event WHERE notes_search = 'outdated'").await, 0);
    assert_eq!(count_found(&client, "an édit").await, 100);
    assert_eq!(count_found(&client, "A RUN").await, u64::try_from(ROWS - 100).unwrap());

    // `--refill` runs it again, as an older version may have written rows in the meantime.
    sql.execute_unprepared("UPDATE event SET notes_search = 'outdated'").await.unwrap();
    let refilled = migrate_with(&database, &dir, &["--refill"]).wait_with_output().unwrap();
    assert!(refilled.status.success(), "{refilled:?}");
    assert_eq!(number(&sql, "SELECT count(*) FROM event WHERE notes_search = 'outdated'").await, 0);
    sql.close().await.unwrap();
}

fn migrate(database: &str, dir: &TempDir) -> std::process::Child {
    migrate_with(database, dir, &[])
}

fn migrate_with(database: &str, dir: &TempDir, flags: &[&str]) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_idem-under-test"))
        .arg("migrate")
        .args(flags)
        .current_dir(dir.path())
        .env("IDEM_DATABASE_URL", database)
        .env("IDEM_DATA_DIR", dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}
