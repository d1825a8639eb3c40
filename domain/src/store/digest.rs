//! Reads what a digest is made of: ids and versions of all living rows, in one statement and so in one
//! state, streamed, so that memory stays flat.

use ::entity::{event, event_type};
use futures::{Stream, TryStreamExt};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::Store;
use crate::error::Error;
use crate::rules::apply::Entity;
use crate::rules::digest::{Bucket, Digester};

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
                .order_by_asc(event::Column::Id)
                .into_tuple::<(Uuid, i32)>();
            gather(rows.stream(&store.reader).await?).await
        }
        Entity::EventType => {
            let rows = event_type::Entity::find()
                .select_only()
                .columns([event_type::Column::Id, event_type::Column::Version])
                .filter(event_type::Column::UserId.eq(user_id))
                .filter(event_type::Column::DeletedAt.is_null())
                .order_by_asc(event_type::Column::Id)
                .into_tuple::<(Uuid, i32)>();
            gather(rows.stream(&store.reader).await?).await
        }
    }
}

async fn gather(
    mut rows: impl Stream<Item = Result<(Uuid, i32), DbErr>> + Unpin,
) -> Result<Vec<Bucket>, Error> {
    let mut digester = Digester::default();
    while let Some((id, version)) = rows.try_next().await? {
        digester.add(id, version);
    }
    Ok(digester.finish())
}
