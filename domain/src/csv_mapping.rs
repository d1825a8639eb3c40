//! Describes how the columns of a CSV become the fields of events.

use serde::{Deserialize, Serialize};

/// Which column has which field, and how its cells are read. It is `CsvMapping` of the GraphQL schema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CsvMapping {
    /// The name of the event type of all rows.
    pub event_type: Option<String>,
    /// The column of the name of the event type.
    pub event_type_column: Option<String>,
    /// The column of the timestamp.
    pub timestamp_column: String,
    /// The column of the end.
    pub end_date_column: Option<String>,
    /// The column of the id.
    pub id_column: Option<String>,
    /// The columns of the external id. Their cells are joined with `|`.
    pub external_id_columns: Option<Vec<String>>,
    /// The column of the notes.
    pub notes_column: Option<String>,
    /// The source of all rows. The default is `imported`.
    pub source_type: Option<String>,
    /// The column of the latitude.
    pub latitude_column: Option<String>,
    /// The column of the longitude.
    pub longitude_column: Option<String>,
    /// The columns of properties. The default is all columns that are not mapped otherwise.
    pub property_columns: Option<Vec<String>>,
    /// The cells that mean that a value is missing. The default is the empty cell and `NA`.
    pub missing: Option<Vec<String>>,
    /// The IANA time zone of times without an offset.
    pub time_zone: Option<String>,
    /// A strptime pattern, `unix_s` or `unix_ms`. The default is RFC 3339 and `YYYY-MM-DD[ HH:MM[:SS]]`.
    pub timestamp_format: Option<String>,
    /// One character, or `auto`, which detects the delimiter in the header.
    pub delimiter: String,
    /// How many lines to skip before the header.
    pub skip_lines: u32,
    /// Whether numbers in properties and coordinates have a decimal comma.
    pub has_decimal_comma: bool,
    /// A label of the WHATWG Encoding Standard. The default is UTF-8, or UTF-16 if its byte order mark is
    /// there.
    pub encoding: Option<String>,
}
