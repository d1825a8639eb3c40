//! The arguments of `idem import`, and how those for CSV become the mapping of columns to events.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Command, ValueEnum};
use domain::csv_mapping::CsvMapping;
use domain::import::Format;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// The arguments of `idem import`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ImportArgs {
    /// The file to upload: plain, gzip, zstd, a zip of one file, or the zip of an Apple Health export
    pub file: PathBuf,
    /// Base URL of the server, for example http://127.0.0.1:8080
    #[arg(
        long,
        env = "IDEM_URL",
        value_name = "URL",
        default_value = "",
        hide_default_value = true,
        required_unless_present = "preview"
    )]
    pub url: String,
    /// API token of the user who gets the events
    #[arg(
        long,
        env = "IDEM_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true,
        required_unless_present = "preview"
    )]
    pub token: String,
    /// Show how the file would be read, without a server: its first records and all problems
    #[arg(long, conflicts_with_all = ["dry_run", "no_wait", "id"])]
    pub preview: bool,
    /// How many records --preview shows
    #[arg(long, value_name = "N", default_value_t = 10, requires = "preview")]
    pub rows: usize,
    /// Id of the import, a UUIDv7; give it again to continue an interrupted import [default: a new id, which
    /// is printed]
    #[arg(long, value_name = "UUID")]
    pub id: Option<Uuid>,
    /// Format of the file [default: detected from its content]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: Option<ImportFormat>,
    /// Name of the import, as the API shows it [default: the file name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The options for CSV
    #[command(flatten)]
    pub csv: CsvArgs,
    /// Upload the file, check every record and report the result, but store no event
    #[arg(long)]
    pub dry_run: bool,
    /// Exit once the file is uploaded, without waiting until it is stored
    #[arg(long)]
    pub no_wait: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples (set IDEM_URL and IDEM_TOKEN first, or add --url and --token):
  idem import flights-2013.ndjson.gz
  idem import weather-2013.csv.gz --event-type weather --timestamp time_hour \\
      --external-id origin,time_hour
  idem import strava.csv --preview             # shows columns and first rows, needs no server
  idem import export.zip                       # an export of Apple Health
  idem import events.json --dry-run --json     # what would be stored
  idem import events.ndjson --id 01980c5e-7a3b-7c1d-9f2e-3b4a5c6d7e8f   # continue an import

Exit codes:
    0  all records are stored
    1  the import failed
    2  some records were rejected, or are stored with other content; all others are stored
   64  the command line is wrong
  130  interrupted by Ctrl-C";

/// How the columns of a CSV become events. It serializes to the input `CsvMapping` of the GraphQL schema.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(next_help_heading = "Options for CSV (COL is the name of a column in the header)")]
#[serde(rename_all = "camelCase")]
pub struct CsvArgs {
    /// Event type of all rows (give this or --event-type-column)
    #[arg(long, value_name = "NAME", conflicts_with = "event_type_column")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Column with the event type of each row (give this or --event-type)
    #[arg(long, value_name = "COL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type_column: Option<String>,
    /// Column with the time at which the event begins; required for CSV
    #[arg(long = "timestamp", value_name = "COL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_column: Option<String>,
    /// How times are written: unix_s, unix_ms, or a pattern such as '%d.%m.%Y %H:%M'; all patterns are listed
    /// in docs/reference/time-patterns.md [default: like 2024-03-01 08:00:00, or RFC 3339]
    #[arg(long, value_name = "PATTERN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_format: Option<String>,
    /// IANA time zone of times without an offset, for example Europe/Berlin; without it, they are rejected
    #[arg(long, value_name = "ZONE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Column with the time at which the event ends
    #[arg(long = "end-date", value_name = "COL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_date_column: Option<String>,
    /// Columns that together identify a row; a row that is imported again creates no second event
    #[arg(long = "external-id", value_name = "COL,COL", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id_columns: Option<Vec<String>>,
    /// Column with the id of the event, a UUIDv7
    #[arg(long, value_name = "COL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_column: Option<String>,
    /// Column with the notes, a text about the event
    #[arg(long = "notes", value_name = "COL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes_column: Option<String>,
    /// Source type of all events, for example the app that they come from [default: imported]
    #[arg(long, value_name = "SOURCE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_type: Option<String>,
    /// Column with the latitude; needs --longitude
    #[arg(long = "latitude", value_name = "COL", requires = "longitude_column")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latitude_column: Option<String>,
    /// Column with the longitude; needs --latitude
    #[arg(long = "longitude", value_name = "COL", requires = "latitude_column")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longitude_column: Option<String>,
    /// Columns that become properties, '' for none [default: all columns that no other option uses]
    #[arg(long = "properties", value_name = "COL,COL", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property_columns: Option<Vec<String>>,
    /// Cell contents that mean that the cell has no value [default: the empty cell and NA]
    #[arg(long, value_name = "X,Y", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<String>>,
    /// Character between cells, `tab`, or `auto` to detect it from the header [default: ,]
    #[arg(long, value_name = "CHAR", value_parser = parse_delimiter)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<String>,
    /// How many lines to skip before the header, at most 100 [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_lines: Option<u32>,
    /// Decimal separator of numbers, a point or a comma [default: .]
    #[arg(long, value_name = "CHAR", value_parser = [".", ","])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimal_separator: Option<String>,
    /// Text encoding, for example windows-1252 [default: UTF-8, or UTF-16 if the file has its byte order
    /// mark]
    #[arg(long, value_name = "LABEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
}

impl CsvArgs {
    /// Whether any of these options for CSV is given.
    pub fn has_any_csv_option(&self) -> bool {
        serde_json::to_value(self).is_ok_and(|mapping| mapping != Value::Object(serde_json::Map::new()))
    }

    /// The mapping as the server would parse it, for `--preview`. Nothing is checked: options that are
    /// missing are empty or the default.
    pub fn to_csv_mapping(&self) -> CsvMapping {
        let mut property_columns = self.property_columns.clone();
        if let Some(columns) = &mut property_columns {
            columns.retain(|column| !column.is_empty());
        }
        CsvMapping {
            event_type: self.event_type.clone(),
            event_type_column: self.event_type_column.clone(),
            timestamp_column: self.timestamp_column.clone().unwrap_or_default(),
            end_date_column: self.end_date_column.clone(),
            id_column: self.id_column.clone(),
            external_id_columns: self.external_id_columns.clone(),
            notes_column: self.notes_column.clone(),
            source_type: self.source_type.clone(),
            latitude_column: self.latitude_column.clone(),
            longitude_column: self.longitude_column.clone(),
            property_columns,
            missing: self.missing.clone(),
            time_zone: self.time_zone.clone(),
            timestamp_format: self.timestamp_format.clone(),
            delimiter: self.delimiter.clone().unwrap_or_else(|| ",".to_owned()),
            skip_lines: self.skip_lines.unwrap_or_default(),
            has_decimal_comma: self.decimal_separator.as_deref() == Some(","),
            encoding: self.encoding.clone().filter(|label| label != "auto"),
        }
    }

    /// The mapping of columns as JSON, to send to the server for a CSV. `None` for every other format.
    ///
    /// # Errors
    /// If a required option for CSV is missing, or an option for CSV is given for another format.
    pub fn mapping_to_send(&self, format: ImportFormat) -> anyhow::Result<Option<Value>> {
        let mut mapping = self.clone();
        if let Some(columns) = &mut mapping.property_columns {
            columns.retain(|column| !column.is_empty());
        }
        let mapping = serde_json::to_value(mapping).context("cannot serialize the options for CSV")?;
        if format != ImportFormat::Csv {
            let is_empty = mapping.as_object().is_none_or(serde_json::Map::is_empty);
            if !is_empty {
                bail!(
                    "the options for CSV do not apply to {}: remove them, or give --format csv if it is CSV",
                    format.display_name()
                );
            }
            return Ok(None);
        }
        if self.timestamp_column.is_none() {
            bail!("CSV needs --timestamp COL, the column with the time");
        }
        if self.event_type.is_none() && self.event_type_column.is_none() {
            bail!("CSV needs --event-type NAME, or --event-type-column COL if each row names its type");
        }
        Ok(Some(mapping))
    }
}

/// The flag of `idem import` for the field of the CSV mapping at a JSON pointer: `--timestamp` for
/// `/csv/timestampColumn`. `None` if no flag sets this field.
pub fn flag_of_mapping_pointer(pointer: &str) -> Option<String> {
    let name = pointer.strip_prefix("/csv/")?;
    // The ids of the flags are the names of the mapping's fields in snake case.
    let id = name.chars().fold(String::new(), |mut id, c| {
        if c.is_ascii_uppercase() {
            id.push('_');
        }
        id.push(c.to_ascii_lowercase());
        id
    });
    let flags = CsvArgs::augment_args(Command::new("import"));
    flags.get_arguments().find(|arg| arg.get_id() == id.as_str())?.get_long().map(|long| format!("--{long}"))
}

fn parse_delimiter(text: &str) -> anyhow::Result<String> {
    match text {
        "tab" | "\\t" => Ok("\t".to_owned()),
        "auto" => Ok("auto".to_owned()),
        _ if text.chars().count() == 1 => Ok(text.to_owned()),
        _ => bail!("it must be one character, `tab` or `auto`"),
    }
}

/// The format of a file to import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// One event per line, as JSON
    Ndjson,
    /// A JSON array of events
    Json,
    /// Rows below a header
    Csv,
    /// An export of Apple Health: its XML or the zip
    AppleHealth,
}

impl From<Format> for ImportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Ndjson => Self::Ndjson,
            Format::Json => Self::Json,
            Format::Csv => Self::Csv,
            Format::AppleHealth => Self::AppleHealth,
        }
    }
}

impl From<ImportFormat> for Format {
    fn from(format: ImportFormat) -> Self {
        match format {
            ImportFormat::Ndjson => Self::Ndjson,
            ImportFormat::Json => Self::Json,
            ImportFormat::Csv => Self::Csv,
            ImportFormat::AppleHealth => Self::AppleHealth,
        }
    }
}

impl ImportFormat {
    /// The name of the format in the GraphQL schema.
    #[must_use]
    pub fn graphql_name(self) -> &'static str {
        match self {
            Self::Ndjson => "NDJSON",
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::AppleHealth => "APPLE_HEALTH",
        }
    }

    /// The name of the format in messages for people.
    #[must_use]
    pub fn display_name(self) -> &'static str {
        match self {
            Self::Ndjson => "NDJSON",
            Self::Json => "a JSON array",
            Self::Csv => "CSV",
            Self::AppleHealth => "an Apple Health export",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ImportArgs,
    }

    fn parse(flags: &[&str]) -> Result<ImportArgs, clap::Error> {
        let line = ["import", "file", "--url", "http://x", "--token", "t"].iter().chain(flags);
        Line::try_parse_from(line).map(|line| line.args)
    }

    #[test]
    fn the_flags_become_the_mapping_of_the_schema() -> anyhow::Result<()> {
        let all = "--event-type weather --timestamp time --timestamp-format unix_s --time-zone UTC --end-date end \
            --external-id a,b --id-column id --notes note --source-type s --latitude y --longitude x \
            --properties p,q --missing NA,- --delimiter tab --skip-lines 2 --decimal-separator , \
            --encoding windows-1252";
        let args = parse(&all.split_whitespace().collect::<Vec<_>>())?;
        let expected = json!({
            "eventType": "weather", "timestampColumn": "time", "timestampFormat": "unix_s", "timeZone": "UTC",
            "endDateColumn": "end", "externalIdColumns": ["a", "b"], "idColumn": "id", "notesColumn": "note",
            "sourceType": "s", "latitudeColumn": "y", "longitudeColumn": "x", "propertyColumns": ["p", "q"],
            "missing": ["NA", "-"], "delimiter": "\t", "skipLines": 2, "decimalSeparator": ",",
            "encoding": "windows-1252",
        });
        assert_eq!(args.csv.mapping_to_send(ImportFormat::Csv)?, Some(expected));
        let none = parse(&["--event-type-column", "kind", "--timestamp", "t", "--properties", ""])?;
        let expected = json!({ "eventTypeColumn": "kind", "timestampColumn": "t", "propertyColumns": [] });
        assert_eq!(none.csv.mapping_to_send(ImportFormat::Csv)?, Some(expected));
        Ok(())
    }

    #[test]
    fn a_missing_or_unsuitable_option_is_named() -> anyhow::Result<()> {
        let message = |flags: &[&str], format| -> anyhow::Result<String> {
            let refused = parse(flags)?.csv.mapping_to_send(format).err();
            Ok(refused.context("it must be refused")?.to_string())
        };
        assert!(message(&["--event-type", "x"], ImportFormat::Csv)?.contains("--timestamp"));
        assert!(message(&["--timestamp", "x"], ImportFormat::Csv)?.contains("--event-type"));
        assert!(message(&["--timestamp", "x"], ImportFormat::Json)?.contains("a JSON array"));
        assert!(parse(&[])?.csv.mapping_to_send(ImportFormat::Ndjson)?.is_none());
        for wrong in [
            &["--latitude", "x"][..],
            &["--event-type", "x", "--event-type-column", "y"],
            &["--delimiter", "ab"],
            &["--decimal-separator", ";"],
            &["--skip-lines", "101"],
            &["--format", "xml"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        Ok(())
    }
}
