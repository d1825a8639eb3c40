//! Takes some rows of an import back, through the feed: tombstones that a later create makes anew.

use uuid::Uuid;

use crate::notifier::{Notification, Notifier};
use crate::write::write_within;
use domain::apply::{self, WriteContext};
use domain::limits::{CHUNK_RECORDS_MAX, LEASE_TTL_MS};
use store::error::Error;
use store::import_job::Held;
use store::load::ReadSet;
use store::{Store, event, import_job};

/// Takes back the next rows behind `after` of an import that the caller holds: those that nobody has
/// changed since the import wrote them. Returns where to go on; `None` when nothing is left, and then the
/// import is rolled back.
///
/// # Errors
/// [`Error::Fenced`] when somebody else holds it by now; when the database fails. Then nothing was written.
pub async fn roll_back_chunk(
    store: &Store,
    notifier: &dyn Notifier,
    held: Held,
    after: Option<Uuid>,
) -> Result<Option<Uuid>, Error> {
    let ids = event::untouched_of_import(store, held.user_id, held.id, after, CHUNK_RECORDS_MAX).await?;
    let Some(last) = ids.last().copied() else {
        import_job::rolled_back(store, held).await?;
        return Ok(None);
    };
    let mut read_set = ReadSet::default();
    for id in &ids {
        read_set.id(*id);
    }
    let now_ms = store.clock.now_ms();
    let tx = store.begin().await?;
    import_job::hold(&tx, held, LEASE_TTL_MS).await?;
    let ((), stored) = write_within(&tx, held.user_id, read_set, |unit| {
        let context = WriteContext { now_ms, client_id: None, import_job_id: Some(held.id) };
        for id in ids {
            apply::take_back_event(unit, &context, id);
        }
    })
    .await?;
    tx.commit().await?;
    if stored.moves_feed {
        notifier.notify(Notification::Feed(held.user_id));
    }
    Ok(Some(last))
}
