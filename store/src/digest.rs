//! Computes the digest of a user's living rows from their ids and versions.
//!
//! One statement reads all rows, so that they belong to one state of the database. They are streamed, so that
//! memory does not grow with their number.

use std::ops::ControlFlow;

use ::entity::{event, event_type};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select};
use uuid::Uuid;

use super::Store;
use super::row_reader::RowReader;
use crate::error::Error;
use domain::apply::Entity;
use domain::digest::{Bucket, Digester};

/// Computes the digest of all living events, or of all living event types, of a user. It has one bucket for
/// each month of the times in the ids.
///
/// ```sql
/// SELECT id, version FROM event WHERE user_id = $1 AND deleted_at IS NULL ORDER BY id
/// ```
///
/// Plan: it walks the primary key `(user_id, id)` over all rows of the user, so it is a heavy read.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time, or too many heavy reads of the user wait;
/// [`Error::Locked`] if those take too long; [`Error::Database`] if the database fails.
pub async fn compute_digest(store: &Store, user_id: Uuid, entity: Entity) -> Result<Vec<Bucket>, Error> {
    match entity {
        Entity::Event => {
            let rows = event::Entity::find()
                .select_only()
                .columns([event::Column::Id, event::Column::Version])
                .filter(event::Column::UserId.eq(user_id))
                .filter(event::Column::DeletedAt.is_null())
                .order_by_asc(event::Column::Id);
            digest_rows(store, user_id, rows).await
        }
        Entity::EventType => {
            let rows = event_type::Entity::find()
                .select_only()
                .columns([event_type::Column::Id, event_type::Column::Version])
                .filter(event_type::Column::UserId.eq(user_id))
                .filter(event_type::Column::DeletedAt.is_null())
                .order_by_asc(event_type::Column::Id);
            digest_rows(store, user_id, rows).await
        }
    }
}

async fn digest_rows(
    store: &Store,
    user_id: Uuid,
    rows: Select<impl EntityTrait>,
) -> Result<Vec<Bucket>, Error> {
    let mut digester = Digester::default();
    let statement = rows.build(store.reader.backend());
    let heavy = store.acquire_heavy_reader(user_id).await?;
    let read = heavy.reader.0.read_rows(statement, |row| {
        let mut reader = RowReader::new(row, 0);
        digester.add_row(reader.next()?, reader.next()?);
        Ok(ControlFlow::Continue(()))
    });
    read.await?;
    Ok(digester.into_month_digests())
}
