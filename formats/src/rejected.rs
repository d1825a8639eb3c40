//! Writes the rejected records of a payload as they were sent, each with its reason. Users correct this file
//! and import it again.

#[cfg(test)]
mod tests;

use domain::csv_mapping::CsvMapping;
use domain::import::Format;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::csv::{CsvSummary, UnmappedTable};
use crate::{Checkpoint, Input, ReadError, RecordReader, apple_health, record_excerpt};

/// Name of the CSV column or the JSON field that holds the reason of a rejection in the file.
const REASON: &str = "rejection";

/// Reads the payload of an import again, and returns the parts of a file of its rejected records with their
/// reasons. The caller knows which records were rejected, and writes the file.
pub struct RejectedRecordsWriter {
    content: Content,
    /// The number of the current record, counted from 1; 0 before the first one.
    number_read: i64,
    written: u64,
}

impl std::fmt::Debug for RejectedRecordsWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RejectedRecordsWriter")
            .field("number_read", &self.number_read)
            .finish_non_exhaustive()
    }
}

/// The reader of the payload, by the format of the file that is written.
enum Content {
    Ndjson(Box<dyn RecordReader>),
    Array(Box<dyn RecordReader>),
    Export(Box<dyn RecordReader>),
    Csv(Box<CsvRows>),
}

impl Content {
    fn record_reader(&mut self) -> &mut dyn RecordReader {
        match self {
            Self::Ndjson(reader) | Self::Array(reader) | Self::Export(reader) => reader.as_mut(),
            Self::Csv(rows) => &mut rows.table,
        }
    }
}

impl RejectedRecordsWriter {
    /// Opens a payload at its beginning. `mapping` is that of the import, for a CSV.
    ///
    /// # Errors
    /// [`ReadError::Format`] if it is not of the format. [`ReadError::Limit`] if it is over a limit.
    /// [`ReadError::Source`] if its bytes cannot be read.
    pub fn open(input: &Input, format: Format, mapping: Option<&CsvMapping>) -> Result<Self, ReadError> {
        let reader = || {
            Ok::<_, ReadError>(
                crate::open_at_or_before_checkpoint(input, format, None, Checkpoint::default())?.0,
            )
        };
        let content = match format {
            Format::Ndjson => Content::Ndjson(reader()?),
            Format::Json => Content::Array(reader()?),
            Format::AppleHealth => Content::Export(reader()?),
            Format::Csv => {
                let mapping = mapping.cloned().unwrap_or_default();
                let table = UnmappedTable::open(crate::open_unpacked(input)?.1, &mapping, input)?;
                Content::Csv(Box::new(CsvRows::new(table, mapping.skip_lines)))
            }
        };
        Ok(Self { content, number_read: 0, written: 0 })
    }

    /// The media type of the file of rejected records. It depends on the format of the payload.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        match self.content {
            Content::Ndjson(_) => "application/x-ndjson",
            Content::Array(_) => "application/json",
            Content::Export(_) => "application/xml",
            Content::Csv(_) => "text/csv; charset=utf-8",
        }
    }

    /// The bytes of the file of rejected records before the first record, such as the header of a CSV.
    #[must_use]
    pub fn content_before_records(&self) -> Vec<u8> {
        match &self.content {
            Content::Ndjson(_) => Vec::new(),
            Content::Array(_) => b"[".to_vec(),
            Content::Export(_) => b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<HealthData>\n".to_vec(),
            Content::Csv(rows) => rows.content_before_records(),
        }
    }

    /// Reads the payload up to the record with this number, and returns that record with the reason, as the
    /// next bytes of the file. Numbers count from 1 and must ascend from call to call. Returns `None` if the
    /// payload has no such record.
    ///
    /// # Errors
    /// [`ReadError::Format`], [`ReadError::Limit`] or [`ReadError::Source`] if the payload cannot be read up
    /// to this record.
    pub fn read_record_with_reason(
        &mut self,
        number: i64,
        reason: &str,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        while self.number_read < number {
            if !self.content.record_reader().advance()? {
                return Ok(None);
            }
            self.number_read += 1;
        }
        let is_first = self.written == 0;
        self.written += 1;
        Ok(Some(match &self.content {
            Content::Ndjson(reader) => add_newline(to_json_with_reason(reader.as_ref(), reason)),
            Content::Array(reader) => {
                let separator = if is_first { "\n" } else { ",\n" };
                [separator.as_bytes(), &to_json_with_reason(reader.as_ref(), reason)].concat()
            }
            Content::Export(reader) => {
                let mut out = format!("<!-- {REASON}: {} -->\n", to_comment_text(reason)).into_bytes();
                out.extend(to_xml_record(reader.as_ref()));
                add_newline(out)
            }
            Content::Csv(rows) => rows.row_with_reason(reason),
        }))
    }

    /// The bytes of the file of rejected records after the last record, such as the end of a JSON array.
    #[must_use]
    pub fn content_after_records(&self) -> Vec<u8> {
        match self.content {
            Content::Ndjson(_) | Content::Csv(_) => Vec::new(),
            Content::Array(_) => b"\n]\n".to_vec(),
            Content::Export(_) => b"</HealthData>\n".to_vec(),
        }
    }
}

/// Formats rejected rows of a CSV with the reason in an additional last column.
struct CsvRows {
    table: UnmappedTable,
    summary: CsvSummary,
    header: Vec<u8>,
    /// Number of columns before the reason. A column with the reasons of an earlier import is left out.
    columns: usize,
    /// Number of lines before the header that the mapping skips.
    skip_lines: u32,
}

impl CsvRows {
    fn new(table: UnmappedTable, skip_lines: u32) -> Self {
        let (summary, width) = (table.to_summary(), table.header_cell_count());
        let has_reason = summary.header.last().is_some_and(|name| name == REASON);
        let columns = if has_reason { summary.header.len() - 1 } else { width };
        let header =
            if has_reason { table.csv_row_of_cell_count(columns) } else { table.raw_bytes().to_owned() };
        Self { table, summary, header, columns, skip_lines }
    }

    fn content_before_records(&self) -> Vec<u8> {
        // The mapping may name another encoding. The byte order mark shows that this file is UTF-8.
        let mut out = "\u{feff}".as_bytes().to_vec();
        let separator_line =
            self.summary.has_separator_line.then(|| format!("sep={}", self.summary.delimiter));
        let count = self.skip_lines.max(u32::from(separator_line.is_some())) as usize;
        let lines = separator_line.into_iter().chain(std::iter::repeat(String::new())).take(count);
        out.extend(lines.flat_map(|line| (line + "\n").into_bytes()));
        out.extend(&self.header);
        self.end_row_with_cell(out, REASON)
    }

    /// The current row with its reason in the last cell, and a line end.
    fn row_with_reason(&self, reason: &str) -> Vec<u8> {
        let cells = self.table.cell_excerpts().len();
        let (mut out, cells) = if self.table.is_too_long() {
            (to_quoted_cell(&record_excerpt(self.table.raw_bytes())), 1)
        } else if self.table.has_surplus_cells() || cells <= self.columns.min(self.table.header_cell_count())
        {
            (self.table.raw_bytes().to_owned(), cells)
        } else {
            (self.table.csv_row_of_cell_count(self.columns), self.columns)
        };
        out.extend(std::iter::repeat_n(self.summary.delimiter as u8, self.columns.saturating_sub(cells)));
        self.end_row_with_cell(out, reason)
    }

    fn end_row_with_cell(&self, mut out: Vec<u8>, last: &str) -> Vec<u8> {
        out.push(self.summary.delimiter as u8);
        out.extend(to_quoted_cell(last));
        add_newline(out)
    }
}

fn add_newline(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(b'\n');
    bytes
}

/// The record of an Apple Health export as one element. A record that is not exactly one complete element
/// becomes the text of an attribute, because it would break the elements around it.
fn to_xml_record(reader: &dyn RecordReader) -> Vec<u8> {
    if !reader.is_too_long() && apple_health::is_complete_element(reader.raw_bytes()) {
        return reader.raw_bytes().to_owned();
    }
    let text = if reader.is_too_long() {
        record_excerpt(reader.raw_bytes())
    } else {
        String::from_utf8_lossy(reader.raw_bytes()).into_owned()
    };
    format!("<Record text=\"{}\"/>", quick_xml::escape::escape(&text)).into_bytes()
}

/// The record as a JSON object with the reason in a field. A record that is too long or not an object becomes
/// the text of a field.
fn to_json_with_reason(reader: &dyn RecordReader, reason: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(reader.raw_bytes());
    let reason = serde_json::Value::from(reason);
    let is_object = !reader.is_too_long() && serde_json::from_str::<IgnoredAny>(&text).is_ok();
    let Some(prefix) = text.trim().strip_suffix('}').filter(|prefix| is_object && prefix.starts_with('{'))
    else {
        let record =
            if reader.is_too_long() { record_excerpt(reader.raw_bytes()) } else { text.into_owned() };
        return serde_json::json!({ "record": record, REASON: reason }).to_string().into_bytes();
    };
    let prefix = unclosed_object_without_reason(&text).unwrap_or_else(|| prefix.to_owned());
    let separator = if prefix.trim_end() == "{" { "" } else { "," };
    format!("{prefix}{separator}\"{REASON}\":{reason}}}").into_bytes()
}

/// A JSON object without its closing brace, and without the field of the reason that an earlier import added.
/// `None` if it has no such field.
fn unclosed_object_without_reason(object: &str) -> Option<String> {
    let Fields(fields) = serde_json::from_str(object).ok()?;
    let (reasons, others): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| name == REASON);
    if reasons.is_empty() {
        return None;
    }
    let written = others.iter().map(|(name, value)| format!("{}:{value}", serde_json::Value::from(&**name)));
    Some("{".to_owned() + &written.collect::<Vec<_>>().join(","))
}

/// The fields of a JSON object, with their values as they are written. A name may occur twice.
struct Fields<'t>(Vec<(String, &'t RawValue)>);

impl<'t> Deserialize<'t> for Fields<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'t> Visitor<'t> for FieldsVisitor {
            type Value = Fields<'t>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Fields<'t>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

fn to_quoted_cell(text: &str) -> Vec<u8> {
    format!("\"{}\"", text.replace('"', "\"\"")).into_bytes()
}

/// Separates or removes the hyphens that an XML comment may not hold (XML 1.0, section 2.5).
fn to_comment_text(text: &str) -> String {
    text.replace("--", "- -").trim_end_matches('-').to_owned()
}
