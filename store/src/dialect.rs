//! Collects the differences between SQLite and PostgreSQL: connection settings, lists as parameters, lookups
//! by key, the moves of feed heads, and the clock.

use std::collections::HashMap;
use std::time::Duration;

use sea_orm::sea_query::SimpleExpr;
use sea_orm::sea_query::prelude::serde_json::json;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::sqlx::{self, ConnectOptions};
use sea_orm::{DbBackend, Statement, Value};
use uuid::Uuid;

use super::Tx;
use super::pool::{Failover, PostgresOptions, Session};
use crate::error::Error;
use domain::fault_injection;
use domain::limits::{IDLE_IN_TRANSACTION_MS_MAX, LOCK_ATTEMPT_MS_MAX, LOCK_WAIT_MS_MAX};

/// How much earlier PostgreSQL itself ends a statement (`statement_timeout`) than our client stops waiting
/// for it.
const SERVER_GIVES_UP_EARLIER: Duration = Duration::from_secs(2);

/// Returns the options of connections to SQLite, in WAL mode. A database file that is missing is created.
///
/// # Errors
/// [`sqlx::Error::Configuration`] if the URL is not valid for SQLite.
pub(super) fn build_sqlite_options(url: &str) -> Result<SqliteConnectOptions, sqlx::Error> {
    let options: SqliteConnectOptions = url.parse()?;
    Ok(options
        .create_if_missing(true)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10))
        .pragma("journal_mode", "WAL")
        .pragma("synchronous", "FULL")
        .disable_statement_logging())
}

/// Returns the options of connections to PostgreSQL. `statement_max` is how long the client waits for a
/// statement; the server ends it two seconds earlier. `failover` says what a failover of the cluster may
/// lose.
///
/// # Errors
/// [`sqlx::Error::Configuration`] if the URL is not valid for PostgreSQL.
pub(super) fn build_postgres_options(
    url: &str,
    statement_max: Duration,
    failover: Failover,
) -> Result<PostgresOptions, sqlx::Error> {
    let connect: PgConnectOptions = url.parse()?;
    // sqlx sends `extra_float_digits` as a startup option, which some poolers refuse. It sets how floats are
    // written as text, and columns travel in binary form.
    let connect = connect.application_name("idem").extra_float_digits(None).disable_statement_logging();
    // The server gives up before the client does. From its error the client learns that the server still
    // answers.
    let statement_ms = statement_max.saturating_sub(SERVER_GIVES_UP_EARLIER).as_millis();
    let session = Session::default()
        .with_setting("default_transaction_isolation", "read committed")
        .with_setting("statement_timeout", statement_ms)
        .with_setting("lock_timeout", LOCK_WAIT_MS_MAX)
        .with_setting("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS_MAX)
        // The server closes a connection whose client machine has vanished, and releases its locks.
        .with_setting("tcp_keepalives_idle", 15)
        .with_setting("tcp_keepalives_interval", 5)
        .with_setting("tcp_keepalives_count", 3)
        // Every statement looks rows up by keys, so that compiling it would take longer than running it.
        .with_setting("jit", "off")
        // A parallel plan would start processes for a few rows, and would return rows in another order.
        .with_setting("max_parallel_workers_per_gather", 0)
        // A plan that is made while a table is small would read the whole table, and would be kept when it
        // has grown.
        .with_setting("enable_seqscan", "off");
    Ok(PostgresOptions { connect, session, failover })
}

/// Changes the options for connections that write: PostgreSQL keeps one generic plan for each prepared
/// statement and plans without sorts (decision 0042).
///
/// A write looks rows up by their keys, and planning takes longer than that: 1.4 ms of CPU a create instead
/// of 0.45. No write needs a sort. With `enable_sort = off` PostgreSQL does not use another index that is
/// smaller for the moment and sort its rows, instead of the index of the key.
pub(super) fn options_with_generic_plans(mut options: PostgresOptions) -> PostgresOptions {
    options.session = options
        .session
        .with_setting("plan_cache_mode", "force_generic_plan")
        .with_setting("enable_sort", "off");
    options
}

/// Changes the options for connections that wait for locks: `lock_timeout` is short, so that each of the
/// waiting users gets an attempt in turn.
pub(super) fn options_with_short_lock_timeout(mut options: PostgresOptions) -> PostgresOptions {
    options.session = options.session.with_setting("lock_timeout", LOCK_ATTEMPT_MS_MAX);
    options
}

/// Changes the options for connections that read: PostgreSQL cancels a statement while it runs, if our
/// process has closed the connection because its own client hung up.
pub(super) fn options_to_cancel_abandoned_statements(mut options: PostgresOptions) -> PostgresOptions {
    options.session = options.session.with_setting("client_connection_check_interval", 250);
    options
}

/// Changes the options for connections that read lists: without bitmap scans, PostgreSQL reads rows in the
/// order of an index and stops at the LIMIT.
///
/// In a plan that is kept for lower and upper bounds, PostgreSQL expects few rows between them. It would read
/// all of them by a bitmap and sort them: 3 000 rows for a page of 50 (decision 0050).
pub(super) fn options_without_bitmap_scans(mut options: PostgresOptions) -> PostgresOptions {
    options.session = options.session.with_setting("enable_bitmapscan", "off");
    options
}

/// Changes the options for connections that add rows up: PostgreSQL puts them into a hash table. It would rather sort
/// them, because it expects a group for each row.
pub(super) fn options_without_sorts(mut options: PostgresOptions) -> PostgresOptions {
    options.session = options.session.with_setting("enable_sort", "off");
    options
}

/// Returns a list of ids as one query parameter: an array on PostgreSQL, and the text of a JSON array on
/// SQLite.
pub(super) fn ids_parameter(backend: DbBackend, ids: &[Uuid]) -> Value {
    match backend {
        DbBackend::Postgres => ids.to_vec().into(),
        _ => json!(ids.iter().map(|id| id.simple().to_string()).collect::<Vec<_>>()).to_string().into(),
    }
}

/// Returns the SQL of a table `w(id)` for a FROM clause. It has the ids that [`ids_parameter`] has put into
/// the parameter with this number.
pub(super) fn sql_id_table(backend: DbBackend, number: usize) -> String {
    match backend {
        DbBackend::Postgres => format!("unnest(${number}::uuid[]) AS w(id)"),
        _ => format!("(SELECT unhex(value) AS id FROM json_each(${number})) w"),
    }
}

/// One column of a table of values that is sent to the database as query parameters.
#[derive(Debug)]
pub(super) enum List<'a> {
    /// A column of ids.
    Ids(Vec<Uuid>),
    /// A column of texts.
    Texts(Vec<&'a str>),
}

/// Returns a table of values as query parameters: one array for each column on PostgreSQL, and the text of
/// one JSON array of rows on SQLite. There must be a column, and all columns must have the same length.
pub(super) fn table_parameters(backend: DbBackend, columns: Vec<List<'_>>) -> Vec<Value> {
    if backend == DbBackend::Postgres {
        let arrays = columns.into_iter().map(|column| match column {
            List::Ids(ids) => ids.into(),
            List::Texts(texts) => texts.into_iter().map(str::to_owned).collect::<Vec<_>>().into(),
        });
        return arrays.collect();
    }
    let cell = |column: &List<'_>, row: usize| match column {
        List::Ids(ids) => json!(ids[row].simple().to_string()),
        List::Texts(texts) => json!(texts[row]),
    };
    let length = match &columns[0] {
        List::Ids(ids) => ids.len(),
        List::Texts(texts) => texts.len(),
    };
    let rows = (0..length).map(|row| columns.iter().map(|column| cell(column, row)).collect::<Vec<_>>());
    vec![json!(rows.collect::<Vec<_>>()).to_string().into()]
}

/// The SQL expression for the current time in epoch milliseconds, by the clock of the database, which all
/// processes share. It is the time of evaluation, not the start of the transaction.
pub(super) fn now_ms_expr(backend: DbBackend) -> SimpleExpr {
    sea_orm::sea_query::Expr::cust(sql_now_ms(backend))
}

/// The SQL text for the current time in epoch milliseconds, by the clock of the database.
pub(super) fn sql_now_ms(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "(extract(epoch from clock_timestamp()) * 1000)::bigint",
        _ => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    }
}

/// The name of the SQL function that finds a text in another one. The function returns the position, counted
/// from 1, or 0 if there is none.
pub(super) fn sql_position_function(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "strpos",
        _ => "instr",
    }
}

/// Tries to take an advisory lock, without waiting, so that no other transaction claims imports of this user
/// until this one ends. Returns false if another transaction holds it. On SQLite it takes no lock and returns
/// true, because only one transaction writes at a time.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub(super) async fn try_advisory_lock_for_claims(tx: &Tx, user_id: Uuid) -> Result<bool, Error> {
    if tx.backend() != DbBackend::Postgres {
        return Ok(true);
    }
    // Two users whose ids have the same hash exclude each other too, which only delays a claim.
    let sql = "SELECT pg_try_advisory_xact_lock(1936155988, hashtext($1))::integer::bigint";
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [user_id.to_string().into()]);
    Ok(tx.find_integer(statement).await? == Some(1))
}

/// Returns the UPDATE of PostgreSQL that moves feed heads and increments the revisions of the accounts.
/// `heads` are user, old head and new head; no user may be given twice. It adds the parameters to `values`.
///
/// Plan: one lookup in the primary key of `account` for each user. A head that is no longer at its old
/// position is not updated; the caller counts the rows.
pub(super) fn sql_move_feed_heads(heads: Vec<(Uuid, i64, i64)>, values: &mut Vec<Value>) -> String {
    let n = values.len();
    if let [(user_id, from, to)] = heads[..] {
        values.extend([user_id.into(), from.into(), to.into()]);
        return format!(
            "UPDATE account SET feed_head = ${}, revision = revision + 1 WHERE user_id = ${} AND feed_head = ${}",
            n + 3,
            n + 1,
            n + 2
        );
    }
    let (users, moves): (Vec<Uuid>, Vec<(i64, i64)>) =
        heads.into_iter().map(|(user_id, from, to)| (user_id, (from, to))).unzip();
    let (from, to): (Vec<i64>, Vec<i64>) = moves.into_iter().unzip();
    values.extend([users.into(), from.into(), to.into()]);
    format!(
        "UPDATE account a SET feed_head = w.head, revision = a.revision + 1 FROM unnest(${}::uuid[], ${}::bigint[], ${}::bigint[]) \
         AS w(user_id, was, head) WHERE a.user_id = w.user_id AND a.feed_head = w.was",
        n + 1,
        n + 2,
        n + 3
    )
}

/// Returns two CTEs of PostgreSQL that move the feed heads of accounts if their revision is unchanged and no
/// other transaction has locked them. They also increment the revisions. `heads` are user, revision, old head
/// and new head. It adds the parameters to `values`.
///
/// `held` locks the accounts that still have the revision and that no other transaction has locked. `moved`
/// updates them and returns their users. The lock and the comparison must be one step: with READ COMMITTED
/// the row lock checks the condition again on the newest version of the row (manual, section 13.2.1).
///
/// Plan: one lookup in the primary key of `account` for each user, in both CTEs.
pub(super) fn sql_move_feed_heads_if_unchanged(
    heads: Vec<(Uuid, i64, i64, i64)>,
    values: &mut Vec<Value>,
) -> String {
    const HOLD: &str = "FOR NO KEY UPDATE OF f SKIP LOCKED";
    let is_same = |revision: String| match fault_injection::is_injected("plant-head-alone") {
        true => "true".to_owned(),
        false => format!("f.revision = {revision}"),
    };
    let n = values.len();
    if let [(user_id, revision, from, to)] = heads[..] {
        values.extend([user_id.into(), revision.into(), from.into(), to.into()]);
        let (user_id, revision, from, to) = (n + 1, n + 2, n + 3, n + 4);
        return format!(
            "held AS MATERIALIZED (SELECT f.user_id FROM account f WHERE f.user_id = ${user_id} \
             AND {is_same} {HOLD}), \
             moved AS (UPDATE account SET feed_head = ${to}, revision = revision + 1 WHERE user_id = ${user_id} AND feed_head = ${from} \
             AND EXISTS (SELECT FROM held) RETURNING user_id)",
            is_same = is_same(format!("${revision}")),
        );
    }
    let users: Vec<Uuid> = heads.iter().map(|(user_id, ..)| *user_id).collect();
    let column = |of: fn(&(Uuid, i64, i64, i64)) -> i64| heads.iter().map(of).collect::<Vec<i64>>();
    let (revisions, from, to) = (column(|head| head.1), column(|head| head.2), column(|head| head.3));
    values.extend([users.into(), revisions.into(), from.into(), to.into()]);
    let (users, revisions, from, to) = (n + 1, n + 2, n + 3, n + 4);
    format!(
        "held AS MATERIALIZED (SELECT a.* FROM unnest(${users}::uuid[], ${revisions}::bigint[], ${from}::bigint[], \
         ${to}::bigint[]) AS w(user_id, revision, was, head) CROSS JOIN LATERAL (SELECT f.user_id, w.was, w.head \
         FROM account f WHERE f.user_id = w.user_id AND {is_same} {HOLD}) a), \
         moved AS (UPDATE account a SET feed_head = h.head, revision = a.revision + 1 FROM held h WHERE a.user_id = h.user_id \
         AND a.feed_head = h.was RETURNING a.user_id)",
        is_same = is_same("w.revision".to_owned()),
    )
}

/// Returns the SQL expression for how many rows must be written, by the decisions of the users in the CTE
/// `moved`. `decided` is the number of rows of each user; it is added to `values` as parameters.
pub(super) fn sql_decided_row_count(decided: &HashMap<Uuid, u64>, values: &mut Vec<Value>) -> String {
    let number = |rows: &u64| i64::try_from(*rows).unwrap_or(i64::MAX);
    let n = values.len();
    if let [rows] = decided.values().collect::<Vec<_>>()[..] {
        values.push(number(rows).into());
        return format!("${}::bigint", n + 1);
    }
    let (users, rows): (Vec<Uuid>, Vec<i64>) =
        decided.iter().map(|(user_id, rows)| (*user_id, number(rows))).unzip();
    values.extend([users.into(), rows.into()]);
    format!(
        "(SELECT coalesce(sum(w.decided), 0)::bigint FROM moved m JOIN unnest(${}::uuid[], ${}::bigint[]) \
         AS w(user_id, decided) ON w.user_id = m.user_id)",
        n + 1,
        n + 2
    )
}
