//! What differs between SQLite and PostgreSQL: connection settings, lists as parameters, the clock.

use sea_orm::sea_query::SimpleExpr;
use sea_orm::sea_query::prelude::serde_json::json;
use sea_orm::{ConnectOptions, DbBackend, Value};
use uuid::Uuid;

pub(super) fn tune_sqlite(options: &mut ConnectOptions) {
    options.map_sqlx_sqlite_opts(|sqlite| {
        sqlite
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(std::time::Duration::from_secs(10))
            .pragma("journal_mode", "WAL")
            .pragma("synchronous", "FULL")
    });
}

pub(super) fn tune_postgres(options: &mut ConnectOptions) {
    options.map_sqlx_postgres_opts(|postgres| {
        postgres.application_name("idem").options([("idle_in_transaction_session_timeout", "30000")])
    });
}

/// A list of ids as one parameter.
pub(super) fn ids(backend: DbBackend, ids: &[Uuid]) -> Value {
    match backend {
        DbBackend::Postgres => ids.to_vec().into(),
        _ => json!(ids.iter().map(|id| id.simple().to_string()).collect::<Vec<_>>()).to_string().into(),
    }
}

/// A list of texts as one parameter.
pub(super) fn texts(backend: DbBackend, texts: &[String]) -> Value {
    match backend {
        DbBackend::Postgres => texts.to_vec().into(),
        _ => json!(texts).to_string().into(),
    }
}

/// The table `w(id)` that [`ids`] in parameter `number` stands for.
pub(super) fn id_rows(backend: DbBackend, number: usize) -> String {
    match backend {
        DbBackend::Postgres => format!("unnest(${number}::uuid[]) AS w(id)"),
        _ => format!("(SELECT unhex(value) AS id FROM json_each(${number})) w"),
    }
}

/// The table `w(text)` that [`texts`] in parameter `number` stands for.
pub(super) fn text_rows(backend: DbBackend, number: usize) -> String {
    match backend {
        DbBackend::Postgres => format!("unnest(${number}::text[]) AS w(text)"),
        _ => format!("(SELECT value AS text FROM json_each(${number})) w"),
    }
}

/// The table `w(source_type, external_id)` out of two lists of texts of the same length.
pub(super) fn pair_rows(backend: DbBackend, left: usize, right: usize) -> String {
    match backend {
        DbBackend::Postgres => {
            format!("unnest(${left}::text[], ${right}::text[]) AS w(source_type, external_id)")
        }
        _ => format!(
            "(SELECT l.value AS source_type, r.value AS external_id \
             FROM json_each(${left}) l JOIN json_each(${right}) r ON r.key = l.key) w"
        ),
    }
}

/// The rows `f` of a table that fit one row `w` or another: each is looked up by its keys. PostgreSQL is
/// given no choice: a plan that it made for a small table and kept would read the whole of a large one.
pub(super) fn each(backend: DbBackend, rows: &str, table: &str, fits: &str) -> String {
    match backend {
        DbBackend::Postgres => {
            format!("{rows} CROSS JOIN LATERAL (SELECT f.* FROM {table} f WHERE {fits} OFFSET 0) f")
        }
        _ => format!("{rows} CROSS JOIN {table} f WHERE {fits}"),
    }
}

/// What joins a further condition to [`each`].
pub(super) fn each_and(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "WHERE",
        _ => "AND",
    }
}

/// Epoch milliseconds by the clock of the database, which all workers share.
pub(super) fn now_ms(backend: DbBackend) -> SimpleExpr {
    let text = match backend {
        DbBackend::Postgres => "(extract(epoch from clock_timestamp()) * 1000)::bigint",
        _ => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    };
    sea_orm::sea_query::Expr::cust(text)
}

/// What a SELECT says to keep its rows locked until the end of the transaction.
pub(super) fn for_update(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => " FOR NO KEY UPDATE",
        _ => "",
    }
}

/// The function that tells where in a text another begins, 0 when nowhere.
pub(super) fn position(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "strpos",
        _ => "instr",
    }
}
