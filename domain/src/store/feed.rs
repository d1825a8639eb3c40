//! The change feed: one entry per entity, at its newest position.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ::entity::{event, event_type};
use sea_orm::{ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};
use uuid::Uuid;

use super::account::{self, Head};
use super::page::{self, Weigh, has_room, take};
use super::{Store, event as events, event_type as types};
use crate::error::Error;
use crate::limits::PAGE_BYTES_MAX;
use crate::rules::cursor::Cursor;
use crate::rules::row::{EventRow, Frame, TypeRow};

/// Reads of a page whose events have lost their types meanwhile, before it is given up for now.
const READS_MAX: u32 = 5;

/// An entity that changed, as it is now.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An event.
    Event(Arc<EventRow>),
    /// An event type.
    EventType(Arc<TypeRow>),
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

/// How far a page goes, and what it tells.
#[derive(Clone, Copy)]
pub struct Extent<'w> {
    /// At most so many changes.
    pub first: u64,
    /// The types of its events come along.
    pub with_types: bool,
    /// What a change adds to the bytes of the page.
    pub weigh: Weigh<'w, Change>,
}

/// What follows a cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangePage {
    /// In the order of their positions.
    pub changes: Vec<Change>,
    /// The types of its events by id, where they were asked for.
    pub types: HashMap<Uuid, Arc<TypeRow>>,
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

/// The page that follows `after`; without it the first of a bootstrap. It ends at its bytes if not before.
///
/// # Errors
/// When the database fails, or events and types cannot be read as they stood together.
pub async fn page(
    store: &Store,
    user_id: Uuid,
    after: Option<&str>,
    extent: Extent<'_>,
) -> Result<ChangePage, Error> {
    for _ in 0..READS_MAX {
        let page = read_page(store, user_id, after, extent).await?;
        let of_events: HashSet<Uuid> = page.changes.iter().filter_map(type_of).collect();
        if !extent.with_types {
            return Ok(page);
        }
        let wanted = of_events.len();
        let types = types::known(store, user_id, of_events).await?;
        if types.len() == wanted {
            return Ok(ChangePage { types, ..page });
        }
        // A type goes behind its last event: that one has moved on by now.
    }
    Err(Error::Moved)
}

/// The type of a living event.
fn type_of(change: &Change) -> Option<Uuid> {
    match change {
        Change::Event(row) => row.content.as_ref().map(|content| content.event_type_id),
        Change::EventType(_) => None,
    }
}

async fn read_page(
    store: &Store,
    user_id: Uuid,
    after: Option<&str>,
    extent: Extent<'_>,
) -> Result<ChangePage, Error> {
    // The head is read before the rows: what is committed in between stands beyond it and is left
    // to the next page.
    let (head, resolved) = resolve(store, user_id, after).await?;
    let (types, reset) = (HashMap::new(), resolved.err());
    let Ok(from) = resolved else {
        let cursor = start_of(head);
        return Ok(ChangePage { changes: Vec::new(), types, cursor, has_more: true, reset });
    };
    let (changes, has_more) = read(store, user_id, from, head.feed_head, extent).await?;
    let seq = match changes.last() {
        Some(last) if has_more => last.frame().change_seq,
        _ => head.feed_head,
    };
    let bootstrap_head = from.bootstrap_head.filter(|end| seq < *end);
    let cursor = Cursor { epoch: head.feed_epoch, seq, bootstrap_head };
    Ok(ChangePage { changes, types, cursor, has_more, reset })
}

/// What stands behind `from` up to `head`, as far as a page goes, and whether there is more.
async fn read(
    store: &Store,
    user_id: Uuid,
    from: Cursor,
    head: i64,
    Extent { first, weigh, .. }: Extent<'_>,
) -> Result<(Vec<Change>, bool), Error> {
    let events = event::Entity::find()
        .filter(event::Column::UserId.eq(user_id))
        .filter(behind(event::Column::ChangeSeq, event::Column::DeletedAt, from))
        .order_by_asc(event::Column::ChangeSeq);
    let events = page::first(events::columns(events), first + 1, store).stream(&store.reader).await?;
    let events = take(events, Change::Event, first, weigh).await?;
    let types = event_type::Entity::find()
        .filter(event_type::Column::UserId.eq(user_id))
        .filter(behind(event_type::Column::ChangeSeq, event_type::Column::DeletedAt, from))
        .order_by_asc(event_type::Column::ChangeSeq);
    let types = page::first(types::columns(types), first + 1, store).stream(&store.reader).await?;
    let types = take(types, Change::EventType, first, weigh).await?;
    let mut changes = events.rows;
    changes.extend(types.rows);
    // The head is no part of the question: with two bounds PostgreSQL expects few rows, takes them all in
    // any order, and sorts.
    let is_known = |change: &Change| change.frame().change_seq <= head;
    changes.retain(is_known);
    changes.sort_by_key(|change| change.frame().change_seq);
    // Behind the first that was left out of its kind, others of that kind may be missing.
    let left_out = events.left_out.iter().chain(&types.left_out).filter(|change| is_known(change));
    let end = left_out.map(|change| change.frame().change_seq).min();
    let (is_small, mut bytes) = (events.bytes + types.bytes <= PAGE_BYTES_MAX, 0);
    let fits = |(index, change): &(usize, &Change)| {
        bytes += if is_small { 0 } else { weigh(change) };
        end.is_none_or(|end| change.frame().change_seq < end) && has_room(*index, first, bytes)
    };
    let kept = changes.iter().enumerate().take_while(fits).count();
    let has_more = end.is_some() || kept < changes.len();
    changes.truncate(kept);
    Ok((changes, has_more))
}

fn behind<C: ColumnTrait>(seq: C, deleted_at: C, from: Cursor) -> Condition {
    let all = Condition::all().add(seq.gt(from.seq));
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
        .filter(behind(event::Column::ChangeSeq, event::Column::DeletedAt, from))
        .filter(event::Column::ChangeSeq.lte(head))
        .count(&store.reader)
        .await?;
    let types = event_type::Entity::find()
        .filter(event_type::Column::UserId.eq(user_id))
        .filter(behind(event_type::Column::ChangeSeq, event_type::Column::DeletedAt, from))
        .filter(event_type::Column::ChangeSeq.lte(head))
        .count(&store.reader)
        .await?;
    Ok(events + types)
}
