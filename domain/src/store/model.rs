//! Between the tables and the plain values of the rules.

use ::entity::{event, event_type};
use sea_orm::ActiveValue::Set;
use sea_orm::QueryResult;
use uuid::Uuid;

use crate::error::Error;
use crate::rules::row::{
    DeletedBy, Deletion, EventBody, EventContent, EventRow, Frame, Location, TypeContent, TypeRow, Writer,
};

fn deletion(at: Option<i64>, by: Option<&str>) -> Option<Deletion> {
    let by = if by == Some(DeletedBy::Rollback.name()) { DeletedBy::Rollback } else { DeletedBy::User };
    at.map(|at| Deletion { at, by })
}

fn hash(bytes: Option<Vec<u8>>) -> Result<[u8; 32], Error> {
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(Error::Bug("a living row has a hash of 32 bytes"))
}

pub(super) fn event_row(model: event::Model) -> Result<EventRow, Error> {
    let content = match (model.event_type_id, model.timestamp) {
        (Some(event_type_id), Some(timestamp)) => Some(EventContent {
            event_type_id,
            body: EventBody {
                timestamp,
                end_date: model.end_date,
                is_all_day: model.is_all_day.unwrap_or_default(),
                time_zone: model.time_zone,
                notes: model.notes,
                location: model.latitude.zip(model.longitude).map(|(latitude, longitude)| Location {
                    latitude,
                    longitude,
                    name: model.location_name,
                }),
                properties: model
                    .properties
                    .unwrap_or_else(|| crate::rules::canonical_json::EMPTY.to_owned()),
            },
            hash: hash(model.content_hash)?,
            import_job_id: model.import_job_id,
            import_version: model.import_version,
        }),
        _ => None,
    };
    Ok(EventRow {
        frame: Frame {
            id: model.id,
            version: model.version,
            change_seq: model.change_seq,
            writer: Writer {
                client_id: model.writer_client_id,
                run_start: model.writer_run_start,
                edit_id: model.writer_edit_id,
            },
            created_at: model.created_at,
            updated_at: model.updated_at,
            deletion: deletion(model.deleted_at, model.deleted_by.as_deref()),
        },
        source_type: model.source_type,
        external_id: model.external_id,
        content,
    })
}

/// The columns that [`event_head`] reads, in the order of the table.
pub(super) const EVENT_HEAD: [&str; 10] = [
    "user_id",
    "id",
    "event_type_id",
    "source_type",
    "external_id",
    "content_hash",
    "version",
    "change_seq",
    "deleted_at",
    "deleted_by",
];

/// An event of which only keys, version and hash are read, from the column `at` on: what it says, who wrote
/// it and when are left out, so that it must not be written back.
pub(super) fn event_head(row: &QueryResult, at: usize) -> Result<EventRow, Error> {
    let (deleted_at, deleted_by): (Option<i64>, Option<String>) =
        (row.try_get_by_index(at + 8)?, row.try_get_by_index(at + 9)?);
    let content = match row.try_get_by_index::<Option<Uuid>>(at + 2)? {
        Some(event_type_id) => Some(EventContent {
            event_type_id,
            body: EventBody::default(),
            hash: hash(row.try_get_by_index(at + 5)?)?,
            import_job_id: None,
            import_version: None,
        }),
        None => None,
    };
    Ok(EventRow {
        frame: Frame {
            id: row.try_get_by_index(at + 1)?,
            version: row.try_get_by_index(at + 6)?,
            change_seq: row.try_get_by_index(at + 7)?,
            writer: Writer { client_id: None, run_start: 0, edit_id: None },
            created_at: 0,
            updated_at: 0,
            deletion: deletion(deleted_at, deleted_by.as_deref()),
        },
        source_type: row.try_get_by_index(at + 3)?,
        external_id: row.try_get_by_index(at + 4)?,
        content,
    })
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

pub(super) fn type_row(model: event_type::Model) -> Result<TypeRow, Error> {
    let content = match model.name {
        Some(name) => {
            Some(TypeContent { name, color: model.color, icon: model.icon, hash: hash(model.content_hash)? })
        }
        None => None,
    };
    Ok(TypeRow {
        frame: Frame {
            id: model.id,
            version: model.version,
            change_seq: model.change_seq,
            writer: Writer {
                client_id: model.writer_client_id,
                run_start: model.writer_run_start,
                edit_id: model.writer_edit_id,
            },
            created_at: model.created_at,
            updated_at: model.updated_at,
            deletion: deletion(model.deleted_at, model.deleted_by.as_deref()),
        },
        content,
    })
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
