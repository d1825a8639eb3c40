//! Tests how long the sweeper keeps uploads, payloads and rejections, the daily limit of records, and records
//! that crash their worker.

use std::time::Duration;

use domain::limits::ImportLimits;
use serde_json::json;
use store::import_job;
use worker::jobs::run_slice::run_slice;
use worker::sweeper::Sweeper;

use super::manual_slices::{
    ChunkNotifier, actor, create_queued, no_callback, runner_context, samples, slice,
};
use crate::harness::{Client, TestServer, new_id, on_both};

on_both!(
    an_upload_that_expires_fails_and_its_objects_are_removed,
    payloads_and_excerpts_are_removed_after_their_retention_and_the_counts_stay,
    a_record_that_crashes_its_worker_is_rejected_alone,
    an_import_over_the_daily_limit_waits_and_loses_nothing,
);

fn sweeper(server: &TestServer) -> Sweeper<ChunkNotifier> {
    Sweeper {
        store: server.store.clone(),
        payloads: server.payloads.clone(),
        notifier: runner_context(server, ImportLimits::default(), no_callback()).notifier,
        payload_retention: Duration::from_secs(7 * 86_400),
    }
}

/// Counts the payload objects in the folder of the server.
pub(super) fn count_objects(server: &TestServer) -> usize {
    fn count(path: &std::path::Path) -> usize {
        let Ok(entries) = std::fs::read_dir(path) else { return 0 };
        entries.map(|entry| entry.unwrap().path()).map(|it| if it.is_dir() { count(&it) } else { 1 }).sum()
    }
    count(&server.dir.path().join("payload"))
}

async fn an_upload_that_expires_fails_and_its_objects_are_removed(server: &TestServer) {
    let client = server.client("ann");
    let id = new_id();
    let payload = vec![b' '; 9 * 1024 * 1024];
    client.create_import(&id, payload.len() + 1, None).await;
    client.put(&id, None, payload).await;
    assert_eq!(count_objects(server), 1);
    sweeper(server).sweep_once().await.unwrap();
    assert_eq!((&client.import(&id).await["state"], count_objects(server)), (&json!("AWAITING_UPLOAD"), 1));
    server.execute("UPDATE import_job SET upload_expires_at = 1").await;
    sweeper(server).sweep_once().await.unwrap();
    let job = client.import(&id).await;
    assert_eq!((&job["state"], &job["problem"]["code"]), (&json!("FAILED"), &json!("UPLOAD_EXPIRED")));
    assert_eq!(count_objects(server), 0);
    assert_eq!(client.put(&id, None, vec![b' '; 10]).await.status(), 409);
    assert_eq!(client.control_import("retryImport", &id).await["problem"]["code"], "IMPORT_STATE");
}

async fn payloads_and_excerpts_are_removed_after_their_retention_and_the_counts_stay(server: &TestServer) {
    let client = server.client("ann");
    let id = new_id();
    client.import_all(&id, [samples(0..5), b"a secret line\n".to_vec()].concat()).await;
    let ended_before = |days: i64| {
        let at = server.store.clock.now_ms() - days * 86_400_000;
        format!("UPDATE import_job SET finished_at = {at}")
    };
    let excerpt = |job: serde_json::Value| job["rejections"]["nodes"][0]["excerpt"].clone();
    server.execute(&ended_before(6)).await;
    sweeper(server).sweep_once().await.unwrap();
    assert_eq!((count_objects(server), excerpt(client.import(&id).await)), (1, json!("a secret line")));
    server.execute(&ended_before(8)).await;
    sweeper(server).sweep_once().await.unwrap();
    assert_eq!((count_objects(server), excerpt(client.import(&id).await)), (0, json!("")));
    server.execute(&ended_before(91)).await;
    sweeper(server).sweep_once().await.unwrap();
    let job = client.import(&id).await;
    assert_eq!((&job["rejections"]["totalCount"], &job["counts"]["rejected"]), (&json!(0), &json!(1)));
    server.execute("UPDATE import_job SET state = 'FAILED'").await;
    assert_eq!(client.control_import("retryImport", &id).await["problem"]["code"], "IMPORT_STATE");
}

/// Claims the import and lets its lease expire, as a worker does that crashes. Returns the size of the chunk
/// that it was to read, and the record that it was to reject.
async fn crash(server: &TestServer, client: &Client, id: &str) -> (i32, Option<i64>) {
    let user_id = actor(client).await.user_id;
    let limits = ImportLimits::default();
    let claimed = import_job::claim(&server.store, user_id, id.parse().unwrap(), "test", &limits, 30_000);
    let row = claimed.await.unwrap().expect("the import can be claimed");
    server.execute("UPDATE import_job SET lease_until = 1").await;
    (row.chunk_records, row.poison_record_number())
}

async fn a_record_that_crashes_its_worker_is_rejected_alone(server: &TestServer) {
    let client = server.client("ann");
    let id = create_queued(server, &client, 1_700).await;
    let mut chunks = Vec::new();
    loop {
        let (chunk, poison) = crash(server, &client, &id).await;
        if poison.is_some() {
            assert_eq!(poison, Some(1));
            break;
        }
        chunks.push(chunk);
    }
    assert_eq!(chunks, [500, 500, 500, 50, 50, 50, 5, 5, 5, 1, 1, 1]);
    slice(server, &id, no_callback()).await;
    let half = client.import(&id).await;
    assert_eq!((&half["state"], &half["counts"]["records"]), (&json!("QUEUED"), &json!(500)));
    assert_eq!(server.number("SELECT chunk_records FROM import_job").await, 500);
    slice(server, &id, no_callback()).await;
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["state"], &job["counts"]["inserted"]), (&json!("COMPLETED"), &json!(1_699)));
    let rejections = &job["rejections"]["nodes"];
    assert_eq!(
        (&rejections[0]["code"], &rejections[0]["record"], &rejections[0]["line"]),
        (&json!("POISON"), &json!(1), &json!(1))
    );
    assert_eq!(job["rejections"]["totalCount"], 1);
}

async fn an_import_over_the_daily_limit_waits_and_loses_nothing(server: &TestServer) {
    let client = server.client("ann");
    let limits = ImportLimits { records_a_day: Some(100), ..ImportLimits::default() };
    let first = create_queued(server, &client, 100).await;
    run_slice(&runner_context(server, limits, no_callback()), first.parse().unwrap()).await;
    let id = create_queued(server, &client, 200).await;
    run_slice(&runner_context(server, limits, no_callback()), id.parse().unwrap()).await;
    assert_eq!(
        (&client.import(&id).await["state"], &client.import(&id).await["counts"]["records"]),
        (&json!("QUEUED"), &json!(0))
    );
    let waiting = "SELECT count(*) FROM import_job WHERE not_before IS NOT NULL AND attempts = 0";
    assert_eq!(server.number(waiting).await, 1);
    // A day passes.
    server.execute("UPDATE import_job SET not_before = NULL").await;
    server.execute("UPDATE import_usage SET hour = hour - 24").await;
    run_slice(&runner_context(server, limits, no_callback()), id.parse().unwrap()).await;
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["counts"]["inserted"], &job["counts"]["duplicates"]), (&json!(100), &json!(100)));
}
