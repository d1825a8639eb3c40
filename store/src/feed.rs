//! Reads the change feed of a user: one entry for each entity, at its newest position.
//!
//! A cursor is checked against the feed head that was read in the same statement as the page, so that the
//! page and the check see one state (decision 0049).

mod read;
mod sql;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ::entity::{event, event_type};
use sea_orm::{ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter};
use uuid::Uuid;

use super::account::{self, Head};
use super::page::{PageBuilder, RowSize};
use super::{Store, event_type as types};
use crate::error::Error;
use domain::cursor::Cursor;
use domain::row::{EventRow, RowMeta, TypeRow};

/// How often a page is read anew, at most, because the types of its events were deleted in the meantime.
const READS_MAX: u32 = 5;

/// An entity that changed, in its present state.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An event.
    Event(Arc<EventRow>),
    /// An event type.
    EventType(Arc<TypeRow>),
}

impl Change {
    /// The row metadata, which events and types share.
    #[must_use]
    pub fn meta(&self) -> &RowMeta {
        match self {
            Self::Event(row) => &row.meta,
            Self::EventType(row) => &row.meta,
        }
    }
}

/// Why a client must start over instead of going on from its cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// The cursor cannot be decoded, or is that of another user.
    CursorInvalid,
    /// The cursor is of another feed epoch or generation, or of a position that was never assigned.
    EpochChanged,
}

/// How large a page of the change feed may be, and whether it includes event types.
#[derive(Clone, Copy)]
pub struct PageBounds<'w> {
    /// The most changes that the page may have.
    pub first: u64,
    /// Whether the page includes the types of its events.
    pub with_types: bool,
    /// Returns how many bytes a change adds to the size of the page.
    pub row_size: RowSize<'w, Change>,
}

impl<'w> PageBounds<'w> {
    fn new_page_builder(self) -> PageBuilder<'w, Change> {
        PageBuilder::new(self.first, self.row_size)
    }
}

/// The changes that follow a cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangePage {
    /// The changes, in the order of their positions.
    pub changes: Vec<Change>,
    /// The types of the events by id, if [`PageBounds::with_types`] is set.
    pub types: HashMap<Uuid, Arc<TypeRow>>,
    /// The cursor from which the next page starts.
    pub cursor: Cursor,
    /// Whether more changes followed when the page was read. Always true after a reset.
    pub has_more: bool,
    /// Set if the client must start over: then there are no changes, and `cursor` begins a bootstrap.
    pub reset: Option<Reset>,
    /// The size of the changes in bytes.
    pub bytes: usize,
}

/// Decodes a cursor and checks it against the feed head of the user. Without a cursor it returns the start of
/// a bootstrap. If the cursor is ahead of the head, it begins a new feed epoch in the database.
///
/// # Errors
/// As [`account::load_head_or_recreate_account`] and [`account::renew_feed_epoch`].
pub async fn resolve_cursor(
    store: &Store,
    user_id: Uuid,
    after: Option<&str>,
) -> Result<(Head, Result<Cursor, Reset>), Error> {
    check_cursor_or_renew_epoch(
        store,
        user_id,
        account::load_head_or_recreate_account(store, user_id).await?,
        decode_cursor(user_id, after),
    )
    .await
}

/// Decodes a cursor, if there is one.
fn decode_cursor(user_id: Uuid, after: Option<&str>) -> Result<Option<Cursor>, Reset> {
    after.map(|text| Cursor::decode(user_id, text).ok_or(Reset::CursorInvalid)).transpose()
}

/// Checks a cursor against a feed head. Returns the head, and the cursor or the reason for a reset. If the
/// cursor is ahead of the head, it begins a new feed epoch and returns the head that was read after that.
async fn check_cursor_or_renew_epoch(
    store: &Store,
    user_id: Uuid,
    head: Head,
    after: Result<Option<Cursor>, Reset>,
) -> Result<(Head, Result<Cursor, Reset>), Error> {
    let cursor = match after {
        Ok(Some(cursor)) => cursor,
        Ok(None) => return Ok((head, Ok(bootstrap_start_cursor(head)))),
        Err(reset) => return Ok((head, Err(reset))),
    };
    if (cursor.generation, cursor.epoch) != (head.generation, head.feed_epoch) {
        return Ok((head, Err(Reset::EpochChanged)));
    }
    let known = cursor.seq.max(cursor.bootstrap_head.unwrap_or_default());
    // The client knows a position that this feed has never assigned: a backup was restored.
    if known > head.feed_head {
        account::renew_feed_epoch(store, user_id, head.feed_epoch, known).await?;
        return Ok((account::load_head_or_recreate_account(store, user_id).await?, Err(Reset::EpochChanged)));
    }
    Ok((head, Ok(cursor)))
}

/// The cursor that starts a bootstrap, which skips tombstones up to the present feed head.
fn bootstrap_start_cursor(head: Head) -> Cursor {
    let bootstrap_head = (head.feed_head > 0).then_some(head.feed_head);
    Cursor { seq: 0, bootstrap_head, ..cursor_at_head(head) }
}

/// Returns the cursor at the feed head of a user.
///
/// # Errors
/// As [`account::load_head_or_recreate_account`].
pub async fn load_head_cursor(store: &Store, user_id: Uuid) -> Result<Cursor, Error> {
    Ok(cursor_at_head(account::load_head_or_recreate_account(store, user_id).await?))
}

/// The cursor at a feed head, after the newest change.
#[must_use]
pub fn cursor_at_head(head: Head) -> Cursor {
    Cursor { generation: head.generation, epoch: head.feed_epoch, seq: head.feed_head, bootstrap_head: None }
}

/// Reads the page of the change feed after the cursor `after`, or the first page of a bootstrap if there is
/// no cursor. The page ends at its number of changes or at its number of bytes, whichever comes first. A
/// cursor that cannot be used gives a page with a reset, not an error.
///
/// # Errors
/// [`Error::Moved`] if the types of the events kept changing while they were read; [`Error::Busy`] if no
/// connection is free in time; [`Error::Database`] if the database fails; [`Error::Locked`] as in
/// [`account::renew_feed_epoch`].
pub async fn load_page(
    store: &Store,
    user_id: Uuid,
    after: Option<&str>,
    bounds: PageBounds<'_>,
) -> Result<ChangePage, Error> {
    for _ in 0..READS_MAX {
        let page = read_page_with_empty_type_map(store, user_id, after, bounds).await?;
        let type_ids: HashSet<Uuid> = page.changes.iter().filter_map(type_id_of_event).collect();
        if !bounds.with_types {
            return Ok(page);
        }
        let wanted = type_ids.len();
        let types = types::find_by_row_ids(store, user_id, type_ids).await?;
        if types.len() == wanted {
            return Ok(ChangePage { types, ..page });
        }
        // A type is deleted only after its last event. So an event of this page has changed since it was
        // read, and the page is read again.
    }
    Err(Error::Moved)
}

/// The id of the event type, if the change is a living event; `None` for a tombstone or an event type.
fn type_id_of_event(change: &Change) -> Option<Uuid> {
    match change {
        Change::Event(row) => row.content.as_ref().map(|content| content.event_type_id),
        Change::EventType(_) => None,
    }
}

/// Reads a page of the change feed without the types of its events: [`ChangePage::types`] is empty.
async fn read_page_with_empty_type_map(
    store: &Store,
    user_id: Uuid,
    after: Option<&str>,
    bounds: PageBounds<'_>,
) -> Result<ChangePage, Error> {
    let after = decode_cursor(user_id, after);
    let (head, page) = match after {
        Ok(after) => read_changes_and_head(store, user_id, after, bounds).await?,
        Err(_) => (account::load_head_or_recreate_account(store, user_id).await?, bounds.new_page_builder()),
    };
    let (head, resolved) = check_cursor_or_renew_epoch(store, user_id, head, after).await?;
    let types = HashMap::new();
    let (from, reset) = match resolved {
        Ok(from) => (from, None),
        Err(reset) => {
            let cursor = bootstrap_start_cursor(head);
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
    let cursor = Cursor { seq, bootstrap_head, ..cursor_at_head(head) };
    Ok(ChangePage { changes, types, cursor, has_more, reset, bytes })
}

/// Reads the changes after a cursor together with the feed head. If the account row is missing it is created
/// again, and the changes are read once more.
async fn read_changes_and_head<'w>(
    store: &Store,
    user_id: Uuid,
    after: Option<Cursor>,
    bounds: PageBounds<'w>,
) -> Result<(Head, PageBuilder<'w, Change>), Error> {
    if let (Some(head), page) = read::read_changes_after(store, user_id, after, bounds).await? {
        return Ok((head, page));
    }
    account::load_head_or_recreate_account(store, user_id).await?;
    let (head, page) = read::read_changes_after(store, user_id, after, bounds).await?;
    Ok((head.ok_or(Error::Moved)?, page))
}

/// The SQL condition that a row comes after a cursor in the feed. A bootstrap skips tombstones up to its
/// head.
fn after_cursor_condition<C: ColumnTrait>(seq: C, deleted_at: C, from: Cursor) -> Condition {
    let all = Condition::all().add(seq.gt(from.seq));
    match from.bootstrap_head {
        Some(end) => all.add(Condition::any().add(deleted_at.is_null()).add(seq.gt(end))),
        None => all,
    }
}

/// Counts the changes after the cursor `from`, up to the position `head`.
///
/// Plan: it reads the index `event_feed (user_id, change_seq)`, and the one of types, from the cursor to the
/// head. That can be all rows of the user, so it is a heavy read.
///
/// # Errors
/// [`Error::Busy`] or [`Error::Locked`] if other heavy reads of the user take too long; [`Error::Database`]
/// if the database fails.
pub async fn count_changes_after_cursor(
    store: &Store,
    user_id: Uuid,
    from: Cursor,
    head: i64,
) -> Result<u64, Error> {
    let heavy = store.acquire_heavy_reader(user_id).await?;
    let events = event::Entity::find()
        .filter(event::Column::UserId.eq(user_id))
        .filter(after_cursor_condition(event::Column::ChangeSeq, event::Column::DeletedAt, from))
        .filter(event::Column::ChangeSeq.lte(head))
        .count(&heavy.reader)
        .await?;
    let types = event_type::Entity::find()
        .filter(event_type::Column::UserId.eq(user_id))
        .filter(after_cursor_condition(event_type::Column::ChangeSeq, event_type::Column::DeletedAt, from))
        .filter(event_type::Column::ChangeSeq.lte(head))
        .count(&heavy.reader)
        .await?;
    Ok(events + types)
}
