use std::time::Duration;

use std::ops::ControlFlow;

use futures::future::join_all;
use tokio::net::TcpListener;

use super::*;
use crate::dialect;
use crate::row_reader::RowReader;

const CONNECTIONS_MAX: usize = 2;

fn pool_in_memory() -> Pool {
    let options = dialect::build_sqlite_options("sqlite::memory:").expect("a database in memory");
    Pool::new_sqlite(options, CONNECTIONS_MAX as u32, Duration::from_secs(60), &Arc::default())
}

/// A statement that returns the numbers from 1 to `end`.
fn count_to(end: i64) -> Statement {
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT i FROM n";
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, [end.into()])
}

/// Runs a statement with 10 000 rows, and stops after the row `until`.
async fn read(pool: &Pool, until: i64) -> Result<Vec<i64>, Error> {
    let mut numbers = Vec::new();
    let on_row = |row: Row<'_>| {
        numbers.push(RowReader::new(row, 0).next()?);
        Ok(if numbers.len() as i64 == until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    pool.read_rows(count_to(10_000), on_row).await?;
    Ok(numbers)
}

/// Waits until no connection is in use, and returns how many are idle.
async fn idle_connections(pool: &Pool) -> usize {
    let deadline = Instant::now() + Duration::from_secs(60);
    while pool.connection_counts().0 > 0 {
        assert!(Instant::now() < deadline, "a connection is not given back");
        sleep(Duration::from_millis(5)).await;
    }
    pool.connection_counts().1
}

#[tokio::test]
async fn many_statements_share_few_connections() {
    let pool = pool_in_memory();
    let all = join_all((0..64).map(|_| read(&pool, 10_000))).await;
    for numbers in all {
        assert_eq!(numbers.expect("rows"), (1..=10_000).collect::<Vec<_>>());
    }
    assert_eq!(idle_connections(&pool).await, CONNECTIONS_MAX);
}

#[tokio::test]
async fn a_statement_that_is_abandoned_does_not_disturb_the_next_one() {
    let pool = pool_in_memory();
    for until in [1, 9_000, 9_999] {
        assert_eq!(read(&pool, until).await.expect("rows"), (1..=until).collect::<Vec<_>>());
        assert_eq!(idle_connections(&pool).await, 1, "the statement is ended, and the connection is kept");
    }
    let refused = pool.read_rows(count_to(10_000), |_| Err(Error::Moved)).await;
    assert!(matches!(refused, Err(Error::Moved)));
    // The caller of this one is dropped.
    let mut rows = 0;
    let on_row = |_: Row<'_>| {
        rows += 1;
        Ok(ControlFlow::Continue(()))
    };
    let dropped = timeout(Duration::from_millis(1), pool.read_rows(count_to(i64::MAX), on_row)).await;
    assert!(dropped.is_err());
    let statement = Statement::from_string(DbBackend::Sqlite, "SELECT no_such_column");
    assert!(pool.read_rows(statement, |_| Ok(ControlFlow::Continue(()))).await.is_err());
    assert_eq!(read(&pool, 10_000).await.expect("rows"), (1..=10_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_closed_pool_lends_and_keeps_no_connection() {
    let pool = pool_in_memory();
    let last = read(&pool, 10_000);
    pool.close_idle_and_stop_reuse().await;
    assert!(matches!(last.await, Err(Error::Busy)), "the statement had not begun");
    assert_eq!(idle_connections(&pool).await, 0);
}

#[tokio::test]
async fn the_pool_waits_for_a_database_that_is_starting() {
    let port = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its number");
    let options =
        dialect::build_postgres_options(&format!("postgres://{port}/none"), ACQUIRE_MAX, Failover::Lossy)
            .expect("a URL");
    let pool = Pool::new_postgres(options, 1, ACQUIRE_MAX, &Arc::default());
    let waiting = tokio::spawn(async move {
        pool.read_rows(Statement::from_string(DbBackend::Postgres, "SELECT 1"), |_| {
            Ok(ControlFlow::Continue(()))
        })
        .await
    });
    sleep(Duration::from_millis(100)).await;
    let started = TcpListener::bind(port).await.expect("the port is free again");
    let connected = timeout(ACQUIRE_MAX, started.accept()).await.expect("another attempt to connect");
    drop(connected.expect("a connection"));
    assert!(waiting.await.expect("no panic").is_err(), "what listens is no database");
}

/// A caller that waits first for a permit and then for a database that does not answer has one deadline for
/// both.
#[tokio::test]
async fn one_deadline_bounds_the_wait_for_a_permit_and_for_a_connection() {
    let unresponsive = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = unresponsive.local_addr().expect("its number");
    let options =
        dialect::build_postgres_options(&format!("postgres://{port}/none"), ACQUIRE_MAX, Failover::Lossy)
            .expect("a URL");
    let pool = Pool::new_postgres(options, 1, ACQUIRE_MAX, &Arc::default());
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    sleep(ACQUIRE_MAX / 2).await;
    // It gets the permit when the first one gives up.
    let started_at = Instant::now();
    assert!(pool.acquire().await.is_err());
    let waited = started_at.elapsed();
    assert!(waited < ACQUIRE_MAX + Duration::from_secs(2), "the call has waited {waited:?}");
    assert!(first.await.expect("no panic").is_err());
}
