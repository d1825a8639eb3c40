//! The change feed: one entry per entity, at its newest position.

mod read;
mod sql;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ::entity::{event, event_type};
use sea_orm::{ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter};
use uuid::Uuid;

use super::account::{self, Head};
use super::page::{PageBuilder, Weigh};
use super::{Store, event_type as types};
use crate::error::Error;
use domain::cursor::Cursor;
use domain::row::{EventRow, RowMeta, TypeRow};

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
    pub fn meta(&self) -> &RowMeta {
        match self {
            Self::Event(row) => &row.meta,
            Self::EventType(row) => &row.meta,
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
pub struct PageBounds<'w> {
    /// At most so many changes.
    pub first: u64,
    /// The types of its events come along.
    pub with_types: bool,
    /// What a change adds to the bytes of the page.
    pub weigh: Weigh<'w, Change>,
}

impl<'w> PageBounds<'w> {
    fn page_builder(self) -> PageBuilder<'w, Change> {
        PageBuilder::new(self.first, self.weigh)
    }
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
    /// More follow, as of when it was read.
    pub has_more: bool,
    /// Set: the cursor was no good, `cursor` begins a bootstrap.
    pub reset: Option<Reset>,
    /// What its changes weigh.
    pub bytes: usize,
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
    judge(store, user_id, account::head(store, user_id).await?, decode(user_id, after)).await
}

/// The cursor that was given, if one was.
fn decode(user_id: Uuid, after: Option<&str>) -> Result<Option<Cursor>, Reset> {
    after.map(|text| Cursor::decode(user_id, text).ok_or(Reset::CursorInvalid)).transpose()
}

/// Whether a cursor leads on, by the head; and the head of the new counting, where one had to begin.
async fn judge(
    store: &Store,
    user_id: Uuid,
    head: Head,
    after: Result<Option<Cursor>, Reset>,
) -> Result<(Head, Result<Cursor, Reset>), Error> {
    let cursor = match after {
        Ok(Some(cursor)) => cursor,
        Ok(None) => return Ok((head, Ok(start_of(head)))),
        Err(reset) => return Ok((head, Err(reset))),
    };
    if (cursor.generation, cursor.epoch) != (head.generation, head.feed_epoch) {
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
    let bootstrap_head = (head.feed_head > 0).then_some(head.feed_head);
    Cursor { seq: 0, bootstrap_head, ..end_of(head) }
}

/// The newest position.
///
/// # Errors
/// When the database fails.
pub async fn head_cursor(store: &Store, user_id: Uuid) -> Result<Cursor, Error> {
    Ok(end_of(account::head(store, user_id).await?))
}

/// The newest position.
#[must_use]
pub fn end_of(head: Head) -> Cursor {
    Cursor { generation: head.generation, epoch: head.feed_epoch, seq: head.feed_head, bootstrap_head: None }
}

/// The page that follows `after`; without it the first of a bootstrap. It ends at its bytes if not before.
///
/// # Errors
/// When the database fails, or events and types cannot be read as they stood together.
pub async fn page(
    store: &Store,
    user_id: Uuid,
    after: Option<&str>,
    bounds: PageBounds<'_>,
) -> Result<ChangePage, Error> {
    for _ in 0..READS_MAX {
        let page = read_page(store, user_id, after, bounds).await?;
        let of_events: HashSet<Uuid> = page.changes.iter().filter_map(type_of).collect();
        if !bounds.with_types {
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
    bounds: PageBounds<'_>,
) -> Result<ChangePage, Error> {
    let after = decode(user_id, after);
    let (head, page) = match after {
        Ok(after) => read_behind(store, user_id, after, bounds).await?,
        Err(_) => (account::head(store, user_id).await?, bounds.page_builder()),
    };
    let (head, resolved) = judge(store, user_id, head, after).await?;
    let types = HashMap::new();
    let (from, reset) = match resolved {
        Ok(from) => (from, None),
        Err(reset) => {
            let cursor = start_of(head);
            let reset = Some(reset);
            return Ok(ChangePage { changes: Vec::new(), types, cursor, has_more: true, reset, bytes: 0 });
        }
    };
    let PageBuilder { rows: changes, has_more, bytes, .. } = page;
    let seq = match changes.last() {
        Some(last) if has_more => last.meta().change_seq,
        _ => head.feed_head,
    };
    let bootstrap_head = from.bootstrap_head.filter(|end| seq < *end);
    let cursor = Cursor { seq, bootstrap_head, ..end_of(head) };
    Ok(ChangePage { changes, types, cursor, has_more, reset, bytes })
}

async fn read_behind<'w>(
    store: &Store,
    user_id: Uuid,
    after: Option<Cursor>,
    bounds: PageBounds<'w>,
) -> Result<(Head, PageBuilder<'w, Change>), Error> {
    if let (Some(head), page) = read::behind(store, user_id, after, bounds).await? {
        return Ok((head, page));
    }
    // The row of this user is gone and is made anew; what is written behind it is read as well.
    account::head(store, user_id).await?;
    let (head, page) = read::behind(store, user_id, after, bounds).await?;
    Ok((head.ok_or(Error::Moved)?, page))
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
    let heavy = store.heavy(user_id).await?;
    let events = event::Entity::find()
        .filter(event::Column::UserId.eq(user_id))
        .filter(behind(event::Column::ChangeSeq, event::Column::DeletedAt, from))
        .filter(event::Column::ChangeSeq.lte(head))
        .count(&heavy.reader)
        .await?;
    let types = event_type::Entity::find()
        .filter(event_type::Column::UserId.eq(user_id))
        .filter(behind(event_type::Column::ChangeSeq, event_type::Column::DeletedAt, from))
        .filter(event_type::Column::ChangeSeq.lte(head))
        .count(&heavy.reader)
        .await?;
    Ok(events + types)
}
