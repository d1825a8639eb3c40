//! The change feed: one entry per entity, at its newest position.

use ::entity::{event, event_type};
use sea_orm::{ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::account::{self, Head};
use super::{Store, model};
use crate::error::Error;
use crate::rules::cursor::Cursor;
use crate::rules::row::{EventRow, Frame, TypeRow};

/// An entity that changed, as it is now.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An event.
    Event(EventRow),
    /// An event type.
    EventType(TypeRow),
}

impl Change {
    /// What all kinds share.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        match self {
            Self::Event(row) => &row.frame,
            Self::EventType(row) => &row.frame,
        }
    }
}

/// Why a cursor does not lead on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// Garbage, or of another user.
    CursorInvalid,
    /// Of another counting, or of a position that was never handed out.
    EpochChanged,
}

/// What follows a cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangePage {
    /// In the order of their positions.
    pub changes: Vec<Change>,
    /// Where to go on.
    pub cursor: Cursor,
    /// More follow, as of the head that was read first.
    pub has_more: bool,
    /// Set: the cursor was no good, `cursor` begins a bootstrap.
    pub reset: Option<Reset>,
}

/// What a text that should be a cursor comes to.
///
/// # Errors
/// When the database fails.
pub async fn resolve(
    store: &Store,
    user_id: Uuid,
    after: Option<&str>,
) -> Result<(Head, Result<Cursor, Reset>), Error> {
    let head = account::head(store, user_id).await?;
    let start = start_of(head);
    let Some(text) = after else {
        return Ok((head, Ok(start)));
    };
    let Some(cursor) = Cursor::decode(user_id, text) else {
        return Ok((head, Err(Reset::CursorInvalid)));
    };
    if cursor.epoch != head.feed_epoch {
        return Ok((head, Err(Reset::EpochChanged)));
    }
    let known = cursor.seq.max(cursor.bootstrap_head.unwrap_or_default());
    if known > head.feed_head {
        account::renew_epoch(store, user_id, head.feed_epoch, known).await?;
        return Ok((account::head(store, user_id).await?, Err(Reset::EpochChanged)));
    }
    Ok((head, Ok(cursor)))
}

/// The start of a bootstrap: living rows only, up to the head of now.
fn start_of(head: Head) -> Cursor {
    Cursor { epoch: head.feed_epoch, seq: 0, bootstrap_head: (head.feed_head > 0).then_some(head.feed_head) }
}

/// The newest position.
///
/// # Errors
/// When the database fails.
pub async fn head_cursor(store: &Store, user_id: Uuid) -> Result<Cursor, Error> {
    let head = account::head(store, user_id).await?;
    Ok(Cursor { epoch: head.feed_epoch, seq: head.feed_head, bootstrap_head: None })
}

/// The page that follows `after`; without it the first of a bootstrap.
///
/// # Errors
/// When the database fails.
pub async fn page(
    store: &Store,
    user_id: Uuid,
    after: Option<&str>,
    first: u64,
) -> Result<ChangePage, Error> {
    // The head is read before the rows: what is committed in between stands beyond it and is left
    // to the next page.
    let (head, resolved) = resolve(store, user_id, after).await?;
    let from = match resolved {
        Ok(cursor) => cursor,
        Err(reset) => {
            let cursor = start_of(head);
            return Ok(ChangePage { changes: Vec::new(), cursor, has_more: true, reset: Some(reset) });
        }
    };
    let mut changes = read(store, user_id, from, head.feed_head, first + 1).await?;
    let has_more = changes.len() as u64 > first;
    changes.truncate(usize::try_from(first).unwrap_or(usize::MAX));
    let seq = match changes.last() {
        Some(last) if has_more => last.frame().change_seq,
        _ => head.feed_head,
    };
    let bootstrap_head = from.bootstrap_head.filter(|end| seq < *end);
    let cursor = Cursor { epoch: head.feed_epoch, seq, bootstrap_head };
    Ok(ChangePage { changes, cursor, has_more, reset: None })
}

async fn read(
    store: &Store,
    user_id: Uuid,
    from: Cursor,
    head: i64,
    limit: u64,
) -> Result<Vec<Change>, Error> {
    let events = event::Entity::find()
        .filter(event::Column::UserId.eq(user_id))
        .filter(between(event::Column::ChangeSeq, event::Column::DeletedAt, from, head))
        .order_by_asc(event::Column::ChangeSeq)
        .limit(limit)
        .all(&store.reader)
        .await?;
    let types = event_type::Entity::find()
        .filter(event_type::Column::UserId.eq(user_id))
        .filter(between(event_type::Column::ChangeSeq, event_type::Column::DeletedAt, from, head))
        .order_by_asc(event_type::Column::ChangeSeq)
        .limit(limit)
        .all(&store.reader)
        .await?;
    let mut changes = Vec::with_capacity(events.len() + types.len());
    for row in types {
        changes.push(Change::EventType(model::type_row(row)?));
    }
    for row in events {
        changes.push(Change::Event(model::event_row(row)?));
    }
    changes.sort_by_key(|change| change.frame().change_seq);
    changes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(changes)
}

fn between<C: ColumnTrait>(seq: C, deleted_at: C, from: Cursor, head: i64) -> Condition {
    let all = Condition::all().add(seq.gt(from.seq)).add(seq.lte(head));
    match from.bootstrap_head {
        Some(end) => all.add(Condition::any().add(deleted_at.is_null()).add(seq.gt(end))),
        None => all,
    }
}

/// How many entities a pull from `from` would bring.
///
/// # Errors
/// When the database fails.
pub async fn pending(store: &Store, user_id: Uuid, from: Cursor, head: i64) -> Result<u64, Error> {
    let events = event::Entity::find()
        .filter(event::Column::UserId.eq(user_id))
        .filter(between(event::Column::ChangeSeq, event::Column::DeletedAt, from, head))
        .count(&store.reader)
        .await?;
    let types = event_type::Entity::find()
        .filter(event_type::Column::UserId.eq(user_id))
        .filter(between(event_type::Column::ChangeSeq, event_type::Column::DeletedAt, from, head))
        .count(&store.reader)
        .await?;
    Ok(events + types)
}
