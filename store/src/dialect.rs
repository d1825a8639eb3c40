//! What differs between SQLite and PostgreSQL: connection settings, lists as parameters, the clock.

use std::collections::HashMap;
use std::time::Duration;

use sea_orm::sea_query::SimpleExpr;
use sea_orm::sea_query::prelude::serde_json::json;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::sqlx::{self, ConnectOptions};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, Value};
use uuid::Uuid;

use super::pool::{Failover, PostgresOptions, Session};
use domain::fault_injection;
use domain::limits::{IDLE_IN_TRANSACTION_MS_MAX, LOCK_TURN_MS_MAX, LOCK_WAIT_MS_MAX};

/// By so much PostgreSQL's own time-out of a statement is shorter than ours.
const SERVER_GIVES_UP_EARLIER: Duration = Duration::from_secs(2);

/// How connections to SQLite are opened.
///
/// # Errors
/// If the URL is none of SQLite.
pub(super) fn sqlite_options(url: &str) -> Result<SqliteConnectOptions, sqlx::Error> {
    let options: SqliteConnectOptions = url.parse()?;
    Ok(options
        .create_if_missing(true)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10))
        .pragma("journal_mode", "WAL")
        .pragma("synchronous", "FULL")
        .disable_statement_logging())
}

/// How connections to PostgreSQL are opened that wait so long for the answer to a statement.
///
/// # Errors
/// If the URL is none of PostgreSQL.
pub(super) fn postgres_options(
    url: &str,
    statement_max: Duration,
    failover: Failover,
) -> Result<PostgresOptions, sqlx::Error> {
    let connect: PgConnectOptions = url.parse()?;
    // `extra_float_digits` is a startup option that some poolers refuse; no column here is a float.
    let connect = connect.application_name("idem").extra_float_digits(None).disable_statement_logging();
    // The server gives up before the client does, which then knows that the server is there.
    let statement_ms = statement_max.saturating_sub(SERVER_GIVES_UP_EARLIER).as_millis();
    let session = Session::default()
        .with("default_transaction_isolation", "read committed")
        .with("statement_timeout", statement_ms)
        .with("lock_timeout", LOCK_WAIT_MS_MAX)
        .with("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS_MAX)
        // A process whose machine has vanished gives up its locks.
        .with("tcp_keepalives_idle", 15)
        .with("tcp_keepalives_interval", 5)
        .with("tcp_keepalives_count", 3)
        // No statement here is worth compiling: each looks rows up by their keys.
        .with("jit", "off")
        // Nor a second process, which would also return rows in an order of its own.
        .with("max_parallel_workers_per_gather", 0)
        // A table that is small today is read whole by a plan that is kept for when it is not.
        .with("enable_seqscan", "off");
    Ok(PostgresOptions { connect, session, failover })
}

/// For connections that write. A row is looked up by its key, and planning would take longer than that, so one
/// plan is kept for each statement. Nothing that is written is sorted, but an index that is lower for now than that
/// of the key would be.
pub(super) fn keeping_plans(mut options: PostgresOptions) -> PostgresOptions {
    options.session =
        options.session.with("plan_cache_mode", "force_generic_plan").with("enable_sort", "off");
    options
}

/// For connections on which locks are waited for: a moment each, so that all have their turn.
pub(super) fn waiting_a_moment(mut options: PostgresOptions) -> PostgresOptions {
    options.session = options.session.with("lock_timeout", LOCK_TURN_MS_MAX);
    options
}

/// For connections that read. Whoever hangs up closes the connection, and the server ends the statement.
pub(super) fn ending_when_left(mut options: PostgresOptions) -> PostgresOptions {
    options.session = options.session.with("client_connection_check_interval", 250);
    options
}

/// For connections that read lists. A list comes in the order of an index, as far as it is wanted. Where a plan is
/// kept for bounds on both sides, PostgreSQL expects few rows between them, and would take all that there are by a
/// bitmap and sort them.
pub(super) fn in_order_of_index(mut options: PostgresOptions) -> PostgresOptions {
    options.session = options.session.with("enable_bitmapscan", "off");
    options
}

/// A list of ids as one parameter.
pub(super) fn ids(backend: DbBackend, ids: &[Uuid]) -> Value {
    match backend {
        DbBackend::Postgres => ids.to_vec().into(),
        _ => json!(ids.iter().map(|id| id.simple().to_string()).collect::<Vec<_>>()).to_string().into(),
    }
}

/// The table `w(id)` that [`ids`] in parameter `number` stands for.
pub(super) fn id_rows(backend: DbBackend, number: usize) -> String {
    match backend {
        DbBackend::Postgres => format!("unnest(${number}::uuid[]) AS w(id)"),
        _ => format!("(SELECT unhex(value) AS id FROM json_each(${number})) w"),
    }
}

/// A column of a table that travels as parameters.
#[derive(Debug)]
pub(super) enum List<'a> {
    /// Of ids.
    Ids(Vec<Uuid>),
    /// Of texts.
    Texts(Vec<&'a str>),
}

/// A table as parameters: columns of the same length.
pub(super) fn table<const N: usize>(backend: DbBackend, columns: [List<'_>; N]) -> Vec<Value> {
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

/// The table `w` that [`table`] stands for, with the names and types of its columns; `next` is the number of
/// its first parameter, and then the next one behind it.
pub(super) fn rows(backend: DbBackend, next: &mut usize, columns: &[(&str, &str)]) -> String {
    let first = *next;
    if backend == DbBackend::Postgres {
        *next += columns.len();
        let arrays = columns.iter().zip(first..).map(|((_, cast), number)| format!("${number}::{cast}[]"));
        let names = columns.iter().map(|(name, _)| *name);
        return format!(
            "unnest({}) AS w({})",
            arrays.collect::<Vec<_>>().join(", "),
            names.collect::<Vec<_>>().join(", ")
        );
    }
    *next += 1;
    let cells = columns.iter().enumerate().map(|(at, (name, cast))| match *cast {
        "uuid" => format!("unhex(value ->> {at}) AS {name}"),
        _ => format!("value ->> {at} AS {name}"),
    });
    format!("(SELECT {} FROM json_each(${first})) w", cells.collect::<Vec<_>>().join(", "))
}

/// The heads of the users in parameter 1, and the revisions of their rows.
pub(super) fn heads(backend: DbBackend) -> String {
    match backend {
        DbBackend::Postgres => format!(
            "SELECT a.* FROM {users} CROSS JOIN LATERAL (SELECT f.user_id, f.feed_head, f.revision \
             FROM account f WHERE f.user_id = w.id) a",
            users = id_rows(backend, 1),
        ),
        _ => format!(
            "SELECT f.user_id, f.feed_head, f.revision FROM {} {}",
            id_rows(backend, 1),
            join(backend, "account f", "*", &[("user_id", "w.id")])
        ),
    }
}

/// Joins the one row of a table that has these values in its columns, all columns of a unique key in their
/// order; rows without one are left out. PostgreSQL takes these columns of it and no others: to start with all of
/// them in each part of a statement takes longer than the lookups.
///
/// PostgreSQL is given no choice: over a table that it has no statistics of it takes any index that begins
/// with the user, and over a small one a hash of the whole, and keeps that plan. Only by the key itself is
/// there an order to its last column, and the writes do not sort.
pub(super) fn join(backend: DbBackend, table: &str, columns: &str, key: &[(&str, &str)]) -> String {
    match backend {
        DbBackend::Postgres => format!("CROSS JOIN LATERAL ({}) {}", find(table, columns, key), alias(table)),
        // Written so, the tables are read in this order.
        _ => format!("CROSS JOIN {table} ON {}", fits(table, key)),
    }
}

/// As [`join`], and rows without one are there as well.
pub(super) fn left_join(backend: DbBackend, table: &str, columns: &str, key: &[(&str, &str)]) -> String {
    match backend {
        DbBackend::Postgres => {
            format!("LEFT JOIN LATERAL ({}) {} ON true", find(table, columns, key), alias(table))
        }
        _ => format!("LEFT JOIN {table} ON {}", fits(table, key)),
    }
}

fn find(table: &str, columns: &str, key: &[(&str, &str)]) -> String {
    let alias = alias(table);
    let Some(((last, value), before)) = key.split_last() else { return String::new() };
    let before: String =
        before.iter().map(|(column, value)| format!("{alias}.{column} = {value} AND ")).collect();
    format!(
        "SELECT {columns} FROM {table} WHERE {before}{alias}.{last} >= {value} AND {alias}.{last} <= {value} \
         ORDER BY {alias}.{last} LIMIT 1"
    )
}

fn fits(table: &str, key: &[(&str, &str)]) -> String {
    let alias = alias(table);
    let equal: Vec<String> =
        key.iter().map(|(column, value)| format!("{alias}.{column} = {value}")).collect();
    equal.join(" AND ")
}

fn alias(table: &str) -> &str {
    table.rsplit(' ').next().unwrap_or(table)
}

/// Epoch milliseconds by the clock of the database, which all workers share.
pub(super) fn now_ms(backend: DbBackend) -> SimpleExpr {
    sea_orm::sea_query::Expr::cust(now_ms_text(backend))
}

/// The same as text.
pub(super) fn now_ms_text(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "(extract(epoch from clock_timestamp()) * 1000)::bigint",
        _ => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    }
}

/// The function that tells where in a text another begins, 0 when nowhere.
pub(super) fn position(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "strpos",
        _ => "instr",
    }
}

/// Keeps other transactions from claiming imports of a user until this one ends; false if another one does so already.
/// SQLite has only one transaction that writes.
pub(super) async fn excludes_others(on: &impl ConnectionTrait, user_id: Uuid) -> Result<bool, DbErr> {
    if on.get_database_backend() != DbBackend::Postgres {
        return Ok(true);
    }
    // Users who share a key by chance exclude each other as well, for a moment.
    let sql = "SELECT pg_try_advisory_xact_lock(1936155988, hashtext($1))";
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [user_id.to_string().into()]);
    let row = on.query_one_raw(statement).await?.ok_or(DbErr::RecordNotFound("a lock".to_owned()))?;
    row.try_get_by_index(0)
}

/// Adds the values of heads (user, from, to) to those of a statement of PostgreSQL; the text that moves them,
/// none of them twice.
pub(super) fn move_heads(heads: Vec<(Uuid, i64, i64)>, values: &mut Vec<Value>) -> String {
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

/// As [`move_heads`], of heads (user, revision of the row, from, to) that are not locked: the CTEs `held`, which
/// locks those that nobody holds and whose row is of that revision still, and `moved`, with their users.
pub(super) fn move_unchanged_heads(heads: Vec<(Uuid, i64, i64, i64)>, values: &mut Vec<Value>) -> String {
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

/// Adds how many rows were decided of each user; the expression of how many there must be of those in `moved`.
pub(super) fn decided_of_moved(decided: &HashMap<Uuid, u64>, values: &mut Vec<Value>) -> String {
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
