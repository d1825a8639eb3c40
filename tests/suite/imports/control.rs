//! Tests the mutations that control an import: pause, resume, cancel, retry and rollback, and the dry run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::import::Step;
use serde_json::json;
use service::control_import;

use super::manual_slices::{AfterChunk, actor, create_queued, no_callback, samples, slice};
use crate::harness::{Client, TestServer, new_id, on_both};

on_both!(
    an_import_can_be_paused_or_canceled_after_any_chunk_and_resumes_exactly,
    a_dry_run_stores_nothing_and_a_retry_of_it_imports,
    a_failed_import_is_retried_from_its_checkpoint,
    a_step_that_the_state_does_not_allow_is_refused_and_changes_nothing,
    every_step_on_an_import_of_another_user_is_not_found,
);

/// Returns a callback that takes this step after the chunk with this number.
async fn step_after(server: &TestServer, client: &Client, id: &str, step: Step, number: usize) -> AfterChunk {
    let (store, notifier, id) = (server.store.clone(), Arc::clone(&server.notifier), id.parse().unwrap());
    let actor = actor(client).await;
    Arc::new(move |chunk| {
        let (store, notifier, actor) = (store.clone(), Arc::clone(&notifier), actor.clone());
        Box::pin(async move {
            if chunk == number {
                let payload =
                    control_import(&store, notifier.as_ref(), &actor, Some(id), step).await.unwrap();
                assert!(payload.problem.is_none());
            }
        })
    })
}

async fn an_import_can_be_paused_or_canceled_after_any_chunk_and_resumes_exactly(server: &TestServer) {
    for at in 1..=3 {
        let client = server.client(&format!("ann-{at}"));
        let id = create_queued(server, &client, 2_000).await;
        slice(server, &id, step_after(server, &client, &id, Step::Pause, at).await).await;
        let paused = client.import(&id).await;
        assert_eq!((&paused["state"], &paused["counts"]["inserted"]), (&json!("PAUSED"), &json!(at * 500)));
        let status = client.ask("{ syncStatus { imports { paused queued } } }", json!({})).await;
        assert_eq!(status["syncStatus"]["imports"], json!({ "paused": 1, "queued": 0 }));
        assert!(client.control_import("pauseImport", &id).await["problem"].is_null());
        slice(server, &id, no_callback()).await;
        assert_eq!(client.import(&id).await, paused, "a paused import went on");
        assert!(client.control_import("resumeImport", &id).await["problem"].is_null());
        let job = client.wait_for_end(&id).await;
        assert_eq!((&job["state"], &job["counts"]["inserted"]), (&json!("COMPLETED"), &json!(2_000)));

        let client = server.client(&format!("bob-{at}"));
        let id = create_queued(server, &client, 2_000).await;
        slice(server, &id, step_after(server, &client, &id, Step::Cancel, at).await).await;
        let ended = client.import(&id).await;
        assert_eq!((&ended["state"], &ended["counts"]["inserted"]), (&json!("CANCELED"), &json!(at * 500)));
        let (changes, _) = client.pull(None, 1_000).await;
        assert_eq!(changes.len(), at * 500 + 1, "the stored events and their type stay");
    }
}

async fn a_dry_run_stores_nothing_and_a_retry_of_it_imports(server: &TestServer) {
    let client = server.client("ann");
    let mut payload = samples(0..700);
    payload.extend(b"garbage\n");
    client.import_all(&new_id(), samples(0..100)).await;
    let head = "{ syncStatus { headCursor } }";
    let before = client.ask(head, json!({})).await;

    let query = "mutation($input: CreateImportInput!) { createImport(input: $input) \
        { importJob { id dryRun } problem { code } } }";
    let id = new_id();
    let input = json!({ "id": id, "format": "NDJSON", "sizeBytes": payload.len(), "dryRun": true });
    let created = client.ask(query, json!({ "input": input })).await["createImport"].take();
    assert_eq!(created, json!({ "importJob": { "id": id, "dryRun": true }, "problem": null }));
    assert_eq!(client.put(&id, None, payload).await.status(), 200);
    let job = client.wait_for_end(&id).await;
    assert_eq!(job["state"], "COMPLETED");
    let counts = json!({ "records": 701, "inserted": 600, "duplicates": 100, "differing": 0, "deleted": 0, "rejected": 1 });
    assert_eq!(job["counts"], counts);
    assert_eq!((&job["recordsTotal"], &job["rejections"]["totalCount"]), (&json!(701), &json!(1)));
    assert_eq!(client.ask(head, json!({})).await, before, "a dry run moved the feed");
    assert_eq!(server.number("SELECT count(*) FROM event").await, 100);

    let retried = client.control_import("retryImport", &id).await;
    assert_eq!((&retried["problem"], &retried["importJob"]["dryRun"]), (&json!(null), &json!(false)));
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["counts"], &job["rejections"]["totalCount"]), (&counts, &json!(1)));
    assert_eq!(server.number("SELECT count(*) FROM event").await, 700);
    // If the same announcement is sent again, it is the same import.
    assert_eq!(
        client.ask(query, json!({ "input": input })).await["createImport"]["importJob"]["id"],
        json!(id)
    );
    let again = client.control_import("retryImport", &id).await;
    assert_eq!(again["problem"]["code"], "IMPORT_STATE");
}

async fn a_failed_import_is_retried_from_its_checkpoint(server: &TestServer) {
    let client = server.client("ann");
    let id = create_queued(server, &client, 1_500).await;
    slice(server, &id, step_after(server, &client, &id, Step::Pause, 1).await).await;
    let payloads = server.dir.path().join("payload");
    let aside = server.dir.path().join("aside");
    std::fs::rename(&payloads, &aside).unwrap();
    assert!(client.control_import("resumeImport", &id).await["problem"].is_null());
    let failed = client.wait_for_end(&id).await;
    assert_eq!((&failed["state"], &failed["problem"]["code"]), (&json!("FAILED"), &json!("PAYLOAD_GONE")));
    std::fs::rename(&aside, &payloads).unwrap();
    // The payload object is truncated or extended. Neither is taken for the end of the payload.
    let object = only_object(&payloads);
    let whole = std::fs::read(&object).unwrap();
    for changed in [&whole[..whole.len() / 2], &[&whole[..], b"\n{}"].concat()] {
        std::fs::write(&object, changed).unwrap();
        assert!(client.control_import("retryImport", &id).await["problem"].is_null());
        let failed = client.wait_for_end(&id).await;
        let result = (&failed["state"], &failed["problem"]["code"], &failed["counts"]["inserted"]);
        assert_eq!(result, (&json!("FAILED"), &json!("PAYLOAD_MISMATCH"), &json!(500)));
    }
    std::fs::write(&object, whole).unwrap();
    server.execute("UPDATE import_job SET attempts = 19, crash_count = 2").await;
    assert!(client.control_import("retryImport", &id).await["problem"].is_null());
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["state"], &job["counts"]["inserted"]), (&json!("COMPLETED"), &json!(1_500)));
    assert!(job["problem"].is_null());
}

/// Each step with the states that allow it, and the states in which it has been taken already.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("cancelImport", &["AWAITING_UPLOAD", "QUEUED", "RUNNING", "PAUSED", "CANCELED"]),
    ("pauseImport", &["QUEUED", "RUNNING", "PAUSED"]),
    ("resumeImport", &["PAUSED", "QUEUED", "RUNNING"]),
    ("retryImport", &["FAILED", "QUEUED", "RUNNING"]),
    ("rollbackImport", &["COMPLETED", "CANCELED", "FAILED", "ROLLING_BACK", "ROLLED_BACK"]),
];
const STATES: [&str; 9] = [
    "AWAITING_UPLOAD",
    "QUEUED",
    "RUNNING",
    "PAUSED",
    "COMPLETED",
    "FAILED",
    "CANCELED",
    "ROLLING_BACK",
    "ROLLED_BACK",
];

async fn a_step_that_the_state_does_not_allow_is_refused_and_changes_nothing(server: &TestServer) {
    let client = server.client("ann");
    let id = new_id();
    client.create_import(&id, 10, None).await;
    // No worker claims the import, because `not_before` is in the future.
    let set = |state: &str| {
        format!(
            "UPDATE import_job SET state = '{state}', bytes_received = 10, payload_removed_at = NULL, \
             lease_until = 9000000000000000, not_before = 9000000000000000"
        )
    };
    for (step, allowed) in ALLOWED {
        for state in STATES {
            server.execute(&set(state)).await;
            let payload = client.control_import(step, &id).await;
            let code = payload["problem"]["code"].as_str();
            assert_eq!(code.is_none(), allowed.contains(&state), "{step} of {state}: {payload}");
            if code.is_some() {
                assert_eq!((code, &payload["importJob"]["state"]), (Some("IMPORT_STATE"), &json!(state)));
                assert!(payload["problem"]["detail"].as_str().unwrap().contains(state), "{payload}");
            }
        }
    }
    server.execute(&set("FAILED")).await;
    server.execute("UPDATE import_job SET payload_removed_at = 1").await;
    let gone = client.control_import("retryImport", &id).await;
    assert_eq!(gone["problem"]["code"], "IMPORT_STATE");
}

async fn every_step_on_an_import_of_another_user_is_not_found(server: &TestServer) {
    let id = create_queued(server, &server.client("ann"), 10).await;
    for (step, _) in ALLOWED {
        let foreign = server.client("bob").control_import(step, &id).await;
        assert_eq!(foreign, server.client("bob").control_import(step, &new_id()).await);
        assert_eq!((&foreign["importJob"], &foreign["problem"]["code"]), (&json!(null), &json!("NOT_FOUND")));
    }
    assert_eq!(server.client("ann").import(&id).await["state"], "QUEUED");
    slice(server, &id, no_callback()).await;
}

/// Returns the path of the only object below a folder.
fn only_object(folder: &Path) -> PathBuf {
    let entry = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    if entry.is_dir() { only_object(&entry) } else { entry }
}
