//! The statement for one event, which has a smaller plan than that for many.
//!
//! Decision 0074 has the figures.

use std::sync::LazyLock;

use ::entity::event::{ActiveModel, Column};
use sea_orm::{ActiveModelTrait, DbBackend, IdenStatic, Iterable, Statement, Value};
use uuid::Uuid;

use super::body::sql_body_if_different;
use super::{Found, add_event, is_unchanged};
use crate::bulk::sql_type_name;
use crate::error::Error;
use crate::load::Loaded;
use crate::model::{self, ColumnSet, sql_columns_of};
use crate::row_reader::{Row, RowReader};
use domain::row::EventRow;

/// The index of the first column of the type in the row that the statement returns.
const TYPE_AT: usize = 5;
/// The index of the first column of the event.
const EVENT_AT: usize = TYPE_AT + model::TYPE.len();

/// Builds the statement that stores an event if it is new.
pub(super) fn build_statement(user_id: Uuid, row: EventRow) -> Result<Statement, Error> {
    let mut row: ActiveModel = model::to_event_model(user_id, row);
    let cells = Column::iter().map(|column| row.take(column).into_value());
    let values: Vec<Value> =
        cells.collect::<Option<_>>().ok_or(Error::Bug("every column of a row is set"))?;
    Ok(Statement::from_sql_and_values(DbBackend::Postgres, SQL.as_str(), values))
}

/// Reads the one row of the statement.
pub(super) fn read_row(row: Row<'_>, found: &mut Found) -> Result<(), Error> {
    let mut reader = RowReader::new(row, 0);
    found.loaded = Loaded::without_rows(reader.next()?, reader.next()?, true);
    found.is_stored = reader.next::<Option<i32>>()?.is_some();
    found.needs_load = reader.next::<Option<bool>>()? == Some(true);
    let import_job_id = reader.next()?;
    if let Some(type_id) = RowReader::new(row, TYPE_AT).next::<Option<Uuid>>()? {
        found.type_ids.insert(type_id);
        found.loaded.unit.add_stored_type(model::read_type_row(row, TYPE_AT, ColumnSet::All)?);
    }
    if RowReader::new(row, EVENT_AT).next::<Option<Uuid>>()?.is_some() {
        add_event(&mut found.loaded.unit, row, EVENT_AT, import_job_id)?;
    }
    Ok(())
}

/// Plan: each lookup is one in a unique index, as in the statements of [`crate::load`].
static SQL: LazyLock<String> = LazyLock::new(|| {
    let parameter = |wanted: Column| {
        let number = Column::iter().position(|column| column.as_str() == wanted.as_str());
        let number = number.expect("a column is one of its table");
        format!("${}::{}", number + 1, sql_type_name(&wanted))
    };
    let names: Vec<String> = Column::iter().map(|column| format!("\"{}\"", column.as_str())).collect();
    let cells = Column::iter().map(|column| match column {
        Column::ChangeSeq => format!("m.feed_head + {}", parameter(column)),
        other => parameter(other),
    });
    let (event_read, event_row) = model::sql_event_columns_without_body(DbBackend::Postgres, true);
    let sql = super::remove_comments(include_str!("one_event.sql"))
        .replace("{type_read}", &sql_columns_of("f", &model::TYPE)[2..])
        .replace("{type_row}", &sql_columns_of("t", &model::TYPE))
        .replace("{event_read}", &format!("f.import_job_id{event_read}"))
        .replace("{event_row}", &event_row)
        .replace("{columns}", &names.join(", "))
        .replace("{cells}", &cells.collect::<Vec<_>>().join(", "))
        .replace("{is_unchanged}", is_unchanged());
    let body = sql_body_if_different(&parameter(Column::ContentHash), &parameter(Column::EventTypeId));
    let sql = sql.replace("{body}", &body);
    let keys = [Column::UserId, Column::Id, Column::EventTypeId, Column::SourceType, Column::ExternalId];
    keys.into_iter().fold(sql, |sql, key| sql.replace(&format!("{{{}}}", key.as_str()), &parameter(key)))
});
