//! Rows as one array a column, for PostgreSQL: `INSERT … SELECT … FROM unnest(…)`. Its text is the same
//! for any number of rows, and it has one parameter a column where VALUES has one a cell.
//!
//! A column that is the same in all rows is one value. An array of sea-query holds no nulls, so that where
//! there are some, a value that nothing else has stands for them: the nil UUID, the least integer, NaN, no
//! bytes; text that is there has a mark in front.

use sea_orm::sea_query::{ArrayType, ColumnType};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityName, EntityTrait, IdenStatic, Iterable, Value};
use uuid::Uuid;

use crate::error::Error;

/// In front of a text that is there; a text that is not there is empty.
const MARK: char = '=';

/// The column that names the owner of a row.
const OWNER: &str = "\"user_id\"";

/// From so many rows on, a column travels in the way that suits its values. Below, the way is always the
/// same, so that few statements are prepared.
const SUITED_FROM_ROWS: usize = 100;

/// What to do with a row that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// There is none, by the decision: one that is there is an error.
    None,
    /// It is replaced, found by user and id.
    Replace,
}

/// Of whom rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// Of all.
    All,
    /// Of those whom the CTE `moved` names.
    Moved,
}

/// How the cells of a column travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// All are the same.
    One,
    /// None is null.
    Full,
    /// Some are null, or may be.
    Holes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Uuid,
    Text,
    SmallInt,
    Int,
    BigInt,
    Double,
    Bool,
    Bytes,
}

impl Kind {
    /// Of what is no kind of its own, a table of ours has none; PostgreSQL refuses it as text.
    fn of(column: &ColumnType) -> Self {
        match column {
            ColumnType::Uuid => Self::Uuid,
            ColumnType::SmallInteger => Self::SmallInt,
            ColumnType::Integer => Self::Int,
            ColumnType::BigInteger => Self::BigInt,
            ColumnType::Double => Self::Double,
            ColumnType::Boolean => Self::Bool,
            ColumnType::Blob | ColumnType::VarBinary(_) | ColumnType::Binary(_) => Self::Bytes,
            _ => Self::Text,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::SmallInt => "smallint",
            Self::Int => "integer",
            Self::BigInt => "bigint",
            Self::Double => "double precision",
            Self::Bool => "boolean",
            Self::Bytes => "bytea",
        }
    }

    /// The elements of an array of it; truth with holes travels as a number.
    fn element(self, way: Way) -> (ArrayType, &'static str) {
        let array = match self {
            Self::Bool if way == Way::Holes => return (ArrayType::SmallInt, "smallint"),
            Self::Uuid => ArrayType::Uuid,
            Self::Text => ArrayType::String,
            Self::SmallInt => ArrayType::SmallInt,
            Self::Int => ArrayType::Int,
            Self::BigInt => ArrayType::BigInt,
            Self::Double => ArrayType::Double,
            Self::Bool => ArrayType::Bool,
            Self::Bytes => ArrayType::Bytes,
        };
        (array, self.name())
    }

    /// A cell of a column with holes, as SQL reads it back.
    fn filled(self, cell: &str) -> String {
        match self {
            Self::Uuid => format!("nullif({cell}, '{}')", Uuid::nil()),
            Self::Text => format!("CASE WHEN {cell} = '' THEN NULL ELSE substr({cell}, 2) END"),
            Self::SmallInt => format!("nullif({cell}, '{}'::smallint)", i16::MIN),
            Self::Int => format!("nullif({cell}, '{}'::integer)", i32::MIN),
            Self::BigInt => format!("nullif({cell}, '{}'::bigint)", i64::MIN),
            Self::Double => format!("nullif({cell}, 'NaN'::double precision)"),
            Self::Bool => format!("CASE {cell} WHEN 0 THEN false WHEN 1 THEN true END"),
            Self::Bytes => format!("nullif({cell}, ''::bytea)"),
        }
    }

    /// A cell of a column with holes, as it travels.
    fn fill(value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(Some(text.map_or_else(String::new, |mut text| {
                text.insert(0, MARK);
                text
            }))),
            Value::Uuid(id) => Value::Uuid(Some(id.unwrap_or_default())),
            Value::SmallInt(n) => Value::SmallInt(Some(n.unwrap_or(i16::MIN))),
            Value::Int(n) => Value::Int(Some(n.unwrap_or(i32::MIN))),
            Value::BigInt(n) => Value::BigInt(Some(n.unwrap_or(i64::MIN))),
            Value::Double(n) => Value::Double(Some(n.unwrap_or(f64::NAN))),
            Value::Bool(is) => Value::SmallInt(Some(is.map_or(-1, i16::from))),
            Value::Bytes(bytes) => Value::Bytes(Some(bytes.unwrap_or_default())),
            other => other,
        }
    }
}

/// What PostgreSQL calls the type of a column.
pub(super) fn cast(column: &impl ColumnTrait) -> &'static str {
    Kind::of(column.def().get_column_type()).name()
}

/// The way in which these cells travel; `nullable` when some may be null.
fn way(cells: &[Value], nullable: bool) -> Way {
    let is_one = |cells: &[Value]| cells.iter().all(|cell| *cell == cells[0]);
    match cells.len() {
        1 => Way::One,
        2..SUITED_FROM_ROWS if nullable => Way::Holes,
        2..SUITED_FROM_ROWS => Way::Full,
        _ if is_one(cells) => Way::One,
        _ if cells.iter().all(Value::is_some) => Way::Full,
        _ => Way::Holes,
    }
}

/// Adds the values of these rows, all columns of each, to those of a statement; the text that writes them.
/// There is at least one row.
///
/// # Errors
/// When a column of a row is not set: all are, in rows of ours.
pub(super) fn insert<Row: ActiveModelTrait>(
    mut rows: Vec<Row>,
    existing: Existing,
    owners: Owners,
    values: &mut Vec<Value>,
) -> Result<String, Error> {
    let (mut names, mut cells) = (Vec::new(), Vec::new());
    let (mut arrays, mut array_names) = (Vec::new(), Vec::new());
    for column in <Row::Entity as EntityTrait>::Column::iter() {
        let kind = Kind::of(column.def().get_column_type());
        let set = rows.iter_mut().map(|row| row.take(column).into_value());
        let mut column_cells: Vec<Value> =
            set.collect::<Option<_>>().ok_or(Error::Bug("every column of a row is set"))?;
        let name = format!("\"{}\"", column.as_str());
        let number = values.len() + 1;
        match way(&column_cells, column.def().is_null()) {
            Way::One => {
                cells.push(format!("${number}::{}", kind.name()));
                values.extend(column_cells.pop());
            }
            way => {
                if way == Way::Holes {
                    column_cells = column_cells.into_iter().map(Kind::fill).collect();
                    cells.push(kind.filled(&name));
                } else {
                    cells.push(name.clone());
                }
                let (array, cast) = kind.element(way);
                values.push(Value::Array(array, Some(Box::new(column_cells))));
                arrays.push(format!("${number}::{cast}[]"));
                array_names.push(name.clone());
            }
        }
        names.push(name);
    }
    let table = Row::Entity::default();
    let (table, columns, all_cells) = (table.table_name(), names.join(", "), cells.join(", "));
    let mut sql = format!("INSERT INTO {table} ({columns}) SELECT {all_cells}");
    if !arrays.is_empty() {
        sql += &format!(" FROM unnest({}) AS r({})", arrays.join(", "), array_names.join(", "));
    }
    if owners == Owners::Moved {
        let owner = names.iter().position(|name| name == OWNER).and_then(|at| cells.get(at));
        let owner = owner.ok_or(Error::Bug("every row has an owner"))?;
        sql += &format!(" WHERE {owner} IN (SELECT user_id FROM moved)");
    }
    if existing == Existing::Replace {
        let all = names.iter().map(|name| format!("{name} = excluded.{name}"));
        sql += &format!(" ON CONFLICT (user_id, id) DO UPDATE SET {}", all.collect::<Vec<_>>().join(", "));
    }
    Ok(sql)
}
