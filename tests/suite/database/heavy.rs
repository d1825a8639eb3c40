//! Tests expensive reads, which may scan all data of a user. They cost more points, do not delay other users,
//! and end when their client disconnects.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, Database};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::process::{Launch, Process};
use crate::harness::{Client, event, eventually, number, servers};

/// Starts a server whose searches are slow: each event that a search reads takes `seconds`.
async fn slow_search(seconds: f64) -> (Process, String, TempDir) {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let sql = Database::connect(&database).await.unwrap();
    let slow = format!(
        "CREATE SCHEMA slow; CREATE FUNCTION slow.strpos(text, text) RETURNS integer LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_sleep({seconds}); RETURN pg_catalog.strpos($1, $2); END $$"
    );
    sql.execute_unprepared(&slow).await.unwrap();
    let name = database.rsplit('/').next().unwrap();
    let path = format!("ALTER DATABASE {name} SET search_path = slow, pg_catalog, public");
    sql.execute_unprepared(&path).await.unwrap();
    sql.close().await.unwrap();
    (Launch::default().start(&database, dir.path()).await, database, dir)
}

async fn fill(client: &Client, events: usize) {
    let kind = client.event_type("run").await;
    let events: Vec<_> = (0..events).map(|_| event(&kind)).collect();
    client.create(&events).await;
}

/// Counts the statements that search notes now.
const RUNNING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' \
    AND query LIKE '%strpos%' AND pid <> pg_backend_pid()";
const SEARCH: &str = "{ events(filter: { search: \"walk\" }) { nodes { id } } }";
const STATISTICS: &str =
    "{ eventStats(input: { timeZone: \"UTC\", filter: { search: \"walk\" } }) { total { count } } }";
const PAGE: &str = "{ events(first: 20) { nodes { id notes } } changes(first: 20) { cursor } }";

#[tokio::test(flavor = "multi_thread")]
async fn searches_of_one_user_wait_for_one_another_and_no_other_user_does() {
    // Each search takes half a second.
    let (process, database, _dir) = slow_search(0.01).await;
    let (ann, bob, eve) = (process.client("ann"), process.client("bob"), process.client("eve"));
    for client in [&ann, &bob, &eve] {
        fill(client, 50).await;
    }
    let mut searches = JoinSet::new();
    for _ in 0..20 {
        let ann = ann.clone();
        searches.spawn(async move { ann.ask(SEARCH, json!({})).await });
    }
    let sql = Database::connect(&database).await.unwrap();
    eventually("one search runs", || async { number(&sql, RUNNING).await > 0 }).await;
    let mut pages = 0;
    let started_at = Instant::now();
    // An expensive read of another user starts at once, and a third user reads pages in the meantime.
    let other = eve.ask(SEARCH, json!({}));
    tokio::pin!(other);
    let first = loop {
        tokio::select! {
            response = &mut other => break response,
            _ = bob.ask(PAGE, json!({})) => pages += 1,
        }
        assert!(number(&sql, RUNNING).await <= 2, "searches of one user ran at the same time");
    };
    assert_eq!(first["events"]["nodes"], json!([]));
    assert!(searches.len() > 10, "eve waited for ann's: {} of 20 are left", searches.len());
    assert!(
        started_at.elapsed() < Duration::from_secs(5) && pages > 5,
        "{pages} pages in {:?}",
        started_at.elapsed()
    );
    while let Some(search) = searches.join_next().await {
        search.unwrap();
    }
    sql.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_ends_its_statement_within_a_second() {
    for query in [SEARCH, STATISTICS] {
        hang_up_during(query).await;
    }
}

async fn hang_up_during(query: &'static str) {
    let (process, database, _dir) = slow_search(0.5).await;
    let client = process.client("ann");
    fill(&client, 50).await;
    let sql = Database::connect(&database).await.unwrap();
    let searcher = client.clone();
    let search = tokio::spawn(async move { searcher.send(query, json!({})).await });
    eventually("the search runs", || async { number(&sql, RUNNING).await == 1 }).await;
    search.abort();
    let disconnected_at = Instant::now();
    eventually("the search ends", || async { number(&sql, RUNNING).await == 0 }).await;
    assert!(
        disconnected_at.elapsed() < Duration::from_secs(2),
        "it ran on for {:?}",
        disconnected_at.elapsed()
    );
    // The connection is free for the next request.
    client.ask(PAGE, json!({})).await;
    sql.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_takes_too_long_is_cancelled() {
    let (process, _database, _dir) = slow_search(0.5).await;
    let client = process.client("ann");
    fill(&client, 60).await;
    let started_at = Instant::now();
    let response = client.send(SEARCH, json!({})).await;
    assert_eq!(response["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{response}");
    assert!(started_at.elapsed() < Duration::from_secs(20), "{:?}", started_at.elapsed());
    assert_eq!(process.status("/livez").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_that_take_too_long_are_refused() {
    let (process, database, _dir) = slow_search(0.5).await;
    let client = process.client("ann");
    fill(&client, 60).await;
    let started_at = Instant::now();
    let response = client.send(STATISTICS, json!({})).await;
    let limit = &response["errors"][0]["extensions"]["limit"];
    assert_eq!(*limit, json!({ "name": "stats time", "max": 10 }), "{response}");
    assert!((10..12).contains(&started_at.elapsed().as_secs()), "{:?}", started_at.elapsed());
    let sql = Database::connect(&database).await.unwrap();
    eventually("the statement ends", || async { number(&sql, RUNNING).await == 0 }).await;
    sql.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_questions_of_one_user_delay_no_other_user() {
    // Each question takes half a second.
    let (process, database, _dir) = slow_search(0.01).await;
    let (ann, bob) = (process.client("ann"), process.client("bob"));
    for client in [&ann, &bob] {
        fill(client, 50).await;
    }
    let mut questions = JoinSet::new();
    for _ in 0..100 {
        let ann = ann.clone();
        questions.spawn(async move { ann.send(STATISTICS, json!({})).await });
    }
    let sql = Database::connect(&database).await.unwrap();
    eventually("one question runs", || async { number(&sql, RUNNING).await > 0 }).await;
    let started_at = Instant::now();
    assert_eq!(bob.ask(STATISTICS, json!({})).await["eventStats"]["total"]["count"], 0);
    bob.ask(PAGE, json!({})).await;
    assert!(started_at.elapsed() < Duration::from_secs(3), "{:?}", started_at.elapsed());
    assert!(number(&sql, RUNNING).await <= 1, "questions of one user run at the same time");
    let mut answered = 0;
    while let Some(response) = questions.join_next().await {
        let response = response.unwrap();
        let code = response["errors"][0]["extensions"]["code"].as_str().unwrap_or("none");
        assert!(["none", "UNAVAILABLE", "LIMIT_EXCEEDED"].contains(&code), "{response}");
        answered += usize::from(code == "none");
    }
    assert!((5..=64).contains(&answered), "{answered} were answered");
    sql.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_may_read_everything_costs_more_than_a_page() {
    let test_server = crate::harness::TestServer::open(crate::harness::DatabaseKind::Sqlite).await;
    let client = test_server.client("ann");
    let cost =
        async |query: &str| client.send(query, json!({})).await["extensions"]["cost"].as_i64().unwrap();
    let page = cost("{ events { nodes { id } } }").await;
    let counted = cost("{ events { totalCount nodes { id } } }").await;
    let (search, digest) = (cost(SEARCH).await, cost("{ syncDigest(entity: EVENT) { entity } }").await);
    let status = cost("{ syncStatus { pending } }").await;
    assert_eq!((page, counted, status), (2, 12, 11));
    assert_eq!((search, digest), (52, 51));
    test_server.end().await;
}
