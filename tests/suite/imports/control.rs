//! What a user does with an import: pause, resume, cancel, retry, a dry run; and what cannot be done.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::import::Step;
use serde_json::json;
use service::control_import;

use super::manual_slices::{Disturb, actor, parked, samples, slice, undisturbed};
use crate::harness::{Client, TestServer, new_id, on_both};

on_both!(
    an_import_halts_behind_any_chunk_and_goes_on_exactly,
    a_dry_run_stores_nothing_and_is_then_done_for_real,
    a_failed_import_goes_on_where_it_was,
    an_impossible_step_says_the_state_and_changes_nothing,
    an_import_of_somebody_else_is_unknown_to_every_step,
);

/// Takes a step behind the `at`-th chunk.
async fn step_behind(server: &TestServer, client: &Client, id: &str, step: Step, at: usize) -> Disturb {
    let (store, notifier, id) = (server.store.clone(), Arc::clone(&server.notifier), id.parse().unwrap());
    let actor = actor(client).await;
    Arc::new(move |chunk| {
        let (store, notifier, actor) = (store.clone(), Arc::clone(&notifier), actor.clone());
        Box::pin(async move {
            if chunk == at {
                let answer = control_import(&store, notifier.as_ref(), &actor, Some(id), step).await.unwrap();
                assert!(answer.problem.is_none());
            }
        })
    })
}

async fn an_import_halts_behind_any_chunk_and_goes_on_exactly(server: &TestServer) {
    for at in 1..=3 {
        let client = server.client(&format!("ann-{at}"));
        let id = parked(server, &client, 2_000).await;
        slice(server, &id, step_behind(server, &client, &id, Step::Pause, at).await).await;
        let halted = client.import(&id).await;
        assert_eq!((&halted["state"], &halted["counts"]["inserted"]), (&json!("PAUSED"), &json!(at * 500)));
        let status = client.ask("{ syncStatus { imports { paused queued } } }", json!({})).await;
        assert_eq!(status["syncStatus"]["imports"], json!({ "paused": 1, "queued": 0 }));
        assert!(client.step("pauseImport", &id).await["problem"].is_null());
        slice(server, &id, undisturbed()).await;
        assert_eq!(client.import(&id).await, halted, "a paused import was worked on");
        assert!(client.step("resumeImport", &id).await["problem"].is_null());
        let job = client.ended(&id).await;
        assert_eq!((&job["state"], &job["counts"]["inserted"]), (&json!("COMPLETED"), &json!(2_000)));

        let client = server.client(&format!("bob-{at}"));
        let id = parked(server, &client, 2_000).await;
        slice(server, &id, step_behind(server, &client, &id, Step::Cancel, at).await).await;
        let ended = client.import(&id).await;
        assert_eq!((&ended["state"], &ended["counts"]["inserted"]), (&json!("CANCELED"), &json!(at * 500)));
        let (changes, _) = client.pull(None, 1_000).await;
        assert_eq!(changes.len(), at * 500 + 1, "what is in stays in, with its type");
    }
}

async fn a_dry_run_stores_nothing_and_is_then_done_for_real(server: &TestServer) {
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
    let job = client.ended(&id).await;
    assert_eq!(job["state"], "COMPLETED");
    let counts = json!({ "records": 701, "inserted": 600, "duplicates": 100, "differing": 0, "deleted": 0, "rejected": 1 });
    assert_eq!(job["counts"], counts);
    assert_eq!((&job["recordsTotal"], &job["rejections"]["totalCount"]), (&json!(701), &json!(1)));
    assert_eq!(client.ask(head, json!({})).await, before, "a dry run moved the feed");
    assert_eq!(server.number("SELECT count(*) FROM event").await, 100);

    let retried = client.step("retryImport", &id).await;
    assert_eq!((&retried["problem"], &retried["importJob"]["dryRun"]), (&json!(null), &json!(false)));
    let job = client.ended(&id).await;
    assert_eq!((&job["counts"], &job["rejections"]["totalCount"]), (&counts, &json!(1)));
    assert_eq!(server.number("SELECT count(*) FROM event").await, 700);
    // Sent again as it was announced, it is the same import.
    assert_eq!(
        client.ask(query, json!({ "input": input })).await["createImport"]["importJob"]["id"],
        json!(id)
    );
    let again = client.step("retryImport", &id).await;
    assert_eq!(again["problem"]["code"], "IMPORT_STATE");
}

async fn a_failed_import_goes_on_where_it_was(server: &TestServer) {
    let client = server.client("ann");
    let id = parked(server, &client, 1_500).await;
    slice(server, &id, step_behind(server, &client, &id, Step::Pause, 1).await).await;
    let payloads = server.dir.path().join("payload");
    let aside = server.dir.path().join("aside");
    std::fs::rename(&payloads, &aside).unwrap();
    assert!(client.step("resumeImport", &id).await["problem"].is_null());
    let failed = client.ended(&id).await;
    assert_eq!((&failed["state"], &failed["problem"]["code"]), (&json!("FAILED"), &json!("PAYLOAD_GONE")));
    std::fs::rename(&aside, &payloads).unwrap();
    // Somebody cuts it, or writes on: never is that taken for its end.
    let object = object_of(&payloads);
    let whole = std::fs::read(&object).unwrap();
    for changed in [&whole[..whole.len() / 2], &[&whole[..], b"\n{}"].concat()] {
        std::fs::write(&object, changed).unwrap();
        assert!(client.step("retryImport", &id).await["problem"].is_null());
        let failed = client.ended(&id).await;
        let told = (&failed["state"], &failed["problem"]["code"], &failed["counts"]["inserted"]);
        assert_eq!(told, (&json!("FAILED"), &json!("PAYLOAD_MISMATCH"), &json!(500)));
    }
    std::fs::write(&object, whole).unwrap();
    server.execute("UPDATE import_job SET attempts = 19, crash_count = 2").await;
    assert!(client.step("retryImport", &id).await["problem"].is_null());
    let job = client.ended(&id).await;
    assert_eq!((&job["state"], &job["counts"]["inserted"]), (&json!("COMPLETED"), &json!(1_500)));
    assert!(job["problem"].is_null());
}

/// The states that each step can be taken in, or was.
const POSSIBLE: [(&str, &[&str]); 5] = [
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

async fn an_impossible_step_says_the_state_and_changes_nothing(server: &TestServer) {
    let client = server.client("ann");
    let id = new_id();
    client.create_import(&id, 10, None).await;
    // Nobody takes it up: its rest is not over, whatever its state.
    let set = |state: &str| {
        format!(
            "UPDATE import_job SET state = '{state}', bytes_received = 10, payload_removed_at = NULL, \
             lease_until = 9000000000000000, not_before = 9000000000000000"
        )
    };
    for (step, possible) in POSSIBLE {
        for state in STATES {
            server.execute(&set(state)).await;
            let answer = client.step(step, &id).await;
            let code = answer["problem"]["code"].as_str();
            assert_eq!(code.is_none(), possible.contains(&state), "{step} of {state}: {answer}");
            if code.is_some() {
                assert_eq!((code, &answer["importJob"]["state"]), (Some("IMPORT_STATE"), &json!(state)));
                assert!(answer["problem"]["detail"].as_str().unwrap().contains(state), "{answer}");
            }
        }
    }
    server.execute(&set("FAILED")).await;
    server.execute("UPDATE import_job SET payload_removed_at = 1").await;
    let gone = client.step("retryImport", &id).await;
    assert_eq!(gone["problem"]["code"], "IMPORT_STATE");
}

async fn an_import_of_somebody_else_is_unknown_to_every_step(server: &TestServer) {
    let id = parked(server, &server.client("ann"), 10).await;
    for (step, _) in POSSIBLE {
        let foreign = server.client("bob").step(step, &id).await;
        assert_eq!(foreign, server.client("bob").step(step, &new_id()).await);
        assert_eq!((&foreign["importJob"], &foreign["problem"]["code"]), (&json!(null), &json!("NOT_FOUND")));
    }
    assert_eq!(server.client("ann").import(&id).await["state"], "QUEUED");
    slice(server, &id, undisturbed()).await;
}

/// The one object below a folder.
fn object_of(folder: &Path) -> PathBuf {
    let entry = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    if entry.is_dir() { object_of(&entry) } else { entry }
}
