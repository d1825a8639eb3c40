//! Tests rows that another session has locked. Requests of the same user fail with UNAVAILABLE, and no other
//! user waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use domain::limits::ImportLimits;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, TransactionTrait};
use serde_json::{Value, json};
use store::import_job;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::process::{Launch, Process};
use crate::harness::{Client, DatabaseKind, TestServer, event, eventually, new_id, number, servers};
use crate::processes::cluster::{Cluster, Import};

/// How long a write may wait for the account row of its user, with a margin for a busy machine.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(8);
/// How long a request of another user may take in the meantime, with a margin for a busy machine.
const OTHERS_MAX: Duration = Duration::from_secs(2);

/// `OUTBOX` has an edit, which reads what is stored and so needs the lock of its user. `ONE` is a create,
/// which does not.
const OUTBOX: &str = "mutation($m: [MutationInput!]!) { \
    applyMutations(input: { clientId: \"phone\", mutations: $m }) { results { outcome } } }";
const ONE: &str = "mutation($e: EventInput!) { createEvent(input: { event: $e }) { result { outcome } } }";

struct Phone {
    client: Client,
    kind: String,
    edited: String,
}

impl Phone {
    async fn new(process: &Process, name: &str) -> Self {
        let client = process.client(name);
        let kind = client.event_type("run").await;
        let edited = event(&kind);
        client.create(std::slice::from_ref(&edited)).await;
        Self { client, kind, edited: edited["id"].as_str().unwrap().to_owned() }
    }

    fn outbox(&self) -> Value {
        let edit = json!({ "updateEvent": { "id": self.edited, "patch": { "notes": new_id() } } });
        json!({ "m": [edit, { "createEvent": event(&self.kind) }] })
    }

    /// Sends the nth request, each time of another kind. Returns the response and how long it took.
    async fn send(&self, n: usize) -> (Value, Duration) {
        let started_at = Instant::now();
        let response = match n % 4 {
            0 => self.client.send(ONE, json!({ "e": event(&self.kind) })).await,
            1 | 2 => self.client.send(OUTBOX, self.outbox()).await,
            _ => {
                let input = json!({ "id": new_id(), "format": "NDJSON", "sizeBytes": 10 });
                let query =
                    "mutation($i: CreateImportInput!) { createImport(input: $i) { problem { code } } }";
                self.client.send(query, json!({ "i": input })).await
            }
        };
        (response, started_at.elapsed())
    }
}

/// Locks the account rows of these users, as a transaction does that an operator has left open in a terminal.
async fn lock_accounts(sql: &DatabaseConnection, subjects: &str) -> DatabaseTransaction {
    let held = sql.begin().await.unwrap();
    let lock = format!("SELECT 1 FROM account WHERE subject LIKE '{subjects}' FOR UPDATE");
    held.execute_unprepared(&lock).await.unwrap();
    held
}

/// Sends requests as one user until `stop` is set. Returns the longest response time in milliseconds.
async fn send_until_stopped(phone: Phone, stop: Arc<AtomicBool>) -> u64 {
    let mut longest = Duration::ZERO;
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let (response, took) = phone.send(n % 3).await;
        assert!(response["errors"].is_null(), "{response}");
        (longest, n) = (longest.max(took), n + 1);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(n > 20, "{n} writes while the others waited");
    u64::try_from(longest.as_millis()).unwrap()
}

/// Locks the accounts of so many users, who send so many requests each, and checks that two other users do
/// not wait.
async fn assert_others_do_not_wait(locked: usize, requests: usize) {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let process = Launch::default().start(&database, dir.path()).await;
    let sql = Database::connect(&database).await.unwrap();
    let mut phones = Vec::new();
    for number in 0..locked {
        phones.push(Arc::new(Phone::new(&process, &format!("locked {number}")).await));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let free = ["ann", "bob"].map(|name| Phone::new(&process, name));
    let mut free = futures::future::join_all(free).await.into_iter();
    let held = lock_accounts(&sql, "locked %").await;
    let mut others = JoinSet::new();
    for phone in free.by_ref() {
        others.spawn(send_until_stopped(phone, Arc::clone(&stop)));
    }
    let mut waiting = JoinSet::new();
    let longest = Arc::new(AtomicU64::new(0));
    for n in 0..requests {
        for phone in &phones {
            let (phone, longest) = (Arc::clone(phone), Arc::clone(&longest));
            waiting.spawn(async move {
                let (response, took) = phone.send(n).await;
                assert_eq!(response["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{response}");
                longest.fetch_max(u64::try_from(took.as_millis()).unwrap(), Ordering::Relaxed);
            });
        }
    }
    let lock_waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND application_name = 'idem' AND wait_event_type = 'Lock'";
    let mut most_waits = 0;
    while !waiting.is_empty() {
        most_waits = most_waits.max(number(&sql, lock_waits).await);
        assert_eq!(process.status("/readyz").await, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
        while let Some(ended) = waiting.try_join_next() {
            ended.unwrap();
        }
    }
    let longest = Duration::from_millis(longest.load(Ordering::Relaxed));
    assert!(longest < LOCK_WAIT_MAX, "a request waited {longest:?} for the lock");
    assert!((1..=3).contains(&most_waits), "{most_waits} connections waited for locks");
    assert!(
        most_waits <= i64::try_from(locked).unwrap(),
        "more than one connection waited for the lock of one user"
    );
    stop.store(true, Ordering::Relaxed);
    while let Some(longest) = others.join_next().await {
        let longest = Duration::from_millis(longest.unwrap());
        assert!(longest < OTHERS_MAX, "another user waited {longest:?}");
    }
    held.rollback().await.unwrap();
    for phone in phones {
        for n in 0..4 {
            let (response, _) = phone.send(n).await;
            assert!(response["errors"].is_null(), "{response}");
        }
    }
    sql.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_locked_user_with_an_impatient_phone_makes_no_other_user_wait() {
    assert_others_do_not_wait(1, 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_locked_users_than_connections_make_no_other_user_wait() {
    assert_others_do_not_wait(14, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_frozen_in_a_chunk_delays_only_its_user() {
    let mut cluster = Cluster::start().await;
    let import = Import::begin(cluster.client("ann"), 40_000).await;
    import.wait_until_under_way(0).await;
    let in_chunk = "SELECT count(*) FROM pg_stat_activity s JOIN pg_locks l USING (pid) \
        WHERE s.state = 'idle in transaction' AND l.relation = 'account'::regclass AND l.mode = 'RowExclusiveLock'";
    // The worker is to be frozen inside a transaction that has written the account.
    let frozen = loop {
        let worker = cluster.signal_worker("STOP");
        tokio::time::sleep(Duration::from_millis(30)).await;
        if cluster.number(in_chunk).await > 0 {
            break worker;
        }
        cluster.signal(worker, "CONT");
        tokio::time::sleep(Duration::from_millis(7)).await;
        assert!(import.records().await < 39_000, "the worker was never stopped inside a chunk");
    };
    let bob = cluster.client("bob");
    let kind = bob.event_type("run").await;
    let ann = cluster.client("ann");
    let impatient: Vec<_> = (0..30)
        .map(|_| {
            let ann = ann.clone();
            tokio::spawn(async move {
                let started_at = Instant::now();
                let name = json!({ "t": { "name": new_id() } });
                let query = "mutation($t: EventTypeInput!) { createEventType(input: { eventType: $t }) { result { outcome } } }";
                let response = ann.send(query, name).await;
                (response, started_at.elapsed())
            })
        })
        .collect();
    let started_at = Instant::now();
    while started_at.elapsed() < Duration::from_secs(4) {
        let sent = Instant::now();
        assert_eq!(bob.create(&[event(&kind)]).await["created"], 1);
        assert!(sent.elapsed() < OTHERS_MAX, "bob waited {:?}", sent.elapsed());
    }
    for waiting in impatient {
        let (response, took) = waiting.await.unwrap();
        assert!(took < LOCK_WAIT_MAX, "ann waited {took:?}: {response}");
    }
    cluster.signal(frozen, "CONT");
    cluster.spawn_worker();
    import.assert_ends_exact(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweeper_and_claims_skip_rows_that_another_session_holds() {
    let server = TestServer::open(DatabaseKind::Postgres).await;
    for name in ["ann", "bob"] {
        let client = server.client(name);
        client.event_type("run").await;
        for _ in 0..2 {
            client.create_import(&new_id(), 100, None).await;
        }
    }
    server.execute("UPDATE import_job SET state = 'QUEUED'").await;
    let held = server.sql.begin().await.unwrap();
    let lock = "SELECT 1 FROM import_job WHERE id = (SELECT min(id::text)::uuid FROM import_job) FOR UPDATE";
    held.execute_unprepared(lock).await.unwrap();
    let started_at = Instant::now();
    let due = import_job::find_and_mark_due(&server.store, 30_000, 100).await.unwrap();
    assert_eq!(due.len(), 3, "all but the locked one");
    let limits = ImportLimits::default();
    let owner = number(&server.sql, "SELECT 1").await.to_string();
    let rows = server.sql.query_all_raw(sea_orm::Statement::from_string(
        sea_orm::DbBackend::Postgres,
        "SELECT user_id, id FROM import_job ORDER BY id::text",
    ));
    let mut claimed = Vec::new();
    for row in rows.await.unwrap() {
        let (user_id, id) = (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap());
        let claim = import_job::claim(&server.store, user_id, id, &owner, &limits, 30_000).await.unwrap();
        claimed.push(claim.is_some());
    }
    assert_eq!(claimed, [false, true, true, true]);
    assert!(started_at.elapsed() < Duration::from_secs(4), "it waited {:?}", started_at.elapsed());
    held.rollback().await.unwrap();
    server.execute("UPDATE import_job SET state = 'CANCELED'").await;
    server.end().await;
}

/// Several claims of one user run at the same time. Exactly as many imports start as the limit allows.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_claims_respect_the_limit_of_running_imports() {
    let server = TestServer::open(DatabaseKind::Postgres).await;
    let client = server.client("ann");
    client.event_type("run").await;
    for _ in 0..6 {
        client.create_import(&new_id(), 100, None).await;
    }
    server.execute("UPDATE import_job SET state = 'QUEUED'").await;
    let rows = server.sql.query_all_raw(sea_orm::Statement::from_string(
        sea_orm::DbBackend::Postgres,
        "SELECT user_id, id FROM import_job",
    ));
    let claims = rows.await.unwrap().into_iter().map(|row| {
        let (user_id, id) = (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap());
        let store = server.store.clone();
        tokio::spawn(async move {
            let limits = ImportLimits::default();
            import_job::claim(&store, user_id, id, "test", &limits, 30_000).await.unwrap().is_some()
        })
    });
    let claimed = futures::future::join_all(claims.collect::<Vec<_>>()).await;
    assert_eq!(claimed.into_iter().filter(|claimed| *claimed.as_ref().unwrap()).count(), 2);
    eventually("two run", || async {
        server.number("SELECT count(*) FROM import_job WHERE state = 'RUNNING'").await == 2
    })
    .await;
    server.execute("UPDATE import_job SET state = 'CANCELED'").await;
    server.end().await;
}
