//! The statement that reads a page of the change feed: feed head, types and events in one state of the
//! database.

use std::sync::LazyLock;

use sea_orm::DbBackend;

use crate::model::{EVENT, EVENT_RESPONSE, TYPE, TYPE_RESPONSE, sql_columns_of, sql_null_columns};

/// What a row of the change feed's statement stands for: the number in its first column. Rows come in the
/// order of these numbers, and within one by position.
pub(super) struct Kind;

impl Kind {
    /// The row is the account: the feed head in column [`POSITION`], the feed epoch in column [`EPOCH`], and
    /// after it the generation of all feeds.
    pub(super) const HEAD: i32 = 0;
    /// The row is an event type, with the columns that a response can show.
    pub(super) const TYPE: i32 = 1;
    /// The row is an event, with the columns that a response can show.
    pub(super) const EVENT: i32 = 2;
}

/// The index of the first column of an event type or of an event, after the column of the kind.
pub(super) const FIRST: usize = 1;
/// The index of the column with the position in the feed; in the row of the account it is the feed head.
pub(super) const POSITION: usize = 3;
/// The index of the column that has the feed epoch in the row of the account. In the rows of event types and
/// events it has the instant of their creation.
pub(super) const EPOCH: usize = 5;

/// Returns the statement that reads the account and a page of the change feed of one user.
///
/// Its parameters are `$1` the user, `$2` the position after which the page starts, and `$3` the most rows of
/// each kind. In a bootstrap `$4` is the feed head at its start; tombstones up to it are skipped.
pub(super) fn sql_changes_after(backend: DbBackend, is_bootstrap: bool) -> &'static str {
    static POSTGRES: LazyLock<[String; 2]> = LazyLock::new(|| {
        [false, true].map(|bootstrap| build_sql_changes_after(DbBackend::Postgres, bootstrap))
    });
    static SQLITE: LazyLock<[String; 2]> = LazyLock::new(|| {
        [false, true].map(|bootstrap| build_sql_changes_after(DbBackend::Sqlite, bootstrap))
    });
    let texts = if backend == DbBackend::Postgres { &POSTGRES } else { &SQLITE };
    &texts[usize::from(is_bootstrap)]
}

/// Builds the text of [`sql_changes_after`].
///
/// Plan: one lookup of the account, and then a walk of the indexes `event_type_feed` and `event_feed`, both
/// `(user_id, change_seq)`, from the position up to the limit. Nothing is sorted: the branches of a `UNION
/// ALL` are returned one after the other.
///
/// The parameters stand in scalar subqueries, which PostgreSQL cannot look into when it plans. With plain
/// parameters a plan for this very position looks cheaper than the plan for any position, so that it would
/// plan each call anew. That took 0.25 ms of 1.3 ms (decision 0049).
fn build_sql_changes_after(backend: DbBackend, is_bootstrap: bool) -> String {
    let (type_columns, event_columns) = (&TYPE[..TYPE_RESPONSE], &EVENT[..EVENT_RESPONSE]);
    let skip_tombstones = match is_bootstrap {
        true => " AND (deleted_at IS NULL OR change_seq > (SELECT $4))",
        false => "",
    };
    format!(
        "SELECT {head} AS kind{before_position}, feed_head{before_epoch}, feed_epoch, \
           (SELECT generation FROM cluster_state WHERE id = 1){after_generation} \
           FROM account WHERE user_id = $1 \
         UNION ALL SELECT * FROM (SELECT {type_kind} AS kind{type_columns}{no_event} FROM event_type \
           WHERE user_id = (SELECT $1) AND change_seq > (SELECT $2){skip_tombstones} \
           ORDER BY change_seq LIMIT (SELECT $3)) event_type \
         UNION ALL SELECT * FROM (SELECT {event_kind} AS kind{event_columns} FROM event \
           WHERE user_id = (SELECT $1) AND change_seq > (SELECT $2){skip_tombstones} \
           ORDER BY change_seq LIMIT (SELECT $3)) event",
        head = Kind::HEAD,
        before_position = sql_null_columns(backend, &event_columns[..2]),
        before_epoch = sql_null_columns(backend, &event_columns[3..4]),
        after_generation = sql_null_columns(backend, &event_columns[6..]),
        type_kind = Kind::TYPE,
        type_columns = sql_columns_of("event_type", type_columns),
        no_event = sql_null_columns(backend, &event_columns[TYPE_RESPONSE..]),
        event_kind = Kind::EVENT,
        event_columns = sql_columns_of("event", event_columns),
    )
}
