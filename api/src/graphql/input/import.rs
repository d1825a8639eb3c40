//! What imports take.

use async_graphql::InputObject;
use domain::commands::create_import::ImportDraft;
use domain::rules::csv;

use super::EventInput;
use crate::graphql::scalar::{Id, Long};
use crate::graphql::types::import::ImportFormat;

/// What `importEvents` takes.
#[derive(Debug, Clone, InputObject)]
pub struct ImportEventsInput {
    /// Client UUIDv7 of the import.
    pub id: Id,
    /// At most 255 characters.
    pub name: Option<String>,
    /// 1 to 5 000
    pub events: Vec<EventInput>,
}

/// What `createImport` takes.
#[derive(Debug, Clone, InputObject)]
pub struct CreateImportInput {
    /// Client UUIDv7 of the import.
    pub id: Id,
    /// What the payload holds; gzip, zstd and zip are told by its first bytes.
    pub format: ImportFormat,
    /// At most 255 characters.
    pub name: Option<String>,
    /// Size of the payload as it will be sent.
    pub size_bytes: Long,
    /// Its digest, 64 hexadecimal digits; asked before the first record is read.
    pub sha256: Option<String>,
    /// How the columns become events; for the format CSV, and required there.
    pub csv: Option<CsvMapping>,
    /// Decides and reports, and stores nothing; `retryImport` then does it for real.
    #[graphql(default_with = "Some(false)")]
    pub dry_run: Option<bool>,
}

/// What steers an import.
#[derive(Debug, Clone, InputObject)]
pub struct ImportControlInput {
    /// Its id.
    pub id: Id,
}

/// Column names of the header.
#[derive(Debug, Clone, InputObject)]
pub struct CsvMapping {
    /// A type name for all rows…
    event_type: Option<String>,
    /// …or the column that holds it.
    event_type_column: Option<String>,
    /// The column of the timestamp.
    timestamp_column: String,
    /// The column of the end.
    end_date_column: Option<String>,
    /// The column of the id.
    id_column: Option<String>,
    /// Joined with `|` into the external id.
    external_id_columns: Option<Vec<String>>,
    /// The column of the notes.
    notes_column: Option<String>,
    /// The source of all rows; `imported` unless said.
    source_type: Option<String>,
    /// The column of the latitude.
    latitude_column: Option<String>,
    /// The column of the longitude.
    longitude_column: Option<String>,
    /// Columns for properties; absent: all that are not mapped.
    property_columns: Option<Vec<String>>,
    /// Cells that mean missing; absent: the empty cell and NA.
    missing: Option<Vec<String>>,
    /// IANA zone for times without an offset; without it they are rejected.
    time_zone: Option<String>,
    /// strptime pattern, or unix_s, unix_ms; absent: RFC 3339 and YYYY-MM-DD[ HH:MM[:SS]].
    timestamp_format: Option<String>,
    /// One character between the cells.
    #[graphql(default_with = "Some(\",\".to_owned())")]
    delimiter: Option<String>,
}

impl From<CsvMapping> for csv::CsvMapping {
    fn from(input: CsvMapping) -> Self {
        Self {
            event_type: input.event_type,
            event_type_column: input.event_type_column,
            timestamp_column: input.timestamp_column,
            end_date_column: input.end_date_column,
            id_column: input.id_column,
            external_id_columns: input.external_id_columns,
            notes_column: input.notes_column,
            source_type: input.source_type,
            latitude_column: input.latitude_column,
            longitude_column: input.longitude_column,
            property_columns: input.property_columns,
            missing: input.missing,
            time_zone: input.time_zone,
            timestamp_format: input.timestamp_format,
            delimiter: input.delimiter.unwrap_or_else(|| ",".to_owned()),
        }
    }
}

impl From<CreateImportInput> for ImportDraft {
    fn from(input: CreateImportInput) -> Self {
        Self {
            id: input.id.text().unwrap_or_default(),
            format: input.format.into(),
            name: input.name,
            size_bytes: input.size_bytes.0,
            sha256: input.sha256,
            csv: input.csv.map(csv::CsvMapping::from),
            dry_run: input.dry_run.unwrap_or_default(),
            trace_context: None,
        }
    }
}
