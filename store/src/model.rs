//! Converts between the rows of tables and the values of `domain`.
//!
//! Cells are read by position, so the lists of columns here and the functions that read them belong together.

use ::entity::{event, event_type};
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, DbBackend, IdenStatic};
use uuid::Uuid;

use super::bulk;
use super::row_reader::{Row, RowReader};
use crate::error::Error;
use domain::canonical_json::EMPTY;
use domain::case_folding;
use domain::row::{
    DeletedBy, Deletion, EventBody, EventContent, EventRow, Location, RowMeta, TypeContent, TypeRow, Writer,
};
use domain::stats::measure::{self, Measured};

/// Which columns of a row are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnSet {
    /// The columns that a response can show. Hash, edit id and the cause of a deletion are missing, so a row
    /// that was read this way must not be written back.
    Response,
    /// All columns.
    All,
}

impl<'r> RowReader<'r> {
    /// Reads the row metadata with which the columns of an event or event type begin. The run and the edit id
    /// of the writer, and the cause of a deletion, are not among them.
    fn read_meta(&mut self) -> Result<RowMeta, Error> {
        Ok(RowMeta {
            id: self.next()?,
            version: self.next()?,
            change_seq: self.next()?,
            writer: Writer { client_id: self.next()?, run_start: 0, edit_id: None },
            created_at: self.next()?,
            updated_at: self.next()?,
            deletion: self.read_deletion_without_cause()?,
        })
    }

    /// Reads when a row was deleted. The cause is the user, until [`RowReader::read_deleted_by`] sets another
    /// one.
    fn read_deletion_without_cause(&mut self) -> Result<Option<Deletion>, Error> {
        Ok(self.next::<Option<i64>>()?.map(|at| Deletion { at, by: DeletedBy::User }))
    }

    /// Reads the rest of the row metadata, which no response shows: the run and the edit id of the writer,
    /// and the cause of a deletion.
    fn read_meta_not_in_response(&mut self, meta: &mut RowMeta) -> Result<(), Error> {
        meta.writer.run_start = self.next()?;
        meta.writer.edit_id = self.next()?;
        self.read_deleted_by(meta)
    }

    fn read_deleted_by(&mut self, meta: &mut RowMeta) -> Result<(), Error> {
        let is_rollback = self.next::<Option<&'r str>>()? == Some(DeletedBy::Rollback.deleted_by_text());
        if let Some(deletion) = meta.deletion.as_mut().filter(|_| is_rollback) {
            deletion.by = DeletedBy::Rollback;
        }
        Ok(())
    }

    fn read_hash(&mut self) -> Result<[u8; 32], Error> {
        let bytes = self.next::<Option<&'r [u8]>>()?;
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(Error::Bug("a living row has a hash of 32 bytes"))
    }
}

/// Returns the names of columns as SQL, quoted and with commas between them. Callers keep the text, because
/// building it for each page takes a tenth of the time of the page.
pub(super) fn sql_column_list(columns: &[impl IdenStatic]) -> String {
    let quoted: Vec<String> = columns.iter().map(|column| format!("\"{}\"", column.as_str())).collect();
    quoted.join(", ")
}

/// Returns the names of columns as SQL, each qualified with the table and with a comma before it.
pub(super) fn sql_columns_of(table: &str, columns: &[impl IdenStatic]) -> String {
    columns.iter().map(|column| format!(", {table}.\"{}\"", column.as_str())).collect()
}

/// Returns SQL with a NULL in the place of each of these columns, with a comma before each. On PostgreSQL
/// each NULL has the type of its column.
pub(super) fn sql_null_columns(backend: DbBackend, columns: &[impl ColumnTrait]) -> String {
    let null = |column| match backend {
        DbBackend::Postgres => format!(", NULL::{}", bulk::sql_type_name(column)),
        _ => ", NULL".to_owned(),
    };
    columns.iter().map(null).collect()
}

/// The columns that [`read_event_row`] reads, in their order. The owner and the columns that are derived from
/// others are not among them.
///
/// The statement of the change feed returns events and types in the same columns. So the first
/// [`TYPE_RESPONSE`] columns have the same SQL types as those of [`TYPE`].
pub(super) const EVENT: [event::Column; 25] = {
    use event::Column::*;
    [
        Id, Version, ChangeSeq, WriterClientId, CreatedAt, UpdatedAt, DeletedAt, SourceType, ExternalId,
        TimeZone, EventTypeId, Timestamp, EndDate, IsAllDay, Notes, Latitude, Longitude, LocationName,
        Properties, ImportJobId, WriterRunStart, WriterEditId, DeletedBy, ContentHash, ImportVersion,
    ]
};

/// How many columns of [`EVENT`], from the first on, a response can show.
pub(super) const EVENT_RESPONSE: usize = 20;

/// Converts the columns of a row from index `at` on into an event. They must be those of [`EVENT`].
pub(super) fn read_event_row(row: Row<'_>, at: usize, columns: ColumnSet) -> Result<EventRow, Error> {
    let mut reader = RowReader::new(row, at);
    let meta = reader.read_meta()?;
    let (source_type, external_id, time_zone) = (reader.next()?, reader.next()?, reader.next()?);
    let content = match (reader.next()?, reader.next()?) {
        (Some(event_type_id), Some(timestamp)) => Some(EventContent {
            event_type_id,
            body: EventBody {
                timestamp,
                end_date: reader.next()?,
                is_all_day: reader.next::<Option<bool>>()?.unwrap_or_default(),
                time_zone,
                notes: reader.next()?,
                location: match (reader.next()?, reader.next()?, reader.next()?) {
                    (Some(latitude), Some(longitude), name) => Some(Location { latitude, longitude, name }),
                    _ => None,
                },
                properties: reader.next::<Option<String>>()?.unwrap_or_else(|| EMPTY.to_owned()),
            },
            import_job_id: reader.next()?,
            hash: [0; 32],
            import_version: None,
        }),
        _ => None,
    };
    let mut event = EventRow { meta, source_type, external_id, content };
    if columns == ColumnSet::All {
        let mut reader = RowReader::new(row, at + EVENT_RESPONSE);
        reader.read_meta_not_in_response(&mut event.meta)?;
        if let Some(content) = &mut event.content {
            content.hash = reader.read_hash()?;
            content.import_version = reader.next()?;
        }
    }
    Ok(event)
}

/// The columns that [`read_event_without_body`] reads. Each stands in the place of a column of [`TYPE`] that
/// has the same SQL type, because the statement that loads returns both in the same columns. The other places
/// are empty.
const EVENT_HEAD: [Option<event::Column>; TYPE.len()] = {
    use event::Column::*;
    [
        Some(Id),
        Some(Version),
        Some(ChangeSeq),
        None,
        Some(CreatedAt),
        Some(UpdatedAt),
        Some(DeletedAt),
        Some(SourceType),
        Some(ExternalId),
        None,
        None,
        Some(EventTypeId),
        Some(DeletedBy),
        Some(ContentHash),
    ]
};

/// Returns [`EVENT_HEAD`] twice as SQL columns of the table `f`, with a comma before each: first without the
/// empty places, then with a NULL in them. The times are read only if a response shows the event.
pub(super) fn sql_event_columns_without_body(backend: DbBackend, for_response: bool) -> (String, String) {
    let is_time = |column| matches!(column, event::Column::CreatedAt | event::Column::UpdatedAt);
    let read = EVENT_HEAD.map(|column| column.filter(|column| for_response || !is_time(*column)));
    let all = read.iter().zip(TYPE).map(|(column, type_column)| match column {
        Some(column) => sql_columns_of("f", &[*column]),
        None => sql_null_columns(backend, &[type_column]),
    });
    (sql_columns_of("f", &read.iter().flatten().copied().collect::<Vec<_>>()), all.collect())
}

/// Converts the columns of a row from index `at` on into an event with keys, version and hash, and with its
/// times if a response shows it. The body and the writer are missing, so it must not be written back.
pub(super) fn read_event_without_body(
    row: Row<'_>,
    at: usize,
    import_job_id: Option<Uuid>,
) -> Result<EventRow, Error> {
    let mut reader = RowReader::new(row, at);
    let (id, version, change_seq) = (reader.next()?, reader.next()?, reader.next()?);
    let _empty: Option<&str> = reader.next()?;
    let mut meta = RowMeta {
        id,
        version,
        change_seq,
        writer: Writer { client_id: None, run_start: 0, edit_id: None },
        created_at: reader.next::<Option<i64>>()?.unwrap_or_default(),
        updated_at: reader.next::<Option<i64>>()?.unwrap_or_default(),
        deletion: reader.read_deletion_without_cause()?,
    };
    let (source_type, external_id) = (reader.next()?, reader.next()?);
    let _empty: (Option<&str>, Option<i32>) = (reader.next()?, reader.next()?);
    let event_type_id = reader.next()?;
    reader.read_deleted_by(&mut meta)?;
    let content = match event_type_id {
        Some(event_type_id) => Some(EventContent {
            event_type_id,
            body: EventBody::default(),
            hash: reader.read_hash()?,
            import_job_id,
            import_version: None,
        }),
        None => None,
    };
    Ok(EventRow { meta, source_type, external_id, content })
}

/// Converts an event into SeaORM's model of its row, with every column set. It writes nothing.
pub(super) fn to_event_model(user_id: Uuid, row: EventRow) -> event::ActiveModel {
    let meta = row.meta;
    let mut model = event::ActiveModel {
        user_id: Set(user_id),
        id: Set(meta.id),
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
        version: Set(meta.version),
        import_version: Set(None),
        change_seq: Set(meta.change_seq),
        writer_client_id: Set(meta.writer.client_id),
        writer_run_start: Set(meta.writer.run_start),
        writer_edit_id: Set(meta.writer.edit_id),
        import_job_id: Set(None),
        created_at: Set(meta.created_at),
        updated_at: Set(meta.updated_at),
        deleted_at: Set(meta.deletion.map(|deletion| deletion.at)),
        deleted_by: Set(meta.deletion.map(|deletion| deletion.by.deleted_by_text().to_owned())),
        value: Set(None),
        unit: Set(None),
    };
    if let Some(content) = row.content {
        let body = content.body;
        if let Some(Measured { value, unit }) = measure::promoted(&body.properties) {
            (model.value, model.unit) = (Set(Some(value)), Set(unit));
        }
        model.event_type_id = Set(Some(content.event_type_id));
        model.timestamp = Set(Some(body.timestamp));
        model.end_date = Set(body.end_date);
        model.is_all_day = Set(Some(body.is_all_day));
        model.time_zone = Set(body.time_zone);
        model.notes_search = Set(body.notes.as_deref().map(case_folding::fold));
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

/// The columns that [`read_type_row`] reads, in their order: all except the owner.
pub(super) const TYPE: [event_type::Column; 14] = {
    use event_type::Column::*;
    [
        Id, Version, ChangeSeq, WriterClientId, CreatedAt, UpdatedAt, DeletedAt, Name, Color, Icon,
        WriterRunStart, WriterEditId, DeletedBy, ContentHash,
    ]
};

/// How many columns of [`TYPE`], from the first on, a response can show.
pub(super) const TYPE_RESPONSE: usize = 10;

/// Converts the columns of a row from index `at` on into an event type. They must be those of [`TYPE`].
pub(super) fn read_type_row(row: Row<'_>, at: usize, columns: ColumnSet) -> Result<TypeRow, Error> {
    let mut reader = RowReader::new(row, at);
    let meta = reader.read_meta()?;
    let content = match reader.next()? {
        Some(name) => Some(TypeContent { name, color: reader.next()?, icon: reader.next()?, hash: [0; 32] }),
        None => None,
    };
    let mut event_type = TypeRow { meta, content };
    if columns == ColumnSet::All {
        let mut reader = RowReader::new(row, at + TYPE_RESPONSE);
        reader.read_meta_not_in_response(&mut event_type.meta)?;
        if let Some(content) = &mut event_type.content {
            content.hash = reader.read_hash()?;
        }
    }
    Ok(event_type)
}

/// Converts an event type into SeaORM's model of its row, with every column set. It writes nothing.
pub(super) fn to_type_model(user_id: Uuid, row: TypeRow) -> event_type::ActiveModel {
    let meta = row.meta;
    let (name, color, icon, hash) = match row.content {
        Some(content) => (Some(content.name), content.color, content.icon, Some(content.hash.to_vec())),
        None => (None, None, None, None),
    };
    event_type::ActiveModel {
        user_id: Set(user_id),
        id: Set(meta.id),
        name: Set(name),
        color: Set(color),
        icon: Set(icon),
        content_hash: Set(hash),
        version: Set(meta.version),
        change_seq: Set(meta.change_seq),
        writer_client_id: Set(meta.writer.client_id),
        writer_run_start: Set(meta.writer.run_start),
        writer_edit_id: Set(meta.writer.edit_id),
        created_at: Set(meta.created_at),
        updated_at: Set(meta.updated_at),
        deleted_at: Set(meta.deletion.map(|deletion| deletion.at)),
        deleted_by: Set(meta.deletion.map(|deletion| deletion.by.deleted_by_text().to_owned())),
    }
}
