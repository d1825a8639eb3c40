//! What can go wrong beside the items themselves.

use std::error::Error as _;
use std::io;

use sea_orm::{DbErr, RuntimeErr, sqlx};

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
    /// Too many wait, or the writes that went together failed; the same may work later.
    #[error("not now")]
    Busy,
    /// Somebody else holds the row of this user; the same may work later.
    #[error("somebody else writes for this user")]
    Locked,
    /// It took longer than anybody waits; it may be done all the same.
    #[error("it took too long")]
    Late,
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

    /// What it is, in one word: the label of a metric.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Database(_) => "database",
            Self::Payload(_) | Self::PayloadChanged => "payload",
            Self::Moved => "moved",
            Self::Busy => "busy",
            Self::Locked => "locked",
            Self::Late => "late",
            Self::AnswerTooLarge => "answer_too_large",
            Self::Fenced => "fenced",
            Self::Bug(_) => "bug",
        }
    }

    /// Whether the same may work later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Database(_) | Self::Payload(_) | Self::Moved | Self::Busy | Self::Locked | Self::Late => {
                true
            }
            Self::PayloadChanged | Self::AnswerTooLarge | Self::Fenced | Self::Bug(_) => false,
        }
    }

    /// Whether PostgreSQL has given up to wait for a lock: `lock_not_available`.
    #[must_use]
    pub(crate) fn is_lock_timeout(&self) -> bool {
        self.database_code().is_some_and(|code| code == "55P03")
    }

    /// Whether PostgreSQL has ended a transaction for another one's sake: `serialization_failure`,
    /// `deadlock_detected`. The same may work at once.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.database_code().is_some_and(|code| code == "40001" || code == "40P01")
    }

    /// `division_by_zero`: a statement of ours has found a wrong count.
    #[must_use]
    pub(crate) fn is_division_by_zero(&self) -> bool {
        self.database_code().is_some_and(|code| code == "22012")
    }

    /// The code by which the database tells what is wrong.
    fn database_code(&self) -> Option<String> {
        let Self::Database(
            DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)),
        ) = self
        else {
            return None;
        };
        Some(error.as_database_error()?.code()?.into_owned())
    }

    /// Whether the connection was dead: the statement did not run, or nobody knows.
    #[must_use]
    pub(crate) fn is_lost_connection(&self) -> bool {
        match self {
            Self::Database(
                DbErr::Conn(RuntimeErr::SqlxError(error))
                | DbErr::Exec(RuntimeErr::SqlxError(error))
                | DbErr::Query(RuntimeErr::SqlxError(error)),
            ) => is_lost_connection(error),
            _ => false,
        }
    }

    /// Whether anything else asked now would meet the same: what is asked for is away or in trouble. A
    /// database that is there and refuses one statement, for what it says or for whom it met, is not.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Database(_) => !self.database_code().is_some_and(|code| is_refusal(&code)),
            other => other.retryable(),
        }
    }
}

/// Whether this error means that nothing more can come over a connection. A time-out does not: the database may be
/// busy with what it was asked.
pub(crate) fn is_lost_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() != io::ErrorKind::TimedOut,
        sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ENDED.iter().any(|ended| code.starts_with(ended)))
        }
        _ => false,
    }
}

/// Classes and codes by which PostgreSQL says that it ends a connection, or that it has become a standby, which
/// writes nothing: `connection_exception`, `admin_shutdown`, `crash_shutdown`, `cannot_connect_now`,
/// `idle_session_timeout`, `idle_in_transaction_session_timeout`, `read_only_sql_transaction`.
const ENDED: [&str; 7] = ["08", "57P01", "57P02", "57P03", "57P05", "25P03", "25006"];

/// Whether a database that gives this code is there and refuses the statement: for constraints, data and
/// programs, or for a conflict with another transaction.
///
/// PostgreSQL gives an SQLSTATE of five characters, which may all be digits; the first two are its class
/// (appendix A). SQLite gives an extended result code, whose low byte is the primary one.
fn is_refusal(code: &str) -> bool {
    match code.parse::<u32>() {
        Ok(extended) if code.len() != 5 => matches!(extended & 0xff, TOO_BIG..=MISMATCH),
        _ => ["22", "23", "40", "54", "P0"].iter().any(|class| code.starts_with(class)),
    }
}

/// `SQLITE_TOOBIG`; `SQLITE_CONSTRAINT` stands between the two.
const TOO_BIG: u32 = 18;
/// `SQLITE_MISMATCH`.
const MISMATCH: u32 = 20;

#[cfg(test)]
mod tests {
    use super::is_refusal;

    #[test]
    fn a_refused_statement_is_told_from_a_database_in_trouble() {
        let refused = [
            "23505", // unique_violation
            "22P05", // untranslatable_character
            "40001", // serialization_failure
            "40P01", // deadlock_detected
            "54000", // program_limit_exceeded
            "P0001", // raise_exception
            "18",    // SQLITE_TOOBIG
            "1555",  // SQLITE_CONSTRAINT_PRIMARYKEY
            "2067",  // SQLITE_CONSTRAINT_UNIQUE
        ];
        let in_trouble = [
            "08006", // connection_failure
            "25006", // read_only_sql_transaction
            "53100", // disk_full
            "57P01", // admin_shutdown
            "58030", // io_error
            "XX001", // data_corrupted
            "5",     // SQLITE_BUSY
            "8",     // SQLITE_READONLY
            "13",    // SQLITE_FULL
            "778",   // SQLITE_IOERR_WRITE
        ];
        for code in refused {
            assert!(is_refusal(code), "{code}");
        }
        for code in in_trouble {
            assert!(!is_refusal(code), "{code}");
        }
    }
}
