use tempfile::TempDir;
use tokio::time::sleep;

use super::*;
use crate::dialect;

/// A statement that runs until it is interrupted.
const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n WHERE i < 0";

/// A new database with the empty table `t (x UNIQUE)`, and its writer.
async fn writer_of_new_database(job_max: Duration) -> (Arc<SqliteWriter>, TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/small.db", dir.path().display());
    let options = dialect::build_sqlite_options(&url).expect("a URL");
    let writer = Arc::new(SqliteWriter::start(&options, job_max, &Arc::default()).expect("a thread"));
    let mut tx = SqliteTransaction::begin(&writer).await.expect("a transaction");
    run(&mut tx, "CREATE TABLE t (x UNIQUE)").await.expect("a table");
    tx.end(Ending::Commit).await.expect("a commit");
    (writer, dir)
}

async fn run(tx: &mut SqliteTransaction, sql: &'static str) -> Result<(), Error> {
    tx.run(move |connection| Ok(connection.execute_batch(sql)?)).await
}

/// Counts the rows that are committed, on another connection.
fn count_rows(dir: &TempDir) -> i64 {
    let other = Connection::open(dir.path().join("small.db")).expect("a connection");
    other.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a count")
}

/// SQLite may roll back a failed transaction by itself, or not. Either way the next transaction sees nothing
/// of it, and another connection sees what is committed.
#[tokio::test]
async fn a_transaction_that_failed_does_not_disturb_the_next_one() {
    let (writer, dir) = writer_of_new_database(Duration::from_secs(60)).await;
    let mut rows = 0;
    for round in 0..12 {
        let mut tx = SqliteTransaction::begin(&writer).await.expect("no transaction is open");
        if round % 3 == 2 {
            run(&mut tx, "INSERT INTO t VALUES (1), (1)").await.expect_err("the value must be unique");
            let committed = tx.end(Ending::Commit).await;
            assert!(matches!(committed, Err(Error::Bug(_))), "a failed transaction is not committed");
            continue;
        }
        // With one page the database has no room for a row.
        let is_full = round % 3 == 1;
        let size = if is_full { "PRAGMA max_page_count = 1" } else { "PRAGMA max_page_count = 1000000" };
        run(&mut tx, size).await.expect("a setting");
        let inserted = run(&mut tx, "INSERT INTO t VALUES (randomblob(20000))").await;
        assert_eq!(inserted.is_err(), is_full);
        if is_full {
            // SQLite has rolled back by itself, and would store this row outside of the transaction.
            run(&mut tx, "INSERT INTO t VALUES (2)").await.expect_err("the transaction has failed");
            assert!(tx.end(Ending::Commit).await.is_err());
        } else {
            tx.end(Ending::Commit).await.expect("there is room");
            rows += 1;
        }
        assert_eq!(count_rows(&dir), rows, "in round {round}");
    }
}

#[tokio::test]
async fn a_transaction_that_is_abandoned_is_rolled_back() {
    let (writer, dir) = writer_of_new_database(Duration::from_secs(60)).await;
    let mut tx = SqliteTransaction::begin(&writer).await.expect("a transaction");
    run(&mut tx, "INSERT INTO t VALUES (1)").await.expect("a row");
    drop(tx);
    // This one is dropped while its statement runs.
    let mut tx = SqliteTransaction::begin(&writer).await.expect("the turn was given back");
    run(&mut tx, "INSERT INTO t VALUES (2)").await.expect("a row");
    assert!(timeout(Duration::from_millis(20), run(&mut tx, ENDLESS)).await.is_err());
    drop(tx);
    let tx = SqliteTransaction::begin(&writer).await.expect("the statement was interrupted");
    tx.end(Ending::RollBack).await.expect("a rollback");
    assert_eq!(count_rows(&dir), 0);
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_interrupted() {
    let (writer, dir) = writer_of_new_database(Duration::from_millis(200)).await;
    let mut tx = SqliteTransaction::begin(&writer).await.expect("a transaction");
    let late = run(&mut tx, ENDLESS).await.expect_err("it never ends by itself");
    assert!(late.is_timeout(), "{}", late.to_string_with_cause());
    assert!(run(&mut tx, "INSERT INTO t VALUES (1)").await.is_err());
    drop(tx);
    let late = writer.run_transaction(|connection| Ok((connection.execute_batch(ENDLESS)?, Ending::Commit)));
    assert!(late.await.expect_err("it never ends by itself").is_timeout());
    let stored = writer.run_transaction(|connection| {
        Ok((connection.execute_batch("INSERT INTO t VALUES (3)")?, Ending::Commit))
    });
    stored.await.expect("the next transaction is not interrupted");
    assert_eq!(count_rows(&dir), 1);
}

#[tokio::test]
async fn a_panic_rolls_the_transaction_back() {
    let (writer, dir) = writer_of_new_database(Duration::from_secs(60)).await;
    let broken = writer.run_transaction(|connection| -> Result<((), Ending), Error> {
        connection.execute_batch("INSERT INTO t VALUES (1)")?;
        panic!("this panic is part of the test")
    });
    assert!(matches!(broken.await, Err(Error::Bug(_))));
    let tx = SqliteTransaction::begin(&writer).await.expect("the turn was given back");
    tx.end(Ending::Commit).await.expect("a commit");
    assert_eq!(count_rows(&dir), 0);
}

#[tokio::test]
async fn transactions_get_their_turn_in_order_of_arrival() {
    let (writer, _dir) = writer_of_new_database(Duration::from_secs(60)).await;
    let order = Arc::<Mutex<Vec<usize>>>::default();
    let first = SqliteTransaction::begin(&writer).await.expect("a transaction");
    let waiting: Vec<_> = (0..20)
        .map(|number| {
            let (writer, order) = (Arc::clone(&writer), Arc::clone(&order));
            tokio::spawn(async move {
                let tx = SqliteTransaction::begin(&writer).await.expect("a turn");
                order.lock().expect("no panic").push(number);
                tx.end(Ending::RollBack).await.expect("a rollback");
            })
        })
        .collect();
    // All tasks run on this thread. Once it has yielded to each of them, they wait in the queue.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    first.end(Ending::Commit).await.expect("a commit");
    for task in waiting {
        task.await.expect("no panic");
    }
    assert_eq!(*order.lock().expect("no panic"), (0..20).collect::<Vec<_>>());
}

/// A transaction whose caller has given up, because another process holds the lock of the database, stores nothing
/// when it gets the lock at last.
#[tokio::test]
async fn a_transaction_that_was_given_up_stores_nothing_later() {
    let (writer, dir) = writer_of_new_database(Duration::from_millis(300)).await;
    let insert = |connection: &Connection| {
        Ok((connection.execute_batch("INSERT INTO t VALUES (randomblob(8))")?, Ending::Commit))
    };
    for as_one_job in [true, false] {
        let other = Connection::open(dir.path().join("small.db")).expect("a connection");
        other.execute_batch("BEGIN IMMEDIATE").expect("the lock is free");
        let late = if as_one_job {
            writer.run_transaction(insert).await
        } else {
            SqliteTransaction::begin(&writer).await.map(drop)
        };
        assert!(late.expect_err("the lock is held").is_timeout());
        other.execute_batch("COMMIT").expect("it has written nothing");
        let tx = SqliteTransaction::begin(&writer).await.expect("the permit was given back");
        tx.end(Ending::RollBack).await.expect("a rollback");
        assert_eq!(count_rows(&dir), 0, "as one job: {as_one_job}");
    }
    writer.run_transaction(insert).await.expect("the lock is free");
    assert_eq!(count_rows(&dir), 1);
}

/// When the last connection is closed, SQLite writes all changes into the file and removes its log.
#[tokio::test]
async fn a_closed_writer_leaves_one_file_and_begins_no_transaction() {
    let (writer, dir) = writer_of_new_database(Duration::from_secs(60)).await;
    let mut running = SqliteTransaction::begin(&writer).await.expect("a transaction");
    run(&mut running, "INSERT INTO t VALUES (1)").await.expect("a row");
    let (closed, ended) = tokio::join!(writer.close(), async {
        sleep(Duration::from_millis(50)).await;
        running.end(Ending::Commit).await
    });
    ended.expect("the transaction was not cut off");
    let () = closed;
    assert_eq!(writer.connection_counts(), (0, 0));
    let files: Vec<_> = std::fs::read_dir(dir.path()).expect("a folder").collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(matches!(SqliteTransaction::begin(&writer).await, Err(Error::Busy)));
    assert_eq!(count_rows(&dir), 1);
}
