//! Tests imports with wrong clocks, concurrent uploads and crashing workers. Nothing is removed too early,
//! only committed payloads are imported, and every import ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::import::Step;
use domain::limits::ImportLimits;
use futures::TryStreamExt;
use futures::stream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;
use service::Clock;
use service::Payloads;
use service::{Receipt, receive_payload};
use store::import_job::{self, Held};
use worker::jobs::run_slice::{RunnerContext, run_slice};
use worker::sweeper::Sweeper;

use super::manual_slices::{actor, create_queued, no_callback, runner_context, samples};
use crate::harness::{Client, TestServer, eventually, new_id, on_both, sha256};

on_both!(
    a_sweeper_whose_clock_is_wrong_removes_nothing,
    times_in_the_far_future_do_not_block_an_import,
    records_count_on_the_day_on_which_they_are_processed,
    an_import_gives_up_its_lease_only_to_one_that_may_run,
    of_two_concurrent_uploads_the_committed_one_is_stored,
    a_wrong_payload_is_requested_again_even_if_its_worker_crashes,
    an_upload_whose_client_disconnects_stores_what_has_arrived,
    an_upload_that_ends_after_its_expiry_leaves_no_objects,
    an_import_that_crashes_every_worker_fails_in_the_end,
    an_import_that_keeps_failing_waits_longer_each_time_and_then_ends,
    each_user_has_one_due_import_before_any_user_has_two,
);

async fn a_sweeper_whose_clock_is_wrong_removes_nothing(server: &TestServer) {
    let client = server.client("ann");
    let (waiting, done) = (new_id(), new_id());
    client.create_import(&waiting, 100, None).await;
    client.import_all(&done, [samples(0..3), b"a bad line\n".to_vec()].concat()).await;
    for days in [400, -400] {
        let mut store = server.store.clone();
        store.clock = Clock::new_fixed(Clock::System.now_ms() + days * 86_400_000);
        let sweeper = Sweeper {
            store,
            payloads: server.payloads.clone(),
            notifier: runner_context(server, ImportLimits::default(), no_callback()).notifier,
            payload_retention: Duration::from_secs(7 * 86_400),
        };
        sweeper.sweep_once().await.unwrap();
    }
    assert_eq!(client.import(&waiting).await["state"], "AWAITING_UPLOAD");
    let job = client.import(&done).await;
    assert_eq!(job["rejections"]["nodes"][0]["excerpt"], "a bad line");
    assert_eq!(
        server.number("SELECT count(*) FROM import_job WHERE payload_removed_at IS NOT NULL").await,
        0
    );
    client.control_import("cancelImport", &waiting).await;
}

/// Such times remain after the clock of a machine was wrong and has been set back.
async fn times_in_the_far_future_do_not_block_an_import(server: &TestServer) {
    let client = server.client("ann");
    let user_id = actor(&client).await.user_id;
    let id = create_queued(server, &client, 10).await;
    let later = Clock::System.now_ms() + 2 * 86_400_000;
    let limits = ImportLimits::default();
    for set in [
        format!("state = 'RUNNING', lease_until = {later}"),
        format!("state = 'QUEUED', lease_until = NULL, notified_at = NULL, not_before = {later}"),
        format!("state = 'QUEUED', lease_until = NULL, not_before = NULL, notified_at = {later}"),
    ] {
        server.execute(&format!("UPDATE import_job SET {set}")).await;
        assert_eq!(import_job::find_and_mark_due(&server.store, 30_000, 10).await.unwrap().len(), 1, "{set}");
        server.execute(&format!("UPDATE import_job SET {set}")).await;
        let claim =
            import_job::claim(&server.store, user_id, id.parse().unwrap(), "test", &limits, 30_000).await;
        assert!(claim.unwrap().is_some(), "{set}");
    }
    // A valid lease and a wait of up to 15 minutes are respected.
    server.execute("UPDATE import_job SET notified_at = NULL").await;
    assert_eq!(import_job::find_and_mark_due(&server.store, 30_000, 10).await.unwrap().len(), 0);
    let soon = Clock::System.now_ms() + 14 * 60_000;
    server
        .execute(&format!("UPDATE import_job SET state = 'QUEUED', lease_until = NULL, not_before = {soon}"))
        .await;
    assert_eq!(import_job::find_and_mark_due(&server.store, 30_000, 10).await.unwrap().len(), 0);
    client.control_import("cancelImport", &id).await;
}

async fn records_count_on_the_day_on_which_they_are_processed(server: &TestServer) {
    let client = server.client("ann");
    let limits = ImportLimits { records_a_day: Some(2_000), ..ImportLimits::default() };
    let work =
        async |id: &str| run_slice(&runner_context(server, limits, no_callback()), id.parse().unwrap()).await;
    // An import that was created long ago counts today, and so does a dry run.
    let old = create_queued(server, &client, 1_500).await;
    server.execute("UPDATE import_job SET created_at = 1, dry_run = true").await;
    work(&old).await;
    assert_eq!(client.import(&old).await["state"], "COMPLETED");
    // The retry of the dry run starts again, and its records count again. The daily limit stops it after a
    // chunk.
    let (user_id, job_id) = (actor(&client).await.user_id, old.parse().unwrap());
    assert!(import_job::apply_user_step(&server.store, user_id, job_id, Step::Retry).await.unwrap());
    work(&old).await;
    let job = client.import(&old).await;
    assert_eq!((&job["state"], &job["counts"]["records"]), (&json!("QUEUED"), &json!(500)));
    // It waits, and does not read its payload before it may go on.
    server.execute("UPDATE import_job SET not_before = NULL, next_record = 0, sha256 = NULL").await;
    let objects = server.dir.path().join("payload");
    let hidden = server.dir.path().join("hidden");
    std::fs::rename(&objects, &hidden).unwrap();
    work(&old).await;
    assert_eq!(client.import(&old).await["state"], "QUEUED", "the payload was not read");
    std::fs::rename(&hidden, &objects).unwrap();
    // A day passes.
    server.execute("UPDATE import_usage SET hour = hour - 24").await;
    server.execute("UPDATE import_job SET not_before = NULL").await;
    work(&old).await;
    let job = client.wait_for_end(&old).await;
    assert_eq!(job["state"], "COMPLETED", "{job}");
    // Hours in the future, from a clock that was ahead, do not count.
    server.execute("UPDATE import_usage SET hour = hour + 100").await;
    assert_eq!(import_job::count_records_of_last_day(&server.store, user_id).await.unwrap(), 0);
    // Usage that is too old to count is removed.
    server.execute("UPDATE import_usage SET hour = hour - 149").await;
    import_job::remove_old_usage(&server.store).await.unwrap();
    assert_eq!(server.number("SELECT count(*) FROM import_usage").await, 0);
}

async fn an_import_gives_up_its_lease_only_to_one_that_may_run(server: &TestServer) {
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let limits = ImportLimits::default();
    let mut ids_of_ann = Vec::new();
    for _ in 0..3 {
        ids_of_ann.push(create_queued(server, &ann, 10).await);
    }
    let id_of_bob = create_queued(server, &bob, 10).await;
    let claim = async |client: &Client, id: &str| {
        let user_id = actor(client).await.user_id;
        let claimed = import_job::claim(&server.store, user_id, id.parse().unwrap(), "test", &limits, 30_000);
        Held::from(&claimed.await.unwrap().expect("the import may run"))
    };
    let first = claim(&ann, &ids_of_ann[0]).await;
    let waits =
        async |held: Held| import_job::is_another_import_waiting(&server.store, held, &limits).await.unwrap();
    assert!(waits(first).await, "two imports of ann and one of bob wait");
    let bobs = claim(&bob, &id_of_bob).await;
    assert!(waits(bobs).await, "ann may run one more import");
    let second = claim(&ann, &ids_of_ann[1]).await;
    for held in [first, second, bobs] {
        assert!(!waits(held).await, "the third import of ann is over her limit");
    }
    for (client, id) in ids_of_ann.iter().map(|id| (&ann, id)).chain([(&bob, &id_of_bob)]) {
        client.control_import("cancelImport", id).await;
    }
}

/// Returns payloads in an object store that takes 300 ms for each object, and that store.
fn slow_payloads() -> (Payloads, Arc<ThrottledStore<InMemory>>) {
    let config =
        ThrottleConfig { wait_put_per_call: Duration::from_millis(300), ..ThrottleConfig::default() };
    let objects = Arc::new(ThrottledStore::new(InMemory::new(), config));
    (Payloads::new(Arc::clone(&objects) as Arc<dyn ObjectStore>, Path::default()), objects)
}

/// Counts the objects in a store.
async fn count_objects(store: &ThrottledStore<InMemory>) -> usize {
    store.list(None).try_fold(0, |count, _| async move { Ok(count + 1) }).await.unwrap()
}

/// Uploads a payload into this store.
async fn send(
    server: &TestServer,
    payloads: &Payloads,
    client: &Client,
    id: &str,
    bytes: Vec<u8>,
) -> Receipt {
    let notifier = runner_context(server, ImportLimits::default(), no_callback()).notifier;
    let body = stream::iter([Ok::<_, std::convert::Infallible>(bytes.into())]);
    let (actor, id) = (actor(client).await, id.parse().unwrap());
    receive_payload(&server.store, payloads, &notifier, &actor, id, None, body).await.unwrap()
}

async fn of_two_concurrent_uploads_the_committed_one_is_stored(server: &TestServer) {
    let client = server.client("ann");
    let (payloads, store) = slow_payloads();
    let (mine, other) = (samples(10..50), samples(50..90));
    assert_eq!(mine.len(), other.len());
    for is_same in [false, true] {
        let id = new_id();
        client.create_import(&id, mine.len(), None).await;
        let second = if is_same { mine.clone() } else { other.clone() };
        let later = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            send(server, &payloads, &client, &id, second).await
        };
        let (first, later) = tokio::join!(send(server, &payloads, &client, &id, mine.clone()), later);
        assert!(first.problem.is_none(), "{first:?}");
        assert_eq!(later.problem.map(|problem| problem.code.name()), Some("IMPORT_STATE"));
        let row = import_job::find(&server.store, actor(&client).await.user_id, id.parse().unwrap()).await;
        let row = row.unwrap().unwrap();
        let read = payloads.stream_payload(row.user_id, row.id, &row.payload_objects, 0, mine.len() as u64);
        let read = read.try_fold(Vec::new(), |all, piece| async move { Ok([all, piece.to_vec()].concat()) });
        assert!(read.await.unwrap() == mine, "the payload is not the committed one");
        assert_eq!(count_objects(&store).await, 1, "the object of the other upload is removed");
        client.control_import("cancelImport", &id).await;
        payloads.remove_payload(row.user_id, row.id).await.unwrap();
    }
    assert!(store.put(&Path::from("alive"), "x".into()).await.is_ok());
}

/// The worker crashes while it removes the payload. The row still counts the payload, and its object is gone.
async fn a_wrong_payload_is_requested_again_even_if_its_worker_crashes(server: &TestServer) {
    let client = server.client("ann");
    let (payloads, store) = slow_payloads();
    let payload = samples(0..5);
    let id = new_id();
    let announced = sha256(&payload);
    client.create_import(&id, payload.len(), Some(&announced)).await;
    send(server, &payloads, &client, &id, samples(1..6)).await;
    let work = RunnerContext {
        payloads: payloads.clone(),
        ..runner_context(server, ImportLimits::default(), no_callback())
    };
    store.config_mut(|config| config.wait_delete_per_call = Duration::from_secs(60));
    let crashed = tokio::time::timeout(Duration::from_secs(2), run_slice(&work, id.parse().unwrap())).await;
    assert!(crashed.is_err() && count_objects(&store).await == 1, "the slice waits for the removal");
    assert_eq!(client.import(&id).await["state"], "RUNNING");
    store.config_mut(|config| config.wait_delete_per_call = Duration::ZERO);
    let mut left = store.list(None);
    store.delete(&left.try_next().await.unwrap().unwrap().location).await.unwrap();
    server.execute("UPDATE import_job SET lease_until = 1").await;
    run_slice(&work, id.parse().unwrap()).await;
    let job = client.import(&id).await;
    let result = (&job["state"], &job["problem"]["code"]);
    assert_eq!(result, (&json!("AWAITING_UPLOAD"), &json!("PAYLOAD_MISMATCH")));
    send(server, &payloads, &client, &id, payload).await;
    run_slice(&work, id.parse().unwrap()).await;
    let job = client.import(&id).await;
    assert_eq!((&job["state"], &job["counts"]["inserted"]), (&json!("COMPLETED"), &json!(5)), "{job}");
}

async fn an_upload_whose_client_disconnects_stores_what_has_arrived(server: &TestServer) {
    let client = server.client("ann");
    let (payloads, store) = slow_payloads();
    let id = new_id();
    client.create_import(&id, samples(0..5).len(), None).await;
    let sent = send(server, &payloads, &client, &id, samples(0..5));
    assert!(tokio::time::timeout(Duration::from_millis(200), sent).await.is_err(), "the store is slow");
    eventually("the import is queued", || async { client.import(&id).await["state"] == "QUEUED" }).await;
    assert_eq!(count_objects(&store).await, 1);
    client.control_import("cancelImport", &id).await;
}

async fn an_upload_that_ends_after_its_expiry_leaves_no_objects(server: &TestServer) {
    let client = server.client("ann");
    let (payloads, store) = slow_payloads();
    let id = new_id();
    client.create_import(&id, samples(0..5).len(), None).await;
    let expire = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.execute("UPDATE import_job SET upload_expires_at = 1").await;
        for (user_id, id) in import_job::fail_expired_uploads(&server.store, 10).await.unwrap() {
            payloads.remove_payload(user_id, id).await.unwrap();
            import_job::mark_payload_and_excerpts_removed(&server.store, user_id, id).await.unwrap();
        }
    };
    let (receipt, ()) = tokio::join!(send(server, &payloads, &client, &id, samples(0..5)), expire);
    assert_eq!(receipt.problem.map(|problem| problem.code.name()), Some("IMPORT_STATE"));
    assert_eq!(count_objects(&store).await, 0);
    let job = client.import(&id).await;
    assert_eq!((&job["state"], &job["problem"]["code"]), (&json!("FAILED"), &json!("UPLOAD_EXPIRED")));
    // This one has expired, and the sweeper has not run yet.
    let late = new_id();
    client.create_import(&late, 10, None).await;
    server.execute("UPDATE import_job SET upload_expires_at = 1").await;
    assert_eq!(client.put(&late, None, vec![b' '; 10]).await.status(), 410);
    client.control_import("cancelImport", &late).await;
}

/// Every worker crashes before its first commit, even after the record is rejected.
async fn an_import_that_crashes_every_worker_fails_in_the_end(server: &TestServer) {
    let client = server.client("ann");
    let user_id = actor(&client).await.user_id;
    let id = create_queued(server, &client, 1_700).await;
    let limits = ImportLimits::default();
    let started_at = Instant::now();
    let mut crashes = 0;
    while import_job::claim(&server.store, user_id, id.parse().unwrap(), "test", &limits, 30_000)
        .await
        .unwrap()
        .is_some()
    {
        crashes += 1;
        assert!(crashes < 30 && started_at.elapsed() < Duration::from_secs(60), "{crashes} crashes");
        server.execute("UPDATE import_job SET lease_until = 1").await;
    }
    assert_eq!(crashes, 15, "three with each size of chunk, and three more with the record rejected");
    let job = client.import(&id).await;
    assert_eq!((&job["state"], &job["problem"]["code"]), (&json!("FAILED"), &json!("NO_PROGRESS")));
    // The import can be retried.
    assert!(client.control_import("retryImport", &id).await["problem"].is_null());
    server.execute("UPDATE import_job SET notified_at = NULL").await;
    for _ in 0..8 {
        run_slice(&runner_context(server, limits, no_callback()), id.parse().unwrap()).await;
    }
    assert_eq!(client.wait_for_end(&id).await["counts"]["inserted"], 1_700);
}

async fn an_import_that_keeps_failing_waits_longer_each_time_and_then_ends(server: &TestServer) {
    let client = server.client("ann");
    let id = create_queued(server, &client, 600).await;
    let job_id = id.parse().unwrap();
    // The payload store fails, which is not the same as a payload that is gone.
    let (folder, hidden) = (server.dir.path().join("payload"), server.dir.path().join("hidden"));
    std::fs::rename(&folder, &hidden).unwrap();
    std::fs::write(&folder, "a file, where a folder should be").unwrap();
    let mut pauses = Vec::new();
    for attempt in 1..=20 {
        server.execute("UPDATE import_job SET not_before = NULL").await;
        let now = Clock::System.now_ms();
        run_slice(&runner_context(server, ImportLimits::default(), no_callback()), job_id).await;
        let job = client.import(&id).await;
        if attempt == 20 {
            assert_eq!((&job["state"], &job["problem"]["code"]), (&json!("FAILED"), &json!("NO_PROGRESS")));
            break;
        }
        assert_eq!(job["state"], "QUEUED", "attempt {attempt}");
        assert_eq!(server.number("SELECT attempts FROM import_job").await, attempt);
        pauses.push(server.number("SELECT not_before FROM import_job").await - now);
    }
    // The pauses double from 5 s up to 15 min, with a jitter of one half.
    for (n, pause) in pauses.iter().enumerate() {
        let ideal = (5_000_i64 << n.min(20)).min(15 * 60_000);
        assert!(
            (ideal / 2 - 1_000..=ideal * 3 / 2 + 1_000).contains(pause),
            "pause {n} is {pause} of {ideal}"
        );
    }
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&hidden, &folder).unwrap();
    assert!(client.control_import("retryImport", &id).await["problem"].is_null());
    assert_eq!(client.wait_for_end(&id).await["counts"]["inserted"], 600);
}

async fn each_user_has_one_due_import_before_any_user_has_two(server: &TestServer) {
    let mut ids_of_users = Vec::new();
    for name in ["ann", "bob", "eve"] {
        let client = server.client(name);
        client.event_type("run").await;
        let mut ids = Vec::new();
        for _ in 0..4 {
            let id = new_id();
            client.create_import(&id, 100, None).await;
            ids.push(id);
        }
        ids_of_users.push(ids);
    }
    server.execute("UPDATE import_job SET state = 'QUEUED'").await;
    for round in 0..4 {
        let due = import_job::find_and_mark_due(&server.store, 30_000, 3).await.unwrap();
        let mut users: Vec<usize> = due
            .iter()
            .map(|id| ids_of_users.iter().position(|ids| ids.contains(&id.to_string())).unwrap())
            .collect();
        users.sort_unstable();
        assert_eq!(users, [0, 1, 2], "round {round}");
    }
    assert!(import_job::find_and_mark_due(&server.store, 30_000, 3).await.unwrap().is_empty());
    server.execute("UPDATE import_job SET state = 'CANCELED'").await;
}
