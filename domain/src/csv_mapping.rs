//! How the columns of a CSV become the fields of events.

use serde::{Deserialize, Serialize};

/// Column names of the header, and what cells mean; see `CsvMapping` of the contract.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CsvMapping {
    /// A type name for all rows.
    pub event_type: Option<String>,
    /// The column that holds it.
    pub event_type_column: Option<String>,
    /// The column of the timestamp.
    pub timestamp_column: String,
    /// The column of the end.
    pub end_date_column: Option<String>,
    /// The column of the id.
    pub id_column: Option<String>,
    /// Joined with `|` into the external id.
    pub external_id_columns: Option<Vec<String>>,
    /// The column of the notes.
    pub notes_column: Option<String>,
    /// The source of all rows; `imported` unless said.
    pub source_type: Option<String>,
    /// The column of the latitude.
    pub latitude_column: Option<String>,
    /// The column of the longitude.
    pub longitude_column: Option<String>,
    /// Columns for properties; none: all that are not mapped.
    pub property_columns: Option<Vec<String>>,
    /// Cells that mean missing; none: the empty cell and `NA`.
    pub missing: Option<Vec<String>>,
    /// IANA zone of times without an offset.
    pub time_zone: Option<String>,
    /// strptime pattern, `unix_s` or `unix_ms`; none: RFC 3339 and `YYYY-MM-DD[ HH:MM[:SS]]`.
    pub timestamp_format: Option<String>,
    /// One character, or `auto`: told by the header.
    pub delimiter: String,
    /// Lines before the header.
    pub skip_lines: u32,
    /// Numbers of properties and coordinates have a decimal comma.
    pub has_decimal_comma: bool,
    /// A label of the WHATWG encoding standard; none: UTF-8, or UTF-16 by its byte order mark.
    pub encoding: Option<String>,
}
