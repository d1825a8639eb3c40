//! What imports take.

use async_graphql::InputObject;
use domain::csv_mapping;
use domain::problem::{Code, FieldProblem};
use formats::csv;
use serde::Deserialize;
use service::create_import::ImportDraft;

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
#[derive(Debug, Clone, InputObject, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CsvMapping {
    /// A type name for all rows…
    event_type: Option<String>,
    /// …or the column that holds it.
    event_type_column: Option<String>,
    /// The column of the timestamp.
    // A preview may be asked for before it is chosen.
    #[serde(default)]
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
    #[expect(rustdoc::broken_intra_doc_links, reason = "a text of the schema")]
    /// strptime pattern, or unix_s, unix_ms; absent: RFC 3339 and YYYY-MM-DD[ HH:MM[:SS]].
    timestamp_format: Option<String>,
    /// One character, `tab`, or `auto`: told by the header.
    #[graphql(default_with = "Some(\",\".to_owned())")]
    delimiter: Option<String>,
    /// Lines before the header, 0 to 100.
    #[graphql(default_with = "Some(0)")]
    skip_lines: Option<i32>,
    /// `.` or `,`: how numbers of properties and coordinates are written.
    #[graphql(default_with = "Some(\".\".to_owned())")]
    decimal_separator: Option<String>,
    /// `auto` (UTF-8, UTF-16 by its BOM), or a label of the WHATWG encoding standard such as windows-1252.
    #[graphql(default_with = "Some(\"auto\".to_owned())")]
    encoding: Option<String>,
}

impl CsvMapping {
    /// The mapping, or all that is wrong with it.
    fn parse(self) -> Result<csv_mapping::CsvMapping, Vec<FieldProblem>> {
        let (mapping, mut problems) = self.read();
        problems.extend(csv::check(&mapping));
        if problems.is_empty() { Ok(mapping) } else { Err(problems) }
    }

    /// The mapping, and what cannot be said by one.
    pub(crate) fn read(self) -> (csv_mapping::CsvMapping, Vec<FieldProblem>) {
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
            // What is the default is not said, so that imports that were announced before it could be stay the same.
            encoding: self.encoding.filter(|label| label != "auto"),
        };
        (mapping, problems)
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
            csv: input.csv.map(CsvMapping::parse),
            dry_run: input.dry_run.unwrap_or_default(),
            trace_context: None,
        }
    }
}
