//! Reads the cells of a row by position, from the row of the driver.
//!
//! SeaORM looks each column up by name and formats an error for each NULL. That took a third of the time of a
//! page (decision 0046).

use std::sync::Arc;

use rusqlite::types::{FromSql, FromSqlResult, ValueRef};
use sea_orm::sqlx::postgres::{PgRow, Postgres};
use sea_orm::sqlx::sqlite::{Sqlite, SqliteRow};
use sea_orm::sqlx::{self, Decode, Row as _, Type};
use sea_orm::{DbErr, QueryResult, RuntimeErr};
use uuid::Uuid;

use crate::error::Error;

/// A type that a cell can be read as, on both databases.
pub(super) trait Cell<'r>:
    Decode<'r, Postgres> + Type<Postgres> + Decode<'r, Sqlite> + Type<Sqlite> + FromRusqliteCell<'r>
{
}

impl<'r, T> Cell<'r> for T where
    T: Decode<'r, Postgres> + Type<Postgres> + Decode<'r, Sqlite> + Type<Sqlite> + FromRusqliteCell<'r>
{
}

/// A type that a cell can be read as on the connection that writes to SQLite. Texts and bytes can be borrowed.
pub(super) trait FromRusqliteCell<'r>: Sized {
    /// Converts a cell.
    ///
    /// # Errors
    /// If the cell has another type.
    fn from_cell(cell: ValueRef<'r>) -> FromSqlResult<Self>;
}

/// Implements [`FromRusqliteCell`] for types that rusqlite converts.
macro_rules! from_rusqlite_cell {
    ($($type:ty),*) => {$(
        impl<'r> FromRusqliteCell<'r> for $type {
            fn from_cell(cell: ValueRef<'r>) -> FromSqlResult<Self> {
                Self::column_result(cell)
            }
        }
    )*};
}

from_rusqlite_cell!(bool, i16, i32, i64, f64, String, Vec<u8>);

impl<'r> FromRusqliteCell<'r> for Uuid {
    fn from_cell(cell: ValueRef<'r>) -> FromSqlResult<Self> {
        <[u8; 16]>::column_result(cell).map(Self::from_bytes)
    }
}

impl<'r> FromRusqliteCell<'r> for &'r str {
    fn from_cell(cell: ValueRef<'r>) -> FromSqlResult<Self> {
        cell.as_str()
    }
}

impl<'r> FromRusqliteCell<'r> for &'r [u8] {
    fn from_cell(cell: ValueRef<'r>) -> FromSqlResult<Self> {
        cell.as_blob()
    }
}

impl<'r, T: FromRusqliteCell<'r>> FromRusqliteCell<'r> for Option<T> {
    fn from_cell(cell: ValueRef<'r>) -> FromSqlResult<Self> {
        if cell == ValueRef::Null { Ok(None) } else { T::from_cell(cell).map(Some) }
    }
}

/// A row of either database.
#[derive(Clone, Copy)]
pub(super) enum Row<'r> {
    Postgres(&'r PgRow),
    /// A row of a connection that reads from SQLite.
    Sqlite(&'r SqliteRow),
    /// A row of the connection that writes to SQLite.
    Rusqlite(&'r rusqlite::Row<'r>),
}

impl<'r> Row<'r> {
    /// Returns the driver's row that SeaORM wraps.
    ///
    /// # Errors
    /// [`Error::Bug`] if the row is of neither database.
    pub(super) fn from_query_result(row: &'r QueryResult) -> Result<Self, Error> {
        let postgres = row.try_as_pg_row().map(Row::Postgres);
        let row = postgres.or_else(|| row.try_as_sqlite_row().map(Row::Sqlite));
        row.ok_or(Error::Bug("a row is of PostgreSQL or of SQLite"))
    }

    /// Reads a cell of a type that only PostgreSQL has.
    ///
    /// # Errors
    /// [`Error::Database`] if the cell does not decode as `T`, or there is none. [`Error::Bug`] if the row is of
    /// SQLite.
    pub(super) fn read_postgres_cell<T>(self, at: usize) -> Result<T, Error>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
    {
        let Row::Postgres(row) = self else { return Err(Error::Bug("the row is of PostgreSQL")) };
        row.try_get_unchecked(at).map_err(to_database_error)
    }
}

fn to_database_error(error: sqlx::Error) -> Error {
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(error))).into()
}

/// Reads the cells of one row from left to right.
pub(super) struct RowReader<'r> {
    row: Row<'r>,
    next: usize,
}

impl<'r> RowReader<'r> {
    /// Makes a reader that starts at the column `at`, counted from 0.
    pub(super) fn new(row: Row<'r>, at: usize) -> Self {
        Self { row, next: at }
    }

    /// Reads the next cell.
    ///
    /// # Errors
    /// [`Error::Database`] if the cell does not decode as `T`, or there is no further cell.
    pub(super) fn next<T: Cell<'r>>(&mut self) -> Result<T, Error> {
        let at = self.next;
        self.next += 1;
        let read = match self.row {
            Row::Postgres(row) => row.try_get_unchecked(at),
            Row::Sqlite(row) => row.try_get_unchecked(at),
            Row::Rusqlite(row) => {
                let cell = row.get_ref(at)?;
                return T::from_cell(cell).map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(at, cell.data_type(), error.into()).into()
                });
            }
        };
        read.map_err(to_database_error)
    }
}
