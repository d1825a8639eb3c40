//! Reads what a digest is made of: ids and versions of all living rows, in one statement and so in one
//! state, streamed, so that memory stays flat.

use std::ops::ControlFlow;

use ::entity::{event, event_type};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select};
use uuid::Uuid;

use super::Store;
use super::row_reader::RowReader;
use crate::error::Error;
use domain::apply::Entity;
use domain::digest::{Bucket, Digester};

/// The digest of the living rows of one kind.
///
/// # Errors
/// When the database fails.
pub async fn digest(store: &Store, user_id: Uuid, entity: Entity) -> Result<Vec<Bucket>, Error> {
    match entity {
        Entity::Event => {
            let rows = event::Entity::find()
                .select_only()
                .columns([event::Column::Id, event::Column::Version])
                .filter(event::Column::UserId.eq(user_id))
                .filter(event::Column::DeletedAt.is_null())
                .order_by_asc(event::Column::Id);
            gather(store, user_id, rows).await
        }
        Entity::EventType => {
            let rows = event_type::Entity::find()
                .select_only()
                .columns([event_type::Column::Id, event_type::Column::Version])
                .filter(event_type::Column::UserId.eq(user_id))
                .filter(event_type::Column::DeletedAt.is_null())
                .order_by_asc(event_type::Column::Id);
            gather(store, user_id, rows).await
        }
    }
}

async fn gather(store: &Store, user_id: Uuid, rows: Select<impl EntityTrait>) -> Result<Vec<Bucket>, Error> {
    let mut digester = Digester::default();
    let statement = rows.build(store.reader.backend());
    let heavy = store.heavy(user_id).await?;
    let read = heavy.reader.0.read(statement, |row| {
        let mut cells = RowReader::new(row, 0);
        digester.add(cells.next()?, cells.next()?);
        Ok(ControlFlow::Continue(()))
    });
    read.await?;
    Ok(digester.finish())
}
