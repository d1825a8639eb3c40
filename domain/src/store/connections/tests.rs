use std::time::Duration;

use futures::future::join_all;
use sea_orm::Database;
use tokio::net::TcpListener;

use super::*;
use crate::store::cells::Cells;

const MOST: usize = 2;

async fn some() -> Connections {
    let pool = Database::connect("sqlite::memory:").await.expect("a database in memory");
    Connections::like(&pool, MOST as u32, |options| options)
}

fn count_to(end: i64) -> Statement {
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT i FROM n";
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, [end.into()])
}

/// The rows up to one, as they come.
async fn read(connections: &Connections, until: i64) -> Result<Vec<i64>, Error> {
    let mut seen = Vec::new();
    let show = |row: Row<'_>| {
        seen.push(Cells::new(row, 0).next()?);
        Ok(if seen.len() as i64 == until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    connections.read(count_to(10_000), show).await?;
    Ok(seen)
}

async fn at_rest(connections: &Connections) -> usize {
    let deadline = Instant::now() + Duration::from_secs(60);
    while connections.connections().0 > 0 {
        assert!(Instant::now() < deadline, "a connection does not come back");
        sleep(Duration::from_millis(5)).await;
    }
    connections.connections().1
}

#[tokio::test]
async fn many_statements_share_few_connections() {
    let connections = some().await;
    let all = join_all((0..64).map(|_| read(&connections, 10_000))).await;
    for seen in all {
        assert_eq!(seen.expect("it was read"), (1..=10_000).collect::<Vec<_>>());
    }
    assert_eq!(at_rest(&connections).await, MOST);
}

#[tokio::test]
async fn a_list_that_is_left_leaves_nothing_to_the_next() {
    let connections = some().await;
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
    let connections = some().await;
    let last = read(&connections, 10_000);
    connections.close().await;
    assert!(matches!(last.await, Err(Error::Busy)), "it had not begun");
    assert_eq!(at_rest(&connections).await, 0);
}

#[tokio::test]
async fn a_database_that_starts_is_waited_for() {
    let port = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its number");
    let mut options = sea_orm::ConnectOptions::new(format!("postgres://{port}/none"));
    let pool = Database::connect(options.connect_lazy(true).to_owned()).await.expect("nobody is asked");
    let connections = Connections::like(&pool, 1, |options| options);
    let waiting = tokio::spawn(async move {
        connections
            .read(Statement::from_string(DbBackend::Postgres, "SELECT 1"), |_| Ok(ControlFlow::Continue(())))
            .await
    });
    sleep(Duration::from_millis(100)).await;
    let started = TcpListener::bind(port).await.expect("it is free again");
    let tried = timeout(WAIT_MAX, started.accept()).await.expect("it is tried again");
    drop(tried.expect("somebody calls"));
    assert!(waiting.await.expect("no panic").is_err(), "and then it is no database");
}
