//! Statistics on SQLite: on a connection of their own, which is open for one query.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, OpenFlags};
use sea_orm::DbBackend;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::postgres::read_event;
use super::statement::StatementBuilder;
use super::{Failure, Found, Request};
use crate::Store;
use crate::error::Error;
use crate::row_reader::{Row, RowReader};
use crate::sqlite::prepare_and_bind;
use domain::stats::cells::Cells;
use domain::stats::events::EventAdder;
use domain::stats::table::Table;

/// How many steps of a statement SQLite does before it looks whether the caller is gone.
const STEPS: i32 = 10_000;

/// Tells the connection that its caller is gone when it is dropped.
struct AbandonOnDrop(Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Answers a query. If the returned future is dropped, the statement that runs ends soon.
pub(super) async fn compute(store: &Store, request: &Arc<Request>) -> Result<Found, Failure> {
    // This connection is not used, but counts, so that few queries run at a time.
    let turn = store.heavy.acquire().await?;
    let path = store.sqlite_writer().ok_or(Error::Bug("the store is one of SQLite"))?.path().to_owned();
    let is_abandoned = Arc::new(AtomicBool::new(false));
    let _abandon = AbandonOnDrop(Arc::clone(&is_abandoned));
    let request = Arc::clone(request);
    let result = spawn_blocking(move || {
        let _turn = turn;
        result(&open(&path, is_abandoned)?, &request)
    });
    result.await.unwrap_or(Err(Failure::Error(Error::Bug("adding events up does not panic"))))
}

/// Opens a connection that reads, and whose statements end once `is_abandoned` is set.
fn open(path: &Path, is_abandoned: Arc<AtomicBool>) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.progress_handler(STEPS, Some(move || is_abandoned.load(Ordering::Relaxed)))?;
    Ok(connection)
}

fn result(connection: &Connection, request: &Request) -> Result<Found, Failure> {
    let Request { query, filter, .. } = request;
    let execute = |sql| connection.execute_batch(sql).map_err(Error::from);
    // All statements read the state of the first one. The transaction ends with the connection.
    execute("BEGIN")?;
    let head = "SELECT feed_head FROM account WHERE user_id = ?1";
    let feed_head = connection.query_row(head, [request.user_id.as_bytes()], |row| row.get(0));
    let feed_head: i64 = feed_head.map_err(|error| match error {
        rusqlite::Error::QueryReturnedNoRows => Error::Moved,
        error => error.into(),
    })?;

    let mut builder = StatementBuilder::new(DbBackend::Sqlite, request);
    let sql = builder.sql_bounds(request);
    let mut bounds = prepare_and_bind(connection, &builder.into_statement(sql))?;
    let mut rows = bounds.raw_query();
    let row = rows.next().map_err(Error::from)?.ok_or(Error::Bug("an aggregate is one row"))?;
    let mut reader = RowReader::new(Row::Rusqlite(row), 0);
    let (first, last): (Option<i64>, Option<i64>) = (reader.next()?, reader.next()?);
    let Some((first, last)) = first.zip(last) else {
        return Ok((Table::new(query).finish(filter.from, filter.to)?, feed_head));
    };

    let cells = Cells::new(query, first, last, request.margins)?;
    let mut adder = EventAdder::new(query, &cells);
    for event_type_id in load_types(connection, request)? {
        let mut builder = StatementBuilder::new(DbBackend::Sqlite, request);
        let id = builder.parameter(event_type_id);
        let condition = builder.condition_of_type(request, &id);
        let sql = format!("SELECT {} FROM event e WHERE {condition}", StatementBuilder::columns(request));
        let mut events = prepare_and_bind(connection, &builder.into_statement(sql))?;
        let mut rows = events.raw_query();
        while let Some(row) = rows.next().map_err(Error::from)? {
            let mut reader = RowReader::new(Row::Rusqlite(row), 0);
            adder.add(&read_event(&mut reader, request)?)?;
        }
    }
    if adder.has_missed() {
        return Err(Failure::Missed);
    }
    Ok((adder.finish(filter.from, filter.to)?, feed_head))
}

/// The ids of the types whose events count.
fn load_types(connection: &Connection, request: &Request) -> Result<Vec<Uuid>, Error> {
    let mut builder = StatementBuilder::new(DbBackend::Sqlite, request);
    let sql = format!("SELECT w.id FROM {}", builder.types(request));
    let mut types = prepare_and_bind(connection, &builder.into_statement(sql))?;
    let mut rows = types.raw_query();
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        ids.push(RowReader::new(Row::Rusqlite(row), 0).next()?);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_statement_ends_when_its_caller_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("idem.db");
        Connection::open(&path).and_then(|new| new.execute_batch("CREATE TABLE t (n)")).expect("a database");
        let is_abandoned = Arc::new(AtomicBool::new(false));
        let caller = AbandonOnDrop(Arc::clone(&is_abandoned));
        let connection = open(&path, is_abandoned).expect("the file can be read");
        let hang_up = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(caller);
        });
        let endless =
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c";
        let ended = connection.query_row(endless, [], |row| row.get::<_, i64>(0));
        assert!(ended.is_err(), "an endless statement has no result");
        hang_up.join().expect("the thread ends");
    }
}
