//! The statement that locks and loads: rows of four kinds, each with its own columns.

use std::sync::LazyLock;

use ::entity::{event, event_type};
use sea_orm::{DbBackend, IdenStatic, Iterable};

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
pub(super) const EVENT_PREFIX: &str = "e_";
/// What the columns of a type are called with.
pub(super) const TYPE_PREFIX: &str = "t_";
/// Where the columns of an event begin.
pub(super) const FIRST_OF_EVENT: usize = 6;

/// The text is the same for any number of users and items, so that it is prepared once a connection.
/// Its parameters: users; the tables of [`super::wants::tables`].
pub(super) fn text(backend: DbBackend, lock: Lock, with_bodies: bool) -> &'static str {
    static TEXTS: LazyLock<[String; 8]> = LazyLock::new(|| {
        std::array::from_fn(|n| {
            let backend = if n & 4 == 0 { DbBackend::Postgres } else { DbBackend::Sqlite };
            let lock = if n & 2 == 0 { Lock::Wait } else { Lock::Skip };
            write(backend, lock, n & 1 == 1)
        })
    });
    let backend = if backend == DbBackend::Postgres { 0 } else { 4 };
    &TEXTS[backend + if lock == Lock::Wait { 0 } else { 2 } + usize::from(with_bodies)]
}

/// A column of what is loaded: what is read, and of which type it is.
struct Column {
    name: &'static str,
    cast: &'static str,
    /// What a row of its kind has in it.
    cell: String,
}

fn write(backend: DbBackend, lock: Lock, with_bodies: bool) -> String {
    let events: Vec<Column> = event::Column::iter()
        .filter(|column| with_bodies || model::EVENT_HEAD.contains(&column.as_str()))
        .map(|column| {
            let (name, cast) = (column.as_str(), dialect::cast(&column));
            // Only a search looks at it.
            let is_left_out = matches!(column, event::Column::NotesSearch);
            let cell =
                if is_left_out { format!("NULL{}", cast_of(backend, cast)) } else { format!("f.\"{name}\"") };
            Column { name, cast, cell }
        })
        .collect();
    let types: Vec<Column> = event_type::Column::iter()
        .map(|column| {
            let name = column.as_str();
            Column { name, cast: dialect::cast(&column), cell: format!("f.\"{name}\"") }
        })
        .collect();
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
        let cells = columns.iter().map(|column| format!("{} AS \"{}\"", column.cell, column.name));
        cells.collect::<Vec<_>>().join(", ")
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
