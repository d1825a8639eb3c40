//! Between the tables and the plain values of the rules.

use std::sync::Arc;

use ::entity::{event, event_type};
use sea_orm::ActiveValue::Set;
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use uuid::Uuid;

use super::cells::Cells;
use crate::error::Error;
use crate::rules::canonical_json::EMPTY;
use crate::rules::row::{
    DeletedBy, Deletion, EventBody, EventContent, EventRow, Frame, Location, TypeContent, TypeRow, Writer,
};

impl<'r> Cells<'r> {
    fn deletion(&mut self) -> Result<Option<Deletion>, Error> {
        let (at, by): (Option<i64>, Option<String>) = (self.next()?, self.next()?);
        let by = if by.as_deref() == Some(DeletedBy::Rollback.name()) {
            DeletedBy::Rollback
        } else {
            DeletedBy::User
        };
        Ok(at.map(|at| Deletion { at, by }))
    }

    fn hash(&mut self) -> Result<[u8; 32], Error> {
        let bytes = self.next::<Option<&'r [u8]>>()?;
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(Error::Bug("a living row has a hash of 32 bytes"))
    }

    /// What the lists of columns below begin with.
    fn frame(&mut self) -> Result<Frame, Error> {
        Ok(Frame {
            id: self.next()?,
            version: self.next()?,
            change_seq: self.next()?,
            writer: Writer { client_id: self.next()?, run_start: self.next()?, edit_id: self.next()? },
            created_at: self.next()?,
            updated_at: self.next()?,
            deletion: self.deletion()?,
        })
    }
}

/// A row that was read, or why it cannot be.
pub(super) struct Read<T>(pub(super) Result<Arc<T>, Error>);

impl FromQueryResult for Read<EventRow> {
    fn from_query_result(row: &QueryResult, _prefix: &str) -> Result<Self, DbErr> {
        Ok(Self(event_row(row, 0).map(Arc::new)))
    }
}

impl FromQueryResult for Read<TypeRow> {
    fn from_query_result(row: &QueryResult, _prefix: &str) -> Result<Self, DbErr> {
        Ok(Self(type_row(row, 0).map(Arc::new)))
    }
}

/// The columns that [`event_row`] reads, in their order: all but the owner and what only a search looks at.
pub(super) const EVENT: [event::Column; 25] = {
    use event::Column::*;
    [
        Id,
        Version,
        ChangeSeq,
        WriterClientId,
        WriterRunStart,
        WriterEditId,
        CreatedAt,
        UpdatedAt,
        DeletedAt,
        DeletedBy,
        SourceType,
        ExternalId,
        EventTypeId,
        Timestamp,
        EndDate,
        IsAllDay,
        TimeZone,
        Notes,
        Latitude,
        Longitude,
        LocationName,
        Properties,
        ContentHash,
        ImportJobId,
        ImportVersion,
    ]
};

/// Reads an event from the column `at` on.
pub(super) fn event_row(row: &QueryResult, at: usize) -> Result<EventRow, Error> {
    let mut cells = Cells::new(row, at)?;
    let frame = cells.frame()?;
    let (source_type, external_id) = (cells.next()?, cells.next()?);
    let content = match (cells.next()?, cells.next()?) {
        (Some(event_type_id), Some(timestamp)) => Some(EventContent {
            event_type_id,
            body: EventBody {
                timestamp,
                end_date: cells.next()?,
                is_all_day: cells.next::<Option<bool>>()?.unwrap_or_default(),
                time_zone: cells.next()?,
                notes: cells.next()?,
                location: match (cells.next()?, cells.next()?, cells.next()?) {
                    (Some(latitude), Some(longitude), name) => Some(Location { latitude, longitude, name }),
                    _ => None,
                },
                properties: cells.next::<Option<String>>()?.unwrap_or_else(|| EMPTY.to_owned()),
            },
            hash: cells.hash()?,
            import_job_id: cells.next()?,
            import_version: cells.next()?,
        }),
        _ => None,
    };
    Ok(EventRow { frame, source_type, external_id, content })
}

/// The columns that [`event_head`] reads, in their order.
pub(super) const EVENT_HEAD: [event::Column; 9] = {
    use event::Column::*;
    [Id, Version, ChangeSeq, DeletedAt, DeletedBy, SourceType, ExternalId, EventTypeId, ContentHash]
};

/// Reads of an event, from the column `at` on, only keys, version and hash: what it says, who wrote it and
/// when are left out, so that it must not be written back.
pub(super) fn event_head(row: &QueryResult, at: usize) -> Result<EventRow, Error> {
    let mut cells = Cells::new(row, at)?;
    let frame = Frame {
        id: cells.next()?,
        version: cells.next()?,
        change_seq: cells.next()?,
        writer: Writer { client_id: None, run_start: 0, edit_id: None },
        created_at: 0,
        updated_at: 0,
        deletion: cells.deletion()?,
    };
    let (source_type, external_id) = (cells.next()?, cells.next()?);
    let content = match cells.next()? {
        Some(event_type_id) => Some(EventContent {
            event_type_id,
            body: EventBody::default(),
            hash: cells.hash()?,
            import_job_id: None,
            import_version: None,
        }),
        None => None,
    };
    Ok(EventRow { frame, source_type, external_id, content })
}

pub(super) fn event_model(user_id: Uuid, row: EventRow) -> event::ActiveModel {
    let frame = row.frame;
    let mut model = event::ActiveModel {
        user_id: Set(user_id),
        id: Set(frame.id),
        event_type_id: Set(None),
        timestamp: Set(None),
        end_date: Set(None),
        is_all_day: Set(None),
        time_zone: Set(None),
        notes: Set(None),
        notes_search: Set(None),
        source_type: Set(row.source_type),
        external_id: Set(row.external_id),
        latitude: Set(None),
        longitude: Set(None),
        location_name: Set(None),
        properties: Set(None),
        content_hash: Set(None),
        version: Set(frame.version),
        import_version: Set(None),
        change_seq: Set(frame.change_seq),
        writer_client_id: Set(frame.writer.client_id),
        writer_run_start: Set(frame.writer.run_start),
        writer_edit_id: Set(frame.writer.edit_id),
        import_job_id: Set(None),
        created_at: Set(frame.created_at),
        updated_at: Set(frame.updated_at),
        deleted_at: Set(frame.deletion.map(|deletion| deletion.at)),
        deleted_by: Set(frame.deletion.map(|deletion| deletion.by.name().to_owned())),
    };
    if let Some(content) = row.content {
        let body = content.body;
        model.event_type_id = Set(Some(content.event_type_id));
        model.timestamp = Set(Some(body.timestamp));
        model.end_date = Set(body.end_date);
        model.is_all_day = Set(Some(body.is_all_day));
        model.time_zone = Set(body.time_zone);
        model.notes_search = Set(body.notes.as_deref().map(str::to_lowercase));
        model.notes = Set(body.notes);
        if let Some(place) = body.location {
            model.latitude = Set(Some(place.latitude));
            model.longitude = Set(Some(place.longitude));
            model.location_name = Set(place.name);
        }
        model.properties = Set(Some(body.properties));
        model.content_hash = Set(Some(content.hash.to_vec()));
        model.import_job_id = Set(content.import_job_id);
        model.import_version = Set(content.import_version);
    }
    model
}

/// The columns that [`type_row`] reads, in their order: all but the owner.
pub(super) const TYPE: [event_type::Column; 14] = {
    use event_type::Column::*;
    [
        Id,
        Version,
        ChangeSeq,
        WriterClientId,
        WriterRunStart,
        WriterEditId,
        CreatedAt,
        UpdatedAt,
        DeletedAt,
        DeletedBy,
        Name,
        Color,
        Icon,
        ContentHash,
    ]
};

/// Reads an event type from the column `at` on.
pub(super) fn type_row(row: &QueryResult, at: usize) -> Result<TypeRow, Error> {
    let mut cells = Cells::new(row, at)?;
    let frame = cells.frame()?;
    let content = match cells.next()? {
        Some(name) => {
            Some(TypeContent { name, color: cells.next()?, icon: cells.next()?, hash: cells.hash()? })
        }
        None => None,
    };
    Ok(TypeRow { frame, content })
}

pub(super) fn type_model(user_id: Uuid, row: TypeRow) -> event_type::ActiveModel {
    let frame = row.frame;
    let (name, color, icon, hash) = match row.content {
        Some(content) => (Some(content.name), content.color, content.icon, Some(content.hash.to_vec())),
        None => (None, None, None, None),
    };
    event_type::ActiveModel {
        user_id: Set(user_id),
        id: Set(frame.id),
        name: Set(name),
        color: Set(color),
        icon: Set(icon),
        content_hash: Set(hash),
        version: Set(frame.version),
        change_seq: Set(frame.change_seq),
        writer_client_id: Set(frame.writer.client_id),
        writer_run_start: Set(frame.writer.run_start),
        writer_edit_id: Set(frame.writer.edit_id),
        created_at: Set(frame.created_at),
        updated_at: Set(frame.updated_at),
        deleted_at: Set(frame.deletion.map(|deletion| deletion.at)),
        deleted_by: Set(frame.deletion.map(|deletion| deletion.by.name().to_owned())),
    }
}
