//! Rolls back some events of an import. They become tombstones in the feed, which a later create may replace.

use uuid::Uuid;

use crate::notifier::{Notification, Notifier};
use crate::write::write_in_callers_transaction;
use domain::apply::{self, WriteContext};
use domain::limits::{CHUNK_RECORDS_MAX, LEASE_TTL_MS};
use store::error::Error;
use store::import_job::Held;
use store::load::ReadSet;
use store::{Store, event, import_job};

/// Deletes the next events of an import that is being rolled back, at most 500, in the order of their ids
/// after `after`. It commits, renews the lease, and notifies the readers of the user's feed.
///
/// Only events that have not been changed since the import wrote them are deleted. Returns the last id, to
/// pass as `after` next time. `None` means that none were left: then it has set the state `ROLLED_BACK`.
///
/// # Errors
/// [`Error::Fenced`] if another worker holds the import now, [`Error::Busy`] if no connection is free in
/// time. Otherwise as [`write_in_callers_transaction`]. Nothing is written then, unless the database failed
/// during the commit.
pub async fn roll_back_chunk(
    store: &Store,
    notifier: &dyn Notifier,
    held: Held,
    after: Option<Uuid>,
) -> Result<Option<Uuid>, Error> {
    let ids =
        event::find_unchanged_ids_of_import(store, held.user_id, held.id, after, CHUNK_RECORDS_MAX).await?;
    let Some(last) = ids.last().copied() else {
        import_job::finish_rollback(store, held).await?;
        return Ok(None);
    };
    let mut read_set = ReadSet::default();
    for id in &ids {
        read_set.add_id_and_need_bodies(*id);
    }
    let now_ms = store.clock.now_ms();
    let tx = store.begin().await?;
    import_job::renew_lease_in_transaction(&tx, held, LEASE_TTL_MS).await?;
    let ((), stored) = write_in_callers_transaction(&tx, held.user_id, read_set, |unit| {
        let context = WriteContext { now_ms, client_id: None, import_job_id: Some(held.id) };
        for id in ids {
            apply::roll_back_imported_event(unit, &context, id);
        }
    })
    .await?;
    tx.commit().await?;
    if stored.moves_feed {
        notifier.notify(Notification::Feed(held.user_id));
    }
    Ok(Some(last))
}
