//! The inputs of imports.

use async_graphql::InputObject;
use domain::csv_mapping;
use domain::problem::{Code, FieldProblem};
use formats::csv;
use serde::Deserialize;
use service::create_import::ImportDraft;

use super::EventInput;
use crate::graphql::scalar::{Id, Long};
use crate::graphql::types::import::ImportFormat;

/// The input of `importEvents`.
#[derive(Debug, Clone, InputObject)]
pub struct ImportEventsInput {
    /// The id of the import, a UUIDv7 that the client makes.
    pub id: Id,
    /// A name for display, at most 255 characters.
    pub name: Option<String>,
    /// The events to import in the background, 1 to 5 000.
    pub events: Vec<EventInput>,
}

/// The input of `createImport`.
#[derive(Debug, Clone, InputObject)]
pub struct CreateImportInput {
    /// The id of the import, a UUIDv7 that the client makes.
    pub id: Id,
    /// The format of the payload. Compression by gzip, zstd or zip is detected from its first bytes.
    pub format: ImportFormat,
    /// A name for display, at most 255 characters.
    pub name: Option<String>,
    /// The exact size in bytes of the payload, as it will be sent: if compressed, the compressed size.
    pub size_bytes: Long,
    /// The SHA-256 of the payload as it will be sent, 64 hexadecimal digits. It is checked before the first
    /// record is read. Absent: it is not checked.
    pub sha256: Option<String>,
    /// How columns become fields of events. It is required for the format CSV and only allowed there.
    pub csv: Option<CsvMapping>,
    /// If true, the import reports what would become of each record, and stores no events. `retryImport` then
    /// stores them.
    #[graphql(default_with = "Some(false)")]
    pub dry_run: Option<bool>,
}

/// The input of `pauseImport`, `resumeImport`, `cancelImport`, `retryImport` and `rollbackImport`.
#[derive(Debug, Clone, InputObject)]
pub struct ImportControlInput {
    /// The id of the import.
    pub id: Id,
}

/// How the columns of a CSV file become fields of events. Columns are named as in the header of the file.
#[derive(Debug, Clone, InputObject, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CsvMapping {
    /// The name of the event type of all rows. Give either this or `eventTypeColumn`.
    event_type: Option<String>,
    /// The column with the name of the event type. Give either this or `eventType`.
    event_type_column: Option<String>,
    /// The column of `timestamp`, the start of the event. Required.
    // A preview can be requested before the column is chosen.
    #[serde(default)]
    timestamp_column: String,
    /// The column of `endDate`.
    end_date_column: Option<String>,
    /// The column with the id of the event, a UUIDv7.
    id_column: Option<String>,
    /// The columns whose cells, joined with `|`, are the external id of the event.
    external_id_columns: Option<Vec<String>>,
    /// The column of `notes`.
    notes_column: Option<String>,
    /// The `sourceType` of all rows. Absent: `imported`.
    source_type: Option<String>,
    /// The column of the latitude in degrees. It is required if `longitudeColumn` is given.
    latitude_column: Option<String>,
    /// The column of the longitude in degrees. It is required if `latitudeColumn` is given.
    longitude_column: Option<String>,
    /// The columns that become `properties`. Absent: all columns that are not mapped to another field.
    property_columns: Option<Vec<String>>,
    /// The texts of cells that mean a missing value. Absent: the empty text and `NA`.
    missing: Option<Vec<String>>,
    /// The IANA time zone of times without an offset. Absent: rows with such times are rejected.
    time_zone: Option<String>,
    /// How times are written: a strptime pattern, `unix_s` or `unix_ms`. Absent: RFC 3339 and
    /// `YYYY-MM-DD[ HH:MM[:SS]]`.
    timestamp_format: Option<String>,
    /// The separator of cells: one ASCII character, `tab`, or `auto` to detect it from the header.
    #[graphql(default_with = "Some(\",\".to_owned())")]
    delimiter: Option<String>,
    /// How many lines precede the header, 0 to 100.
    #[graphql(default_with = "Some(0)")]
    skip_lines: Option<i32>,
    /// The decimal separator of numbers in properties and coordinates: `.` or `,`.
    #[graphql(default_with = "Some(\".\".to_owned())")]
    decimal_separator: Option<String>,
    /// The text encoding: a label of the WHATWG Encoding Standard such as `windows-1252`, or `auto` for
    /// UTF-8, and for UTF-16 with a byte order mark.
    #[graphql(default_with = "Some(\"auto\".to_owned())")]
    encoding: Option<String>,
}

impl CsvMapping {
    /// Converts and checks the mapping.
    ///
    /// # Errors
    /// One problem for each wrong field, with pointers that begin with `/csv`.
    fn into_checked_mapping(self) -> Result<csv_mapping::CsvMapping, Vec<FieldProblem>> {
        let (mapping, mut problems) = self.into_mapping_and_problems();
        problems.extend(csv::check_mapping(&mapping));
        if problems.is_empty() { Ok(mapping) } else { Err(problems) }
    }

    /// Converts the mapping without checking it. The problems are values that the result cannot express, such
    /// as a negative number; there the result has the default.
    pub(crate) fn into_mapping_and_problems(self) -> (csv_mapping::CsvMapping, Vec<FieldProblem>) {
        let mut problems = Vec::new();
        let skip_lines = u32::try_from(self.skip_lines.unwrap_or_default()).unwrap_or_else(|_| {
            problems.push(FieldProblem::new("/csv/skipLines", Code::OutOfRange, "must not be negative"));
            0
        });
        let has_decimal_comma = match self.decimal_separator.as_deref() {
            None | Some(".") => false,
            Some(",") => true,
            Some(_) => {
                let detail = "must be a point or a comma";
                problems.push(FieldProblem::new("/csv/decimalSeparator", Code::InvalidValue, detail));
                false
            }
        };
        let delimiter = match self.delimiter.as_deref() {
            None => ",".to_owned(),
            Some("tab") => "\t".to_owned(),
            Some(one) => one.to_owned(),
        };
        let mapping = csv_mapping::CsvMapping {
            event_type: self.event_type,
            event_type_column: self.event_type_column,
            timestamp_column: self.timestamp_column,
            end_date_column: self.end_date_column,
            id_column: self.id_column,
            external_id_columns: self.external_id_columns,
            notes_column: self.notes_column,
            source_type: self.source_type,
            latitude_column: self.latitude_column,
            longitude_column: self.longitude_column,
            property_columns: self.property_columns,
            missing: self.missing,
            time_zone: self.time_zone,
            timestamp_format: self.timestamp_format,
            delimiter,
            skip_lines,
            has_decimal_comma,
            // The default is left out, so that an import that was created before this field existed is still
            // the same.
            encoding: self.encoding.filter(|label| label != "auto"),
        };
        (mapping, problems)
    }
}

impl From<CreateImportInput> for ImportDraft {
    fn from(input: CreateImportInput) -> Self {
        Self {
            id: input.id.to_text().unwrap_or_default(),
            format: input.format.into(),
            name: input.name,
            size_bytes: input.size_bytes.0,
            sha256: input.sha256,
            csv: input.csv.map(CsvMapping::into_checked_mapping),
            dry_run: input.dry_run.unwrap_or_default(),
            trace_context: None,
        }
    }
}
