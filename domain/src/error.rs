//! What can go wrong beside the items themselves.

use std::error::Error as _;

use sea_orm::{DbErr, RuntimeErr, SqlxError};

/// A failure of a command as a whole: nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did not do as asked; the same may work later.
    #[error("the database is not available")]
    Database(#[from] DbErr),
    /// The object store did not do as asked; the same may work later.
    #[error("the payload store is not available")]
    Payload(#[from] object_store::Error),
    /// An object of a payload has another size than when it was received.
    #[error("the payload is not what was received")]
    PayloadChanged,
    /// What was read has moved on meanwhile; the same may work later.
    #[error("what was read has moved on")]
    Moved,
    /// Too many writes wait, or those that went together failed; the same may work later.
    #[error("not now")]
    Busy,
    /// The answer would be larger than allowed: fewer items at once.
    #[error("the answer is too large")]
    AnswerTooLarge,
    /// The lease of an import is held by another by now.
    #[error("the import is no longer held")]
    Fenced,
    /// Something that cannot be, by our own rules; rolled back.
    #[error("a rule of the store was broken: {0}")]
    Bug(&'static str),
}

impl Error {
    /// Itself and what it came of, for logs. `Debug` would show rows: PostgreSQL's details quote them.
    #[must_use]
    pub fn in_full(&self) -> String {
        match self.source() {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }

    /// Whether the same may work later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Database(_) | Self::Payload(_) | Self::Moved | Self::Busy => true,
            Self::PayloadChanged | Self::AnswerTooLarge | Self::Fenced | Self::Bug(_) => false,
        }
    }

    /// Whether anything else asked now would meet the same: what is asked for is away or in trouble. A
    /// database that is there and refuses one statement, for what it says or for whom it met, is not.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Database(DbErr::Exec(RuntimeErr::SqlxError(error)))
            | Self::Database(DbErr::Query(RuntimeErr::SqlxError(error))) => !is_refusal(error),
            other => other.retryable(),
        }
    }
}

/// Constraints, data and programs, and conflicts with other transactions: classes of SQLSTATE (PostgreSQL,
/// appendix A), or primary result codes of SQLite.
fn is_refusal(error: &SqlxError) -> bool {
    let Some(code) = error.as_database_error().and_then(|error| error.code()) else { return false };
    match code.parse::<u32>() {
        Ok(extended) if code.len() != 5 => matches!(extended & 0xff, 18..=20),
        _ => ["22", "23", "40", "54", "P0"].iter().any(|class| code.starts_with(class)),
    }
}
