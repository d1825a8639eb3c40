//! Statistics on PostgreSQL.

use std::ops::ControlFlow;
use std::sync::Arc;

use sea_orm::DbBackend;
use tokio::task::spawn_blocking;

use super::cell_sums::{Addition, add_cells_up};
use super::statement::StatementBuilder;
use super::{Failure, Found, Request};
use crate::error::Error;
use crate::pool::Pool;
use crate::row_reader::{Row, RowReader};
use domain::stats::cells::Cells;
use domain::stats::events::{EventAdder, Numbers, StatsEvent};
use domain::stats::table::Table;

/// Answers a query.
pub(super) async fn compute(connections: &Pool, request: &Request) -> Result<Found, Failure> {
    let (feed_head, bounds) = load_bounds(connections, request).await?;
    let Request { query, filter, .. } = request;
    let Some((first, last)) = bounds else {
        return Ok((Table::new(query).finish(filter.from, filter.to)?, feed_head));
    };
    // For two hundred years of days this takes so long that other requests would wait for it.
    let (of_query, margins) = (Arc::clone(query), request.margins);
    let cells = spawn_blocking(move || Cells::new(&of_query, first, last, margins)).await;
    let cells = cells.map_err(|_| Error::Bug("making cells does not panic"))??;
    if request.reads_columns {
        for addition in Addition::to_try(request, &cells) {
            if let Some(found) = add_cells_up(connections, request, &cells, *addition).await? {
                return Ok(found);
            }
        }
    }
    add_events_up(connections, request, &cells).await
}

/// Reads the feed head, and the timestamps of the first and of the last event.
async fn load_bounds(connections: &Pool, request: &Request) -> Result<(i64, Option<(i64, i64)>), Error> {
    let mut builder = StatementBuilder::new(DbBackend::Postgres, request);
    let bounds = builder.sql_bounds(request);
    let sql = format!(
        "SELECT a.feed_head, b.first, b.last FROM account a CROSS JOIN ({bounds}) b WHERE a.user_id = $1"
    );
    let mut found = None;
    let on_row = |row: Row<'_>| {
        let mut reader = RowReader::new(row, 0);
        let feed_head: i64 = reader.next()?;
        let (first, last): (Option<i64>, Option<i64>) = (reader.next()?, reader.next()?);
        found = Some((feed_head, first.zip(last)));
        Ok(ControlFlow::Continue(()))
    };
    connections.read_rows(builder.into_statement(sql), on_row).await?;
    found.ok_or(Error::Moved)
}

/// Reads the events, and adds them up here.
async fn add_events_up(connections: &Pool, request: &Request, cells: &Cells) -> Result<Found, Failure> {
    let mut builder = StatementBuilder::new(DbBackend::Postgres, request);
    let (types, condition) = (builder.types(request), builder.condition_of_type(request, "w.id"));
    let columns = StatementBuilder::columns(request);
    // The types are sorted, and not the events: their order follows from that of the types.
    let sql = format!(
        "SELECT a.feed_head, s.* FROM account a LEFT JOIN (\
         SELECT e.* FROM (SELECT w.id FROM {types} ORDER BY w.id) w CROSS JOIN LATERAL (\
         SELECT {columns} FROM event e WHERE {condition} OFFSET 0) e ORDER BY w.id) s ON true WHERE a.user_id = $1"
    );
    let (mut adder, mut feed_head, mut failure) = (EventAdder::new(&request.query, cells), None, None);
    let on_row = |row: Row<'_>| {
        let mut reader = RowReader::new(row, 0);
        feed_head = Some(reader.next::<i64>()?);
        if RowReader::new(row, 1).next::<Option<uuid::Uuid>>()?.is_some()
            && let Err(exceeded) = adder.add(&read_event(&mut reader, request)?)
        {
            failure = Some(exceeded);
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    };
    connections.read_rows(builder.into_statement(sql), on_row).await?;
    match failure {
        Some(exceeded) => Err(exceeded.into()),
        None if adder.has_missed() => Err(Failure::Missed),
        None => Ok((adder.finish(request.filter.from, request.filter.to)?, feed_head.ok_or(Error::Moved)?)),
    }
}

/// Reads the columns of [`StatementBuilder::columns`].
pub(super) fn read_event<'r>(reader: &mut RowReader<'r>, request: &Request) -> Result<StatsEvent<'r>, Error> {
    Ok(StatsEvent {
        event_type_id: reader.next()?,
        timestamp: reader.next()?,
        end_date: reader.next()?,
        is_all_day: reader.next()?,
        source_type: reader.next()?,
        numbers: match request.reads_columns {
            true if request.query.measures.is_empty() => Numbers::Promoted(None, None),
            true => Numbers::Promoted(reader.next()?, reader.next()?),
            false => Numbers::Properties(reader.next::<Option<&str>>()?.unwrap_or_default()),
        },
    })
}
