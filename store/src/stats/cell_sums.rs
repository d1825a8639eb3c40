//! Lets PostgreSQL add up the events of each cell.

use std::ops::ControlFlow;
use std::sync::Arc;

use sea_orm::DbBackend;
use uuid::Uuid;

use super::statement::StatementBuilder;
use super::{Failure, Found, Request};
use crate::error::Error;
use crate::pool::Pool;
use crate::row_reader::{Row, RowReader};
use domain::stats::cells::Cells;
use domain::stats::sum::Sum;
use domain::stats::table::{PartialSum, Table};
use domain::stats::{Group, SelectedFields};

/// 2^62: fractions are added up as integers of this unit.
const FRACTIONS: f64 = 4_611_686_018_427_387_904.0;
/// Up to this many floats can be added up one after another. Their sum differs from the true one by less than
/// 5 × 10^-13 of the sum of their absolute values (N. Higham, "The accuracy of floating point summation", 1993).
const FLOATS_MAX: u64 = 4_000;
/// If the user has more events than this for each cell, it is not tried to add them up as floats.
const EVENTS_OF_CELL_MAX: u64 = 1_000;

/// How PostgreSQL adds up the numbers of one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addition {
    /// As floats. This is a sixth faster, and precise for few numbers.
    Floats,
    /// Their whole parts and their fractions each as integers.
    Integers,
}

impl Addition {
    /// The ways to try, in this order.
    pub(super) fn to_try(request: &Request, cells: &Cells) -> &'static [Self] {
        let cells = cells.starts.len() as u64;
        let are_small = request.events.is_some_and(|events| events / cells <= EVENTS_OF_CELL_MAX);
        if are_small { &[Self::Floats, Self::Integers] } else { &[Self::Integers] }
    }
}

/// Lets PostgreSQL add up the events of each cell. Returns `None` if the sums may lose digits, or are too large.
pub(super) async fn add_cells_up(
    connections: &Pool,
    request: &Request,
    cells: &Cells,
    addition: Addition,
) -> Result<Option<Found>, Failure> {
    let query = &request.query;
    let mut builder = StatementBuilder::new(DbBackend::Postgres, request);
    let sql = sql_cell_sums(&mut builder, request, cells, addition);
    let (mut table, mut feed_head, mut failure, mut is_imprecise) = (Table::new(query), None, None, false);
    let on_row = |row: Row<'_>| {
        let mut reader = RowReader::new(row, 0);
        feed_head = Some(reader.next::<i64>()?);
        let Some(cell) = reader.next::<Option<i32>>()? else { return Ok(ControlFlow::Continue(())) };
        let event_type_id: Option<Uuid> = reader.next()?;
        let source_type = reader.next::<Option<&str>>()?.unwrap_or_default();
        let (hour, unit): (Option<i32>, Option<&str>) = (reader.next()?, reader.next()?);
        let (count, duration): (i64, Option<&str>) = (reader.next()?, reader.next()?);
        let sum = read_sum(&mut reader)?;
        is_imprecise |= sum.as_ref().is_some_and(|(_, is_precise)| !is_precise);
        let partial = PartialSum {
            cell: usize::try_from(cell - 1).unwrap_or(usize::MAX),
            event_type_id: event_type_id.unwrap_or_default(),
            source_type,
            rank: query.preference.as_ref().and_then(|preference| preference.rank_of(source_type)),
            hour: hour.and_then(|hour| u8::try_from(hour).ok()),
            count: u64::try_from(count).unwrap_or_default(),
            duration_ms: duration.and_then(|builder| builder.parse().ok()).unwrap_or_default(),
            sums: sum.map(|(sum, _)| (0, unit.map(Arc::from), sum)).into_iter().collect(),
        };
        if cells.info(partial.cell).is_none() {
            failure = Some(Failure::Missed);
        } else if let Err(exceeded) = table.add(cells, &partial) {
            failure = Some(exceeded.into());
        }
        Ok(if failure.is_some() || is_imprecise { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    match connections.read_rows(builder.into_statement(sql), on_row).await {
        Err(error) if error.is_number_out_of_range() => return Ok(None),
        read => read?,
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    if is_imprecise {
        return Ok(None);
    }
    let result = table.finish(request.filter.from, request.filter.to)?;
    Ok(Some((result, feed_head.ok_or(Error::Moved)?)))
}

/// The statement that adds up the events of each cell. Its rows have the feed head, and then the columns below; without
/// events, one row has the feed head alone.
fn sql_cell_sums(
    builder: &mut StatementBuilder,
    request: &Request,
    cells: &Cells,
    addition: Addition,
) -> String {
    let query = &request.query;
    // PostgreSQL compares floats faster than other elements of arrays. They hold milliseconds exactly.
    let instants = |list: &[i64]| list.iter().map(|at| *at as f64).collect::<Vec<f64>>();
    let (starts, dates) =
        (builder.parameter(instants(&cells.starts)), builder.parameter(instants(&cells.dates)));
    let cell = format!(
        "width_bucket(e.timestamp::float8, CASE WHEN e.is_all_day THEN {dates}::float8[] ELSE {starts}::float8[] END)"
    );
    let hour = cells.clock.as_ref().map(|clock| {
        let (starts, offsets) = (builder.parameter(instants(&clock.starts)), builder.parameter(clock.offsets.clone()));
        let part = format!("width_bucket(e.timestamp::float8, {starts}::float8[])");
        let local = format!("e.timestamp + ({offsets}::bigint[])[{part}]");
        format!("CASE WHEN NOT e.is_all_day THEN ((({local}) % 86400000 + 86400000) % 86400000 / 3600000)::integer END")
    });
    let SelectedFields { durations, sums, extremes } = request.selected;
    let is_preferred = query.preference.is_some();
    let has_measure = !query.measures.is_empty();
    let (has_floats, has_integers) = match addition {
        Addition::Floats => (has_measure && sums, false),
        Addition::Integers => (false, has_measure && sums),
    };
    // Whether the sum of the fractions is precise enough depends on the extremes.
    let has_extremes = has_measure && (extremes || has_integers);
    let needs = |is_needed: bool, sql: &str| is_needed.then(|| sql.to_owned());
    let fraction = format!("sum(((e.value - trunc(e.value)) * {FRACTIONS})::bigint)::text");
    let duration = "sum(CASE WHEN NOT e.is_all_day THEN e.end_date - e.timestamp END)::text";
    // Each with what stands in its place if it is not needed.
    let columns = [
        (Some(cell), ""),
        (needs(is_preferred || query.is_grouped_by(Group::EventType), "e.event_type_id"), "NULL::uuid"),
        (needs(is_preferred || query.is_grouped_by(Group::SourceType), "e.source_type"), "NULL::text"),
        (hour, "NULL::integer"),
        (needs(has_measure, "e.unit"), "NULL::text"),
        (Some("count(*)".to_owned()), ""),
        (needs(durations, duration), "NULL::text"),
        (needs(has_measure, "count(e.value)"), "0::bigint"),
        (needs(has_floats, "sum(e.value)"), "NULL::float8"),
        (needs(has_integers, "sum(trunc(e.value)::bigint)::text"), "NULL::text"),
        (needs(has_integers, &fraction), "NULL::text"),
        (needs(has_extremes, "min(e.value)"), "NULL::float8"),
        (needs(has_extremes, "max(e.value)"), "NULL::float8"),
    ];
    // The first five columns are grouped by, those of them that are needed.
    let keys = columns.iter().zip(1..=5).filter(|((needed, _), _)| needed.is_some());
    let keys = keys.map(|(_, number)| number.to_string()).collect::<Vec<_>>().join(", ");
    let columns = columns.map(|(needed, other)| needed.unwrap_or_else(|| other.to_owned())).join(", ");
    let condition = builder.condition(request);
    let order = if is_preferred { " ORDER BY s.type" } else { "" };
    format!(
        "SELECT a.feed_head, s.* FROM account a LEFT JOIN (\
         SELECT {columns} FROM event e WHERE {condition} GROUP BY {keys}) s(cell, type) ON true \
         WHERE a.user_id = $1{order}"
    )
}

/// Reads the columns of a sum, and whether it is precise enough. `None` if there are no numbers.
fn read_sum(reader: &mut RowReader<'_>) -> Result<Option<(Sum, bool)>, Error> {
    let count = u64::try_from(reader.next::<i64>()?).unwrap_or_default();
    let floats: Option<f64> = reader.next()?;
    let (whole, fraction): (Option<&str>, Option<&str>) = (reader.next()?, reader.next()?);
    let (minimum, maximum): (Option<f64>, Option<f64>) = (reader.next()?, reader.next()?);
    if count == 0 {
        return Ok(None);
    }
    let (minimum, maximum) = (minimum.unwrap_or_default(), maximum.unwrap_or_default());
    let mut sum = Sum::default();
    sum.add_part(floats.unwrap_or_default());
    for (builder, unit) in [(whole, 1.0), (fraction, FRACTIONS)] {
        let integer: i128 = builder.and_then(|builder| builder.parse().ok()).unwrap_or_default();
        let rounded = integer as f64;
        sum.add_part(rounded / unit);
        sum.add_part((integer - rounded as i128) as f64 / unit);
    }
    sum.add_extremes(count, minimum, maximum);
    // Each fraction was rounded to the nearest unit.
    let error = count as f64 / FRACTIONS;
    let size = sum.total().abs().max(minimum.abs()).max(maximum.abs());
    let is_precise = match (floats, fraction) {
        (Some(_), _) => count <= FLOATS_MAX,
        (None, Some(_)) => size == 0.0 || error <= 1e-13 * size,
        (None, None) => true,
    };
    Ok(Some((sum, is_precise)))
}
