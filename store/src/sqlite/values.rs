//! Runs the statements of SeaORM on the connection that writes to SQLite.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, Statement as Prepared};
use sea_orm::sea_query::ColumnType;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, Iterable, Statement, TryIntoModel, Value};

use crate::error::Error;

/// A statement with more parameters than this is not kept.
const KEPT_PARAMETERS_MAX: usize = 100;

/// Runs a statement, and returns how many rows it has changed.
///
/// # Errors
/// [`Error::Database`] if the statement fails; [`Error::Bug`] if a value has a type that our tables do not have.
pub(crate) fn execute(connection: &Connection, statement: &Statement) -> Result<u64, Error> {
    let mut prepared = prepare_and_bind(connection, statement)?;
    let rows = prepared.raw_execute()?;
    // The text of an INSERT of many rows depends on their number, so it will hardly be used again.
    if prepared.parameter_count() > KEPT_PARAMETERS_MAX {
        prepared.discard();
    }
    Ok(rows as u64)
}

/// Runs a statement that returns whole rows of an entity, and returns them as models. The statement must select
/// the columns of the entity in their order.
///
/// # Errors
/// As [`execute`].
pub(crate) fn find_models<E: EntityTrait>(
    connection: &Connection,
    statement: &Statement,
) -> Result<Vec<E::Model>, Error>
where
    E::ActiveModel: ActiveModelTrait<Entity = E> + TryIntoModel<E::Model>,
{
    let mut prepared = prepare_and_bind(connection, statement)?;
    let mut rows = prepared.raw_query();
    let mut models = Vec::new();
    while let Some(row) = rows.next()? {
        let mut model = <E::ActiveModel as ActiveModelTrait>::default();
        for (at, column) in E::Column::iter().enumerate() {
            model.set(column, read_value(row, at, column.def().get_column_type())?);
        }
        models.push(model.try_into_model()?);
    }
    Ok(models)
}

/// Runs a statement whose rows have one integer, and returns the integer of the first row.
///
/// # Errors
/// As [`execute`].
pub(crate) fn find_integer(connection: &Connection, statement: &Statement) -> Result<Option<i64>, Error> {
    let mut prepared = prepare_and_bind(connection, statement)?;
    let mut rows = prepared.raw_query();
    Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
}

/// Prepares a statement, unless it is prepared already, and binds its values.
///
/// # Errors
/// As [`execute`].
pub(crate) fn prepare_and_bind<'c>(
    connection: &'c Connection,
    statement: &Statement,
) -> Result<rusqlite::CachedStatement<'c>, Error> {
    let mut prepared = connection.prepare_cached(&statement.sql)?;
    let values = statement.values.as_ref().map_or(&[][..], |values| &values.0);
    for at in 1..=prepared.parameter_count() {
        let value = values.get(number_of_parameter(&prepared, at) - 1);
        let value = value.ok_or(Error::Bug("every parameter of a statement has a value"))?;
        prepared.raw_bind_parameter(at, to_sqlite(value)?)?;
    }
    Ok(prepared)
}

/// The number of the value for the parameter at an index, both from 1. SQLite takes `$2` for a name, and
/// counts parameters in the order in which they occur first.
fn number_of_parameter(prepared: &Prepared<'_>, at: usize) -> usize {
    let name = prepared.parameter_name(at).and_then(|name| name.strip_prefix('$'));
    name.and_then(|number| number.parse().ok()).unwrap_or(at).max(1)
}

/// Converts a value of SeaORM into one of SQLite. Ids are stored as their 16 bytes.
fn to_sqlite(value: &Value) -> Result<ToSqlOutput<'_>, Error> {
    let borrowed = match value {
        Value::Bool(value) => value.map(|value| ValueRef::Integer(value.into())),
        Value::SmallInt(value) => value.map(|value| ValueRef::Integer(value.into())),
        Value::Int(value) => value.map(|value| ValueRef::Integer(value.into())),
        Value::BigInt(value) => value.map(ValueRef::Integer),
        Value::BigUnsigned(value) => {
            value.map(|value| ValueRef::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
        }
        Value::Double(value) => value.map(ValueRef::Real),
        Value::String(value) => value.as_ref().map(|text| ValueRef::Text(text.as_bytes())),
        Value::Bytes(value) => value.as_ref().map(|bytes| ValueRef::Blob(bytes)),
        Value::Uuid(value) => value.as_ref().map(|id| ValueRef::Blob(id.as_bytes())),
        _ => return Err(Error::Bug("a statement has only values that our tables can hold")),
    };
    Ok(ToSqlOutput::Borrowed(borrowed.unwrap_or(ValueRef::Null)))
}

/// Reads a cell as the value of SeaORM for a column of this type.
fn read_value(row: &Row<'_>, at: usize, column: &ColumnType) -> Result<Value, Error> {
    let integer = || row.get::<_, Option<i64>>(at);
    Ok(match column {
        ColumnType::Uuid => row.get::<_, Option<[u8; 16]>>(at)?.map(uuid::Uuid::from_bytes).into(),
        ColumnType::BigInteger => integer()?.into(),
        ColumnType::Integer => row.get::<_, Option<i32>>(at)?.into(),
        ColumnType::SmallInteger => row.get::<_, Option<i16>>(at)?.into(),
        ColumnType::Boolean => row.get::<_, Option<bool>>(at)?.into(),
        ColumnType::Double => row.get::<_, Option<f64>>(at)?.into(),
        ColumnType::Text | ColumnType::String(_) => row.get::<_, Option<String>>(at)?.into(),
        ColumnType::Blob | ColumnType::VarBinary(_) => row.get::<_, Option<Vec<u8>>>(at)?.into(),
        _ => return Err(Error::Bug("every column of our tables has a type that can be read from SQLite")),
    })
}
