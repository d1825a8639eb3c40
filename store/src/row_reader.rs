//! The cells of a row, read from the database's own row by their places. SeaORM looks for each name, and
//! makes an error with a text of its own for each NULL: for a page of rows that takes longer than all else.

use std::sync::Arc;

use sea_orm::sqlx::postgres::{PgRow, Postgres};
use sea_orm::sqlx::sqlite::{Sqlite, SqliteRow};
use sea_orm::sqlx::{Decode, Row as _, Type};
use sea_orm::{DbErr, QueryResult, RuntimeErr};

use crate::error::Error;

/// What a cell can be read as, on both databases.
pub(super) trait Cell<'r>:
    Decode<'r, Postgres> + Type<Postgres> + Decode<'r, Sqlite> + Type<Sqlite>
{
}

impl<'r, T: Decode<'r, Postgres> + Type<Postgres> + Decode<'r, Sqlite> + Type<Sqlite>> Cell<'r> for T {}

/// A row of either database.
#[derive(Clone, Copy)]
pub(super) enum Row<'r> {
    /// Of PostgreSQL.
    Postgres(&'r PgRow),
    /// Of SQLite.
    Sqlite(&'r SqliteRow),
}

impl<'r> Row<'r> {
    /// The one below that of SeaORM.
    ///
    /// # Errors
    /// When it is of neither database.
    pub(super) fn of(row: &'r QueryResult) -> Result<Self, Error> {
        let postgres = row.try_as_pg_row().map(Row::Postgres);
        let row = postgres.or_else(|| row.try_as_sqlite_row().map(Row::Sqlite));
        row.ok_or(Error::Bug("a row is of PostgreSQL or of SQLite"))
    }
}

/// The cells of a row from some column on, one after the other.
pub(super) struct RowReader<'r> {
    row: Row<'r>,
    next: usize,
}

impl<'r> RowReader<'r> {
    /// From the column `at` on.
    pub(super) fn new(row: Row<'r>, at: usize) -> Self {
        Self { row, next: at }
    }

    /// The next cell.
    ///
    /// # Errors
    /// When it is of another type.
    pub(super) fn next<T: Cell<'r>>(&mut self) -> Result<T, Error> {
        let at = self.next;
        self.next += 1;
        let read = match self.row {
            Row::Postgres(row) => row.try_get_unchecked(at),
            Row::Sqlite(row) => row.try_get_unchecked(at),
        };
        read.map_err(|error| DbErr::Query(RuntimeErr::SqlxError(Arc::new(error))).into())
    }
}
