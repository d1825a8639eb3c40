//! The body of a stored event that differs from the event that was sent.
//!
//! A response shows the stored event. If it equals the one that was sent, the body is in the request already.
//! If it does not, the statement returns its body as one cell: PostgreSQL takes longer to start a statement with
//! more columns (decision 0041).

use ::entity::event::Column;

use crate::error::Error;
use crate::model::sql_columns_of;
use crate::row_reader::Row;
use domain::canonical_json::EMPTY;
use domain::row::{EventBody, EventRow, Location};

/// The columns of [`Cell`], in its order.
const BODY: [Column; 9] = {
    use Column::*;
    [Timestamp, EndDate, IsAllDay, TimeZone, Notes, Latitude, Longitude, LocationName, Properties]
};

type Cell = (
    i64,
    Option<i64>,
    Option<bool>,
    Option<String>,
    Option<String>,
    Option<f64>,
    Option<f64>,
    Option<String>,
    Option<String>,
);

/// Returns SQL for the body of the event `f` as one cell, named `body`. It is NULL if the event has the content
/// hash `sent_hash`, or has another type than `sent_type`: the statement does not read that type, which a
/// response shows with the event. It is also NULL for a tombstone.
pub(super) fn sql_body_if_different(sent_hash: &str, sent_type: &str) -> String {
    let columns = sql_columns_of("f", &BODY);
    let columns = columns.trim_start_matches(", ");
    format!(
        "CASE WHEN f.content_hash <> {sent_hash} AND f.event_type_id = {sent_type} \
         THEN ROW({columns}) END AS body"
    )
}

/// Reads the cell of [`sql_body_if_different`] at index `at`, and puts the body into the event. Returns whether
/// the cell has one.
pub(super) fn read_body_into(event: &mut EventRow, row: Row<'_>, at: usize) -> Result<bool, Error> {
    let (Some(content), Some(cell)) = (&mut event.content, row.read_postgres_cell::<Option<Cell>>(at)?)
    else {
        return Ok(false);
    };
    let (timestamp, end_date, is_all_day, time_zone, notes, latitude, longitude, name, properties) = cell;
    let place = latitude.zip(longitude);
    content.body = EventBody {
        timestamp,
        end_date,
        is_all_day: is_all_day.unwrap_or_default(),
        time_zone,
        notes,
        location: place.map(|(latitude, longitude)| Location { latitude, longitude, name }),
        properties: properties.unwrap_or_else(|| EMPTY.to_owned()),
    };
    Ok(true)
}
