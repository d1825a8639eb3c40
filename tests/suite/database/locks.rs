//! Rows that somebody else has locked: their user is told so, and nobody else waits.

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
use crate::harness::{Client, Column, TestServer, event, eventually, new_id, number, servers};
use crate::processes::cluster::{Cluster, Import};

/// How long a write may wait for the row of its user, with some room for a busy machine.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(8);
/// What others may take at most meanwhile, on a busy machine: a tenth of that lock.
const OTHERS_MAX: Duration = Duration::from_secs(2);

/// An edit, which reads what is stored, so that it needs the lock of its user; and a create, which does not.
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

    /// Sends something of each kind: what came back, and after how long.
    async fn send(&self, n: usize) -> (Value, Duration) {
        let begun = Instant::now();
        let answer = match n % 4 {
            0 => self.client.send(ONE, json!({ "e": event(&self.kind) })).await,
            1 | 2 => self.client.send(OUTBOX, self.outbox()).await,
            _ => {
                let input = json!({ "id": new_id(), "format": "NDJSON", "sizeBytes": 10 });
                let query =
                    "mutation($i: CreateImportInput!) { createImport(input: $i) { problem { code } } }";
                self.client.send(query, json!({ "i": input })).await
            }
        };
        (answer, begun.elapsed())
    }
}

/// A transaction like one that somebody has forgotten in a terminal.
async fn forgotten(sql: &DatabaseConnection, subjects: &str) -> DatabaseTransaction {
    let held = sql.begin().await.unwrap();
    let lock = format!("SELECT 1 FROM account WHERE subject LIKE '{subjects}' FOR UPDATE");
    held.execute_unprepared(&lock).await.unwrap();
    held
}

/// Sends as one user until it is told to stop; the longest that an answer took, in milliseconds.
async fn other(phone: Phone, stop: Arc<AtomicBool>) -> u64 {
    let mut longest = Duration::ZERO;
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let (answer, took) = phone.send(n % 3).await;
        assert!(answer["errors"].is_null(), "{answer}");
        (longest, n) = (longest.max(took), n + 1);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(n > 20, "{n} writes while the others waited");
    u64::try_from(longest.as_millis()).unwrap()
}

async fn others_do_not_wait(locked: usize, requests: usize) {
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
    let held = forgotten(&sql, "locked %").await;
    let mut others = JoinSet::new();
    for phone in free.by_ref() {
        others.spawn(other(phone, Arc::clone(&stop)));
    }
    let mut waiting = JoinSet::new();
    let longest = Arc::new(AtomicU64::new(0));
    for n in 0..requests {
        for phone in &phones {
            let (phone, longest) = (Arc::clone(phone), Arc::clone(&longest));
            waiting.spawn(async move {
                let (answer, took) = phone.send(n).await;
                assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{answer}");
                longest.fetch_max(u64::try_from(took.as_millis()).unwrap(), Ordering::Relaxed);
            });
        }
    }
    let lock_waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND application_name = 'idem' AND wait_event_type = 'Lock'";
    let mut most = 0;
    while !waiting.is_empty() {
        most = most.max(number(&sql, lock_waits).await);
        assert_eq!(process.status("/readyz").await, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
        while let Some(ended) = waiting.try_join_next() {
            ended.unwrap();
        }
    }
    let longest = Duration::from_millis(longest.load(Ordering::Relaxed));
    assert!(longest < LOCK_WAIT_MAX, "somebody waited {longest:?} for the lock");
    assert!((1..=3).contains(&most), "{most} connections waited for locks");
    assert!(most <= i64::try_from(locked).unwrap(), "more than one wait for one user");
    stop.store(true, Ordering::Relaxed);
    while let Some(longest) = others.join_next().await {
        let longest = Duration::from_millis(longest.unwrap());
        assert!(longest < OTHERS_MAX, "somebody else waited {longest:?}");
    }
    held.rollback().await.unwrap();
    for phone in phones {
        for n in 0..4 {
            let (answer, _) = phone.send(n).await;
            assert!(answer["errors"].is_null(), "{answer}");
        }
    }
    sql.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_locked_user_with_an_impatient_phone_makes_nobody_else_wait() {
    others_do_not_wait(1, 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_locked_users_than_connections_make_nobody_else_wait() {
    others_do_not_wait(14, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_frozen_in_a_chunk_holds_up_its_user_alone() {
    let mut cluster = Cluster::start().await;
    let import = Import::begin(cluster.client("ann"), 40_000).await;
    import.is_under_way(0).await;
    let in_chunk = "SELECT count(*) FROM pg_stat_activity s JOIN pg_locks l USING (pid) \
        WHERE s.state = 'idle in transaction' AND l.relation = 'account'::regclass AND l.mode = 'RowExclusiveLock'";
    // In the middle of a transaction that has written the account.
    let frozen = loop {
        let worker = cluster.signal_worker("STOP");
        tokio::time::sleep(Duration::from_millis(30)).await;
        if cluster.number(in_chunk).await > 0 {
            break worker;
        }
        cluster.signal(worker, "CONT");
        tokio::time::sleep(Duration::from_millis(7)).await;
        assert!(import.records().await < 39_000, "it was never caught in the middle of a chunk");
    };
    let bob = cluster.client("bob");
    let kind = bob.event_type("run").await;
    let ann = cluster.client("ann");
    let impatient: Vec<_> = (0..30)
        .map(|_| {
            let ann = ann.clone();
            tokio::spawn(async move {
                let begun = Instant::now();
                let name = json!({ "t": { "name": new_id() } });
                let query = "mutation($t: EventTypeInput!) { createEventType(input: { eventType: $t }) { result { outcome } } }";
                let answer = ann.send(query, name).await;
                (answer, begun.elapsed())
            })
        })
        .collect();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        let sent = Instant::now();
        assert_eq!(bob.create(&[event(&kind)]).await["created"], 1);
        assert!(sent.elapsed() < OTHERS_MAX, "bob waited {:?}", sent.elapsed());
    }
    for waiting in impatient {
        let (answer, took) = waiting.await.unwrap();
        assert!(took < LOCK_WAIT_MAX, "ann waited {took:?}: {answer}");
    }
    cluster.signal(frozen, "CONT");
    cluster.spawn_worker();
    import.ends_exact(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweeper_and_claims_pass_over_rows_that_somebody_holds() {
    let server = TestServer::open(Column::Postgres).await;
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
    let begun = Instant::now();
    let due = import_job::due(&server.store, 30_000, 100).await.unwrap();
    assert_eq!(due.len(), 3, "all but the one that is held");
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
    assert!(begun.elapsed() < Duration::from_secs(4), "it waited {:?}", begun.elapsed());
    held.rollback().await.unwrap();
    server.execute("UPDATE import_job SET state = 'CANCELED'").await;
    server.end().await;
}

/// Claims of one user at once: never more run than may, and each that may is claimed.
#[tokio::test(flavor = "multi_thread")]
async fn claims_at_once_count_each_other() {
    let server = TestServer::open(Column::Postgres).await;
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
