//! The statements that load. Their texts are few and the same for any number of users and items, so
//! that each is prepared once a connection.

use std::sync::LazyLock;

use sea_orm::DbBackend;

use crate::dialect;
use crate::model::{self, columns, nothing};

/// Of which kind a row of [`load`] is. They come in this order. Each has an owner, and the columns that
/// are named behind it: starting the statement takes the longer the more columns there are, so that kinds share
/// them.
pub(super) struct Kind;

impl Kind {
    /// `number` is the newest position, and `revision` that of the account.
    pub(super) const HEAD: i32 = 0;
    /// `id` is called `other` by the kind `number`: 1 an event, 2 a type, 3 an import by its own id.
    const NAME: i32 = 1;
    /// The head of an event from [`FIRST`] on, `other` its import where it is told.
    pub(super) const EVENT: i32 = 2;
    /// A type from [`FIRST`] on.
    pub(super) const TYPE: i32 = 3;
}

/// Where the columns of an event and those of a type begin.
pub(super) const FIRST: usize = 6;

/// Which statement it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Events are looked for by external keys as well.
    pub(super) by_key: bool,
    /// Types are looked for by names as well.
    pub(super) by_name: bool,
    /// Somebody is told of the events.
    pub(super) for_response: bool,
}

impl Shape {
    fn number(self) -> usize {
        let bits = [self.for_response, self.by_key, self.by_name];
        bits.iter().fold(0, |n, bit| n * 2 + usize::from(*bit))
    }

    fn of(number: usize) -> Self {
        let has = |bit: usize| number & bit != 0;
        Self { for_response: has(4), by_key: has(2), by_name: has(1) }
    }
}

/// Heads, names, heads of events, and types. Its parameters: users, a table of owners and ids, and where the
/// shape says so one of owners, ids, sources and external ids, where a key is looked for only if its id is none
/// of an event, and one of owners and names.
pub(super) fn load(backend: DbBackend, shape: Shape) -> &'static str {
    static POSTGRES: LazyLock<[String; 8]> =
        LazyLock::new(|| std::array::from_fn(|n| load_text(DbBackend::Postgres, Shape::of(n))));
    static SQLITE: LazyLock<[String; 8]> =
        LazyLock::new(|| std::array::from_fn(|n| load_text(DbBackend::Sqlite, Shape::of(n))));
    let texts = if backend == DbBackend::Postgres { &POSTGRES } else { &SQLITE };
    &texts[shape.number()]
}

/// All that events say, and their types, by a table of owners and ids; and the revisions of the
/// accounts.
pub(super) fn load_bodies(backend: DbBackend) -> &'static str {
    static POSTGRES: LazyLock<String> = LazyLock::new(|| load_bodies_text(DbBackend::Postgres));
    static SQLITE: LazyLock<String> = LazyLock::new(|| load_bodies_text(DbBackend::Sqlite));
    if backend == DbBackend::Postgres { &POSTGRES } else { &SQLITE }
}

fn load_bodies_text(backend: DbBackend) -> String {
    let rows = dialect::rows(backend, &mut 1, &OWNED);
    format!(
        "SELECT w.user_id, (SELECT a.revision FROM account a WHERE a.user_id = w.user_id){event_columns}{type_columns} FROM {rows} {event} {event_type}",
        event_columns = columns("f", &model::EVENT),
        type_columns = columns("t", &model::TYPE),
        event = dialect::join(backend, "event f", "*", &BY_ID),
        event_type = dialect::left_join(
            backend,
            "event_type t",
            "*",
            &[("user_id", "f.user_id"), ("id", "f.event_type_id")]
        ),
    )
}

const OWNED: [(&str, &str); 2] = [("user_id", "uuid"), ("id", "uuid")];
const BY_ID: [(&str, &str); 2] = [("user_id", "w.user_id"), ("id", "w.id")];

fn load_text(backend: DbBackend, shape: Shape) -> String {
    let no_id = match backend {
        DbBackend::Postgres => "NULL::uuid",
        _ => "NULL",
    };
    let no_row = nothing(backend, &model::TYPE);
    let (read_of_event, event_head) = model::event_head_columns(backend, shape.for_response);
    let import = if shape.for_response { "f.import_job_id" } else { no_id };
    let whole_type = columns("f", &model::TYPE);
    let each = |rows: &str, table: &str, columns: &str, key: &[(&str, &str)]| {
        format!("{rows} {}", dialect::join(backend, &format!("{table} f"), columns, key))
    };
    let own_import = if shape.for_response { ", f.import_job_id" } else { "" };
    let own_event = format!("f.user_id{read_of_event}{own_import}");
    let each_event = |rows: &str, key: &[(&str, &str)]| each(rows, "event", &own_event, key);
    let event = |found: &str| {
        let kind = Kind::EVENT;
        format!(" UNION ALL SELECT {kind}, f.user_id, f.id, {import}, 0, 0{event_head} FROM {found}")
    };
    let event_type = |rows: &str, key: &[(&str, &str)]| {
        let (kind, found) = (Kind::TYPE, each(rows, "event_type", &format!("f.user_id{whole_type}"), key));
        format!(" UNION ALL SELECT {kind}, f.user_id, f.id, {no_id}, 0, 0{whole_type} FROM {found}")
    };

    let mut number = 2;
    let mut table = |columns: &[(&str, &str)]| dialect::rows(backend, &mut number, columns);
    let alias = [("user_id", "w.user_id"), ("alias_id", "w.id")];
    // An id stands for one thing only: what is an event is looked for nowhere else. To sort that out pays
    // where most are, in a file that is sent again, and such records have external keys.
    let is_no_event = "(w.user_id, w.id) NOT IN (SELECT user_id, id FROM found)";
    let (rest, sorted_out) = if shape.by_key {
        let sorted_out = format!(
            "found AS MATERIALIZED (SELECT {own_event} FROM {events}), \
             rest AS MATERIALIZED (SELECT w.user_id, w.id FROM want w WHERE {is_no_event}), ",
            events = each_event("want w", &BY_ID),
        );
        ("rest", sorted_out)
    } else {
        ("want", String::new())
    };
    let mut sql = format!(
        "WITH want AS MATERIALIZED (SELECT w.user_id, w.id FROM {wanted}), {sorted_out}\
         name AS MATERIALIZED ( \
           SELECT f.user_id, f.entity AS number, f.alias_id, f.id FROM {aliases} \
           UNION ALL SELECT f.user_id, 3, f.id, f.id FROM {imports}), \
         called AS MATERIALIZED (SELECT user_id, id FROM {rest} UNION ALL SELECT user_id, id FROM name) \
         SELECT {is_head} AS kind, h.user_id, {no_id} AS id, {no_id} AS other, \
           h.feed_head AS number, h.revision{no_row} FROM ({heads}) h \
         UNION ALL SELECT {is_name}, n.user_id, n.id, n.alias_id, n.number, 0{no_row} FROM name n",
        heads = dialect::heads(backend),
        wanted = table(&OWNED),
        aliases = each(&format!("{rest} w"), "id_alias", "f.user_id, f.entity, f.alias_id, f.id", &alias),
        imports = each(&format!("{rest} w"), "import_job", "f.user_id, f.id", &BY_ID),
        is_head = Kind::HEAD,
        is_name = Kind::NAME,
    );
    let events = if shape.by_key {
        event("found f") + &event(&each_event("name w", &BY_ID))
    } else {
        event(&each_event("called w", &BY_ID))
    };
    sql += &events;
    if shape.by_key {
        let keys =
            table(&[("user_id", "uuid"), ("id", "uuid"), ("source_type", "text"), ("external_id", "text")]);
        let key =
            [("user_id", "w.user_id"), ("source_type", "w.source_type"), ("external_id", "w.external_id")];
        sql += &event(&format!("{} WHERE {is_no_event}", each_event(&keys, &key)));
    }
    sql += &event_type("called w", &BY_ID);
    if shape.by_name {
        let names = table(&[("user_id", "uuid"), ("text", "text")]);
        let key = [("user_id", "w.user_id"), ("name", "w.text")];
        sql += &event_type(&names, &key);
    }
    sql
}
