//! The statements that load the rows a write needs. Each stands whole in a file of `load/sql/`.
//!
//! There are few texts, and each is the same for any number of items. So each is prepared once for each
//! connection. All keys travel as arrays. Writes on SQLite load in another way (`sqlite/load.rs`).

use std::sync::LazyLock;

use sea_orm::DbBackend;

use crate::model::{self, sql_columns_of, sql_null_columns};

/// What a row of the statement [`sql_load_all_but_bodies`] stands for: the number in its first column. Rows
/// come in the order of these numbers.
///
/// All kinds share the columns `kind`, `user_id`, `id`, `other`, `number`, `revision`, and after these the
/// columns of [`model::TYPE`]. They share them because PostgreSQL takes longer to start a statement with more
/// columns (decision 0041).
///
/// Kind 1 is a name of a row: `other` stands for the row `id`. `number` is 1 for the alias of an event, 2 for
/// the alias of a type, and 3 for an import under its own id.
pub(crate) struct Kind;

impl Kind {
    /// The row is an account: the column `number` is its feed head, and `revision` its revision.
    pub(crate) const HEAD: i32 = 0;
    /// The row is an event: keys, hash and version stand from column [`FIRST`] on, the body is missing. The
    /// column `other` is its import, if a response shows it.
    pub(crate) const EVENT: i32 = 2;
    /// The row is an event type, whose columns stand from column [`FIRST`] on.
    pub(crate) const TYPE: i32 = 3;
}

/// The index of the first column of an event or of an event type, after the six columns that all rows have.
pub(crate) const FIRST: usize = 6;

/// Whether a statement loads the rows of one user or of many users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// One user, whose id is parameter 1 of every lookup. A PostgreSQL that is sharded by user can run such a
    /// statement.
    One,
    /// Any number of users; each key is sent together with the id of its user.
    Many,
}

/// Which variant of [`sql_load_all_but_bodies`] a write needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Whether it loads the rows of one user or of many.
    pub(super) owners: Owners,
    /// Whether it looks events up not only by id, but also by source type and external id.
    pub(super) by_key: bool,
    /// Whether it looks event types up not only by id, but also by name.
    pub(super) by_name: bool,
    /// Whether it also reads when each event was created and updated, and its import, because a response
    /// shows them.
    pub(super) for_response: bool,
}

impl Shape {
    fn variant_number(self) -> usize {
        let bits = [self.owners == Owners::Many, self.for_response, self.by_key, self.by_name];
        bits.iter().fold(0, |n, bit| n * 2 + usize::from(*bit))
    }

    fn from_variant_number(number: usize) -> Self {
        let has = |bit: usize| number & bit != 0;
        let owners = if has(8) { Owners::Many } else { Owners::One };
        Self { owners, for_response: has(4), by_key: has(2), by_name: has(1) }
    }
}

/// Returns the statement of PostgreSQL that reads accounts, aliases, ids of imports, event types, and events
/// without their bodies.
///
/// With `by_key` it looks up events first, and everything else only by ids that belong to no event: an id
/// stands for one row only (decision 0047). That pays off where most ids are events, in a file that is
/// imported again, whose records have external keys. Elsewhere most ids are new, and it would cost 20 µs a
/// statement.
///
/// Plan: each lateral subquery is one lookup in a unique index for each key, and PostgreSQL has
/// no other choice (decision 0030). A plain join of a small table became a hash join over all of it, and that
/// plan was kept: an import of a million rows took 112 s instead of 33 s. With `f.id = w.id` and no
/// statistics yet, PostgreSQL took any index that begins with the user. Only the unique index returns rows in
/// the order of its last column, and connections that write do not sort. `MATERIALIZED` keeps PostgreSQL from
/// merging the tables of keys into the lookups.
pub(super) fn sql_load_all_but_bodies(shape: Shape) -> &'static str {
    static TEXTS: LazyLock<[String; 16]> =
        LazyLock::new(|| std::array::from_fn(|n| build_sql_all_but_bodies(Shape::from_variant_number(n))));
    &TEXTS[shape.variant_number()]
}

fn build_sql_all_but_bodies(shape: Shape) -> String {
    let (template, owner, name) = match (shape.owners, shape.by_key) {
        (Owners::One, false) => (include_str!("sql/one_user.sql"), "", "$3"),
        (Owners::One, true) => (include_str!("sql/one_user.sql"), "", "$6"),
        (Owners::Many, false) => (include_str!("sql/many_users.sql"), "$4", "$5"),
        (Owners::Many, true) => (include_str!("sql/many_users.sql"), "$8", "$9"),
    };
    let backend = DbBackend::Postgres;
    let (event_read, event_row) = model::sql_event_columns_without_body(backend, shape.for_response);
    let (read_import, import) =
        if shape.for_response { (", f.import_job_id", "f.import_job_id") } else { ("", "NULL::uuid") };
    let type_row = sql_columns_of("f", &model::TYPE);
    select_template_lines(template, shape)
        .replace("{event_read}", &format!("f.user_id{event_read}{read_import}"))
        .replace("{event_row}", &event_row)
        .replace("{import}", import)
        .replace("{type_read}", &format!("f.user_id{type_row}"))
        .replace("{type_row}", &type_row)
        .replace("{no_row}", &sql_null_columns(backend, &model::TYPE))
        .replace("{owner}", owner)
        .replace("{name}", name)
}

/// Returns the SQL of one variant: the lines of the template whose condition holds, without comments. A line
/// may end with its condition as a comment, such as `-- by_key` or `-- not by_key`.
fn select_template_lines(template: &str, shape: Shape) -> String {
    let mut text = String::new();
    for line in template.lines() {
        let (sql, condition) = line.split_once("--").unwrap_or((line, ""));
        let holds = match condition.trim() {
            "" => true,
            "by_key" => shape.by_key,
            "not by_key" => !shape.by_key,
            "by_name" => shape.by_name,
            _ => false,
        };
        if holds && !sql.trim().is_empty() {
            text.push_str(sql.trim_end());
            text.push('\n');
        }
    }
    text
}

/// Returns the statement that reads complete events with their types, and the revisions of the accounts. For
/// one user on PostgreSQL its parameters are the user and the ids; otherwise they are a table of users and
/// ids.
///
/// Plan: one lookup in the primary key of `event`, `event_type` and `account` for each event, as in
/// [`sql_load_all_but_bodies`]. The revision shows whether anything of the user has changed since that
/// statement read it.
pub(super) fn sql_load_bodies(backend: DbBackend, owners: Owners) -> &'static str {
    static POSTGRES: LazyLock<[String; 2]> =
        LazyLock::new(|| [POSTGRES_BODIES_OF_ONE, POSTGRES_BODIES_OF_MANY].map(fill_column_placeholders));
    static SQLITE: LazyLock<String> = LazyLock::new(|| fill_column_placeholders(SQLITE_BODIES));
    match (backend, owners) {
        (DbBackend::Postgres, Owners::One) => &POSTGRES[0],
        (DbBackend::Postgres, Owners::Many) => &POSTGRES[1],
        _ => &SQLITE,
    }
}

const POSTGRES_BODIES_OF_ONE: &str = "\
SELECT f.user_id, (SELECT a.revision FROM account a WHERE a.user_id = $1){event}{type}
FROM unnest($2::uuid[]) AS w(id)
CROSS JOIN LATERAL (
  SELECT * FROM event f WHERE f.user_id = $1 AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f
LEFT JOIN LATERAL (
  SELECT * FROM event_type t WHERE t.user_id = $1 AND t.id >= f.event_type_id AND t.id <= f.event_type_id
  ORDER BY t.id LIMIT 1) t ON true";

const POSTGRES_BODIES_OF_MANY: &str = "\
SELECT w.user_id, (SELECT a.revision FROM account a WHERE a.user_id = w.user_id){event}{type}
FROM unnest($1::uuid[], $2::uuid[]) AS w(user_id, id)
CROSS JOIN LATERAL (
  SELECT * FROM event f WHERE f.user_id = w.user_id AND f.id >= w.id AND f.id <= w.id
  ORDER BY f.id LIMIT 1) f
LEFT JOIN LATERAL (
  SELECT * FROM event_type t
  WHERE t.user_id = f.user_id AND t.id >= f.event_type_id AND t.id <= f.event_type_id
  ORDER BY t.id LIMIT 1) t ON true";

const SQLITE_BODIES: &str = "\
SELECT w.user_id, (SELECT a.revision FROM account a WHERE a.user_id = w.user_id){event}{type}
FROM (SELECT unhex(value ->> 0) AS user_id, unhex(value ->> 1) AS id FROM json_each($1)) w
CROSS JOIN event f ON f.user_id = w.user_id AND f.id = w.id
LEFT JOIN event_type t ON t.user_id = f.user_id AND t.id = f.event_type_id";

fn fill_column_placeholders(template: &str) -> String {
    template
        .replace("{event}", &sql_columns_of("f", &model::EVENT))
        .replace("{type}", &sql_columns_of("t", &model::TYPE))
}
