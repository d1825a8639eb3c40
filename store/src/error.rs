//! The errors of a whole command. Problems of single items are not errors; they are `domain::problem`.

use std::error::Error as _;
use std::io;

use sea_orm::{DbErr, RuntimeErr, sqlx};

/// A failure of a command as a whole. Nothing of the command was written, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A statement or a connection has failed; the same command may succeed later. If the failure was a
    /// COMMIT, or a statement outside of a transaction, it may have taken effect.
    #[error("the database failed")]
    Database(#[source] DbErr),
    /// The object store has failed; the same command may succeed later.
    #[error("the object store of payloads failed")]
    Payload(#[from] object_store::Error),
    /// An object of a payload has another size than when it was received.
    #[error("the payload is not what was received")]
    PayloadChanged,
    /// The data that was read has changed in the meantime, or the account row of the user is missing; the
    /// same command may succeed later.
    #[error("the data changed while it was read")]
    Moved,
    /// Too many commands of the user wait, no connection was free in time, or the write group of this write
    /// has failed; the same command may succeed later.
    #[error("too many requests are waiting")]
    Busy,
    /// Another transaction holds the lock of the user's account or import for too long, or other heavy reads
    /// of the user take too long; the same command may succeed later.
    #[error("another transaction holds a lock of this user")]
    Locked,
    /// The command took longer than the client waits. It may still take effect.
    #[error("the request took too long")]
    Late,
    /// The response would be larger than allowed. The client must ask for fewer items at once.
    #[error("the response is too large")]
    ResponseTooLarge,
    /// Another worker holds the lease of the import, or no worker does.
    #[error("the worker no longer holds the lease of the import")]
    Fenced,
    /// An invariant of our own does not hold. The text states the invariant. The transaction is rolled back.
    #[error("this invariant of the store does not hold: {0}")]
    Bug(&'static str),
}

impl From<DbErr> for Error {
    /// An [`Error::Busy`] that went through SeaORM as a [`DbErr`] becomes what it was.
    fn from(error: DbErr) -> Self {
        match &error {
            DbErr::Conn(RuntimeErr::Internal(text)) if *text == Self::Busy.to_string() => Self::Busy,
            _ => Self::Database(error),
        }
    }
}

impl Error {
    /// Converts the error into the error type of SeaORM's queries.
    pub(crate) fn into_db_err(self) -> DbErr {
        match self {
            Self::Database(error) => error,
            other => DbErr::Conn(RuntimeErr::Internal(other.to_string())),
        }
    }

    /// The error and its cause, for logs. `Debug` must not be logged, because it shows details of PostgreSQL
    /// that quote rows.
    #[must_use]
    pub fn to_string_with_cause(&self) -> String {
        match self.source() {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }

    /// The error in one word, for the label of a metric.
    #[must_use]
    pub fn metric_label(&self) -> &'static str {
        match self {
            Self::Database(_) => "database",
            Self::Payload(_) | Self::PayloadChanged => "payload",
            Self::Moved => "moved",
            Self::Busy => "busy",
            Self::Locked => "locked",
            Self::Late => "late",
            Self::ResponseTooLarge => "answer_too_large",
            Self::Fenced => "fenced",
            Self::Bug(_) => "bug",
        }
    }

    /// Whether the same command may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Database(_) | Self::Payload(_) | Self::Moved | Self::Busy | Self::Locked | Self::Late => {
                true
            }
            Self::PayloadChanged | Self::ResponseTooLarge | Self::Fenced | Self::Bug(_) => false,
        }
    }

    /// Whether PostgreSQL could not take a lock in time: `lock_not_available`.
    #[must_use]
    pub(crate) fn is_lock_timeout(&self) -> bool {
        self.database_error_code().is_some_and(|code| code == "55P03")
    }

    /// Whether PostgreSQL has ended the transaction because of another one: `serialization_failure`,
    /// `deadlock_detected`. The same command may succeed at once.
    #[must_use]
    pub fn is_transaction_conflict(&self) -> bool {
        self.database_error_code().is_some_and(|code| code == "40001" || code == "40P01")
    }

    /// Whether a statement has divided by zero (`division_by_zero`). A statement of ours does so when it has
    /// counted other rows than decided.
    #[must_use]
    pub(crate) fn is_division_by_zero(&self) -> bool {
        self.database_error_code().is_some_and(|code| code == "22012")
    }

    /// Whether a number was too large for its type (`numeric_value_out_of_range`).
    #[must_use]
    pub(crate) fn is_number_out_of_range(&self) -> bool {
        self.database_error_code().is_some_and(|code| code == "22003")
    }

    /// The driver's error of a statement that failed. `None` if no statement was sent.
    fn statement_error(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Database(
                DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)),
            ) => Some(error),
            _ => None,
        }
    }

    /// The error code of the database: an SQLSTATE of PostgreSQL, or an extended result code of SQLite.
    fn database_error_code(&self) -> Option<String> {
        Some(self.statement_error()?.as_database_error()?.code()?.into_owned())
    }

    /// Whether the connection was lost while a statement ran on it. It is unknown whether the statement did. A
    /// connection that could not be opened is not meant.
    #[must_use]
    pub fn is_lost_statement(&self) -> bool {
        self.statement_error().is_some_and(is_lost_connection)
    }

    /// Whether the database did not answer in time. It is unknown whether the statement took effect.
    #[must_use]
    pub(crate) fn is_timeout(&self) -> bool {
        self.statement_error().is_some_and(is_timeout)
    }

    /// Whether a row has a key that another row has already: `unique_violation` of PostgreSQL,
    /// `SQLITE_CONSTRAINT_PRIMARYKEY` and `SQLITE_CONSTRAINT_UNIQUE`.
    #[must_use]
    pub(crate) fn is_unique_violation(&self) -> bool {
        self.database_error_code().is_some_and(|code| ["23505", "1555", "2067"].contains(&&*code))
    }

    /// Whether the connection was dead. The statement did not run, or it is unknown whether it did.
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

    /// Whether another command would probably fail now as well: the database or the object store is not
    /// available, or the error is another retryable one, such as [`Error::Locked`]. If the database refuses
    /// one statement, because of its data or of another transaction, that is no outage.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Database(_) => !self.database_error_code().is_some_and(|code| is_statement_refusal(&code)),
            other => other.retryable(),
        }
    }
}

/// Whether an error means that the database did not answer in time.
pub(crate) fn is_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

/// Whether an error means that the connection is dead. A timeout does not: the database may be busy with the
/// statement.
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

/// The SQLSTATE classes and codes with which PostgreSQL ends a connection: `connection_exception`,
/// `admin_shutdown`, `crash_shutdown`, `cannot_connect_now`, `idle_session_timeout`,
/// `idle_in_transaction_session_timeout`. The last one, `read_only_sql_transaction`, means that the server
/// has become a standby, which does not write.
const ENDED: [&str; 7] = ["08", "57P01", "57P02", "57P03", "57P05", "25P03", "25006"];

/// Whether an error code of the database means that it is available but refuses the statement: because of a
/// constraint, of data, of a program limit, or of a conflict with another transaction.
///
/// PostgreSQL returns an SQLSTATE of five characters, which may all be digits; the first two are its class
/// (manual, appendix A). SQLite returns an extended result code, whose low byte is the primary code.
fn is_statement_refusal(code: &str) -> bool {
    match code.parse::<u32>() {
        Ok(extended) if code.len() != 5 => matches!(extended & 0xff, TOO_BIG..=MISMATCH),
        _ => ["22", "23", "40", "54", "P0"].iter().any(|class| code.starts_with(class)),
    }
}

/// The result code `SQLITE_TOOBIG`. The code between this and [`MISMATCH`] is `SQLITE_CONSTRAINT`.
const TOO_BIG: u32 = 18;
/// The result code `SQLITE_MISMATCH`.
const MISMATCH: u32 = 20;

#[cfg(test)]
mod tests {
    use super::{Error, is_statement_refusal};

    #[test]
    fn a_pool_without_a_free_connection_is_not_a_failed_database() {
        assert!(matches!(Error::from(Error::Busy.into_db_err()), Error::Busy));
        assert!(matches!(Error::from(Error::Moved.into_db_err()), Error::Database(_)));
    }

    #[test]
    fn a_refused_statement_is_distinguished_from_an_outage() {
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
        let outage = [
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
            assert!(is_statement_refusal(code), "{code}");
        }
        for code in outage {
            assert!(!is_statement_refusal(code), "{code}");
        }
    }
}
