//! The statements that lock and load. Their texts are few and the same for any number of users and items, so
//! that each is prepared once a connection.

use std::sync::LazyLock;

use ::entity::{event, event_type};
use sea_orm::{ColumnTrait, DbBackend, IdenStatic, Iterable};

use super::Lock;
use crate::store::{dialect, model};

/// Of which kind a row of [`lock_and_load`] is; each kind has columns of its own, and they come in this order.
pub(super) struct Kind;

impl Kind {
    /// `user_id`, `number` the newest position, `is_stale`.
    pub(super) const HEAD: i32 = 0;
    /// `id` is called `alias_id` by the kind `number`: 1 an event, 2 a type, 3 an import by its own id.
    const NAME: i32 = 1;
    /// The head of an event, from [`FIRST_OF_EVENT`] on.
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

/// Which statement it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) lock: Lock,
    /// Events are looked for by external keys as well.
    pub(super) by_key: bool,
    /// Types are looked for by names as well.
    pub(super) by_name: bool,
}

impl Shape {
    fn number(self) -> usize {
        usize::from(self.lock == Lock::Skip) * 4 + usize::from(self.by_key) * 2 + usize::from(self.by_name)
    }

    fn of(number: usize) -> Self {
        let lock = if number & 4 == 0 { Lock::Wait } else { Lock::Skip };
        Self { lock, by_key: number & 2 != 0, by_name: number & 1 != 0 }
    }
}

/// Heads, names, heads of events, and types. Its parameters: users, a table of owners and ids, and where the
/// shape says so one of owners, sources and external ids, and one of owners and names.
pub(super) fn lock_and_load(backend: DbBackend, shape: Shape) -> &'static str {
    static POSTGRES: LazyLock<[String; 8]> =
        LazyLock::new(|| std::array::from_fn(|n| lock_and_load_text(DbBackend::Postgres, Shape::of(n))));
    static SQLITE: LazyLock<[String; 8]> =
        LazyLock::new(|| std::array::from_fn(|n| lock_and_load_text(DbBackend::Sqlite, Shape::of(n))));
    let texts = if backend == DbBackend::Postgres { &POSTGRES } else { &SQLITE };
    &texts[shape.number()]
}

/// All that events say, and their types, by a table of owners and ids.
pub(super) fn load_bodies(backend: DbBackend) -> &'static str {
    static POSTGRES: LazyLock<String> = LazyLock::new(|| load_bodies_text(DbBackend::Postgres));
    static SQLITE: LazyLock<String> = LazyLock::new(|| load_bodies_text(DbBackend::Sqlite));
    if backend == DbBackend::Postgres { &POSTGRES } else { &SQLITE }
}

fn load_bodies_text(backend: DbBackend) -> String {
    let events = event::Column::iter().map(|column| {
        let name = column.as_str();
        // Only a search looks at it.
        let is_left_out = matches!(column, event::Column::NotesSearch);
        if is_left_out {
            format!("NULL AS {EVENT_PREFIX}{name}")
        } else {
            format!("f.\"{name}\" AS {EVENT_PREFIX}{name}")
        }
    });
    let types = event_type::Column::iter()
        .map(|column| format!("t.\"{name}\" AS {TYPE_PREFIX}{name}", name = column.as_str()));
    let rows = dialect::rows(backend, &mut 1, &OWNED);
    format!(
        "SELECT {columns} FROM {rows} {event} {event_type}",
        columns = events.chain(types).collect::<Vec<_>>().join(", "),
        event = dialect::join(backend, "event f", "f.user_id = w.user_id AND f.id = w.id"),
        event_type =
            dialect::left_join(backend, "event_type t", "t.user_id = f.user_id AND t.id = f.event_type_id"),
    )
}

const OWNED: [(&str, &str); 2] = [("user_id", "uuid"), ("id", "uuid")];

/// A column of what is loaded, and of which type it is.
struct Column {
    name: &'static str,
    cast: &'static str,
}

impl Column {
    fn of(column: &impl ColumnTrait) -> Self {
        Self { name: column.as_str(), cast: dialect::cast(column) }
    }
}

fn lock_and_load_text(backend: DbBackend, shape: Shape) -> String {
    let events = event::Column::iter().map(|column| Column::of(&column));
    let events: Vec<Column> = events.filter(|column| model::EVENT_HEAD.contains(&column.name)).collect();
    let types: Vec<Column> = event_type::Column::iter().map(|column| Column::of(&column)).collect();
    let own = |columns: &[Column]| {
        columns.iter().map(|column| format!(", f.\"{}\"", column.name)).collect::<String>()
    };
    // A NULL of PostgreSQL has a type; one of SQLite has none.
    let null = |cast: &str| match backend {
        DbBackend::Postgres => format!("NULL::{cast}"),
        _ => "NULL".to_owned(),
    };
    let none = |columns: &[Column], prefix: &str| {
        let cells =
            columns.iter().map(|column| format!(", {} AS {prefix}{}", null(column.cast), column.name));
        cells.collect::<String>()
    };
    let (no_id, no_event, no_type) = (null("uuid"), none(&events, EVENT_PREFIX), none(&types, TYPE_PREFIX));
    let each = |rows: &str, table: &str, fits: &str| {
        format!("{rows} {}", dialect::join(backend, &format!("{table} f"), fits))
    };
    let event = |found: &str| {
        let (kind, own) = (Kind::EVENT, own(&events));
        format!(" UNION ALL SELECT {kind}, f.user_id, f.id, {no_id}, 0, 0{own}{no_type} FROM {found}")
    };
    let event_type = |found: &str| {
        let (kind, own) = (Kind::TYPE, own(&types));
        format!(" UNION ALL SELECT {kind}, f.user_id, f.id, {no_id}, 0, 0{no_event}{own} FROM {found}")
    };

    let mut number = 2;
    let mut table = |columns: &[(&str, &str)]| dialect::rows(backend, &mut number, columns);
    let by_id = "f.user_id = w.user_id AND f.id = w.id";
    let alias = "f.user_id = w.user_id AND f.entity IN (1, 2) AND f.alias_id = w.id";
    let (is_stale, seen) = dialect::staleness(backend);
    let mut sql = format!(
        "WITH head AS MATERIALIZED ({heads}), \
         want AS MATERIALIZED (SELECT w.user_id, w.id FROM {wanted}), \
         name AS MATERIALIZED ( \
           SELECT f.user_id, f.entity AS number, f.alias_id, f.id FROM {aliases} \
           UNION ALL SELECT f.user_id, 3, f.id, f.id FROM {imports}), \
         called AS MATERIALIZED (SELECT user_id, id FROM want UNION ALL SELECT user_id, id FROM name) \
         SELECT {head} AS kind, h.user_id AS user_id, {no_id} AS id, {no_id} AS alias_id, \
           h.feed_head AS number, {is_stale} AS is_stale{no_event}{no_type} FROM head h {seen} \
         UNION ALL SELECT {name}, n.user_id, n.id, n.alias_id, n.number, 0{no_event}{no_type} FROM name n",
        heads = dialect::heads(backend, shape.lock == Lock::Skip),
        wanted = table(&OWNED),
        aliases = each("want w", "id_alias", alias),
        imports = each("want w", "import_job", by_id),
        head = Kind::HEAD,
        name = Kind::NAME,
    );
    sql += &event(&each("called w", "event", by_id));
    if shape.by_key {
        let keys = table(&[("user_id", "uuid"), ("source_type", "text"), ("external_id", "text")]);
        let fits =
            "f.user_id = w.user_id AND f.source_type = w.source_type AND f.external_id = w.external_id";
        // What is found by its id is not told again.
        let unknown = "(f.user_id, f.id) NOT IN (SELECT user_id, id FROM called)";
        sql += &event(&format!("{} WHERE {unknown}", each(&keys, "event", fits)));
    }
    sql += &event_type(&each("called w", "event_type", by_id));
    if shape.by_name {
        let names = table(&[("user_id", "uuid"), ("text", "text")]);
        sql += &event_type(&each(&names, "event_type", "f.user_id = w.user_id AND f.name = w.text"));
    }
    sql
}
