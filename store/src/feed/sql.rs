//! The statement that reads a part of the feed: head, types and events, as they stand together.

use std::sync::LazyLock;

use sea_orm::DbBackend;

use crate::model::{EVENT, EVENT_RESPONSE, TYPE, TYPE_RESPONSE, columns, nothing};

/// Of which kind a row is; they come in this order, and within one by position.
pub(super) struct Kind;

impl Kind {
    /// The account: [`POSITION`], [`EPOCH`], and after that the generation of all feeds.
    pub(super) const HEAD: i32 = 0;
    /// What is told of a type.
    pub(super) const TYPE: i32 = 1;
    /// What is told of an event.
    pub(super) const EVENT: i32 = 2;
}

/// Where the columns of a type and of an event begin.
pub(super) const FIRST: usize = 1;
/// All have a position there, the account its newest.
pub(super) const POSITION: usize = 3;
/// Of which counting the account is, where others have the instant of their creation.
pub(super) const EPOCH: usize = 5;

/// What stands after the position in parameter 2 of the user in parameter 1, at most as many rows of a kind as
/// parameter 3 says. In a bootstrap tombstones up to the position in parameter 4 are passed over.
pub(super) fn behind(backend: DbBackend, is_bootstrap: bool) -> &'static str {
    static POSTGRES: LazyLock<[String; 2]> =
        LazyLock::new(|| [false, true].map(|bootstrap| text(DbBackend::Postgres, bootstrap)));
    static SQLITE: LazyLock<[String; 2]> =
        LazyLock::new(|| [false, true].map(|bootstrap| text(DbBackend::Sqlite, bootstrap)));
    let texts = if backend == DbBackend::Postgres { &POSTGRES } else { &SQLITE };
    &texts[usize::from(is_bootstrap)]
}

fn text(backend: DbBackend, is_bootstrap: bool) -> String {
    // Parameters that PostgreSQL cannot look at: else it plans each call anew, for what is behind just this
    // position, which takes as long as to read the page.
    let alive = if is_bootstrap { " AND (deleted_at IS NULL OR change_seq > (SELECT $4))" } else { "" };
    let part = |kind: i32, own: String, table: &str| {
        format!(
            " UNION ALL SELECT * FROM (SELECT {kind} AS kind{own} FROM {table} WHERE user_id = (SELECT $1) \
             AND change_seq > (SELECT $2){alive} ORDER BY change_seq LIMIT (SELECT $3)) {table}"
        )
    };
    let (of_type, of_event) = (&TYPE[..TYPE_RESPONSE], &EVENT[..EVENT_RESPONSE]);
    format!(
        "SELECT {head} AS kind{}, feed_head{}, feed_epoch, \
         (SELECT generation FROM cluster_state WHERE id = 1){} FROM account WHERE user_id = $1{types}{events}",
        nothing(backend, &of_event[..2]),
        nothing(backend, &of_event[3..4]),
        nothing(backend, &of_event[6..]),
        head = Kind::HEAD,
        types = part(
            Kind::TYPE,
            columns("event_type", of_type) + &nothing(backend, &of_event[TYPE_RESPONSE..]),
            "event_type"
        ),
        events = part(Kind::EVENT, columns("event", of_event), "event"),
    )
}
