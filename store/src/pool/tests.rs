use std::time::Duration;

use std::ops::ControlFlow;

use futures::future::join_all;
use tokio::net::TcpListener;

use super::*;
use crate::dialect;
use crate::row_reader::RowReader;

const MOST: usize = 2;

fn some() -> Pool {
    let options = dialect::sqlite_options("sqlite::memory:").expect("a database in memory");
    Pool::sqlite(options, MOST as u32, Duration::from_secs(60), &Arc::default())
}

fn count_to(end: i64) -> Statement {
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT i FROM n";
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, [end.into()])
}

/// The rows up to one, as they come.
async fn read(connections: &Pool, until: i64) -> Result<Vec<i64>, Error> {
    let mut seen = Vec::new();
    let show = |row: Row<'_>| {
        seen.push(RowReader::new(row, 0).next()?);
        Ok(if seen.len() as i64 == until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    connections.read(count_to(10_000), show).await?;
    Ok(seen)
}

async fn at_rest(connections: &Pool) -> usize {
    let deadline = Instant::now() + Duration::from_secs(60);
    while connections.usage().0 > 0 {
        assert!(Instant::now() < deadline, "a connection does not come back");
        sleep(Duration::from_millis(5)).await;
    }
    connections.usage().1
}

#[tokio::test]
async fn many_statements_share_few_connections() {
    let connections = some();
    let all = join_all((0..64).map(|_| read(&connections, 10_000))).await;
    for seen in all {
        assert_eq!(seen.expect("it was read"), (1..=10_000).collect::<Vec<_>>());
    }
    assert_eq!(at_rest(&connections).await, MOST);
}

#[tokio::test]
async fn a_list_that_is_left_leaves_nothing_to_the_next() {
    let connections = some();
    for until in [1, 9_000, 9_999] {
        assert_eq!(read(&connections, until).await.expect("it was read"), (1..=until).collect::<Vec<_>>());
        assert_eq!(at_rest(&connections).await, 1, "it is brought to its end, and kept");
    }
    let refused = connections.read(count_to(10_000), |_| Err(Error::Moved)).await;
    assert!(matches!(refused, Err(Error::Moved)));
    // One whose reader goes away.
    let mut shown = 0;
    let show = |_: Row<'_>| {
        shown += 1;
        Ok(ControlFlow::Continue(()))
    };
    let gone = timeout(Duration::from_millis(1), connections.read(count_to(i64::MAX), show)).await;
    assert!(gone.is_err());
    let statement = Statement::from_string(DbBackend::Sqlite, "SELECT no_such_column");
    assert!(connections.read(statement, |_| Ok(ControlFlow::Continue(()))).await.is_err());
    assert_eq!(read(&connections, 10_000).await.expect("it was read"), (1..=10_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn none_is_kept_behind_the_end() {
    let connections = some();
    let last = read(&connections, 10_000);
    connections.close().await;
    assert!(matches!(last.await, Err(Error::Busy)), "it had not begun");
    assert_eq!(at_rest(&connections).await, 0);
}

#[tokio::test]
async fn a_database_that_starts_is_waited_for() {
    let port = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its number");
    let options = dialect::postgres_options(&format!("postgres://{port}/none"), ACQUIRE_MAX, Failover::Lossy)
        .expect("a URL");
    let connections = Pool::postgres(options, 1, ACQUIRE_MAX, &Arc::default());
    let waiting = tokio::spawn(async move {
        connections
            .read(Statement::from_string(DbBackend::Postgres, "SELECT 1"), |_| Ok(ControlFlow::Continue(())))
            .await
    });
    sleep(Duration::from_millis(100)).await;
    let started = TcpListener::bind(port).await.expect("it is free again");
    let tried = timeout(ACQUIRE_MAX, started.accept()).await.expect("it is tried again");
    drop(tried.expect("somebody calls"));
    assert!(waiting.await.expect("no panic").is_err(), "and then it is no database");
}

/// Whoever waits for a place and then for a database that says nothing waits no longer than for either.
#[tokio::test]
async fn one_deadline_bounds_the_wait_for_a_place_and_for_a_connection() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("its number");
    let options = dialect::postgres_options(&format!("postgres://{port}/none"), ACQUIRE_MAX, Failover::Lossy)
        .expect("a URL");
    let connections = Pool::postgres(options, 1, ACQUIRE_MAX, &Arc::default());
    let first = tokio::spawn({
        let connections = connections.clone();
        async move { connections.acquire().await.map(drop) }
    });
    sleep(ACQUIRE_MAX / 2).await;
    // It gets the place when the first one gives up.
    let begun = Instant::now();
    assert!(connections.acquire().await.is_err());
    let waited = begun.elapsed();
    assert!(waited < ACQUIRE_MAX + Duration::from_secs(2), "it has waited {waited:?}");
    assert!(first.await.expect("no panic").is_err());
}

async fn run(connection: &mut AnyConnection, sql: &str) -> Result<(), DbErr> {
    connection.execute(Statement::from_string(DbBackend::Sqlite, sql)).await.map(drop)
}

/// A transaction of SQLite that fails may be rolled back by SQLite, or not; either way nothing of it is left to the
/// next one, and what is committed is there for another connection.
#[tokio::test]
async fn a_transaction_that_failed_leaves_nothing_to_the_next() {
    let dir = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/small.db", dir.path().display());
    let options = dialect::sqlite_options(&url).expect("a URL");
    let connections = Pool::sqlite(options.clone(), 1, Duration::from_secs(60), &Arc::default());
    let mut connection = connections.acquire().await.expect("a connection");
    run(&mut connection, "CREATE TABLE t (x UNIQUE)").await.expect("a table");
    drop(connection);
    let row = "INSERT INTO t VALUES (randomblob(20000))";
    let mut rows = 0;
    for turn in 0..12 {
        let mut connection = connections.acquire().await.expect("a connection");
        // From here on the database has no room for more.
        let is_full = turn % 3 == 1;
        run(
            &mut connection,
            if is_full { "PRAGMA max_page_count = 1" } else { "PRAGMA max_page_count = 1000000" },
        )
        .await
        .expect("a setting");
        connection.begin().await.expect("no transaction is open");
        assert!(connection.begin().await.is_err(), "a transaction does not begin within another");
        if turn % 3 == 2 {
            run(&mut connection, "INSERT INTO t VALUES (1), (1)").await.expect_err("it is there twice");
            assert!(
                matches!(connection.commit().await, Err(Error::Bug(_))),
                "what has failed is not committed"
            );
            continue;
        }
        let inserted = run(&mut connection, row).await;
        assert_eq!(inserted.is_err(), is_full);
        if is_full {
            // SQLite has rolled back by itself, and would store this at once.
            run(&mut connection, "INSERT INTO t VALUES (2)").await.expect_err("the transaction has failed");
            assert!(connection.commit().await.is_err());
        } else {
            connection.commit().await.expect("there is room");
            rows += 1;
        }
        let other = Pool::sqlite(options.clone(), 1, Duration::from_secs(60), &Arc::default());
        let mut seen = 0;
        let count = Statement::from_string(DbBackend::Sqlite, "SELECT count(*) FROM t");
        let show = |row: Row<'_>| {
            seen = RowReader::new(row, 0).next::<i64>()?;
            Ok(ControlFlow::Continue(()))
        };
        other.read(count, show).await.expect("it is read");
        assert_eq!(seen, rows, "in turn {turn}");
        other.close().await;
    }
}
