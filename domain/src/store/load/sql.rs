//! The statement that locks and loads: rows of four kinds, each with its own columns.

use std::sync::LazyLock;

use ::entity::{event, event_type};
use sea_orm::{ColumnTrait, DbBackend, IdenStatic, Iterable};

use super::Lock;
use crate::store::{dialect, model};

/// Of which kind a row is; they come in this order.
pub(super) struct Kind;

impl Kind {
    /// `user_id`, `number` the newest position, `is_stale`.
    pub(super) const HEAD: i32 = 0;
    /// `id` is called `alias_id` by the kind `number`: 1 an event, 2 a type, 3 an import by its own id.
    const NAME: i32 = 1;
    /// An event.
    pub(super) const EVENT: i32 = 2;
    /// A type.
    pub(super) const TYPE: i32 = 3;
}

/// What the columns of an event are called with.
const EVENT_PREFIX: &str = "e_";
/// What the columns of a type are called with.
pub(super) const TYPE_PREFIX: &str = "t_";
/// Where the columns of an event begin.
pub(super) const FIRST_OF_EVENT: usize = 6;

/// The text is the same for any number of users and items, so that it is prepared once a connection.
/// Its parameters: users; the tables of [`super::wants::tables`].
pub(super) fn lock_and_load(backend: DbBackend, lock: Lock) -> &'static str {
    static POSTGRES: LazyLock<[String; 2]> =
        LazyLock::new(|| [Lock::Wait, Lock::Skip].map(|lock| write(DbBackend::Postgres, lock)));
    static SQLITE: LazyLock<String> = LazyLock::new(|| write(DbBackend::Sqlite, Lock::Wait));
    match (backend, lock) {
        (DbBackend::Postgres, Lock::Wait) => &POSTGRES[0],
        (DbBackend::Postgres, Lock::Skip) => &POSTGRES[1],
        _ => &SQLITE,
    }
}

/// All that events say, by a table of owners and ids: the parameters from 1 on.
pub(super) fn load_bodies(backend: DbBackend) -> &'static str {
    static POSTGRES: LazyLock<String> = LazyLock::new(|| write_bodies(DbBackend::Postgres));
    static SQLITE: LazyLock<String> = LazyLock::new(|| write_bodies(DbBackend::Sqlite));
    if backend == DbBackend::Postgres { &POSTGRES } else { &SQLITE }
}

fn write_bodies(backend: DbBackend) -> String {
    let columns = event::Column::iter().map(|column| {
        // Only a search looks at it.
        let from = if matches!(column, event::Column::NotesSearch) { "NULL AS " } else { "f." };
        format!("{from}\"{}\"", column.as_str())
    });
    let rows = dialect::rows(backend, &mut 1, &[("user_id", "uuid"), ("id", "uuid")]);
    let found = dialect::each(backend, &rows, "event", "f.user_id = w.user_id AND f.id = w.id");
    format!("SELECT {} FROM {found}", columns.collect::<Vec<_>>().join(", "))
}

/// A column of what is loaded, and of which type it is.
struct Column {
    name: &'static str,
    cast: &'static str,
}

impl Column {
    fn of(column: &(impl ColumnTrait + IdenStatic)) -> Self {
        Self { name: column.as_str(), cast: dialect::cast(column) }
    }
}

fn write(backend: DbBackend, lock: Lock) -> String {
    let events = event::Column::iter().map(|column| Column::of(&column));
    let events: Vec<Column> = events.filter(|column| model::EVENT_HEAD.contains(&column.name)).collect();
    let types: Vec<Column> = event_type::Column::iter().map(|column| Column::of(&column)).collect();
    let none = |columns: &[Column], prefix: &str| {
        let cells = columns
            .iter()
            .map(|column| format!(", NULL{} AS {prefix}{}", cast_of(backend, column.cast), column.name));
        cells.collect::<String>()
    };
    let own = |columns: &[Column], from: &str| {
        columns.iter().map(|column| format!(", {from}.\"{}\"", column.name)).collect::<String>()
    };
    let cells = |columns: &[Column]| {
        columns.iter().map(|column| format!("f.\"{}\"", column.name)).collect::<Vec<_>>().join(", ")
    };
    let each = |rows: &str, table: &str, fits: &str| dialect::each(backend, rows, table, fits);
    let (no_event, no_type) = (none(&events, EVENT_PREFIX), none(&types, TYPE_PREFIX));
    let no_id = format!("NULL{}", cast_of(backend, "uuid"));
    let mut number = 2;
    let mut table = |columns: &[(&str, &str)]| dialect::rows(backend, &mut number, columns);
    let ids = table(&[("user_id", "uuid"), ("id", "uuid")]);
    let keys = table(&[("user_id", "uuid"), ("source_type", "text"), ("external_id", "text")]);
    let names = table(&[("user_id", "uuid"), ("text", "text")]);
    let (is_stale, seen) = dialect::staleness(backend);
    format!(
        "WITH head AS MATERIALIZED ({heads}), \
         want AS MATERIALIZED (SELECT w.user_id, w.id FROM {ids}), \
         name AS MATERIALIZED ( \
           SELECT f.user_id, f.entity AS number, f.alias_id, f.id FROM {aliases} \
           UNION ALL SELECT f.user_id, 3, f.id, f.id FROM {imports}), \
         called AS MATERIALIZED (SELECT user_id, id FROM want UNION SELECT user_id, id FROM name), \
         e AS MATERIALIZED ( \
           SELECT {event_cells} FROM {events_by_id} \
           UNION ALL SELECT {event_cells} FROM {events_by_key} \
             {and} (f.user_id, f.id) NOT IN (SELECT user_id, id FROM called)), \
         t AS MATERIALIZED ( \
           SELECT {type_cells} FROM {types_by_id} UNION ALL SELECT {type_cells} FROM {types_by_name}) \
         SELECT {head} AS kind, h.user_id AS user_id, {no_id} AS id, {no_id} AS alias_id, h.feed_head AS number, \
           {is_stale} AS is_stale{no_event}{no_type} FROM head h {seen} \
         UNION ALL SELECT {name}, n.user_id, n.id, n.alias_id, n.number, 0{no_event}{no_type} FROM name n \
         UNION ALL SELECT {event}, e.user_id, e.id, {no_id}, 0, 0{own_event}{no_type} FROM e \
         UNION ALL SELECT {kind}, t.user_id, t.id, {no_id}, 0, 0{no_event}{own_type} FROM t",
        heads = dialect::heads(backend, lock == Lock::Skip),
        aliases =
            each("want w", "id_alias", "f.user_id = w.user_id AND f.entity IN (1, 2) AND f.alias_id = w.id"),
        imports = each("want w", "import_job", "f.user_id = w.user_id AND f.id = w.id"),
        event_cells = cells(&events),
        events_by_id = each("called w", "event", "f.user_id = w.user_id AND f.id = w.id"),
        events_by_key = each(
            &keys,
            "event",
            "f.user_id = w.user_id AND f.source_type = w.source_type AND f.external_id = w.external_id"
        ),
        and = dialect::each_and(backend),
        type_cells = cells(&types),
        // An answer tells of an event's type as well, and an edit may keep it.
        types_by_id = each(
            "(SELECT user_id, id FROM called UNION SELECT user_id, event_type_id FROM e) w",
            "event_type",
            "f.user_id = w.user_id AND f.id = w.id"
        ),
        types_by_name = each(&names, "event_type", "f.user_id = w.user_id AND f.name = w.text"),
        head = Kind::HEAD,
        name = Kind::NAME,
        event = Kind::EVENT,
        kind = Kind::TYPE,
        own_event = own(&events, "e"),
        own_type = own(&types, "t"),
    )
}

/// A NULL of PostgreSQL has a type; one of SQLite has none.
fn cast_of(backend: DbBackend, cast: &str) -> String {
    if backend == DbBackend::Postgres { format!("::{cast}") } else { String::new() }
}
