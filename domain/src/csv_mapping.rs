//! Describes how the columns of a CSV become the fields of events.

use serde::{Deserialize, Serialize};

/// Which column of a CSV has which field of an event, and how its cells are read. Columns are named by the
/// texts of the header. It is `CsvMapping` of the GraphQL schema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CsvMapping {
    /// The name of the event type of all rows. Exactly one of this and `event_type_column` is set.
    pub event_type: Option<String>,
    /// The name of the column whose cells name the event type of their row.
    pub event_type_column: Option<String>,
    /// The name of the column with the start of the event.
    pub timestamp_column: String,
    /// The name of the column with the end of the event.
    pub end_date_column: Option<String>,
    /// The name of the column with the id of the event, a UUIDv7.
    pub id_column: Option<String>,
    /// The names of the columns that form the external id. Their cells are joined with `|`.
    pub external_id_columns: Option<Vec<String>>,
    /// The name of the column with the notes.
    pub notes_column: Option<String>,
    /// The source of the events of all rows. The default is `imported`.
    pub source_type: Option<String>,
    /// The name of the column with the latitude.
    pub latitude_column: Option<String>,
    /// The name of the column with the longitude.
    pub longitude_column: Option<String>,
    /// The names of the columns that become properties. The default is all columns that are not mapped
    /// otherwise.
    pub property_columns: Option<Vec<String>>,
    /// The cell texts that stand for a missing value. The default is the empty cell and `NA`.
    pub missing: Option<Vec<String>>,
    /// The IANA time zone of times without an offset.
    pub time_zone: Option<String>,
    /// A strptime pattern, `unix_s` or `unix_ms`. The default is RFC 3339 and `YYYY-MM-DD[ HH:MM[:SS]]`.
    pub timestamp_format: Option<String>,
    /// The delimiter of the cells: `tab`, one ASCII character, or `auto`, which detects it in the header.
    pub delimiter: String,
    /// How many lines of the file to skip before the header.
    pub skip_lines: u32,
    /// Whether numbers in properties and coordinates have a decimal comma.
    pub has_decimal_comma: bool,
    /// The encoding of the file, as a label of the WHATWG Encoding Standard. The default is UTF-8, or UTF-16
    /// if its byte order mark is there.
    pub encoding: Option<String>,
}
