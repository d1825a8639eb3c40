//! What `idem import` takes, and the part of it that tells how the columns of a CSV become events.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Command, ValueEnum};
use domain::csv_mapping::CsvMapping;
use domain::import::Format;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// What `idem import` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ImportArgs {
    /// The file to send: plain, gzip, zstd or zip
    pub file: PathBuf,
    /// The server
    #[arg(
        long,
        env = "IDEM_URL",
        value_name = "URL",
        default_value = "",
        hide_default_value = true,
        required_unless_present = "preview"
    )]
    pub url: String,
    /// The token of the user whose events they are
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
    /// Show what would be made of the file, without a server: its first records and all its problems
    #[arg(long, conflicts_with_all = ["dry_run", "no_wait", "id"])]
    pub preview: bool,
    /// Records that --preview shows
    #[arg(long, value_name = "N", default_value_t = 10, requires = "preview")]
    pub rows: usize,
    /// The import's own UUIDv7: the same id goes on where it was cut [default: a new one, printed first]
    #[arg(long, value_name = "UUID")]
    pub id: Option<Uuid>,
    /// What the file holds [default: told by its content]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: Option<ImportFormat>,
    /// A name to find it by [default: the file's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How the columns of a CSV become events
    #[command(flatten)]
    pub csv: CsvArgs,
    /// Decide and report as if, and store nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Return when the file has arrived, before it is stored
    #[arg(long)]
    pub no_wait: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples, with IDEM_URL and IDEM_TOKEN set or --url and --token given:
  idem import flights-2013.ndjson.gz
  idem import weather-2013.csv.gz --event-type weather --timestamp time_hour --external-id origin,time_hour
  idem import strava.csv --preview             # its columns and first rows, without a server
  idem import export.zip                       # as Apple Health writes it
  idem import events.json --dry-run --json     # what would come of it
  idem import events.ndjson --id 01980c5e-7a3b-7c1d-9f2e-3b4a5c6d7e8f     # goes on after a cut

Exit code: 0 all records are in, 2 some were rejected or are stored with other content, 1 it failed, 130 interrupted.";

/// How the columns of a CSV become events. Written out, it is `CsvMapping` of the schema.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(next_help_heading = "Options for CSV, which take columns by the names of the header")]
#[serde(rename_all = "camelCase")]
pub struct CsvArgs {
    /// The type of all events…
    #[arg(long, value_name = "NAME", conflicts_with = "event_type_column")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// …or the column that holds it
    #[arg(long, value_name = "COL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type_column: Option<String>,
    /// The column of the time
    #[arg(long = "timestamp", value_name = "COL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_column: Option<String>,
    /// How times are written: a pattern as %d.%m.%Y %H:%M, unix_s or unix_ms; docs/reference/time-patterns.md has all
    /// [default: as 2024-03-01 08:00:00, or RFC 3339]
    #[arg(long, value_name = "PATTERN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_format: Option<String>,
    /// The IANA zone of times without an offset, as in Europe/Berlin; without it they are rejected
    #[arg(long, value_name = "ZONE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The column of the end
    #[arg(long = "end-date", value_name = "COL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_date_column: Option<String>,
    /// The columns that together tell a record from all others
    #[arg(long = "external-id", value_name = "COL,COL", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id_columns: Option<Vec<String>>,
    /// The column of a UUIDv7
    #[arg(long, value_name = "COL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_column: Option<String>,
    /// The column of the notes
    #[arg(long = "notes", value_name = "COL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes_column: Option<String>,
    /// Where the records come from [default: imported]
    #[arg(long, value_name = "SOURCE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_type: Option<String>,
    /// The column of the latitude
    #[arg(long = "latitude", value_name = "COL", requires = "longitude_column")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latitude_column: Option<String>,
    /// The column of the longitude
    #[arg(long = "longitude", value_name = "COL", requires = "latitude_column")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longitude_column: Option<String>,
    /// The columns that become properties, '' for none [default: all without another use]
    #[arg(long = "properties", value_name = "COL,COL", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property_columns: Option<Vec<String>>,
    /// Cells that mean that there is no value [default: the empty cell and NA]
    #[arg(long, value_name = "X,Y", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<String>>,
    /// The character between cells, tab, or auto: told by the header [default: ,]
    #[arg(long, value_name = "CHAR", value_parser = delimiter)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<String>,
    /// Lines before the header [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_lines: Option<u32>,
    /// The decimal separator of numbers: a point or a comma [default: .]
    #[arg(long, value_name = "CHAR", value_parser = [".", ","])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimal_separator: Option<String>,
    /// The encoding, as in windows-1252 [default: UTF-8, or UTF-16 by its byte order mark]
    #[arg(long, value_name = "LABEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
}

impl CsvArgs {
    /// Whether anything is said of a CSV.
    pub fn is_given(&self) -> bool {
        serde_json::to_value(self).is_ok_and(|said| said != Value::Object(serde_json::Map::new()))
    }

    /// The mapping as the server would read it.
    pub fn to_mapping(&self) -> CsvMapping {
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

    /// The mapping for a file of this format; none for all but CSV.
    ///
    /// # Errors
    /// When a CSV lacks what it needs, or another format is given what only a CSV takes.
    pub fn mapping(&self, format: ImportFormat) -> anyhow::Result<Option<Value>> {
        let mut mapping = self.clone();
        if let Some(columns) = &mut mapping.property_columns {
            columns.retain(|column| !column.is_empty());
        }
        let mapping = serde_json::to_value(mapping).context("the columns cannot be written out")?;
        if format != ImportFormat::Csv {
            let is_empty = mapping.as_object().is_none_or(serde_json::Map::is_empty);
            if !is_empty {
                bail!("the options for CSV do not go with {}; if it is CSV, say --format csv", format.noun());
            }
            return Ok(None);
        }
        if self.timestamp_column.is_none() {
            bail!("CSV needs --timestamp COL, the column of the time");
        }
        if self.event_type.is_none() && self.event_type_column.is_none() {
            bail!("CSV needs --event-type NAME, or --event-type-column COL where each row has its own");
        }
        Ok(Some(mapping))
    }
}

/// The flag that says what the mapping has at a pointer: `--timestamp` for `/csv/timestampColumn`.
pub fn flag_of(pointer: &str) -> Option<String> {
    let name = pointer.strip_prefix("/csv/")?;
    // The fields of the mapping are those of the flags, in the other spelling.
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

fn delimiter(text: &str) -> anyhow::Result<String> {
    match text {
        "tab" | "\\t" => Ok("\t".to_owned()),
        "auto" => Ok("auto".to_owned()),
        _ if text.chars().count() == 1 => Ok(text.to_owned()),
        _ => bail!("one character, tab, or auto"),
    }
}

/// What a file of an import can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// One event a line, as JSON
    Ndjson,
    /// An array of events
    Json,
    /// Rows under a header
    Csv,
    /// What Apple Health exports
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
    /// Its name in GraphQL.
    #[must_use]
    pub fn graphql_name(self) -> &'static str {
        match self {
            Self::Ndjson => "NDJSON",
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::AppleHealth => "APPLE_HEALTH",
        }
    }

    /// As people say it.
    #[must_use]
    pub fn noun(self) -> &'static str {
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
    fn columns_become_the_mapping_of_the_schema() -> anyhow::Result<()> {
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
        assert_eq!(args.csv.mapping(ImportFormat::Csv)?, Some(expected));
        let none = parse(&["--event-type-column", "kind", "--timestamp", "t", "--properties", ""])?;
        let expected = json!({ "eventTypeColumn": "kind", "timestampColumn": "t", "propertyColumns": [] });
        assert_eq!(none.csv.mapping(ImportFormat::Csv)?, Some(expected));
        Ok(())
    }

    #[test]
    fn what_is_missing_or_does_not_fit_is_named() -> anyhow::Result<()> {
        let said = |flags: &[&str], format| -> anyhow::Result<String> {
            let refused = parse(flags)?.csv.mapping(format).err();
            Ok(refused.context("it must be refused")?.to_string())
        };
        assert!(said(&["--event-type", "x"], ImportFormat::Csv)?.contains("--timestamp"));
        assert!(said(&["--timestamp", "x"], ImportFormat::Csv)?.contains("--event-type"));
        assert!(said(&["--timestamp", "x"], ImportFormat::Json)?.contains("a JSON array"));
        assert!(parse(&[])?.csv.mapping(ImportFormat::Ndjson)?.is_none());
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
