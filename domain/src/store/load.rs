//! The second step of a write: everything that its items can touch, read under the lock.

use std::collections::HashSet;

use ::entity::{event, event_type};
use sea_orm::{ConnectionTrait, EntityTrait, IdenStatic, Iterable, Statement, Value};
use uuid::Uuid;

use super::{Tx, dialect, model};
use crate::error::Error;
use crate::limits::BATCH_ITEMS_MAX;
use crate::rules::apply::{Entity, World, Write};
use crate::rules::draft::{IdOrigin, NewEvent, NewType, TypeRef};

/// The keys by which items may find something.
#[derive(Debug, Default)]
pub struct Wants {
    ids: HashSet<Uuid>,
    keys: HashSet<(String, String)>,
    type_names: HashSet<String>,
    /// Types whose living events are counted.
    usages: HashSet<Uuid>,
    /// What events say is not read: their hashes tell whether it is the same.
    without_bodies: bool,
}

impl Wants {
    /// For whoever asks only whether something is there: of stored events, keys and hashes are read, and
    /// their bodies are empty.
    #[must_use]
    pub fn without_bodies() -> Self {
        Self { without_bodies: true, ..Self::default() }
    }

    /// Adds an id of any kind.
    pub fn id(&mut self, id: Uuid) {
        self.ids.insert(id);
    }

    /// Adds the keys of an event.
    pub fn event(&mut self, new: &NewEvent) {
        self.ids.insert(new.id);
        if let Some(external_id) = &new.external_id {
            self.keys.insert((new.source_type.clone(), external_id.clone()));
        }
        match &new.type_ref {
            TypeRef::Id(id) => self.ids.insert(*id),
            TypeRef::Name { name, .. } => self.type_names.insert(name.clone()),
        };
    }

    /// Adds the keys of a write.
    pub fn write(&mut self, write: &Write) {
        match write {
            Write::CreateEvent(new) => self.event(new),
            Write::UpdateEvent(edit) => self.ids.extend(edit.ids()),
            Write::RestoreEvent(restore) => self.ids.extend(restore.ids()),
            Write::CreateEventType(new) => self.event_type(new),
            Write::UpdateEventType(edit) => {
                self.ids.insert(edit.id);
                self.type_names.extend(edit.patch.name.clone());
            }
            Write::DeleteEvent(removal) => self.id(removal.id),
            Write::DeleteEventType(removal) => {
                self.id(removal.id);
                self.usages.insert(removal.id);
            }
        }
    }

    /// Adds the keys of a type.
    fn event_type(&mut self, new: &NewType) {
        if new.origin == IdOrigin::Sent {
            self.ids.insert(new.id);
        }
        self.type_names.insert(new.name.clone());
    }
}

/// Reads what is wanted. Call it in a statement of its own behind the lock: a statement that waited
/// for the lock does not see what was committed while it waited.
///
/// # Errors
/// When the database fails.
pub async fn load(tx: &Tx, user_id: Uuid, wants: &Wants) -> Result<World, Error> {
    let mut world = World::default();
    let mut ids: Vec<Uuid> = wants.ids.iter().copied().collect();
    ids.sort_unstable();
    for row in load_names(tx, user_id, &ids, &mut world).await? {
        ids.push(row);
    }
    load_events(tx, user_id, &ids, wants, &mut world).await?;
    // An answer tells of an event's type as well, and an edit may keep it.
    ids.extend(world.event_type_ids());
    load_types(tx, user_id, &ids, wants, &mut world).await?;
    load_usages(tx, user_id, wants, &mut world).await?;
    Ok(world)
}

/// Aliases and imports by id; returns the rows that the aliases stand for.
async fn load_names(tx: &Tx, user_id: Uuid, ids: &[Uuid], world: &mut World) -> Result<Vec<Uuid>, Error> {
    let backend = tx.backend();
    let ids_at = dialect::id_rows(backend, 2);
    let sql = format!(
        "SELECT f.entity, f.alias_id, f.id FROM {} UNION ALL SELECT 3, f.id, f.id FROM {}",
        dialect::each(
            backend,
            &ids_at,
            "id_alias",
            "f.user_id = $1 AND f.entity IN (1, 2) AND f.alias_id = w.id"
        ),
        dialect::each(backend, &ids_at, "import_job", "f.user_id = $1 AND f.id = w.id"),
    );
    let values = [user_id.into(), dialect::ids(backend, ids)];
    let mut canonical = Vec::new();
    for row in tx.inner.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await? {
        let (alias, id): (Uuid, Uuid) = (row.try_get("", "alias_id")?, row.try_get("", "id")?);
        let entity: i64 = match row.try_get::<i16>("", "entity") {
            Ok(number) => number.into(),
            Err(_) => row.try_get::<i32>("", "entity")?.into(),
        };
        match entity {
            1 => world.load_alias(Entity::Event, alias, id),
            2 => world.load_alias(Entity::EventType, alias, id),
            _ => world.load_import_id(id),
        }
        canonical.push(id);
    }
    Ok(canonical)
}

async fn load_events(
    tx: &Tx,
    user_id: Uuid,
    ids: &[Uuid],
    wants: &Wants,
    world: &mut World,
) -> Result<(), Error> {
    let backend = tx.backend();
    let (sources, externals): (Vec<String>, Vec<String>) = wants.keys.iter().cloned().unzip();
    let ids_at = dialect::id_rows(backend, 2);
    let columns = if wants.without_bodies { model::EVENT_HEAD.join(", ") } else { event_columns() };
    let keys = "f.user_id = $1 AND f.source_type = w.source_type AND f.external_id = w.external_id";
    // What is found by its id is not read again by its key.
    let sql = format!(
        "{head}SELECT {columns} FROM {by_id} UNION ALL SELECT {columns} FROM {by_key} {and} f.id NOT IN (SELECT w.id FROM {ids_at})",
        head = lock_first(backend),
        by_id = dialect::each(backend, &ids_at, "event", "f.user_id = $1 AND f.id = w.id"),
        by_key = dialect::each(backend, &dialect::pair_rows(backend, 3, 4), "event", keys),
        and = dialect::each_and(backend),
    );
    let values: [Value; 4] = [
        user_id.into(),
        dialect::ids(backend, ids),
        dialect::texts(backend, &sources),
        dialect::texts(backend, &externals),
    ];
    let statement = Statement::from_sql_and_values(backend, sql, values);
    if wants.without_bodies {
        for row in tx.inner.query_all_raw(statement).await? {
            world.load_event(model::event_head(&row)?);
        }
        return Ok(());
    }
    for row in event::Entity::find().from_raw_sql(statement).all(&tx.inner).await? {
        world.load_event(model::event_row(row)?);
    }
    Ok(())
}

/// All columns of an event but the text that only a search looks at.
fn event_columns() -> String {
    let columns = event::Column::iter().map(|column| {
        let from = if matches!(column, event::Column::NotesSearch) { "NULL AS " } else { "f." };
        format!("{from}\"{}\"", column.as_str())
    });
    columns.collect::<Vec<_>>().join(", ")
}

/// The mistake that this module's order avoids, for the test that must catch it.
fn lock_first(backend: sea_orm::DbBackend) -> String {
    if crate::plant::is_planted("plant-one-statement") {
        let lock = dialect::for_update(backend);
        return format!("WITH head AS (SELECT user_id FROM account WHERE user_id = $1{lock}) ");
    }
    String::new()
}

async fn load_types(
    tx: &Tx,
    user_id: Uuid,
    ids: &[Uuid],
    wants: &Wants,
    world: &mut World,
) -> Result<(), Error> {
    let backend = tx.backend();
    let names: Vec<String> = wants.type_names.iter().cloned().collect();
    let sql = format!(
        "SELECT f.* FROM {} UNION ALL SELECT f.* FROM {}",
        dialect::each(backend, &dialect::id_rows(backend, 2), "event_type", "f.user_id = $1 AND f.id = w.id"),
        dialect::each(
            backend,
            &dialect::text_rows(backend, 3),
            "event_type",
            "f.user_id = $1 AND f.name = w.text"
        ),
    );
    let values: [Value; 3] = [user_id.into(), dialect::ids(backend, ids), dialect::texts(backend, &names)];
    let statement = Statement::from_sql_and_values(backend, sql, values);
    for row in event_type::Entity::find().from_raw_sql(statement).all(&tx.inner).await? {
        world.load_type(model::type_row(row)?);
    }
    Ok(())
}

/// Counts the living events of types that are to be deleted, up to one more than a call can take away.
async fn load_usages(tx: &Tx, user_id: Uuid, wants: &Wants, world: &mut World) -> Result<(), Error> {
    if wants.usages.is_empty() {
        return Ok(());
    }
    // An id that is not known yet may become an alias of a type found by name, earlier in the same call.
    let by_id = wants.usages.iter().filter_map(|id| world.event_type(*id));
    let by_name = wants.type_names.iter().filter_map(|name| world.type_by_name(name));
    let types: HashSet<Uuid> = by_id.chain(by_name).map(|row| row.frame.id).collect();
    if types.is_empty() {
        return Ok(());
    }
    let backend = tx.backend();
    let types: Vec<Uuid> = types.into_iter().collect();
    let sql = format!(
        "SELECT t.id, (SELECT count(*) FROM (SELECT 1 FROM event e WHERE e.user_id = $1 AND e.event_type_id = t.id \
         LIMIT $3) few) AS events FROM event_type t WHERE t.user_id = $1 AND t.id IN (SELECT w.id FROM {})",
        dialect::id_rows(backend, 2),
    );
    let most = i64::try_from(BATCH_ITEMS_MAX).unwrap_or(i64::MAX) + 1;
    let values: [Value; 3] = [user_id.into(), dialect::ids(backend, &types), most.into()];
    for row in tx.inner.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await? {
        world.load_usage(row.try_get("", "id")?, row.try_get("", "events")?);
    }
    Ok(())
}
